//! The frame of a plot: its axes, ticks and names, the lines of the marks, and where a value lies within it.

use super::marks::{self, Label};
use super::scale::Scale;
use super::{Heading, Size};
use crate::report::number;
use crate::report::svg::Drawing;
use crate::summary::Mark;

/// Room for the names of the vertical ticks.
const LEFT: f64 = 74.0;

/// Room for half of the last horizontal tick's name.
const RIGHT: f64 = 24.0;

/// Room for the name of the vertical axis.
const TOP: f64 = 30.0;

/// Room for the horizontal ticks and their axis' name.
const BOTTOM: f64 = 46.0;

/// The height of one row of marks' words.
const ROW: f64 = 15.0;

/// From so many marks on, their lines are paler.
const MANY_MARKS: usize = 12;

/// The narrowest distance of two named vertical ticks.
const NARROWEST: f64 = 13.0;

/// A frame with a drawing in it.
#[derive(Debug)]
pub(crate) struct Frame {
    /// What is drawn inside.
    pub(crate) drawing: Drawing,
    x: Scale,
    y: Scale,
    width: f64,
    height: f64,
    top: f64,
    labels: Vec<Label>,
}

impl Frame {
    /// An empty frame with its axes and ticks. The marks lie on the horizontal axis.
    pub(crate) fn new(size: Size, x: (Scale, &str), y: (Scale, &str), marks: &[Mark]) -> Self {
        let (width, height) = size.dimensions();
        let ((x, x_name), (y, y_name)) = (x, y);
        let place = |at| LEFT + x.share(at) * (width - LEFT - RIGHT);
        let labels = marks::labels(marks, place, (LEFT, width - RIGHT / 2.0));
        let rows = labels
            .iter()
            .filter(|label| !label.text.is_empty())
            .map(|label| label.row + 1)
            .max()
            .unwrap_or(0);
        let above = rows as f64 * ROW;
        let mut frame = Self {
            drawing: Drawing::default(),
            x,
            y,
            width,
            height: height + above,
            top: TOP + above,
            labels,
        };
        frame.axes(x_name, y_name);
        frame
    }

    /// Where a value lies from the left.
    pub(crate) fn across(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (self.width - LEFT - RIGHT)
    }

    /// Where a value lies from the top.
    pub(crate) fn down(&self, value: f64) -> f64 {
        self.bottom() - self.y.share(value) * (self.bottom() - self.top)
    }

    /// Where a pair of values lies.
    pub(crate) fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.across(x), self.down(y))
    }

    /// Where the horizontal axis is.
    pub(crate) fn bottom(&self) -> f64 {
        self.height - BOTTOM
    }

    /// A stretch of the horizontal axis in another shade.
    pub(crate) fn shade(&mut self, from: f64, to: f64) {
        let (start, end, top, bottom) = (self.across(from), self.across(to), self.top, self.bottom());
        let path = format!("M{start:.1} {top:.1}H{end:.1}V{bottom:.1}H{start:.1}Z");
        self.drawing.path("shade", &path);
    }

    /// The lines of the marks with their words, above what was drawn so far.
    pub(crate) fn marks(&mut self) {
        // Many lines are a pattern in the background, few are events.
        let class = if self.labels.len() > MANY_MARKS { "mark many" } else { "mark" };
        for label in std::mem::take(&mut self.labels) {
            let row = self.top - label.row as f64 * ROW;
            let from = if label.text.is_empty() { self.top } else { row - ROW + 3.0 };
            self.drawing.line(class, (label.x, from), (label.x, self.bottom()));
            let (class, x) =
                if label.left { ("marked left", label.x - 4.0) } else { ("marked", label.x + 4.0) };
            if !label.text.is_empty() {
                self.drawing.text(class, (x, row - 4.0), &label.text);
            }
        }
    }

    /// A stretch that says something when it is pointed at.
    pub(crate) fn hover(&mut self, from: f64, to: f64, words: &str) {
        let (start, end, top) = (self.across(from), self.across(to), self.top);
        self.drawing.rectangle("hover", (start, top), ((end - start).max(1.0), self.bottom() - top), words);
    }

    /// The whole drawing.
    pub(crate) fn finish(self, heading: &Heading) -> String {
        self.drawing.finish(heading.id, (self.width, self.height), heading.title, &heading.explanation)
    }

    fn axes(&mut self, x_name: &str, y_name: &str) {
        let (start, end, bottom) = (LEFT, self.width - RIGHT, self.bottom());
        let mut last = f64::INFINITY;
        for tick in self.y.ticks.clone() {
            let y = self.down(tick.value);
            let named = !tick.label.is_empty() && last - y >= NARROWEST;
            self.drawing.line(if named { "grid" } else { "grid minor" }, (start, y), (end, y));
            if named {
                self.drawing.text("tick left", (start - 8.0, y + 4.0), &tick.label);
                last = y;
            }
        }
        for tick in self.x.ticks.clone() {
            let x = self.across(tick.value);
            self.drawing.line("grid", (x, self.top), (x, bottom + 5.0));
            self.drawing.text("tick middle", (x, bottom + 19.0), &tick.label);
        }
        self.drawing.line("axis", (start, bottom), (end, bottom));
        self.drawing.text("name middle", (f64::midpoint(start, end), self.height - 6.0), x_name);
        self.drawing.text("name", (0.0, 15.0), y_name);
    }
}

/// A time as it is said: `at 12.5 s`.
pub(crate) fn at(seconds: f64) -> String {
    format!("at {} s", number::plain((seconds * 10.0).round() / 10.0))
}

//! Lines over time, with the marks and the warm-up.

use super::frame::{self, Frame};
use super::scale::{self, Scale, Unit};
use super::{Figure, Heading, Key, Size, Table};
use crate::report::number;
use crate::summary::{Interval, Mark};

/// The time of a run: what all plots over time share.
#[derive(Debug, Clone)]
pub(crate) struct Clock<'a> {
    /// The intervals that are drawn.
    pub(crate) intervals: &'a [Interval],
    /// What was done, and when.
    pub(crate) marks: &'a [Mark],
    /// From when to when latencies do not count.
    pub(crate) warm_up: Option<(f64, f64)>,
}

impl Clock<'_> {
    /// The axis of time and its name.
    pub(crate) fn scale(&self) -> (Scale, &'static str) {
        let from = self.intervals.first().map_or(0.0, |first| first.at.min(0.0));
        let end = self.intervals.last().map_or(1.0, |last| last.at + last.seconds);
        scale::time(from, self.marks.iter().fold(end, |end, mark| end.max(mark.at)))
    }

    /// What stands at the left of the tables.
    pub(crate) fn head() -> String {
        "From".to_owned()
    }
}

/// Where in its interval a value was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It stands for the whole interval.
    During,
    /// It was read when the interval ended.
    AtEnd,
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stroke {
    /// A line.
    Line,
    /// A line with its area below.
    Area,
    /// A broad, pale line which others may cover.
    Broad,
    /// A broken line.
    Broken,
    /// A dot for each value.
    Dots,
}

impl Stroke {
    /// The class of the stroke.
    fn class(self) -> &'static str {
        match self {
            Self::Line | Self::Area | Self::Dots => "",
            Self::Broad => " broad",
            Self::Broken => " broken",
        }
    }
}

/// A value over time.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// What it is.
    pub(crate) name: &'static str,
    /// Its colour's class.
    pub(crate) colour: &'static str,
    /// How it is drawn.
    pub(crate) stroke: Stroke,
    /// One for each interval.
    pub(crate) values: Vec<Option<f64>>,
}

/// Draws the lines over time.
pub(crate) fn plot(
    clock: &Clock<'_>,
    heading: Heading,
    size: Size,
    (unit, name): (Unit, &str),
    taken: Taken,
    lines: &[Line],
) -> Figure {
    let lines: Vec<&Line> = lines.iter().filter(|line| line.values.iter().any(Option::is_some)).collect();
    let mut figure = heading.figure(size);
    if lines.is_empty() {
        return figure;
    }
    let y = unit.scale(lines.iter().flat_map(|line| line.values.iter().copied().flatten()));
    let mut frame = Frame::new(size, clock.scale(), (y, name), clock.marks);
    let warm_up = clock.warm_up.filter(|_| unit == Unit::Latency);
    if let Some((from, to)) = warm_up {
        frame.shade(from, to);
    }
    for line in &lines {
        draw(&mut frame, clock, taken, line);
    }
    frame.marks();
    for (at, interval) in clock.intervals.iter().enumerate() {
        frame.hover(interval.at, interval.at + interval.seconds, &words(interval, at, unit, &lines));
    }
    let shade = Key { class: "cell shade".to_owned(), name: "warm-up: not in the percentiles".to_owned() };
    figure.legend = lines.iter().map(|line| key(line)).chain(warm_up.map(|_| shade)).collect();
    figure.table = Some(table(clock, unit, &lines));
    figure.svg = Some(frame.finish(&figure.heading));
    figure
}

fn draw(frame: &mut Frame, clock: &Clock<'_>, taken: Taken, line: &Line) {
    let points: Vec<Option<(f64, f64)>> = clock
        .intervals
        .iter()
        .zip(&line.values)
        .map(|(interval, value)| {
            let within = if taken == Taken::AtEnd { 1.0 } else { 0.5 };
            value.map(|value| frame.place((interval.at + interval.seconds * within, value)))
        })
        .collect();
    let base = frame.bottom();
    match line.stroke {
        Stroke::Dots => frame.drawing.dots(line.colour, &points),
        Stroke::Area => {
            frame.drawing.area(line.colour, &points, base);
            frame.drawing.polyline(line.colour, &points);
        }
        other => frame.drawing.polyline(&format!("{}{}", line.colour, other.class()), &points),
    }
}

fn key(line: &Line) -> Key {
    let shape = if line.stroke == Stroke::Dots { "dots" } else { "line" };
    Key { class: format!("{shape} {}{}", line.colour, line.stroke.class()), name: line.name.to_owned() }
}

/// What an interval says when it is pointed at.
fn words(interval: &Interval, at: usize, unit: Unit, lines: &[&Line]) -> String {
    let values = lines.iter().map(|line| format!("{}: {}", line.name, written(unit, line, at)));
    let values: Vec<String> = values.collect();
    format!("{}: {}", frame::at(interval.at), values.join(", "))
}

fn table(clock: &Clock<'_>, unit: Unit, lines: &[&Line]) -> Table {
    let heads = std::iter::once(Clock::head()).chain(lines.iter().map(|line| line.name.to_owned()));
    let rows = clock.intervals.iter().enumerate().map(|(at, interval)| {
        let begun = format!("{} s", number::decimal(interval.at, 1));
        std::iter::once(begun).chain(lines.iter().map(|line| written(unit, line, at))).collect()
    });
    Table { heads: heads.collect(), rows: rows.collect() }
}

fn written(unit: Unit, line: &Line, at: usize) -> String {
    line.values.get(at).copied().flatten().map_or_else(|| "–".to_owned(), |value| unit.write(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intervals(count: usize) -> Vec<Interval> {
        (0..count).map(|at| Interval { at: at as f64, seconds: 1.0, ..Interval::default() }).collect()
    }

    fn line(values: Vec<Option<f64>>) -> Line {
        Line { name: "p50", colour: "c1", stroke: Stroke::Line, values }
    }

    fn draw_with(intervals: &[Interval], lines: &[Line]) -> Figure {
        let clock = Clock { intervals, marks: &[], warm_up: None };
        let heading = Heading::new("id", "Title", "words");
        plot(&clock, heading, Size::Wide, (Unit::Latency, "push latency"), Taken::During, lines)
    }

    #[test]
    fn lines_without_a_value_are_not_measured() {
        let figure = draw_with(&intervals(3), &[line(vec![None, None, None])]);
        assert!(figure.svg.is_none());
        assert!(figure.legend.is_empty());
        assert!(draw_with(&[], &[]).svg.is_none());
    }

    #[test]
    fn a_single_interval_is_a_dot_in_the_middle() {
        let figure = draw_with(&intervals(1), &[line(vec![Some(250.0)])]);
        let svg = figure.svg.unwrap();
        assert!(svg.contains(r#"cx="545.0""#), "{svg}");
        assert_eq!(figure.table.unwrap().rows, [["0.0 s", "250 µs"]]);
    }

    #[test]
    fn a_line_without_values_is_left_out_beside_one_that_has_some() {
        let figure = draw_with(&intervals(2), &[line(vec![None, None]), line(vec![Some(1.0), None])]);
        assert_eq!(figure.legend.len(), 1);
        assert_eq!(figure.table.unwrap().rows[1], ["1.0 s", "–"]);
    }
}

//! Latency over time, all of it: the darker a cell, the more notifications took so long.

use std::collections::BTreeMap;

use super::frame::{self, Frame};
use super::scale::Unit;
use super::time::Clock;
use super::{Figure, Heading, Key, Size};
use crate::report::number;
use crate::summary::Interval;

/// Shades, at most: as many as the style sheet has.
const SHADES: usize = 8;

/// The bounds of a row, one to the other: at least a quarter of an octave and at most a whole one.
const FINEST: f64 = 1.189_207_115;
const COARSEST: f64 = 2.0;

/// Microseconds from which on rounding hardly moves the bound of a cell.
const ROUNDED: u64 = 200;

/// How far above a row's bound a value still counts as on it: cells are written in whole microseconds.
const SLACK: f64 = 0.3;

/// Draws the cells of each interval.
pub(crate) fn plot(clock: &Clock<'_>, heading: Heading) -> Figure {
    let mut figure = heading.figure(Size::Wide);
    let Some(rows) = Rows::of(clock.intervals) else {
        return figure;
    };
    let columns: Vec<BTreeMap<i32, u64>> =
        clock.intervals.iter().map(|interval| rows.sort(interval)).collect();
    let bounds = shades(columns.iter().flat_map(BTreeMap::values).copied().max().unwrap_or(1));
    let used = columns.iter().flat_map(BTreeMap::keys).copied();
    let edges = used.flat_map(|row| [rows.bound(row - 1), rows.bound(row)]);
    let y = Unit::Latency.scale(edges);
    let mut frame = Frame::new(Size::Wide, clock.scale(), (y, "push latency"), clock.marks);
    let mut paths = vec![String::new(); bounds.len()];
    for (interval, column) in clock.intervals.iter().zip(&columns) {
        let (left, right) = (frame.across(interval.at), frame.across(interval.at + interval.seconds));
        for (row, samples) in column {
            let (top, bottom) = (frame.down(rows.bound(*row)), frame.down(rows.bound(row - 1)));
            let shade = bounds.iter().rposition(|bound| bound <= samples).unwrap_or(0);
            paths[shade].push_str(&format!("M{left:.1} {top:.1}H{right:.1}V{bottom:.1}H{left:.1}Z"));
        }
    }
    for (shade, path) in paths.iter().enumerate() {
        frame.drawing.path(&format!("cell h{}", shade_of(shade, bounds.len())), path);
    }
    frame.marks();
    for (interval, column) in clock.intervals.iter().zip(&columns) {
        let end = interval.at + interval.seconds;
        frame.hover(interval.at, end, &words(interval, column, &rows));
    }
    figure.legend_label = "notifications in a cell:";
    figure.legend = bounds
        .iter()
        .enumerate()
        .map(|(shade, bound)| {
            let last = bounds.get(shade + 1).map(|next| next - 1);
            let name = match last {
                Some(last) if last == *bound => number::count(*bound),
                Some(last) => format!("{}–{}", number::count(*bound), number::count(last)),
                None => format!("≥ {}", number::count(*bound)),
            };
            Key { class: format!("cell h{}", shade_of(shade, bounds.len())), name }
        })
        .collect();
    figure.svg = Some(frame.finish(&figure.heading));
    figure
}

/// The rows of the plot, each as many times as high as the one below.
#[derive(Debug)]
struct Rows {
    first: f64,
    ratio: f64,
}

impl Rows {
    /// Rows which no cell of these intervals is narrower than, so that no row stays empty between two cells.
    fn of(intervals: &[Interval]) -> Option<Self> {
        let mut bounds: Vec<u64> =
            intervals.iter().flat_map(|interval| &interval.heat).map(|(bound, _)| (*bound).max(1)).collect();
        bounds.sort_unstable();
        bounds.dedup();
        let (first, last) = (*bounds.first()? as f64, *bounds.last()? as f64);
        let narrowest = |from: u64| {
            let steps = bounds.windows(2).filter(|pair| pair[0] >= from);
            steps.map(|pair| pair[1] as f64 / pair[0] as f64).reduce(f64::min)
        };
        // Among few microseconds a whole one is a wide step and says little about the cells.
        let ratio = narrowest(ROUNDED).or_else(|| narrowest(1)).unwrap_or(FINEST).clamp(FINEST, COARSEST);
        // What rounding does to one step must not add up over thirty.
        let steps = ((last / first).ln() / ratio.ln()).round().max(1.0);
        let exact = (last / first).powf(1.0 / steps);
        Some(Self { first, ratio: if ratio > FINEST { exact.max(FINEST) } else { ratio } })
    }

    fn row(&self, micros: u64) -> i32 {
        ((micros.max(1) as f64 / self.first).ln() / self.ratio.ln() - SLACK).ceil() as i32
    }

    /// The largest value of a row.
    fn bound(&self, row: i32) -> f64 {
        self.first * self.ratio.powi(row)
    }

    fn sort(&self, interval: &Interval) -> BTreeMap<i32, u64> {
        let mut column = BTreeMap::new();
        for (bound, samples) in interval.heat.iter().filter(|(_, samples)| *samples > 0) {
            *column.entry(self.row(*bound)).or_default() += samples;
        }
        column
    }
}

/// The least count of each shade; each shade spans as many times more than the one before.
fn shades(most: u64) -> Vec<u64> {
    let shades = SHADES.min(usize::try_from(most).unwrap_or(SHADES)).max(1);
    let mut bounds: Vec<u64> =
        (0..shades).map(|shade| (most as f64).powf(shade as f64 / shades as f64).round() as u64).collect();
    bounds.dedup();
    bounds
}

/// Few shades are spread over all that there are.
fn shade_of(shade: usize, shades: usize) -> usize {
    if shades < 2 { SHADES / 2 } else { 1 + shade * (SHADES - 1) / (shades - 1) }
}

fn words(interval: &Interval, column: &BTreeMap<i32, u64>, rows: &Rows) -> String {
    let samples: u64 = column.values().sum();
    let latencies = match (column.keys().next(), column.keys().next_back()) {
        (Some(least), Some(most)) => {
            let (from, to) = (rows.bound(least - 1), rows.bound(*most));
            format!(", {} to {}", number::fractional_micros(from), number::fractional_micros(to))
        }
        _ => String::new(),
    };
    format!("{}: {} notifications{latencies}", frame::at(interval.at), number::count(samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(at: f64, heat: &[(u64, u64)]) -> Interval {
        Interval { at, seconds: 1.0, heat: heat.to_vec(), ..Interval::default() }
    }

    fn draw(intervals: &[Interval]) -> Figure {
        plot(&Clock { intervals, marks: &[], warm_up: None }, Heading::new("heat", "Title", "words"))
    }

    #[test]
    fn each_cell_has_a_row_of_its_own_when_cells_are_coarse() {
        for (cells_in_an_octave, lowest, cells) in
            [(2.0, 11.314, 37), (2.0, 1.0, 42), (3.0, 100.0, 50), (1.7, 16.0, 7)]
        {
            let bound = |at: i32| (lowest * 2_f64.powf(f64::from(at) / cells_in_an_octave)).round() as u64;
            let heat: Vec<(u64, u64)> = (0..cells).map(|at| (bound(at), 1)).collect();
            let mut bounds: Vec<u64> = heat.iter().map(|(bound, _)| *bound).collect();
            bounds.dedup();
            let intervals = [interval(0.0, &heat)];
            let rows = Rows::of(&intervals).unwrap();
            let used: Vec<i32> = rows.sort(&intervals[0]).into_keys().collect();
            let first_row_is_known =
                used.windows(2).all(|pair| pair[1] - pair[0] <= if pair[0] < 4 { 2 } else { 1 });
            assert!(
                first_row_is_known && used.len() == bounds.len(),
                "{cells_in_an_octave} {lowest}: {used:?} {rows:?}"
            );
        }
    }

    #[test]
    fn fine_cells_are_put_together_and_none_is_lost() {
        let heat: Vec<(u64, u64)> = (0..2_000).map(|at| (100 + at, 3)).collect();
        let intervals = [interval(0.0, &heat)];
        let column = Rows::of(&intervals).unwrap().sort(&intervals[0]);
        assert!(column.len() < 30, "{column:?}");
        assert_eq!(column.values().sum::<u64>(), 6_000);
    }

    #[test]
    fn shades_begin_at_one_and_grow() {
        assert_eq!(shades(1), [1]);
        assert_eq!(shades(3), [1, 2]);
        let many = shades(100_000);
        assert_eq!((many.len(), many[0]), (SHADES, 1));
        assert!(many.is_sorted());
        assert_eq!((shade_of(0, 8), shade_of(7, 8), shade_of(0, 1)), (1, 8, 4));
    }

    #[test]
    fn without_cells_there_is_nothing_to_draw() {
        assert!(draw(&[interval(0.0, &[])]).svg.is_none());
        let figure = draw(&[interval(0.0, &[(200, 5), (2_000_000, 1)]), interval(1.0, &[(200, 900)])]);
        assert!(figure.svg.unwrap().contains("cell h8"));
        assert_eq!(figure.legend.first().map(|key| key.name.as_str()), Some("1"));
    }
}

//! Distributions over the logarithm of what is rarer: each step to the right is a tail ten times as thin.

use super::frame::Frame;
use super::scale::{Scale, Tick, Unit};
use super::{Figure, Heading, Key, Size};
use crate::report::number;
use crate::summary::Latency;

/// The shares that the axis names.
const NAMED: [(f64, &str); 7] = [
    (0.5, "50 %"),
    (0.9, "90 %"),
    (0.99, "99 %"),
    (0.999, "99.9 %"),
    (0.9999, "99.99 %"),
    (0.99999, "99.999 %"),
    (0.999_999, "99.9999 %"),
];

/// A distribution with its name and its colour's class.
pub(crate) type Series<'a> = (&'static str, &'static str, Option<&'a Latency>);

/// Draws the distributions that were measured.
pub(crate) fn plot(heading: Heading, size: Size, series: &[Series<'_>]) -> Figure {
    let measured: Vec<(&str, &str, &Latency)> = series
        .iter()
        .filter_map(|(name, colour, latency)| Some((*name, *colour, (*latency)?)))
        .filter(|(_, _, latency)| latency.count > 0)
        .collect();
    let mut figure = heading.figure(size);
    let Some(most) = measured.iter().map(|(_, _, latency)| latency.count).max() else {
        return figure;
    };
    let curves: Vec<Vec<(f64, f64)>> = measured.iter().map(|(_, _, latency)| curve(latency)).collect();
    let end = (most as f64).log10().clamp(2.0, 6.5);
    let ticks: Vec<Tick> = NAMED
        .iter()
        .map(|(share, label)| Tick { value: rarity(*share), label: (*label).to_owned() })
        .filter(|tick| tick.value <= end + 1e-9)
        .collect();
    let y = Unit::Latency.scale(curves.iter().flatten().map(|(_, micros)| *micros));
    let x = Scale::with_ticks(0.0, end, ticks);
    let mut frame =
        Frame::new(size, (x, "percentile (each step to the right: ten times rarer)"), (y, "latency"), &[]);
    for ((name, colour, latency), curve) in measured.iter().zip(&curves) {
        let points: Vec<Option<(f64, f64)>> = curve.iter().map(|point| Some(frame.place(*point))).collect();
        frame.drawing.polyline(&format!("{colour} curve"), &points);
        for (label, share, micros) in named(latency) {
            if rarity(share) <= (latency.count as f64).log10() {
                let place = frame.place((rarity(share), micros as f64));
                let words = format!("{label} of {name}: at most {}", number::micros(micros));
                frame.drawing.dot(colour, place, 3.5, Some(&words));
            }
        }
    }
    figure.legend = measured
        .iter()
        .map(|(name, colour, latency)| Key {
            class: format!("line {colour}"),
            name: format!("{name} ({} samples)", number::count(latency.count)),
        })
        .collect();
    figure.svg = Some(frame.finish(&figure.heading));
    figure
}

/// The points of a distribution. The largest sample has no rarer one, so it stands at one in as many as there are.
fn curve(latency: &Latency) -> Vec<(f64, f64)> {
    let last = (latency.count as f64).log10();
    let place = |share: f64, micros: u64| (rarity(share).min(last), micros as f64);
    let mut points: Vec<(f64, f64)> = if latency.curve.is_empty() {
        named(latency).into_iter().map(|(_, share, micros)| place(share, micros)).collect()
    } else {
        latency
            .curve
            .iter()
            .filter(|(share, _)| share.is_finite())
            .map(|(share, us)| place(*share, *us))
            .collect()
    };
    points.push((last, latency.max as f64));
    points.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));
    points
}

fn named(latency: &Latency) -> [(&'static str, f64, u64); 5] {
    let [(p50, _), (p90, _), (p99, _), (p999, _), (p9999, _), ..] = NAMED;
    [
        ("50 %", p50, latency.p50),
        ("90 %", p90, latency.p90),
        ("99 %", p99, latency.p99),
        ("99.9 %", p999, latency.p999),
        ("99.99 %", p9999, latency.p9999),
    ]
}

/// The logarithm of how rare what lies above is: 0 for all, 1 for a tenth, 2 for a hundredth.
fn rarity(share: f64) -> f64 {
    -(1.0 - share.clamp(0.0, 1.0)).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency(count: u64) -> Latency {
        let curve = vec![(0.0, 100), (0.5, 250), (0.9, 400), (0.99, 900), (1.0, 2_000_000)];
        Latency {
            count,
            p50: 250,
            p90: 400,
            p99: 900,
            p999: 1_500,
            p9999: 9_000,
            max: 2_000_000,
            curve,
            ..Latency::default()
        }
    }

    #[test]
    fn the_axis_ends_where_the_samples_end() {
        let heading = || Heading::new("id", "Title", "words");
        let svg = plot(heading(), Size::Wide, &[("push", "c1", Some(&latency(60_000)))]).svg.unwrap();
        assert!(svg.contains(">99.99 %<") && !svg.contains(">99.999 %<"), "{svg}");
        assert!(svg.contains(">100 µs<") && svg.contains(">1 s<"));
        let few = plot(heading(), Size::Wide, &[("push", "c1", Some(&latency(3)))]).svg.unwrap();
        assert!(few.contains(">99 %<") && !few.contains(">99.9 %<"));
        assert!(!few.contains("NaN") && !few.contains("inf"));
    }

    #[test]
    fn what_has_no_samples_is_not_drawn() {
        let heading = Heading::new("id", "Title", "words");
        assert!(
            plot(heading, Size::Wide, &[("push", "c1", Some(&Latency::default())), ("post", "c2", None)])
                .svg
                .is_none()
        );
    }

    #[test]
    fn the_largest_sample_is_as_rare_as_there_are_samples() {
        assert_eq!(curve(&latency(1_000)).last(), Some(&(3.0, 2_000_000.0)));
        let without = Latency { curve: Vec::new(), ..latency(1_000) };
        assert!(curve(&without).contains(&(rarity(0.5), 250.0)));
    }
}

//! A rate that grows step by step: how far the target followed, and what it cost in latency.

use super::frame::Frame;
use super::scale::{Scale, Unit};
use super::{Figure, Heading, Key, Size};
use crate::report::number;
use crate::summary::{Mark, Stage};

/// The last step before the first with which the target did not keep up.
pub(crate) fn knee(stages: &[Stage]) -> Option<&Stage> {
    let first = stages.iter().position(|stage| !stage.kept_up).unwrap_or(stages.len());
    stages[..first].last()
}

/// Accepted rate over offered rate.
pub(crate) fn achieved(stages: &[Stage], heading: Heading) -> Figure {
    let lines: [Line<'_>; 2] =
        [("offered", "c6 broken", &|stage| stage.rate), ("accepted", "c1", &|stage| stage.achieved)];
    plot(stages, heading, (Unit::Rate, "accepted"), &lines)
}

/// Push latency over offered rate.
pub(crate) fn latency(stages: &[Stage], heading: Heading) -> Figure {
    let lines: [Line<'_>; 3] = [
        ("p50", "c1", &|stage| stage.push.p50 as f64),
        ("p90", "c3", &|stage| stage.push.p90 as f64),
        ("p99", "c2", &|stage| stage.push.p99 as f64),
    ];
    plot(stages, heading, (Unit::Latency, "push latency"), &lines)
}

/// A name, a colour's class and the value of a stage.
type Line<'a> = (&'static str, &'static str, &'a dyn Fn(&Stage) -> f64);

fn plot(stages: &[Stage], heading: Heading, (unit, name): (Unit, &str), lines: &[Line<'_>]) -> Figure {
    let mut figure = heading.figure(Size::Half);
    if stages.is_empty() {
        return figure;
    }
    let x = across(stages);
    let y = unit.scale(stages.iter().flat_map(|stage| lines.iter().map(|(_, _, value)| value(stage))));
    let knee = knee(stages)
        .map(|stage| Mark { at: stage.rate, what: format!("knee: {}", number::rate(stage.rate)) });
    let marks: Vec<Mark> = knee.into_iter().collect();
    let mut frame = Frame::new(Size::Half, (x, "offered a second"), (y, name), &marks);
    for (name, class, value) in lines {
        let points: Vec<Option<(f64, f64)>> =
            stages.iter().map(|stage| Some(frame.place((stage.rate, value(stage))))).collect();
        frame.drawing.polyline(class, &points);
        if class.contains("broken") {
            continue;
        }
        for (stage, place) in stages.iter().zip(points.into_iter().flatten()) {
            let words = format!("{name} at {}: {}", number::rate(stage.rate), unit.write(value(stage)));
            frame.drawing.dot(class, place, 3.5, Some(&words));
        }
    }
    frame.marks();
    figure.legend = lines
        .iter()
        .map(|(name, class, _)| Key { class: format!("line {class}"), name: (*name).to_owned() })
        .collect();
    figure.svg = Some(frame.finish(&figure.heading));
    figure
}

/// The axis of offered rates, whose names are numbers only.
fn across(stages: &[Stage]) -> Scale {
    let mut scale = Unit::Count.scale(stages.iter().map(|stage| stage.rate));
    // Six-digit names need the room of two.
    if scale.ticks.len() > 5 {
        let mut at = 0;
        scale.ticks.retain(|_| {
            at += 1;
            at % 2 == 1
        });
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::IntervalLatency;

    fn stage(rate: f64, kept_up: bool) -> Stage {
        Stage {
            rate,
            achieved: rate,
            push: IntervalLatency { p50: 200, p90: 300, p99: 900, max: 1_500 },
            kept_up,
        }
    }

    #[test]
    fn the_knee_is_before_the_first_failure_even_if_a_later_step_succeeds() {
        let stages =
            [stage(1_000.0, true), stage(2_000.0, true), stage(4_000.0, false), stage(8_000.0, true)];
        assert_eq!(knee(&stages).map(|stage| stage.rate), Some(2_000.0));
        assert_eq!(knee(&stages[2..]), None);
        assert_eq!(knee(&[]), None);
    }

    #[test]
    fn the_knee_is_marked() {
        let stages = [stage(1_000.0, true), stage(2_000.0, false)];
        let svg = achieved(&stages, Heading::new("id", "Title", "words")).svg.unwrap();
        assert!(svg.contains("knee: 1,000/s"), "{svg}");
        assert!(latency(&[], Heading::new("id", "Title", "words")).svg.is_none());
    }
}

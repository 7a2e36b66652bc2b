//! The page: one file that needs nothing else, no script and no network, in the light, in the dark and on paper.

use std::slice;

use askama::Template;

use crate::gate::GateResult;
use crate::report::figures::Figures;
use crate::report::plot::stages;
use crate::report::rows::{self, Distribution, Process, Row};
use crate::report::{number, wording};
use crate::summary::{Latency, Summary, Verdict};

/// The report of a run as one HTML file.
///
/// # Panics
///
/// Never: the template writes to a string.
#[must_use]
pub fn render(summary: &Summary) -> String {
    let mut page = Page::of(summary).render().expect("writing to a string");
    // No HTML may carry them, whatever an error's text holds.
    page.retain(|character| character == '\n' || !character.is_control());
    page
}

/// What the template sees.
#[derive(Debug, Template)]
#[template(path = "report.html")]
struct Page<'a> {
    summary: &'a Summary,
    verdict: &'static str,
    tone: &'static str,
    meaning: &'static str,
    headline: String,
    why: Vec<String>,
    command: String,
    tiles: Vec<Tile>,
    gates: Vec<&'a GateResult>,
    run: Vec<(&'static str, String)>,
    sent: Vec<Row>,
    received: Vec<Row>,
    gaps: Vec<Row>,
    sockets: Vec<Row>,
    closes: Vec<Row>,
    gateway: Option<Vec<Row>>,
    generator: Vec<Row>,
    figures: Figures,
    knee: Option<String>,
    stages: Vec<(bool, [String; 6])>,
    marks: Vec<(String, &'a str)>,
    errors: Vec<(String, &'a str)>,
    distributions: Vec<Distribution<'a>>,
    values: Vec<(&'a str, String)>,
}

/// A number that is seen first.
#[derive(Debug)]
struct Tile {
    name: &'static str,
    value: String,
    remark: String,
}

impl<'a> Page<'a> {
    fn of(summary: &'a Summary) -> Self {
        Self {
            summary,
            verdict: wording::verdict(summary.verdict),
            tone: tone(summary.verdict),
            meaning: wording::meaning(summary.verdict),
            headline: wording::headline(&summary.run),
            // Of criteria that do not hold, the table below says more.
            why: if summary.gates.iter().all(|gate| gate.passed) {
                wording::reasons(summary)
            } else {
                Vec::new()
            },
            command: wording::command(&summary.run),
            tiles: tiles(summary),
            gates: wording::gates(summary),
            run: run(summary),
            sent: rows::sent(&summary.deliveries),
            received: rows::received(&summary.deliveries),
            gaps: rows::gaps(&summary.deliveries),
            sockets: rows::sockets(&summary.sockets),
            closes: rows::closes(&summary.sockets),
            gateway: rows::usage(summary, Process::Gateway),
            generator: rows::usage(summary, Process::Generator).unwrap_or_default(),
            figures: Figures::of(summary),
            knee: stages::knee(&summary.stages).map(|stage| number::rate(stage.rate)),
            stages: summary.stages.iter().map(|stage| (stage.kept_up, rows::step(stage))).collect(),
            marks: summary
                .marks
                .iter()
                .map(|mark| (number::decimal(mark.at, 1), mark.what.as_str()))
                .collect(),
            errors: summary
                .errors
                .iter()
                .map(|(text, times)| (number::count(*times), text.as_str()))
                .collect(),
            distributions: rows::distributions(summary),
            values: summary
                .values
                .iter()
                .map(|(name, value)| (name.as_str(), number::plain(*value)))
                .collect(),
        }
    }
}

fn tone(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "good",
        Verdict::TooSlow | Verdict::DeliveryFailed => "bad",
        Verdict::Invalid | Verdict::Skipped => "doubtful",
    }
}

/// The numbers that most readers came for.
fn tiles(summary: &Summary) -> Vec<Tile> {
    let push = rows::measured(summary, "push");
    let latency = |value: fn(&Latency) -> u64| push.map(|push| number::micros(value(push)));
    let value = |name: &str, write: fn(f64) -> String| summary.values.get(name).map(|value| write(*value));
    let deliveries = &summary.deliveries;
    let received = format!("of {} expected", number::count(deliveries.expected));
    let tile = |name, value: Option<String>, remark: &str| Tile {
        name,
        value: value.unwrap_or_else(|| number::NOT_MEASURED.to_owned()),
        remark: remark.to_owned(),
    };
    vec![
        tile("push p50", latency(|push| push.p50), "due to received"),
        tile("push p99", latency(|push| push.p99), "due to received"),
        tile("push p99.9", latency(|push| push.p999), "due to received"),
        tile("lost", (deliveries.expected > 0).then(|| number::count(deliveries.lost)), &received),
        tile("memory per socket", value("rss_per_socket", number::bytes), "gateway"),
        tile("CPU per push", value("gateway_cpu_per_push", number::fractional_micros), "gateway"),
    ]
}

/// What was run, on what, against what.
fn run(summary: &Summary) -> Vec<(&'static str, String)> {
    let run = &summary.run;
    let shard = run.shard.map_or_else(|| "1 of 1".to_owned(), |(part, parts)| format!("{part} of {parts}"));
    let cores = if run.cores == 1 { "1 core".to_owned() } else { format!("{} cores", run.cores) };
    vec![
        ("Target", [slice::from_ref(&run.url), &run.further_urls].concat().join(", ")),
        ("Kind of target", run.adapter.clone()),
        ("Started", run.started_at.clone()),
        ("Machine of this tool", cores),
        ("Sockets", number::count(run.sockets as u64)),
        ("Offered rate", number::rate(run.rate)),
        (
            "Duration",
            format!(
                "{}, warm-up {}",
                number::seconds(run.duration_seconds),
                number::seconds(run.warm_up_seconds)
            ),
        ),
        ("Text of a notification", number::bytes(run.size as f64)),
        ("Run", run.id.clone()),
        ("Part", shard),
        ("Tool", format!("loadtest {}", run.version)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    /// Opens and closes every element and compares; returns the text outside of tags.
    fn assert_balanced(page: &str) -> String {
        const VOID: [&str; 5] = ["meta", "link", "br", "hr", "!doctype"];
        let (mut open, mut text, mut rest) = (Vec::new(), String::new(), page);
        while let Some(start) = rest.find('<') {
            text.push_str(&rest[..start]);
            let mut quoted = false;
            let end = rest[start..]
                .find(|character| {
                    quoted ^= character == '"';
                    character == '>' && !quoted
                })
                .map(|length| start + length)
                .expect("a tag that ends");
            let tag = &rest[start + 1..end];
            assert!(!tag.contains('<'), "a tag within a tag: {tag}");
            let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap().to_lowercase();
            if tag.starts_with('/') {
                assert_eq!(
                    open.pop().as_deref(),
                    Some(name.as_str()),
                    "near {}",
                    &page[page.len() - rest.len()..][..80]
                );
            } else if !tag.ends_with('/') && !VOID.contains(&name.as_str()) {
                open.push(name);
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty(), "never closed: {open:?}");
        text
    }

    /// The tags of a page, without the text between them.
    fn tags(page: &str) -> Vec<&str> {
        page.split('<').skip(1).filter_map(|tag| tag.split('>').next()).collect()
    }

    fn pages() -> Vec<(&'static str, String)> {
        let summaries = [
            ("passed", fixture::passed(30)),
            ("failed", fixture::failed(300)),
            ("one interval", fixture::failed(1)),
            ("long", fixture::passed(5_000)),
            ("ramp", fixture::ramp()),
            ("skipped", fixture::skipped()),
        ];
        summaries.map(|(name, summary)| (name, render(&summary))).into()
    }

    #[test]
    fn the_page_needs_nothing_from_anywhere() {
        for (name, page) in pages() {
            for tag in tags(&page) {
                assert!(!tag.contains("http:") && !tag.contains("https:"), "{name}: {tag}");
                assert!(!tag.contains(" src") && !tag.starts_with("script"), "{name}: {tag}");
                let link = tag.split("href=\"").nth(1).map(|rest| rest.split('"').next().unwrap());
                assert!(link.is_none_or(|link| link == "data:," || link.starts_with('#')), "{name}: {tag}");
            }
            let style = page.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
            assert!(
                !style.contains("url(") && !style.contains("@import") && !style.contains("http"),
                "{name}"
            );
        }
    }

    #[test]
    fn every_element_is_closed_where_it_was_opened() {
        for (name, page) in pages() {
            let text = assert_balanced(&page);
            for number in ["NaN", "inf ", "-0.0", "Some("] {
                assert!(!text.contains(number) && !page.contains("\"NaN"), "{name}: {number}");
            }
        }
    }

    #[test]
    fn names_are_given_once_and_every_label_has_what_it_names() {
        for (name, page) in pages() {
            let ids: Vec<&str> =
                page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
            let mut once = ids.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(ids.len(), once.len(), "{name}: {ids:?}");
            let labels = page.split("labelledby=\"").skip(1).filter_map(|rest| rest.split('"').next());
            for label in labels.flat_map(str::split_whitespace) {
                assert!(ids.contains(&label), "{name}: {label}");
            }
        }
    }

    #[test]
    fn foreign_text_stays_text() {
        let page = render(&fixture::failed(3));
        assert!(!page.contains("<script"), "a script from an error's text");
        assert!(!page.contains("<img") && !page.contains("onerror=\""));
        assert!(page.contains("&#60;script&#62;") || page.contains("&lt;script&gt;"));
        assert!(!page.contains('\u{1b}'), "a control character");
    }

    #[test]
    fn every_plot_has_axes_and_a_legend_when_there_is_something_to_draw() {
        let page = render(&fixture::failed(30));
        for figure in [
            "percentiles",
            "push",
            "heatmap",
            "rates",
            "sockets",
            "connect",
            "gateway-memory",
            "gateway-processor",
            "generator-memory",
            "generator-processor",
            "lateness",
            "dispatch",
        ] {
            let (_, rest) =
                page.split_once(&format!("<figure id=\"{figure}\"")).unwrap_or_else(|| panic!("{figure}"));
            let figure_text = rest.split("</figure>").next().unwrap();
            for needed in [
                "<svg viewBox",
                "<title id=",
                "<desc id=",
                "class=\"name\"",
                "class=\"name middle\"",
                "class=\"legend\"",
            ] {
                assert!(figure_text.contains(needed), "{figure} has no {needed}");
            }
            assert!(figure_text.matches("tick left").count() >= 2, "{figure}: vertical ticks");
            assert!(figure_text.matches("tick middle").count() >= 2, "{figure}: horizontal ticks");
            assert!(!figure_text.contains(number::NOT_MEASURED), "{figure}");
        }
        assert!(!page.contains("<figure id=\"stages\""), "the rate did not grow");
        assert!(render(&fixture::ramp()).contains("knee: 8,000/s"));
    }

    #[test]
    fn what_was_not_measured_has_no_frame() {
        let page = render(&fixture::skipped());
        assert!(!page.contains("<svg viewBox"));
        let figures: Vec<&str> = page.split("<figure").skip(1).collect();
        assert_eq!(figures.len(), 12);
        assert!(figures.iter().all(|figure| figure.contains("<p class=\"absent\">not measured</p>")));
        assert!(page.contains("SKIPPED"));
    }

    #[test]
    fn the_verdict_comes_first_and_the_sections_follow_in_order() {
        let page = render(&fixture::ramp());
        let places: Vec<usize> = [
            "id=\"verdict\"",
            "id=\"what\"",
            "id=\"totals\"",
            "<figure id=\"percentiles\"",
            "<figure id=\"push\"",
            "<figure id=\"heatmap\"",
            "<figure id=\"rates\"",
            "<figure id=\"sockets\"",
            "<figure id=\"gateway-memory\"",
            "<figure id=\"lateness\"",
            "<figure id=\"stages\"",
            "id=\"errors\"",
            "id=\"latencies\"",
        ]
        .map(|part| page.find(part).unwrap_or_else(|| panic!("{part}")))
        .into();
        assert!(places.is_sorted(), "{places:?}");
    }

    #[test]
    fn a_long_run_makes_a_page_that_can_be_mailed() {
        assert!(render(&fixture::passed(5_000)).len() < 2_000_000);
    }
}

//! The same for the terminal: the verdict first, then why, then the tables, within a hundred columns.

use crate::report::number::{self, NOT_MEASURED};
use crate::report::plot::stages;
use crate::report::rows::{self, Process, Row};
use crate::report::wording;
use crate::summary::{Summary, Verdict};

/// No line is longer.
const COLUMNS: usize = 100;

/// The width of a name in front of numbers.
const NAME: usize = 24;

/// The report of a run as text; with `colour`, for a terminal that understands ANSI sequences.
#[must_use]
pub fn render(summary: &Summary, colour: bool) -> String {
    let mut page = Page { text: String::new(), colour };
    verdict(&mut page, summary);
    gates(&mut page, summary);
    deliveries(&mut page, summary);
    latencies(&mut page, summary);
    stages(&mut page, summary);
    sockets(&mut page, summary);
    usage(&mut page, summary);
    remarks(&mut page, summary);
    page.text
}

/// What a piece of text is, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Strong,
    Soft,
    Good,
    Bad,
    Doubtful,
}

impl Tone {
    fn sequence(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "\u{1b}[1m",
            Self::Soft => "\u{1b}[2m",
            Self::Good => "\u{1b}[1;32m",
            Self::Bad => "\u{1b}[1;31m",
            Self::Doubtful => "\u{1b}[1;33m",
        }
    }
}

/// The text so far.
struct Page {
    text: String,
    colour: bool,
}

impl Page {
    /// Writes text without what a terminal would obey.
    fn put(&mut self, tone: Tone, text: &str) {
        let coloured = self.colour && tone != Tone::Plain;
        if coloured {
            self.text.push_str(tone.sequence());
        }
        self.text.extend(text.chars().map(|character| if character.is_control() { ' ' } else { character }));
        if coloured {
            self.text.push_str("\u{1b}[0m");
        }
    }

    fn end(&mut self) {
        self.text.push('\n');
    }

    fn title(&mut self, title: &str) {
        self.end();
        self.put(Tone::Strong, title);
        self.end();
    }

    /// A sentence, broken between words; further lines begin where the first one did.
    fn sentence(&mut self, tone: Tone, lead: &str, text: &str) {
        let indent = lead.chars().count();
        for (at, line) in broken(text, COLUMNS - indent).into_iter().enumerate() {
            if at == 0 {
                self.put(tone, lead);
            } else {
                self.put(Tone::Plain, &" ".repeat(indent));
            }
            self.put(Tone::Plain, &line);
            self.end();
        }
    }

    fn row(&mut self, row: &Row) {
        let tone = if row.bad { Tone::Bad } else { Tone::Plain };
        self.put(tone, &format!("  {:<NAME$}{:>14}", cut(&row.name, NAME - 1), row.value));
        self.remark(&row.remark);
    }

    /// What stands behind numbers, and the end of their line.
    fn remark(&mut self, remark: &str) {
        if !remark.is_empty() {
            self.put(Tone::Soft, &format!("  {}", cut(remark, COLUMNS - NAME - 32)));
        }
        self.end();
    }
}

fn verdict(page: &mut Page, summary: &Summary) {
    let tone = match summary.verdict {
        Verdict::Passed => Tone::Good,
        Verdict::TooSlow | Verdict::DeliveryFailed => Tone::Bad,
        Verdict::Invalid | Verdict::Skipped => Tone::Doubtful,
    };
    let word = wording::verdict(summary.verdict);
    page.sentence(tone, &format!("{word} "), &wording::headline(&summary.run));
    page.sentence(Tone::Plain, "  ", wording::meaning(summary.verdict));
    for reason in wording::reasons(summary) {
        page.sentence(tone, "  - ", &reason);
    }
    let run = &summary.run;
    let cores = if run.cores == 1 { "1 core".to_owned() } else { format!("{} cores", run.cores) };
    page.sentence(
        Tone::Plain,
        "  ",
        &format!("{} at {}, {}, {cores}, run {}", run.adapter, run.url, run.started_at, run.id),
    );
}

fn gates(page: &mut Page, summary: &Summary) {
    page.title("Criteria");
    if summary.gates.is_empty() {
        page.sentence(Tone::Plain, "  ", "none");
    }
    for gate in wording::gates(summary) {
        let (tone, tick) = if gate.passed { (Tone::Good, "✓") } else { (Tone::Bad, "✗") };
        page.put(tone, &format!("  {tick} "));
        page.put(Tone::Plain, &format!("{:<34} {:<24}", cut(&gate.text, 34), cut(&gate.measured, 24)));
        page.put(Tone::Soft, &format!(" {}, {}", wording::about(gate), wording::origin(gate)));
        page.end();
    }
}

fn deliveries(page: &mut Page, summary: &Summary) {
    page.title("Deliveries");
    for row in rows::sent(&summary.deliveries).iter().chain(&rows::received(&summary.deliveries)) {
        page.row(row);
    }
    for row in rows::gaps(&summary.deliveries) {
        page.row(&Row { name: format!("gap: {}", row.name), ..row });
    }
    for finding in &summary.deliveries.findings {
        page.sentence(Tone::Bad, "  ! ", finding);
    }
}

fn latencies(page: &mut Page, summary: &Summary) {
    page.title("Latencies");
    let heads = ["samples", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
    let columns = |name: &str, cells: [String; 7]| {
        let cells: String = cells.iter().map(|cell| format!("{cell:>12}")).collect();
        format!("  {name:<9}{cells}")
    };
    page.put(Tone::Soft, &columns("", heads.map(str::to_owned)));
    page.end();
    let mut not = Vec::new();
    for distribution in rows::distributions(summary) {
        match distribution.cells() {
            Some([count, _, _, p50, p90, p99, p999, p9999, max]) => {
                page.put(Tone::Plain, &columns(distribution.name, [count, p50, p90, p99, p999, p9999, max]));
                page.end();
            }
            None => not.push(distribution.name),
        }
    }
    if !not.is_empty() {
        page.sentence(Tone::Plain, "  ", &format!("{NOT_MEASURED}: {}", not.join(", ")));
    }
}

fn stages(page: &mut Page, summary: &Summary) {
    if summary.stages.is_empty() {
        return;
    }
    let title = stages::knee(&summary.stages).map_or_else(
        || "Growing rate, too fast from the first step".to_owned(),
        |knee| format!("Growing rate, kept up until {}", number::rate(knee.rate)),
    );
    page.title(&title);
    let columns = |cells: &[String]| cells.iter().map(|cell| format!("{cell:>12}")).collect::<String>();
    let heads = ["offered", "accepted", "p50", "p90", "p99", "max"].map(str::to_owned);
    page.put(Tone::Soft, &columns(&heads));
    page.end();
    for stage in &summary.stages {
        let (tone, tick) = if stage.kept_up { (Tone::Good, "✓") } else { (Tone::Bad, "✗") };
        page.put(Tone::Plain, &columns(&rows::step(stage)));
        page.put(tone, &format!("  {tick}"));
        page.end();
    }
}

fn sockets(page: &mut Page, summary: &Summary) {
    page.title("Sockets");
    for row in rows::sockets(&summary.sockets) {
        page.row(&row);
    }
    for row in rows::closes(&summary.sockets) {
        page.row(&Row { name: format!("closed with {}", row.name), ..row });
    }
}

/// Both processes side by side.
fn usage(page: &mut Page, summary: &Summary) {
    page.title(&format!("{:<NAME$}{:>16}{:>14}", "Memory and processor", "gateway", "generator"));
    let gateway = rows::usage(summary, Process::Gateway);
    for (at, row) in rows::usage(summary, Process::Generator).iter().flatten().enumerate() {
        let value =
            gateway.as_ref().and_then(|rows| rows.get(at)).map_or(NOT_MEASURED, |row| row.value.as_str());
        page.put(Tone::Plain, &format!("  {:<NAME$}{value:>14}{:>14}", row.name, row.value));
        page.remark(&row.remark);
    }
    if let Some(gateway) = summary.gateway.as_ref().filter(|gateway| !gateway.source.is_empty()) {
        page.sentence(Tone::Plain, "  gateway: ", &gateway.source);
    }
    if !summary.generator.source.is_empty() {
        page.sentence(Tone::Plain, "  generator: ", &summary.generator.source);
    }
}

fn remarks(page: &mut Page, summary: &Summary) {
    if !summary.errors.is_empty() {
        page.title("Errors");
    }
    for (text, times) in &summary.errors {
        page.sentence(Tone::Bad, &format!("{:>9} × ", number::count(*times)), text);
    }
    if !summary.notes.is_empty() {
        page.title("Notes");
    }
    for note in &summary.notes {
        page.sentence(Tone::Plain, "  - ", note);
    }
}

/// Text in lines of at most so many characters; a word that is longer is broken too.
fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for piece in letters.chunks(width) {
            let space = usize::from(used > 0);
            if used + space + piece.len() > width {
                lines.push(String::new());
                used = 0;
            } else if space == 1 {
                used += 1;
                lines.last_mut().expect("there is a first line").push(' ');
            }
            lines.last_mut().expect("there is a first line").extend(piece);
            used += piece.len();
        }
    }
    lines
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn the_verdict_is_the_first_thing_that_is_read() {
        let text = render(&fixture::passed(30), false);
        assert!(text.starts_with("PASSED steady: 5,000 sockets, 2,000/s for 30 s\n"), "{text}");
        let text = render(&fixture::failed(30), false);
        assert!(text.starts_with("FAILED steady: 5,000 sockets, 2,000/s for 30 s\n"), "{text}");
        assert!(text.lines().nth(2).unwrap().contains("lost==0 does not hold: 31"), "{text}");
        let text = render(&fixture::skipped(), false);
        assert!(text.starts_with("SKIPPED resume: 1 socket"), "{text}");
        assert!(text.lines().nth(2).unwrap().contains("fastapi cannot resume"));
    }

    #[test]
    fn nothing_is_wider_than_a_hundred_columns() {
        for summary in [fixture::passed(30), fixture::failed(30), fixture::ramp(), fixture::skipped()] {
            for line in render(&summary, false).lines() {
                assert!(line.chars().count() <= COLUMNS, "{} columns: {line}", line.chars().count());
                assert_eq!(line, line.trim_end());
            }
        }
    }

    #[test]
    fn failed_criteria_come_first() {
        let text = render(&fixture::failed(30), false);
        let (cross, tick) = (text.rfind('✗').unwrap(), text.find('✓').unwrap());
        assert!(cross < tick, "{text}");
    }

    #[test]
    fn colours_change_no_text_and_foreign_text_brings_none() {
        let summary = fixture::failed(30);
        let (plain, coloured) = (render(&summary, false), render(&summary, true));
        assert!(!plain.contains('\u{1b}'), "an error's text reached the terminal with its sequences");
        let mut stripped = String::new();
        let mut parts = coloured.split('\u{1b}');
        stripped.push_str(parts.next().unwrap());
        for part in parts {
            stripped.push_str(part.split_once('m').unwrap().1);
        }
        assert_eq!(stripped, plain);
    }

    #[test]
    fn what_nobody_measured_is_said_to_be_so() {
        let text = render(&fixture::skipped(), false);
        let per_push = text.lines().find(|line| line.contains("processor time per push")).unwrap();
        assert_eq!(per_push.matches("not measured").count(), 2, "{per_push}");
        assert!(text.contains("not measured: push, service, post"), "{text}");
        let mut summary = fixture::passed(30);
        summary.values.clear();
        let text = render(&summary, false);
        let line = text.lines().find(|line| line.contains("memory per socket")).unwrap();
        assert!(line.contains("not measured"), "{line}");
    }

    #[test]
    fn a_growing_rate_shows_where_it_ended() {
        let text = render(&fixture::ramp(), false);
        assert!(text.contains("\nGrowing rate, kept up until 8,000/s\n"), "{text}");
        let kept_up = text.lines().find(|line| line.trim_start().starts_with("16,000/s")).unwrap();
        assert!(kept_up.contains("9,480/s") && kept_up.ends_with('✗'), "{kept_up}");
        assert!(!render(&fixture::passed(3), false).contains("Growing rate"));
    }

    #[test]
    fn long_words_are_broken_and_nothing_is_lost() {
        assert_eq!(broken("ab cde fghijklm n", 4), ["ab", "cde", "fghi", "jklm", "n"]);
        assert_eq!(broken("", 4), [""]);
    }
}

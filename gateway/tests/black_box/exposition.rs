//! Reads the text exposition format (version 0.0.4) strictly: what a scraper might stumble over fails the test.

use std::collections::BTreeMap;

/// A scrape.
pub(crate) struct Exposition {
    text: String,
    /// Series with their labels, as written, and their values.
    series: BTreeMap<String, f64>,
    /// Families and their types.
    families: BTreeMap<String, String>,
}

impl Exposition {
    /// Parses a scrape and panics at the first line that breaks the format.
    pub(crate) fn parse(text: &str) -> Self {
        let mut helped = BTreeMap::new();
        let mut families: BTreeMap<String, String> = BTreeMap::new();
        let mut series = BTreeMap::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help text: {line}"));
                assert!(!help.trim().is_empty(), "no help text: {line}");
                assert!(helped.insert(name.to_owned(), help).is_none(), "helped twice: {line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
                assert!(helped.contains_key(name), "no help before: {line}");
                assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
                assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "typed twice: {line}");
            } else {
                let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
                let value: f64 = value.parse().unwrap_or_else(|_| panic!("not a number: {line}"));
                check_labels(name);
                assert!(family_of(name, &families).is_some(), "no family for {line}");
                assert!(series.insert(name.to_owned(), value).is_none(), "twice: {line}");
            }
        }
        Self { text: text.to_owned(), series, families }
    }

    /// The value of a series, named with its labels in the order of the exposition.
    pub(crate) fn value(&self, series: &str) -> f64 {
        match self.series.get(series) {
            Some(value) => *value,
            None => panic!("no series {series} in:\n{}", self.text),
        }
    }

    pub(crate) fn has(&self, series: &str) -> bool {
        self.series.contains_key(series)
    }

    /// The names of all series, labels included.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.series.keys().map(String::as_str).collect()
    }

    /// The names and types of all families.
    pub(crate) fn families(&self) -> impl Iterator<Item = (&str, &str)> {
        self.families.iter().map(|(name, kind)| (name.as_str(), kind.as_str()))
    }

    /// Every series of a family, labels included.
    pub(crate) fn of_family<'a>(&'a self, family: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.series
            .iter()
            .filter(move |(name, _)| name.split('{').next() == Some(family))
            .map(|(name, value)| (name.as_str(), *value))
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

fn family_of<'a>(series: &'a str, families: &BTreeMap<String, String>) -> Option<&'a str> {
    let name = series.split('{').next().unwrap();
    if families.get(name).is_some_and(|kind| kind != "histogram") {
        return Some(name);
    }
    let base =
        ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
    (families.get(base).is_some_and(|kind| kind == "histogram")).then_some(base)
}

/// `name{label="value",…}` with plain names, and values without surprises.
fn check_labels(series: &str) {
    let plain = |name: &str| {
        !name.is_empty()
            && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
    };
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => {
            (name, rest.strip_suffix('}').unwrap_or_else(|| panic!("labels do not end: {series}")))
        }
        None => (series, ""),
    };
    assert!(plain(name), "{series}");
    for label in labels.split("\",").filter(|label| !label.is_empty()) {
        let (name, value) = label.split_once("=\"").unwrap_or_else(|| panic!("no label: {series}"));
        assert!(plain(name), "{series}");
        let value = value.trim_end_matches('"');
        assert!(!value.contains(['"', '\\', '\n']), "{series}");
    }
}

//! Reads the OpenMetrics text format (version 1.0.0) strictly: what its specification forbids fails the test.

use std::collections::{BTreeMap, BTreeSet};

/// The longest an exemplar's labels may be, names and values together, in characters.
const MOST_EXEMPLAR_CHARACTERS: usize = 128;

/// Labels, sorted by name.
pub(super) type Labels = BTreeMap<String, String>;

/// A sample's name and labels.
pub(super) type Series = (String, Labels);

/// A scrape.
#[derive(Debug)]
pub(super) struct OpenMetrics {
    /// Names without the suffixes of samples, and types.
    pub(super) families: BTreeMap<String, String>,
    pub(super) samples: BTreeMap<Series, Sample>,
}

/// One line with a value.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) value: f64,
    pub(super) exemplar: Option<Exemplar>,
}

/// One measurement behind a sample.
#[derive(Debug)]
pub(super) struct Exemplar {
    pub(super) labels: Labels,
    pub(super) value: f64,
    /// Seconds since the Unix epoch.
    pub(super) timestamp: Option<f64>,
}

/// What of a family was read so far; its lines stand together.
struct Family {
    name: String,
    kind: String,
    helped: bool,
    samples: Vec<(Series, Sample)>,
}

impl OpenMetrics {
    /// Parses a scrape, or says which line breaks the format.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(lines) = text.strip_suffix("# EOF\n") else {
            return Err("it does not end with `# EOF` and a line feed".to_owned());
        };
        if !lines.is_empty() && !lines.ends_with('\n') {
            return Err("`# EOF` stands on a line of its own".to_owned());
        }
        let mut parsed = Self { families: BTreeMap::new(), samples: BTreeMap::new() };
        let mut current: Option<Family> = None;
        for line in lines.split_terminator('\n') {
            parsed.line(line, &mut current).map_err(|reason| format!("{reason}: {line:?}"))?;
        }
        parsed.finish(current)?;
        Ok(parsed)
    }

    fn line(&mut self, line: &str, current: &mut Option<Family>) -> Result<(), String> {
        let Some(metadata) = line.strip_prefix("# ") else {
            let family = current.as_mut().ok_or("a sample without a family")?;
            let (series, sample) = sample(line, family)?;
            family.samples.push((series, sample));
            return Ok(());
        };
        let (keyword, rest) = metadata.split_once(' ').ok_or("metadata of what?")?;
        let (name, text) = rest.split_once(' ').ok_or("metadata without a text")?;
        if !is_metric_name(name) {
            return Err(format!("{name} is no metric's name"));
        }
        match keyword {
            "TYPE" => {
                if !["counter", "gauge", "histogram"].contains(&text) {
                    return Err(format!("a type that the gateway has no use for: {text}"));
                }
                let next = matches!(current, Some(family) if family.name == name && family.kind.is_empty());
                if !next {
                    self.begin(name, current)?;
                }
                text.clone_into(&mut current.as_mut().expect("begun").kind);
            }
            "HELP" => {
                check_escapes(text)?;
                if !matches!(current, Some(family) if family.name == name && !family.helped) {
                    self.begin(name, current)?;
                }
                let family = current.as_mut().expect("begun");
                if !family.samples.is_empty() || text.trim().is_empty() {
                    return Err("help comes before samples and helps".to_owned());
                }
                family.helped = true;
            }
            "UNIT" => {
                if !name.ends_with(&format!("_{text}")) {
                    return Err("a unit is the end of its metric's name".to_owned());
                }
            }
            _ => return Err("there are no comments".to_owned()),
        }
        Ok(())
    }

    fn begin(&mut self, name: &str, current: &mut Option<Family>) -> Result<(), String> {
        let begun = Family { name: name.to_owned(), kind: String::new(), helped: false, samples: Vec::new() };
        self.finish(current.replace(begun))
    }

    fn finish(&mut self, family: Option<Family>) -> Result<(), String> {
        let Some(family) = family else { return Ok(()) };
        let name = family.name.clone();
        if family.kind.is_empty() || !family.helped {
            return Err(format!("{name} has no type or no help"));
        }
        if family.kind == "histogram" {
            check_histograms(&family).map_err(|reason| format!("{name}: {reason}"))?;
        }
        if self.families.insert(name.clone(), family.kind).is_some() {
            return Err(format!("the lines of {name} do not stand together"));
        }
        for (series, sample) in family.samples {
            if let Some((series, _)) =
                self.samples.insert(series.clone(), sample).map(|twice| (series, twice))
            {
                return Err(format!("{series:?} stands twice"));
            }
        }
        Ok(())
    }

    /// The value of a series.
    pub(super) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.samples.get(&(name.to_owned(), labels)).unwrap_or_else(|| panic!("no {name}")).value
    }

    /// Every exemplar with its series.
    pub(super) fn exemplars(&self) -> impl Iterator<Item = (&Series, &Exemplar)> {
        self.samples.iter().filter_map(|(series, sample)| Some((series, sample.exemplar.as_ref()?)))
    }
}

fn sample(line: &str, family: &Family) -> Result<(Series, Sample), String> {
    let (name, labels, rest) = name_and_labels(line)?;
    let suffix = name.strip_prefix(&family.name).ok_or("a sample of another family")?;
    let fits = match family.kind.as_str() {
        "counter" => suffix == "_total" && !labels.contains_key("le"),
        "gauge" => suffix.is_empty(),
        "histogram" => match suffix {
            "_bucket" => labels.contains_key("le"),
            "_sum" | "_count" => !labels.contains_key("le"),
            _ => false,
        },
        _ => return Err("a sample before its type".to_owned()),
    };
    if !fits {
        return Err(format!("no sample of a {}", family.kind));
    }
    let rest = rest.strip_prefix(' ').ok_or("one space before the value")?;
    let (value, exemplar) = match rest.split_once(" # ") {
        None => (rest, None),
        Some((value, exemplar)) => (value, Some(parse_exemplar(exemplar)?)),
    };
    // The gateway gives no timestamps: what follows the value would be one.
    let value = number(value)?;
    if exemplar.is_some() && suffix != "_bucket" && suffix != "_total" {
        return Err("only buckets and counters have exemplars".to_owned());
    }
    if !suffix.is_empty() && suffix != "_sum" && (value.is_nan() || value < 0.0) {
        return Err("a count below zero".to_owned());
    }
    if matches!(suffix, "_bucket" | "_count") && value.fract() != 0.0 {
        return Err("half an observation".to_owned());
    }
    Ok(((name, labels), Sample { value, exemplar }))
}

/// `{labels} value timestamp`, the timestamp if there is one.
fn parse_exemplar(text: &str) -> Result<Exemplar, String> {
    if !text.starts_with('{') {
        return Err("an exemplar begins with its labels".to_owned());
    }
    let (labels, rest) = labels_of(&text[1..])?;
    let characters: usize =
        labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
    if characters > MOST_EXEMPLAR_CHARACTERS {
        return Err(format!("an exemplar's labels of {characters} characters"));
    }
    let rest = rest.strip_prefix(' ').ok_or("one space before an exemplar's value")?;
    let (value, timestamp) = match rest.split_once(' ') {
        None => (number(rest)?, None),
        Some((value, timestamp)) => (number(value)?, Some(number(timestamp)?)),
    };
    Ok(Exemplar { labels, value, timestamp })
}

/// Buckets rise, end with `+Inf`, agree with the count, and hold their exemplars.
fn check_histograms(family: &Family) -> Result<(), String> {
    let mut buckets: BTreeMap<Labels, Vec<(f64, &Sample)>> = BTreeMap::new();
    let mut others: BTreeMap<Labels, BTreeSet<&str>> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for ((name, labels), sample) in &family.samples {
        let mut labels = labels.clone();
        if let Some(edge) = labels.remove("le") {
            buckets.entry(labels).or_default().push((canonical(&edge)?, sample));
            continue;
        }
        if name.ends_with("_count") {
            counts.insert(labels.clone(), sample.value);
        }
        others.entry(labels).or_default().insert(&name[family.name.len()..]);
    }
    if buckets.keys().ne(others.keys()) {
        return Err("buckets, sum and count belong together".to_owned());
    }
    for (labels, buckets) in buckets {
        if others[&labels] != BTreeSet::from(["_count", "_sum"]) {
            return Err(format!("{labels:?} lacks its sum or its count"));
        }
        let mut below = (f64::NEG_INFINITY, 0.0);
        for (edge, sample) in buckets {
            if edge <= below.0 || sample.value < below.1 {
                return Err(format!("the buckets of {labels:?} do not rise at {edge}"));
            }
            let outside = |exemplar: &Exemplar| exemplar.value <= below.0 || exemplar.value > edge;
            if sample.exemplar.as_ref().is_some_and(outside) {
                return Err(format!("{:?} is not in the bucket {edge}", sample.exemplar));
            }
            below = (edge, sample.value);
        }
        if below != (f64::INFINITY, counts[&labels]) {
            return Err(format!("the last bucket of {labels:?} is not everything"));
        }
    }
    Ok(())
}

/// A bucket's edge, which has to be written as a floating-point number.
fn canonical(edge: &str) -> Result<f64, String> {
    if edge == "+Inf" {
        return Ok(f64::INFINITY);
    }
    if !edge.contains(['.', 'e']) {
        return Err(format!("le=\"{edge}\" is no floating-point number"));
    }
    number(edge)
}

fn number(text: &str) -> Result<f64, String> {
    let known = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        _ if known => text.parse().map_err(|_| format!("{text:?} is no number")),
        _ => Err(format!("{text:?} is no number")),
    }
}

fn name_and_labels(line: &str) -> Result<(String, Labels, &str), String> {
    let end = line.find(['{', ' ']).ok_or("a sample has a value")?;
    let name = line[..end].to_owned();
    if !is_metric_name(&name) {
        return Err(format!("{name:?} is no metric's name"));
    }
    match line[end..].strip_prefix('{') {
        None => Ok((name, Labels::new(), &line[end..])),
        Some(labels) => {
            let (labels, rest) = labels_of(labels)?;
            Ok((name, labels, rest))
        }
    }
}

/// The labels up to the closing brace, and what follows it.
fn labels_of(text: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    let mut rest = text;
    if let Some(rest) = rest.strip_prefix('}') {
        return Ok((labels, rest));
    }
    loop {
        let (name, quoted) = rest.split_once("=\"").ok_or("a label is name=\"value\"")?;
        let plain = |character: char| character.is_ascii_alphanumeric() || character == '_';
        if name.is_empty()
            || !name.chars().all(plain)
            || name.starts_with(|first: char| first.is_ascii_digit())
        {
            return Err(format!("{name:?} is no label's name"));
        }
        let mut escaped = false;
        let end = quoted
            .find(|character| {
                let ends = character == '"' && !escaped;
                escaped = character == '\\' && !escaped;
                ends
            })
            .ok_or("a label's value ends")?;
        check_escapes(&quoted[..end])?;
        if labels.insert(name.to_owned(), quoted[..end].to_owned()).is_some() {
            return Err(format!("the label {name} twice"));
        }
        rest = &quoted[end + 1..];
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        rest = rest.strip_prefix(',').ok_or("a comma between labels")?;
    }
}

/// A backslash stands only before `\`, `"` and `n`; a quote never stands alone.
fn check_escapes(text: &str) -> Result<(), String> {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let fine = match character {
            '\\' => matches!(characters.next(), Some('\\' | '"' | 'n')),
            '"' => false,
            _ => true,
        };
        if !fine {
            return Err(format!("not escaped: {text:?}"));
        }
    }
    Ok(())
}

fn is_metric_name(name: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "_:".contains(character);
    !name.is_empty() && name.chars().all(plain) && !name.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_seconds Time.\n# TYPE a_seconds histogram\n\
        a_seconds_bucket{x=\"1\",le=\"0.5\"} 1 # {trace_id=\"ab\"} 0.25 1700000000.5\n\
        a_seconds_bucket{x=\"1\",le=\"1.0\"} 2\na_seconds_bucket{x=\"1\",le=\"+Inf\"} 2\n\
        a_seconds_sum{x=\"1\"} 0.75\na_seconds_count{x=\"1\"} 2\n\
        # HELP b Bees.\n# TYPE b counter\nb_total 7\n# TYPE c gauge\n# HELP c A \\\"sea\\\".\nc{y=\"\\\\\"} -1.5e-3\n\
        # EOF\n";

    #[test]
    fn the_reader_takes_what_keeps_to_the_format() {
        let read = OpenMetrics::parse(GOOD).unwrap();
        assert_eq!(read.value("b_total", &[]), 7.0);
        let (series, exemplar) = read.exemplars().next().unwrap();
        assert_eq!((series.1["le"].as_str(), exemplar.labels["trace_id"].as_str()), ("0.5", "ab"));
        assert_eq!((exemplar.value, exemplar.timestamp), (0.25, Some(1_700_000_000.5)));
    }

    #[test]
    fn the_reader_turns_red_on_each_thing_that_breaks_the_format() {
        for (good, bad) in [
            ("# EOF\n", "# EOF"),
            ("# EOF\n", "# EOF\n\n"),
            ("# EOF\n", "\n# EOF\n"),
            ("# EOF\n", ""),
            ("b_total 7", "b 7"),
            ("b_total 7", "b_total -7"),
            ("b_total 7", "b_total 7 "),
            ("b_total 7", "b_total  7"),
            ("b_total 7", "b_total seven"),
            ("b_total 7", "b_total 7\nb_total 7"),
            ("b_total 7", "b_total inf"),
            ("# TYPE b counter\n", ""),
            ("# HELP b Bees.\n", ""),
            ("# HELP b Bees.", "# HELP b_total Bees."),
            ("# TYPE b counter", "# TYPE b_total counter"),
            ("# TYPE b counter", "# type b counter"),
            ("# HELP b Bees.", "# a comment"),
            ("\\\"sea\\\"", "\"sea\""),
            ("y=\"\\\\\"", "y=\"\\t\""),
            ("c{y=\"\\\\\"}", "c{y=\"1\",y=\"2\"}"),
            ("c{y=\"\\\\\"}", "c{y=1}"),
            ("c{y=\"\\\\\"}", "c{0=\"1\"}"),
            ("c{y=\"\\\\\"} -1.5e-3", "c -1 # {trace_id=\"ab\"} 1"),
            ("le=\"1.0\"", "le=\"1\""),
            ("le=\"1.0\"", "le=\"0.25\""),
            ("le=\"1.0\"} 2", "le=\"1.0\"} 0"),
            ("le=\"+Inf\"} 2", "le=\"2.0\"} 2"),
            ("count{x=\"1\"} 2", "count{x=\"1\"} 3"),
            ("a_seconds_sum{x=\"1\"} 0.75\n", ""),
            ("} 0.25 17", "} 0.75 17"),
            (" # {trace_id=\"ab\"}", " # trace_id=\"ab\""),
            (" # {trace_id=\"ab\"}", " # {}0.25 # {}"),
            ("\"ab\"", &format!("\"{}\"", "a".repeat(121))),
        ] {
            assert!(GOOD.contains(good), "{good}");
            let text = GOOD.replacen(good, bad, 1);
            assert!(OpenMetrics::parse(&text).is_err(), "{good:?} became {bad:?}");
        }
    }
}

//! Numbers as people read them: separated thousands, three significant digits, a unit. Every number of a report is written
//! here, so that the page and the terminal say the same.

/// What stands in the place of a number that nobody took.
pub const NOT_MEASURED: &str = "not measured";

/// One mebibyte.
const MEBIBYTE: f64 = 1_048_576.0;

/// `1234567` is `1,234,567`.
#[must_use]
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with so many decimals and separated thousands; what is not a number is `–`.
#[must_use]
pub fn decimal(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), count);
    let zero = !text.contains(|digit: char| ('1'..='9').contains(&digit));
    let sign = if value < 0.0 && !zero { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

/// A number with three significant digits, or more where it has them before the point: `0.123`, `12.3`, `1,234`.
#[must_use]
pub fn significant(value: f64) -> String {
    decimal(value, decimals_for(value))
}

/// A number as it is written by hand: at most three decimals, none that is zero at the end.
#[must_use]
pub fn plain(value: f64) -> String {
    let text = decimal(value, 3);
    without_zeros(&text)
}

/// Microseconds: `252 µs`, `1.03 ms`, `1.56 s`, `2 min 5 s`.
#[must_use]
pub fn micros(value: u64) -> String {
    fractional_micros(value as f64)
}

/// As [`micros`], for less than a microsecond too.
#[must_use]
pub fn fractional_micros(value: f64) -> String {
    // The bounds are where rounding to three digits would write `1,000` of the smaller unit.
    match value.abs() {
        0.0 => "0 µs".to_owned(),
        small if small < 0.9995 => format!("{} ns", significant(value * 1e3)),
        small if small < 999.5 => format!("{} µs", plain_significant(value)),
        small if small < 999_500.0 => format!("{} ms", plain_significant(value / 1e3)),
        _ => seconds(value / 1e6),
    }
}

/// Seconds: `30 s`, `1.56 s`, `2 min 5 s`, `3 h 20 min`.
#[must_use]
pub fn seconds(value: f64) -> String {
    if !value.is_finite() || value < 99.95 {
        return format!("{} s", plain_significant(value));
    }
    let whole = value.round() as u64;
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (hours, minutes, rest) {
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, rest) => format!("{minutes} min {rest} s"),
        (hours, 0, _) => format!("{} h", count(hours)),
        (hours, minutes, _) => format!("{} h {minutes} min", count(hours)),
    }
}

/// Bytes: `812 B`, `5.1 KiB`, `146 MiB`, `1.25 GiB`.
#[must_use]
pub fn bytes(value: f64) -> String {
    let (unit, divisor) = byte_unit(value);
    format!("{} {unit}", plain_significant(value / divisor))
}

/// The unit in which so many bytes are read best, and its size.
#[must_use]
pub fn byte_unit(value: f64) -> (&'static str, f64) {
    match value.abs() {
        small if small < 1_023.5 => ("B", 1.0),
        small if small < MEBIBYTE * 0.9995 => ("KiB", 1_024.0),
        small if small < MEBIBYTE * 1_023.5 => ("MiB", MEBIBYTE),
        _ => ("GiB", MEBIBYTE * 1_024.0),
    }
}

/// So many of so many: `99.98 %`. What is less than all is never written as `100 %`, and what is more than none never as
/// `0 %`.
#[must_use]
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    let value = part as f64 * 100.0 / whole as f64;
    let text = plain(value);
    match text.as_str() {
        "100" if part < whole => "> 99.999 %".to_owned(),
        "0" if part > 0 => "< 0.001 %".to_owned(),
        _ => format!("{text} %"),
    }
}

/// So many a second: `2,000/s`, `0.5/s`.
#[must_use]
pub fn rate(value: f64) -> String {
    format!("{}/s", plain_significant(value))
}

/// Cores kept busy: `0.42 cores`.
#[must_use]
pub fn cores(value: f64) -> String {
    format!("{} cores", plain_significant(value))
}

/// Three significant digits without zeros at the end: `1.5`, not `1.50`.
fn plain_significant(value: f64) -> String {
    without_zeros(&significant(value))
}

fn without_zeros(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text.to_owned()
    }
}

/// How many decimals make three digits.
fn decimals_for(value: f64) -> usize {
    match value.abs() {
        tiny if tiny < 0.9995 => 3,
        small if small < 9.995 => 2,
        middle if middle < 99.95 => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(12_345_678), "12,345,678");
        assert_eq!(decimal(-1_234.56, 1), "-1,234.6");
        assert_eq!(decimal(-0.01, 1), "0.0");
        assert_eq!(decimal(f64::NAN, 1), "–");
    }

    #[test]
    fn a_latency_changes_its_unit_where_rounding_would_write_a_thousand() {
        let written: Vec<String> = [
            0,
            1,
            252,
            999,
            1_000,
            1_034,
            12_345,
            999_499,
            999_500,
            1_563_000,
            99_949_999,
            125_000_000,
            5_400_000_000,
        ]
        .map(micros)
        .into();
        let expected = [
            "0 µs",
            "1 µs",
            "252 µs",
            "999 µs",
            "1 ms",
            "1.03 ms",
            "12.3 ms",
            "999 ms",
            "1 s",
            "1.56 s",
            "99.9 s",
            "2 min 5 s",
            "1 h 30 min",
        ];
        assert_eq!(written, expected);
        assert_eq!(fractional_micros(18.34), "18.3 µs");
        assert_eq!(fractional_micros(0.25), "250 ns");
        assert_eq!(fractional_micros(999.9), "1 ms");
    }

    #[test]
    fn bytes_take_the_unit_that_keeps_them_short() {
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(812.0), "812 B");
        assert_eq!(bytes(5_222.0), "5.1 KiB");
        assert_eq!(bytes(153_092_096.0), "146 MiB");
        assert_eq!(bytes(1_342_177_280.0), "1.25 GiB");
        assert_eq!(bytes(1_048_575.0), "1 MiB");
        assert_eq!(bytes(-2_048.0), "-2 KiB");
    }

    #[test]
    fn a_share_is_whole_only_if_it_is() {
        assert_eq!(percent(10, 10), "100 %");
        assert_eq!(percent(9_999_999, 10_000_000), "> 99.999 %");
        assert_eq!(percent(1, 10_000_000), "< 0.001 %");
        assert_eq!(percent(0, 10), "0 %");
        assert_eq!(percent(1, 3), "33.333 %");
        assert_eq!(percent(1, 0), "–");
    }

    #[test]
    fn rates_and_times_have_no_needless_zeros() {
        assert_eq!(rate(2_000.0), "2,000/s");
        assert_eq!(rate(0.5), "0.5/s");
        assert_eq!(rate(1_998.6), "1,999/s");
        assert_eq!(seconds(30.0), "30 s");
        assert_eq!(seconds(60.0), "60 s");
        assert_eq!(seconds(120.0), "2 min");
        assert_eq!(seconds(12_010.0), "3 h 20 min");
        assert_eq!(cores(0.42), "0.42 cores");
        assert_eq!(plain(0.1 + 0.2), "0.3");
        assert_eq!(significant(0.1234), "0.123");
    }
}

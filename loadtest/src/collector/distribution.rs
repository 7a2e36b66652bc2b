//! A distribution of durations in microseconds that can be added to another one and kept in a file.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use crate::summary::Latency;

/// Three significant digits: an error of a tenth of a per cent.
const DIGITS: u8 = 3;

/// Two, where there are hundreds of them: an error of one per cent.
const FEW_DIGITS: u8 = 2;

/// Points of the curve of a plot for each halving of the distance to 100 %.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// Cells of a heat map for each doubling of the latency.
const CELLS_PER_DOUBLING: u32 = 2;

/// How many took how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution(Option<Box<Histogram<u64>>>);

impl Default for Distribution {
    /// An empty one, which takes no memory.
    fn default() -> Self {
        Self(None)
    }
}

impl Distribution {
    /// Notes a duration. Nothing counts as a microsecond.
    pub fn note(&mut self, micros: u64) {
        self.note_with(DIGITS, micros);
    }

    /// Notes a duration in a distribution that is to stay small, to one per cent.
    pub fn note_roughly(&mut self, micros: u64) {
        self.note_with(FEW_DIGITS, micros);
    }

    fn note_with(&mut self, digits: u8, micros: u64) {
        let histogram = self
            .0
            .get_or_insert_with(|| Box::new(Histogram::new(digits).expect("so many digits are allowed")));
        histogram.record(micros.max(1)).expect("a histogram that grows takes every value");
    }

    /// Adds what is in another one.
    pub fn add(&mut self, other: &Self) {
        if let Some(other) = &other.0 {
            match &mut self.0 {
                Some(histogram) => {
                    histogram.add(other.as_ref()).expect("a histogram that grows takes every value");
                }
                None => self.0 = Some(other.clone()),
            }
        }
    }

    /// Whether nothing was noted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many were noted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, |histogram| histogram.len())
    }

    /// The duration that so large a share (0 to 1) does not exceed; 0 of an empty one.
    #[must_use]
    pub fn at(&self, share: f64) -> u64 {
        self.0.as_ref().map_or(0, |histogram| histogram.value_at_quantile(share))
    }

    /// The longest; 0 of an empty one.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.0.as_ref().map_or(0, |histogram| histogram.max())
    }

    /// How many took how long, in cells that grow with the latency: (upper bound, count), empty cells left out.
    #[must_use]
    pub fn cells(&self) -> Vec<(u64, u64)> {
        let mut cells: Vec<(u64, u64)> = Vec::new();
        for value in self.0.iter().flat_map(|histogram| histogram.iter_recorded()) {
            let bound = cell(value.value_iterated_to());
            match cells.last_mut() {
                Some(last) if last.0 == bound => last.1 += value.count_since_last_iteration(),
                _ => cells.push((bound, value.count_since_last_iteration())),
            }
        }
        cells
    }

    /// Everything about it, for the summary.
    #[must_use]
    pub fn to_latency(&self) -> Latency {
        let Some(histogram) = self.0.as_ref().filter(|histogram| !histogram.is_empty()) else {
            return Latency::default();
        };
        let curve = histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE);
        let curve = curve.map(|point| (point.quantile_iterated_to(), point.value_iterated_to()));
        let mut bytes = Vec::new();
        let written = V2DeflateSerializer::new().serialize(histogram, &mut bytes);
        written.expect("a histogram fits in memory");
        Latency {
            count: histogram.len(),
            mean: histogram.mean(),
            min: histogram.min(),
            p50: self.at(0.5),
            p90: self.at(0.9),
            p99: self.at(0.99),
            p999: self.at(0.999),
            p9999: self.at(0.9999),
            max: histogram.max(),
            curve: curve.collect(),
            histogram: BASE64.encode(&bytes),
        }
    }

    /// Reads the distribution out of a summary.
    ///
    /// # Errors
    /// When the text is no histogram; in words.
    pub fn from_latency(latency: &Latency) -> Result<Self, String> {
        if latency.count == 0 {
            return Ok(Self::default());
        }
        let bytes = BASE64.decode(&latency.histogram).map_err(|_| "a histogram is not base64")?;
        let mut histogram: Histogram<u64> = Deserializer::new()
            .deserialize(&mut Cursor::new(bytes))
            .map_err(|error| format!("a histogram does not parse: {error}"))?;
        histogram.auto(true);
        Ok(Self(Some(Box::new(histogram))))
    }
}

/// The upper bound of the cell that a duration belongs to.
fn cell(micros: u64) -> u64 {
    #[expect(clippy::cast_precision_loss, reason = "bounds of a picture")]
    let cells = (micros.max(1) as f64).log2() * f64::from(CELLS_PER_DOUBLING);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and below 2^63")]
    let bound = (cells.ceil() / f64::from(CELLS_PER_DOUBLING)).exp2().ceil() as u64;
    bound.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(durations: &[u64]) -> Distribution {
        let mut distribution = Distribution::default();
        for micros in durations {
            distribution.note(*micros);
        }
        distribution
    }

    #[test]
    fn percentiles_are_exact_to_a_tenth_of_a_per_cent() {
        let distribution = of(&(1..=10_000).collect::<Vec<_>>());
        for (share, expected) in [(0.5, 5_000_u64), (0.9, 9_000), (0.99, 9_900), (0.999, 9_990)] {
            let found = distribution.at(share);
            assert!(found.abs_diff(expected) * 1_000 <= expected, "{share}: {found}");
        }
        assert_eq!(distribution.to_latency().count, 10_000);
    }

    #[test]
    fn it_survives_a_file_and_grows_afterwards() {
        let distribution = of(&[0, 7, 900, 65_000_000]);
        let mut read = Distribution::from_latency(&distribution.to_latency()).unwrap();
        assert_eq!(read.to_latency(), distribution.to_latency());
        read.add(&of(&[90_000_000]));
        assert_eq!(read.count(), 5);
        assert!(read.max() >= 90_000_000);
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        let latency =
            |histogram: &str| Latency { count: 1, histogram: histogram.to_owned(), ..Latency::default() };
        for text in ["", "!", "AAAA"] {
            assert!(Distribution::from_latency(&latency(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn cells_hold_everything_in_ascending_order() {
        let distribution = of(&[1, 100, 101, 5_000, 2_000_000]);
        let cells = distribution.cells();
        assert!(cells.windows(2).all(|pair| pair[0].0 < pair[1].0), "{cells:?}");
        assert_eq!(cells.iter().map(|(_, count)| count).sum::<u64>(), 5);
        assert_eq!(cells[1].1, 2, "{cells:?}");
    }

    #[test]
    fn an_empty_one_is_empty_everywhere() {
        let empty = Distribution::default();
        assert_eq!((empty.count(), empty.at(0.99), empty.max()), (0, 0, 0));
        assert_eq!(empty.to_latency(), Latency::default());
        assert!(empty.cells().is_empty());
    }
}

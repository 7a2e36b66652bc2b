//! Where an entry stands in the log, as clients see it.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The identity of one history of the log.
///
/// A new epoch means that positions of before mean nothing now: the log was lost, replaced or restored from a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

/// An entry's place in the log: `"<epoch>-<number>"`.
///
/// Numbers grow within an epoch and are dense in the log, not in a mailbox. Number 0 is the place before the first entry.
/// Clients treat the text as opaque apart from one rule: within an epoch, positions compare by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which history of the log the number belongs to.
    pub epoch: Epoch,
    /// The place in that history, counted from 1.
    pub number: u64,
}

/// The text is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position is \"<epoch>-<number>\", as in a frame's `position`")]
pub struct InvalidPosition;

/// Crockford's digits: no letter that reads as a digit.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// 64 bits in groups of five.
const EPOCH_DIGITS: usize = 13;

impl Epoch {
    /// An epoch from 64 random bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits it was made from.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The thirteen digits that stand in every position of this epoch.
    #[must_use]
    pub fn digits(self) -> [u8; EPOCH_DIGITS] {
        let mut digits = [0; EPOCH_DIGITS];
        for (place, digit) in digits.iter_mut().rev().enumerate() {
            *digit = DIGITS[((self.0 >> (5 * place)) & 31) as usize];
        }
        digits
    }
}

impl Position {
    /// The place `number` of the history `epoch`.
    #[must_use]
    pub const fn new(epoch: Epoch, number: u64) -> Self {
        Self { epoch, number }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for digit in self.digits() {
            fmt::Write::write_char(formatter, digit.into())?;
        }
        Ok(())
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.epoch, self.number)
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Epoch {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        if text.len() != EPOCH_DIGITS {
            return Err(InvalidPosition);
        }
        let mut bits: u64 = 0;
        for byte in text.bytes() {
            let digit = DIGITS.iter().position(|known| *known == byte).ok_or(InvalidPosition)?;
            // The first digit carries four bits only: a fifth would fall off the top.
            if bits >> 59 != 0 {
                return Err(InvalidPosition);
            }
            bits = bits << 5 | digit as u64;
        }
        Ok(Self(bits))
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (epoch, number) = text.split_once('-').ok_or(InvalidPosition)?;
        let canonical = !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && (number == "0" || !number.starts_with('0'));
        if !canonical {
            return Err(InvalidPosition);
        }
        let number = number.parse().map_err(|_| InvalidPosition)?;
        Ok(Self::new(epoch.parse()?, number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_position_reads_back_as_it_was_written(bits: u64, number: u64) {
            let position = Position::new(Epoch::from_bits(bits), number);
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn what_parses_is_what_it_prints(text in "[0-9a-z]{12,14}-[0-9]{1,21}") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert_eq!(position.to_string(), text);
            }
        }
    }

    #[test]
    fn text_that_is_no_position_is_refused() {
        for text in [
            "",
            "-",
            "7",
            "start",
            "0000000000000-",
            "0000000000000--1",
            "0000000000000-+1",
            "zzzzzzzzzzzzz-1",
        ] {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text}");
        }
    }
}

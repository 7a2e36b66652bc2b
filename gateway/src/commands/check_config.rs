//! `gateway check-config`: says whether the configuration can be used, and what it comes to.

use std::fmt::Write;

use crate::config::{Values, shown};

/// Every setting with its effective value and where that came from, one a line.
#[must_use]
pub fn describe(values: &Values) -> String {
    let mut text = String::new();
    for (key, value, source) in values.iter() {
        writeln!(text, "{key} = {:?}  # {source}", shown(value)).expect("a string takes every text");
    }
    text
}

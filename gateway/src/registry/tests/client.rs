//! A receiver that follows the rule of the protocol and notices every hole that nobody announced.

use crate::registry::Item;

/// What a receiver remembers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    /// Everything up to here was received or announced as a gap.
    pub(crate) position: u64,
    /// What it received, and the ranges it was told not to wait for, in order: `(after, until, received)`.
    covered: Vec<(u64, u64, bool)>,
}

impl Client {
    /// One that has seen everything up to `position`.
    pub(crate) fn at(position: u64) -> Self {
        Self { position, covered: Vec::new() }
    }

    pub(crate) fn receive(&mut self, item: &Item) -> Result<(), String> {
        let (fine, position) = match *item {
            Item::Notification { number, prev } => (prev <= self.position && self.position < number, number),
            Item::Gap { after, until, .. } => (after == self.position && after < until, until),
        };
        if !fine {
            return Err(format!("at {} the client got {item:?}", self.position));
        }
        self.covered.push((self.position, position, matches!(item, Item::Notification { .. })));
        self.position = position;
        Ok(())
    }

    /// Whether all of these numbers, as far as they came behind its start, were received or announced, each of them once.
    pub(crate) fn accounts_for(&self, came: impl Iterator<Item = u64>) -> Result<(), String> {
        let start = self.covered.first().map_or(self.position, |(after, ..)| *after);
        for number in came.filter(|number| *number > start) {
            let accounts = self.covered.iter().filter(|(after, until, received)| {
                if *received { *until == number } else { *after < number && number <= *until }
            });
            if accounts.count() != 1 {
                return Err(format!("{number} came behind {start}, the client knows {:?}", self.covered));
            }
        }
        Ok(())
    }
}

//! A set of numbers that are mostly consecutive: as small as it has holes, however long a run is.

use std::ops::Range;

/// A set of numbers, kept as ascending ranges that do not touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges {
    ranges: Vec<Range<u32>>,
}

impl Ranges {
    /// Adds a number. `false`: it was in already.
    pub fn insert(&mut self, number: u32) -> bool {
        // Almost always the number goes to the end.
        let behind = match self.ranges.last() {
            Some(last) if number > last.end => self.ranges.len(),
            Some(last) if number == last.end => self.ranges.len() - 1,
            _ => self.ranges.partition_point(|range| range.end < number),
        };
        match self.ranges.get_mut(behind) {
            // `behind` is the first range that ends at or behind the number.
            Some(range) if range.contains(&number) => return false,
            Some(range) if range.end == number => {
                range.end += 1;
                self.join(behind);
            }
            Some(range) if range.start == number + 1 => range.start = number,
            _ => self.ranges.insert(behind, number..number + 1),
        }
        true
    }

    /// Whether a number is in.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        let at = self.ranges.partition_point(|range| range.end <= number);
        self.ranges.get(at).is_some_and(|range| range.contains(&number))
    }

    /// How many numbers are in.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|range| u64::from(range.end - range.start)).sum()
    }

    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.ranges.iter().cloned().flatten()
    }

    /// What is in this set and not in `other`, as ascending ranges.
    pub fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Range<u32>> + 'a {
        self.ranges.iter().flat_map(move |range| {
            let first = other.ranges.partition_point(|taken| taken.end <= range.start);
            let mut start = range.start;
            let mut rest = Vec::new();
            for taken in other.ranges[first..].iter().take_while(|taken| taken.start < range.end) {
                if taken.start > start {
                    rest.push(start..taken.start);
                }
                start = taken.end;
            }
            if start < range.end {
                rest.push(start..range.end);
            }
            rest
        })
    }

    /// Joins a range with the next one if they touch now.
    fn join(&mut self, at: usize) {
        if self.ranges.get(at + 1).is_some_and(|next| next.start == self.ranges[at].end) {
            self.ranges[at].end = self.ranges.remove(at + 1).end;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(numbers: &[u32]) -> Ranges {
        let mut set = Ranges::default();
        for number in numbers {
            set.insert(*number);
        }
        set
    }

    #[test]
    fn consecutive_numbers_are_one_range() {
        for numbers in [[0, 1, 2], [0, 2, 1], [2, 1, 0]] {
            assert_eq!(set(&numbers).ranges.len(), 1, "{numbers:?}");
        }
    }

    proptest! {
        #[test]
        fn it_is_a_set(
            numbers in prop::collection::vec(0_u32..60, 0..120),
            others in prop::collection::vec(0_u32..60, 0..120),
        ) {
            let (mut ours, mut model) = (Ranges::default(), BTreeSet::new());
            for number in &numbers {
                prop_assert_eq!(ours.insert(*number), model.insert(*number));
            }
            prop_assert_eq!(ours.count(), model.len() as u64);
            prop_assert_eq!(ours.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            for number in 0..62 {
                prop_assert_eq!(ours.contains(number), model.contains(&number));
            }
            let other_model: BTreeSet<u32> = others.iter().copied().collect();
            let rest: Vec<u32> = ours.without(&set(&others)).flatten().collect();
            prop_assert_eq!(rest, model.difference(&other_model).copied().collect::<Vec<_>>());
            // As small as can be: no two ranges touch.
            prop_assert!(ours.ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}

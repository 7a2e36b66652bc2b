//! What was done during the run, above the plots: words while there is room for them, numbers when there is not.

use crate::summary::Mark;

/// Rows of words above a plot, at most.
const MAX_ROWS: usize = 3;

/// Marks that may have words; more are numbered. Few enough to try every way of placing them.
const MAX_WORDS: usize = 7;

/// Characters of a mark's words that are shown in a plot.
const MAX_CHARACTERS: usize = 34;

/// How wide a character of a label is, about.
const CHARACTER: f64 = 6.1;

/// Between a line and its words, and between the words of two marks.
const SPACE: f64 = 5.0;

/// A mark's words and where they stand.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Label {
    /// Where the mark's line is.
    pub(crate) x: f64,
    /// Its row, counted from the plot upwards.
    pub(crate) row: usize,
    /// What stands there; empty: there was no room.
    pub(crate) text: String,
    /// Whether it stands to the left of its line.
    pub(crate) left: bool,
}

impl Label {
    /// From where to where the words reach, with the space around them.
    fn extent(&self) -> (f64, f64) {
        let width = self.text.chars().count() as f64 * CHARACTER + 2.0 * SPACE;
        if self.left { (self.x - width, self.x) } else { (self.x, self.x + width) }
    }
}

/// A label for each mark: the words if all of them fit, otherwise the mark's number, and no two over each other.
pub(crate) fn labels(marks: &[Mark], place: impl Fn(f64) -> f64, ends: (f64, f64)) -> Vec<Label> {
    let words: Vec<(f64, String)> =
        marks.iter().map(|mark| (place(mark.at), shortened(&mark.what))).collect();
    let mut labels = Vec::new();
    if words.len() <= MAX_WORDS && stacked(&words, ends, &mut labels) {
        return labels;
    }
    let mut labels: Vec<Label> = Vec::new();
    for (number, (x, _)) in (1..).zip(&words) {
        let label = Label { x: *x, row: 0, text: format!("{number}"), left: false };
        let without = Label { text: String::new(), ..label.clone() };
        let sides = [label.clone(), Label { left: true, ..label }];
        let free = sides.into_iter().find(|label| free(label, &labels, ends));
        labels.push(free.unwrap_or(without));
    }
    labels
}

/// Puts the words that are not placed yet into the lowest rows where they are free, trying every way. Whether all of them
/// found a place.
fn stacked(words: &[(f64, String)], ends: (f64, f64), placed: &mut Vec<Label>) -> bool {
    let Some((x, text)) = words.get(placed.len()) else {
        return true;
    };
    for row in 0..MAX_ROWS {
        for left in [false, true] {
            let label = Label { x: *x, row, text: text.clone(), left };
            if free(&label, placed, ends) {
                placed.push(label);
                if stacked(words, ends, placed) {
                    return true;
                }
                placed.pop();
            }
        }
    }
    false
}

/// Whether a label covers neither words nor lines of others, nor its line their words. A line reaches up to its own row,
/// through every row below.
fn free(label: &Label, others: &[Label], (start, end): (f64, f64)) -> bool {
    let (from, to) = label.extent();
    let inside = from >= start - 1.0 && to <= end + 1.0;
    inside
        && others.iter().filter(|other| !other.text.is_empty()).all(|other| {
            let (other_from, other_to) = other.extent();
            let apart = other.row != label.row || to <= other_from || other_to <= from;
            let cuts = other.row < label.row && other_from < label.x && label.x < other_to;
            let is_cut = other.row > label.row && from < other.x && other.x < to;
            apart && !cuts && !is_cut
        })
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= MAX_CHARACTERS {
        return text.to_owned();
    }
    text.chars().take(MAX_CHARACTERS - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(places: &[f64], what: &str) -> Vec<Mark> {
        places.iter().map(|at| Mark { at: *at, what: what.to_owned() }).collect()
    }

    fn assert_apart(labels: &[Label]) {
        for (at, one) in labels.iter().enumerate() {
            for other in &labels[at + 1..] {
                let ((from, to), (other_from, other_to)) = (one.extent(), other.extent());
                let shown = !one.text.is_empty() && !other.text.is_empty();
                assert!(
                    !shown || one.row != other.row || to <= other_from || other_to <= from,
                    "{one:?} {other:?}"
                );
            }
        }
    }

    #[test]
    fn near_marks_stand_in_rows_or_on_two_sides() {
        let labels =
            labels(&marks(&[100.0, 110.0, 500.0, 990.0], "the gateway was paused"), |at| at, (0.0, 1000.0));
        assert!(labels.iter().all(|label| label.text == "the gateway was paused"), "{labels:?}");
        assert_apart(&labels);
        assert!(labels[3].left, "no room to its right");
    }

    #[test]
    fn marks_without_room_for_words_are_numbered_and_never_cover_each_other() {
        let places: Vec<f64> = (0..200).map(|at| f64::from(at) * 5.0).collect();
        let labels = labels(&marks(&places, "a socket was closed"), |at| at, (0.0, 1000.0));
        assert_eq!(labels.len(), 200);
        assert_eq!(labels[0].text, "1");
        assert!(labels.iter().all(|label| label.text.is_empty() || label.text.parse::<u32>().is_ok()));
        assert!(labels.iter().filter(|label| !label.text.is_empty()).count() > 20);
        assert_apart(&labels);
    }

    #[test]
    fn a_long_text_is_cut() {
        let labels = labels(&marks(&[0.0], &"word ".repeat(50)), |at| at, (0.0, 1000.0));
        assert!(labels[0].text.ends_with('…'));
        assert_eq!(labels[0].text.chars().count(), MAX_CHARACTERS);
    }
}

//! What a person reads of a [`Summary`](crate::summary::Summary): a page with plots and a page of text for the terminal.
//!
//! Nothing is computed here that a criterion depends on; a report only draws and words what the summary holds, and says
//! `not measured` where it holds nothing. The words and rows that page and terminal share are in `wording` and `rows`,
//! the writing of numbers in [`number`]; `figures` chooses what is drawn and `plot` draws it.

mod figures;
#[cfg(test)]
pub(crate) mod fixture;
pub mod html;
pub mod number;
mod plot;
mod rows;
mod svg;
pub mod terminal;
mod timeline;
mod wording;

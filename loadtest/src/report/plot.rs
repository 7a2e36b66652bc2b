//! Plots: from numbers to a drawing with axes, ticks, a legend and the table behind it.

pub(crate) mod frame;
pub(crate) mod heatmap;
pub(crate) mod marks;
pub(crate) mod percentiles;
pub(crate) mod scale;
pub(crate) mod stages;
pub(crate) mod time;

/// What the page says about a plot before it is seen.
#[derive(Debug, Clone)]
pub(crate) struct Heading {
    /// Its name within the page.
    pub(crate) id: &'static str,
    /// Its title.
    pub(crate) title: &'static str,
    /// How to read it, and what is to be seen.
    pub(crate) explanation: String,
}

impl Heading {
    /// What is said about a plot.
    pub(crate) fn new(id: &'static str, title: &'static str, explanation: impl Into<String>) -> Self {
        Self { id, title, explanation: explanation.into() }
    }

    fn figure(self, size: Size) -> Figure {
        Figure { heading: self, size, legend: Vec::new(), legend_label: "", svg: None, table: None }
    }
}

/// How much room a plot takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// The whole width.
    Wide,
    /// Two stand side by side.
    Half,
}

impl Size {
    /// Width and height of the frame, without what the marks need above it.
    fn dimensions(self) -> (f64, f64) {
        match self {
            Self::Wide => (1040.0, 320.0),
            Self::Half => (510.0, 250.0),
        }
    }
}

/// A plot as the page shows it.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// What is said about it.
    pub(crate) heading: Heading,
    /// How much room it takes.
    pub(crate) size: Size,
    /// What its colours mean.
    pub(crate) legend: Vec<Key>,
    /// What the legend counts, if that is not clear.
    pub(crate) legend_label: &'static str,
    /// The drawing; absent: not measured.
    pub(crate) svg: Option<String>,
    /// The numbers behind it.
    pub(crate) table: Option<Table>,
}

impl Figure {
    /// Whether it takes half of the width.
    pub(crate) fn half(&self) -> bool {
        self.size == Size::Half
    }
}

/// One colour of a legend.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// The classes of its sample.
    pub(crate) class: String,
    /// What has this colour.
    pub(crate) name: String,
}

/// Numbers in rows.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// What each column is.
    pub(crate) heads: Vec<String>,
    /// As many cells as heads.
    pub(crate) rows: Vec<Vec<String>>,
}

//! Shapes as text: escaping, paths and the document around them. Colours and widths are classes; the page's style sheet
//! knows what they are in the light, in the dark and on paper.

use std::fmt::Write as _;

/// Text for an element or an attribute. What XML cannot carry is left out.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other if other.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A drawing that grows.
#[derive(Debug, Default)]
pub(crate) struct Drawing {
    body: String,
}

impl Drawing {
    /// A straight line.
    pub(crate) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.write(format_args!(r#"<path class="{class}" d="M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}"/>"#));
    }

    /// A line through the points, with a gap where there is none; a point between two gaps is a dot.
    pub(crate) fn polyline(&mut self, class: &str, points: &[Option<(f64, f64)>]) {
        let mut path = String::new();
        for run in points.split(Option::is_none) {
            for (at, (x, y)) in run.iter().flatten().enumerate() {
                let command = if at == 0 { 'M' } else { 'L' };
                put(&mut path, format_args!("{command}{x:.1} {y:.1}"));
            }
            if let [Some((x, y))] = run {
                self.dot(class, (*x, *y), 3.0, None);
            }
        }
        self.path(&format!("line {class}"), &path);
    }

    /// The area between the points and a base line.
    pub(crate) fn area(&mut self, class: &str, points: &[Option<(f64, f64)>], base: f64) {
        let mut path = String::new();
        for run in points.split(Option::is_none).filter(|run| run.len() > 1) {
            for (at, (x, y)) in run.iter().flatten().enumerate() {
                if at == 0 {
                    put(&mut path, format_args!("M{x:.1} {base:.1}"));
                }
                put(&mut path, format_args!("L{x:.1} {y:.1}"));
            }
            if let Some(Some((x, _))) = run.last() {
                put(&mut path, format_args!("L{x:.1} {base:.1}Z"));
            }
        }
        self.path(&format!("area {class}"), &path);
    }

    /// Each point by itself.
    pub(crate) fn dots(&mut self, class: &str, points: &[Option<(f64, f64)>]) {
        let mut path = String::new();
        for (x, y) in points.iter().flatten() {
            put(&mut path, format_args!("M{x:.1} {y:.1}h0"));
        }
        self.path(&format!("dots {class}"), &path);
    }

    /// A disc, with words for who points at it.
    pub(crate) fn dot(&mut self, class: &str, (x, y): (f64, f64), radius: f64, title: Option<&str>) {
        let title = title.map(|title| format!("<title>{}</title>", escape(title))).unwrap_or_default();
        self.write(format_args!(
            r#"<circle class="dot {class}" cx="{x:.1}" cy="{y:.1}" r="{radius}">{title}</circle>"#
        ));
    }

    /// Any path; an empty one is left out.
    pub(crate) fn path(&mut self, class: &str, path: &str) {
        if !path.is_empty() {
            self.write(format_args!(r#"<path class="{class}" d="{path}"/>"#));
        }
    }

    /// A rectangle, with words for who points at it.
    pub(crate) fn rectangle(
        &mut self,
        class: &str,
        (x, y): (f64, f64),
        (width, height): (f64, f64),
        title: &str,
    ) {
        let title = escape(title);
        self.write(format_args!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"><title>{title}</title></rect>"#
        ));
    }

    /// Words. The class says on which side of the place they stand.
    pub(crate) fn text(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        let text = escape(text);
        self.write(format_args!(r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{text}</text>"#));
    }

    /// The whole drawing, with its name and its content for who cannot see it.
    pub(crate) fn finish(
        self,
        id: &str,
        (width, height): (f64, f64),
        title: &str,
        description: &str,
    ) -> String {
        let (title, description, body) = (escape(title), escape(description), self.body);
        format!(
            r#"<svg viewBox="0 0 {width} {height}" role="img" aria-labelledby="{id}-title {id}-desc"><title id="{id}-title">{title}</title><desc id="{id}-desc">{description}</desc>{body}</svg>"#
        )
    }

    fn write(&mut self, arguments: std::fmt::Arguments<'_>) {
        put(&mut self.body, arguments);
        self.body.push('\n');
    }
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(
            escape("<a b=\"c\" d='e'>&\u{1b}[31m"),
            "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp; [31m"
        );
        let mut drawing = Drawing::default();
        drawing.text("tick", (0.0, 0.0), "</text><script>");
        drawing.dot("one", (0.0, 0.0), 1.0, Some("</title>"));
        let svg = drawing.finish("id", (10.0, 10.0), "</svg>", "&");
        assert_eq!(svg.matches("</text>").count(), 1);
        assert_eq!(svg.matches("</title>").count(), 2);
        assert_eq!(svg.matches("</svg>").count(), 1);
        assert!(!svg.contains("<script"));
    }

    #[test]
    fn a_line_has_a_gap_where_nothing_was_measured_and_a_dot_where_little_was() {
        let mut drawing = Drawing::default();
        let points = [Some((0.0, 0.0)), Some((1.0, 1.0)), None, Some((3.0, 3.0)), None];
        drawing.polyline("one", &points);
        drawing.area("one", &points, 9.0);
        assert!(drawing.body.contains(r#"d="M0.0 0.0L1.0 1.0M3.0 3.0""#), "{}", drawing.body);
        assert!(drawing.body.contains(r#"cx="3.0" cy="3.0""#));
        assert!(drawing.body.contains(r#"d="M0.0 9.0L0.0 0.0L1.0 1.0L1.0 9.0Z""#), "{}", drawing.body);
    }
}

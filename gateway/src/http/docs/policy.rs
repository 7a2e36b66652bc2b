//! What a page may do in a browser: use the scripts and styles it was served with, ask its own origin, and nothing else.
//!
//! Scripts and styles are allowed by their hash, so text that somebody managed to slip into a page, or an attribute such as
//! `onclick`, is not executed. The hashes are those of the text that is served, whatever it is: a new version of the manual
//! needs no new policy.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::edge::page::NOTHING;

/// The policy of `html`, as the value of `Content-Security-Policy`.
///
/// It allows the inline scripts and styles of `html`, requests to its origin and images within its styles.
pub(super) fn policy(html: &str) -> String {
    let inline = inline_elements(html);
    let sources = |kind: Kind| {
        let hashes = inline.iter().filter(|(found, _)| *found == kind).map(|(_, text)| source(text));
        let hashes: Vec<_> = hashes.collect();
        if hashes.is_empty() { "'none'".to_owned() } else { hashes.join(" ") }
    };
    let (scripts, styles) = (sources(Kind::Script), sources(Kind::Style));
    format!("{NOTHING}; script-src {scripts}; style-src {styles}; connect-src 'self'; img-src 'self' data:")
}

/// The elements whose text a policy can allow by its hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Script,
    Style,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Script, Self::Style];

    fn name(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Style => "style",
        }
    }
}

/// The source expression of an element with this text. A browser hashes the text after it has made all line ends `\n`.
fn source(text: &str) -> String {
    let digest = Sha256::digest(text.replace("\r\n", "\n").replace('\r', "\n"));
    format!("'sha256-{}'", STANDARD.encode(digest))
}

/// Scripts and styles with their texts, in the order of the page. Each ends where a browser would end it, so that a `<style`
/// within a script is part of that script.
///
/// One rule of browsers is left out: a script that holds `<!--` and then `<script` does not end at the next `</script`. Such a
/// script would not be executed, as its hash would be another.
fn inline_elements(html: &str) -> Vec<(Kind, &str)> {
    let mut elements = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let Some(kind) = Kind::ALL.into_iter().find(|kind| is_tag(rest, kind.name())) else { continue };
        let Some(tag_end) = rest.find('>') else { break };
        rest = &rest[tag_end + 1..];
        let end = rest.match_indices("</").find(|(at, _)| is_tag(&rest[at + 2..], kind.name()));
        let end = end.map_or(rest.len(), |(at, _)| at);
        if end > 0 {
            elements.push((kind, &rest[..end]));
        }
        rest = &rest[end..];
    }
    elements
}

/// Whether the text behind a `<` or `</` begins a tag of this name.
fn is_tag(text: &str, name: &str) -> bool {
    let (found, behind) = text.as_bytes().split_at(name.len().min(text.len()));
    found.eq_ignore_ascii_case(name.as_bytes())
        && behind.first().is_some_and(|byte| byte.is_ascii_whitespace() || matches!(byte, b'>' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_inline_script_and_style_is_found_with_the_very_text_between_its_tags() {
        let html = "<html><style media=all> a { } </style><STYLE\n>b</STYLE >\n<scripture>no</scripture>\
                    <script>\"<style>no</style> </scripts>\" </script\n><script src=\"/x.js\"></script><script>1<2</script>";
        let expected = [
            (Kind::Style, " a { } "),
            (Kind::Style, "b"),
            (Kind::Script, "\"<style>no</style> </scripts>\" "),
            (Kind::Script, "1<2"),
        ];
        assert_eq!(inline_elements(html), expected);
    }

    #[test]
    fn an_element_without_an_end_reaches_to_the_end_of_the_page() {
        assert_eq!(inline_elements("é<script>é"), [(Kind::Script, "é")]);
        for unfinished in ["", "<", "é<", "<script", "<script>", "<scr", "</script>", "<style >"] {
            assert_eq!(inline_elements(unfinished), [], "{unfinished}");
        }
    }

    #[test]
    fn hashes_are_those_that_browsers_compute() {
        // As `openssl dgst -sha256 -binary | base64` has it.
        assert_eq!(source("doSomething();"), "'sha256-RFWPLDbv2BY+rCkDzsE+0fr8ylGr2R2faWMhq4lfEQc='");
        assert_eq!(source("a\r\nb\rc"), source("a\nb\nc"));
    }

    #[test]
    fn a_page_without_scripts_may_have_none() {
        let policy = policy("<p>Nothing.</p>");
        assert!(policy.contains("; script-src 'none'; style-src 'none'; "), "{policy}");
    }
}

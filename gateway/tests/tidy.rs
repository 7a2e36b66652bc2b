//! What reviewers would otherwise have to say again and again: layers, sizes, names, comments.
//!
//! The layers are those of the crate's documentation. A module may use only modules of lower rank; the check reads paths that
//! begin at the crate's root, in code, not in comments or texts.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules and their ranks, in halves so that a rank can lie between two others.
const RANKS: [(&str, u32); 26] = [
    ("domain", 2),
    ("protocol", 4),
    ("clock", 6),
    ("config", 6),
    ("lifecycle", 6),
    ("machine", 6),
    ("metrics", 6),
    ("telemetry", 7),
    ("limits", 7),
    ("auth", 8),
    ("listener", 8),
    ("ops", 9),
    ("log", 10),
    ("registry", 10),
    ("delivery", 11),
    ("presence", 12),
    ("edge", 13),
    ("http", 14),
    ("sse", 14),
    ("console", 14),
    ("ws", 14),
    ("app", 15),
    ("commands", 15),
    ("arguments", 15),
    ("signals", 15),
    ("main", 15),
];

/// What has to go through `delivery` although its rank is lower.
const HIDDEN: [(&str, [&str; 2]); 5] = [
    ("console", ["log", "registry"]),
    ("edge", ["log", "registry"]),
    ("http", ["log", "registry"]),
    ("sse", ["log", "registry"]),
    ("ws", ["log", "registry"]),
];

const MAX_LINES: usize = 500;

/// Drawers into which anything fits.
const DRAWERS: [&str; 6] = ["util", "utils", "common", "helper", "helpers", "manager"];

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rank(module: &str) -> Option<u32> {
    RANKS.iter().find(|(known, _)| *known == module).map(|(_, rank)| *rank)
}

/// Every Rust file below a folder of the package, with its text.
fn rust_files(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![package().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(package()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "no Rust file in {folder}");
    found.sort();
    found
}

/// Every Rust file of the crates, tests and fuzz targets included.
fn all_rust_files() -> Vec<(PathBuf, String)> {
    ["src", "tests", "fuzz/src", "fuzz/fuzz_targets", "../loadtest/src", "../loadtest/tests"]
        .into_iter()
        .flat_map(rust_files)
        .collect()
}

/// The code without its comments and with empty texts; line ends stay where they were.
fn code_of(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let length = comment(rest).or_else(|| literal(rest, code.chars().last()));
        match length {
            Some(length) => {
                code.extend(rest[..length].iter().filter(|character| **character == '\n'));
                // What stood on both sides must not become one word.
                code.push(' ');
                at += length;
            }
            None => {
                code.push(bytes[at]);
                at += 1;
            }
        }
    }
    code
}

/// The length of the comment that begins here, block comments nested as in Rust.
fn comment(rest: &[char]) -> Option<usize> {
    match rest {
        ['/', '/', ..] => Some(rest.iter().position(|character| *character == '\n').unwrap_or(rest.len())),
        ['/', '*', ..] => {
            let (mut depth, mut at) = (0, 0);
            while at < rest.len() {
                match &rest[at..] {
                    ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
                    ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
                    _ => at += 1,
                }
                if depth == 0 {
                    break;
                }
            }
            Some(at)
        }
        _ => None,
    }
}

/// The length of the text or character literal that begins here; `before` tells `r"…"` from the end of a name.
fn literal(rest: &[char], before: Option<char>) -> Option<usize> {
    let within_name = before.is_some_and(|character| character.is_alphanumeric() || character == '_');
    match rest {
        ['"', ..] => Some(quoted(rest, '"')),
        ['r', '"' | '#', ..] if !within_name || before == Some('b') => {
            let hashes = rest[1..].iter().take_while(|character| **character == '#').count();
            if rest.get(1 + hashes) != Some(&'"') {
                return None;
            }
            let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            let start = hashes + 2;
            let found = rest[start..].windows(end.len()).position(|window| window == end);
            Some(found.map_or(rest.len(), |found| start + found + end.len()))
        }
        // A lifetime is a quote and a name without a second quote.
        ['\'', '\\', ..] => Some(quoted(rest, '\'')),
        ['\'', _, '\'', ..] => Some(3),
        _ => None,
    }
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            character if character == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The names directly below the crate's root that this code uses.
fn names_from_root(path: &Path, code: &str) -> BTreeSet<String> {
    // `super` from the module `x` leads to the root, from `x::y` it takes two of them.
    let up = "super::".repeat(path.components().count());
    let mut names = BTreeSet::new();
    for root in ["crate::", &up] {
        for (start, _) in code.match_indices(root) {
            let before = code[..start].chars().last();
            let continues =
                before.is_some_and(|character| character.is_alphanumeric() || "_:".contains(character));
            if !continues {
                names.extend(first_names(&code[start + root.len()..]));
            }
        }
    }
    names
}

/// The first name of a path, or of each path in a group.
fn first_names(path: &str) -> Vec<String> {
    let path = path.trim_start();
    let Some(group) = path.strip_prefix('{') else {
        let name: String = path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        return vec![name];
    };
    let (mut depth, mut names, mut expected) = (0, Vec::new(), true);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => expected = true,
            _ if expected && !character.is_whitespace() => {
                names.extend(first_names(&group[at..]));
                expected = false;
            }
            _ => {}
        }
    }
    names
}

/// What is wrong with the imports of one file, given as its path below `src`.
fn layer_violations(path: &Path, text: &str) -> Vec<String> {
    let first = path.components().next().unwrap();
    let module = Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned();
    if module == "lib" {
        return Vec::new();
    }
    let Some(own) = rank(&module) else {
        return vec![format!("{}: the module `{module}` has no rank", path.display())];
    };
    let hidden = HIDDEN.iter().find(|(edge, _)| *edge == module).map_or(&[][..], |(_, hidden)| &hidden[..]);
    let mut violations = Vec::new();
    for used in names_from_root(path, &code_of(text)) {
        // The root's own constants belong to nobody; names of other files' inner modules are no modules of the root.
        let Some(theirs) = rank(&used) else { continue };
        if used == module {
            continue;
        }
        if theirs >= own {
            violations.push(format!("{}: `{module}` may not use `{used}`", path.display()));
        } else if hidden.contains(&used.as_str()) {
            violations
                .push(format!("{}: `{module}` may use `{used}` only through `delivery`", path.display()));
        }
    }
    violations
}

#[test]
fn modules_use_only_what_lies_below_them() {
    let files = rust_files("src");
    let violations: Vec<String> = files
        .iter()
        .flat_map(|(path, text)| layer_violations(path.strip_prefix("src").unwrap(), text))
        .collect();
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn the_ranks_name_the_modules_there_are() {
    let lib = fs::read_to_string(package().join("src/lib.rs")).unwrap();
    let declared = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let mut declared: Vec<&str> = declared.chain(["arguments", "main", "signals"]).collect();
    let mut ranked: Vec<&str> = RANKS.iter().map(|(module, _)| *module).collect();
    declared.sort_unstable();
    ranked.sort_unstable();
    assert_eq!(declared, ranked);
}

#[test]
fn the_check_of_layers_turns_red_on_each_kind_of_forbidden_path() {
    for (path, text) in [
        ("domain.rs", "use crate::protocol::CloseCode;"),
        ("domain/user_id.rs", "fn f() -> crate::app::App { todo() }"),
        ("domain/user_id.rs", "use super::super::protocol;"),
        ("protocol.rs", "use super::clock::Clock;"),
        ("metrics.rs", "use crate::auth::OriginPolicy;"),
        ("auth/origin.rs", "use crate::{\n    domain::UserId,\n    delivery::Delivery,\n};"),
        ("log/memory.rs", "use crate::{domain::{Epoch, Position}, registry::Registry};"),
        ("registry/shard.rs", "use crate::log::LogEntry;"),
        ("delivery.rs", "type X = Vec<crate::edge::Problem>;"),
        ("http/send.rs", "use crate::ws::Sockets;"),
        ("ws/connection.rs", "use crate::http::Http;"),
        ("sse/session.rs", "use crate::ws::Sockets;"),
        ("sse.rs", "use crate::registry::SessionHandle;"),
        ("ws.rs", "use crate::registry::SessionHandle;"),
        ("edge/body.rs", "use crate::log::MAX_ENTRY_BYTES;"),
        ("presence/node.rs", "use crate::edge::Problem;"),
        ("delivery/apply.rs", "use crate::presence::Others;"),
        ("ops.rs", "let x = '\"'; use crate::delivery::Delivery; let y = '\"';"),
        ("ops.rs", r##"let x = r#"a "quoted" text"#; use crate::delivery::Delivery;"##),
        ("ops.rs", "/* a /* nested */ comment */ use crate::delivery::Delivery;"),
        ("ops.rs", "fn f<'a>(x: &'a str) -> &'a crate::delivery::Delivery { x }"),
        ("novelty.rs", "//! A module that nobody ranked."),
    ] {
        assert_eq!(layer_violations(Path::new(path), text).len(), 1, "{path}: {text}");
    }
}

#[test]
fn the_check_of_layers_stays_green_on_what_is_allowed() {
    for (path, text) in [
        ("protocol/frame.rs", "use crate::domain::{Epoch, Position};"),
        ("metrics.rs", "let version = crate::VERSION;"),
        ("delivery/apply.rs", "use crate::{log::LogEntry, registry::{self, Registry}};"),
        ("http/send.rs", "use crate::delivery::Delivery; use super::schema::registry;"),
        ("domain/position.rs", "// see crate::app::App\nlet text = \"crate::app::App\";"),
        ("domain/position.rs", "/* crate::app */ let text = r#\"\"crate::app\"\"#; let quote = '\\'';"),
        ("log/entry.rs", "use crate::log::contract; use super::memory;"),
        ("domain.rs", "use other_crate::app::App;"),
        ("app.rs", "use crate::{http, ws::SocketApi};"),
    ] {
        assert_eq!(layer_violations(Path::new(path), text), Vec::<String>::new(), "{path}: {text}");
    }
}

/// Whether code names the client of NATS although its file, given as its path below `src`, is no place for that.
fn names_nats(path: &Path, text: &str) -> bool {
    let path = path.to_str().unwrap();
    let may = ["log/nats", "presence", "app"]
        .iter()
        .any(|place| path.strip_prefix(place).is_some_and(|rest| rest == ".rs" || rest.starts_with('/')));
    !may && code_of(text).contains("async_nats")
}

#[test]
fn only_the_log_and_presence_know_nats() {
    for (path, text) in rust_files("src") {
        assert!(!names_nats(path.strip_prefix("src").unwrap(), &text), "{} names async_nats", path.display());
    }
}

#[test]
fn the_check_of_nats_knows_its_places() {
    let text = "use async_nats::Client;";
    for path in ["delivery.rs", "log/disk.rs", "log.rs", "log/nats_like.rs", "http/users.rs", "apprentice.rs"]
    {
        assert!(names_nats(Path::new(path), text), "{path}");
        assert!(!names_nats(Path::new(path), "// async_nats\nlet text = \"async_nats\";"), "{path}");
    }
    for path in
        ["log/nats.rs", "log/nats/stream.rs", "presence.rs", "presence/node.rs", "app.rs", "app/run.rs"]
    {
        assert!(!names_nats(Path::new(path), text), "{path}");
    }
}

#[test]
fn no_file_is_longer_than_a_reader_can_bear() {
    let files = all_rust_files().into_iter();
    let long: BTreeMap<PathBuf, usize> = files
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .collect();
    assert!(long.is_empty(), "more than {MAX_LINES} lines: {long:#?}");
}

#[test]
fn no_file_and_no_module_is_a_drawer() {
    for (path, text) in all_rust_files() {
        for part in path.with_extension("").iter() {
            assert!(!DRAWERS.contains(&part.to_str().unwrap()), "{} is a drawer", path.display());
        }
        let code = code_of(&text);
        let modules = code.split_whitespace().collect::<Vec<_>>();
        for pair in modules.windows(2).filter(|pair| pair[0] == "mod") {
            let name = pair[1].trim_end_matches([';', '{']);
            assert!(!DRAWERS.contains(&name), "{}: the module `{name}` is a drawer", path.display());
        }
    }
}

#[test]
fn every_file_begins_by_saying_what_lives_in_it() {
    let silent: Vec<PathBuf> = all_rust_files()
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(path, _)| path)
        .collect();
    assert!(silent.is_empty(), "no `//!` at the top: {silent:#?}");
}

#[test]
fn lints_are_expected_with_a_reason_and_never_just_allowed() {
    for (path, text) in all_rust_files() {
        let code: String = code_of(&text).split_whitespace().collect();
        for attribute in ["#[allow(", "#![allow(", ",allow("] {
            assert!(!code.contains(attribute), "{}: {attribute}", path.display());
        }
    }
}

#[test]
fn nothing_is_left_for_later_in_writing() {
    // In two parts: this file is about them.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let mut texts = all_rust_files();
    for name in ["README.md", "ARCHITECTURE.md", "loadtest/README.md"] {
        let path = package().parent().unwrap().join(name);
        // A document that is not written yet leaves nothing for later either.
        texts.extend(fs::read_to_string(&path).map(|text| (path, text)));
    }
    for (path, text) in texts {
        for (number, line) in text.lines().enumerate() {
            let marked = marks.iter().any(|mark| line.contains(mark));
            assert!(!marked, "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

#[test]
fn every_group_of_dependencies_says_why_it_is_there() {
    let manifest = fs::read_to_string(package().parent().unwrap().join("Cargo.toml")).unwrap();
    let section = manifest.split("[workspace.dependencies]\n").nth(1).unwrap();
    let mut explained = false;
    let mut dependencies = 0;
    for line in section.lines().take_while(|line| !line.starts_with('[')) {
        if line.is_empty() {
            explained = false;
        } else if line.starts_with('#') {
            explained = line.len() > 10;
        } else {
            dependencies += 1;
            assert!(explained, "no comment above: {line}");
        }
    }
    assert!(dependencies > 10, "the section was found");
}

#[test]
fn every_function_that_the_architecture_names_exists() {
    let root = package().parent().expect("the workspace");
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("the architecture is written down");
    let mut named = 0;
    for quoted in text.split('`').skip(1).step_by(2) {
        let Some((file, name)) = quoted.split_once(".rs::") else { continue };
        let path = package().join("src").join(format!("{file}.rs"));
        let code = fs::read_to_string(&path).unwrap_or_else(|_| panic!("{quoted}: there is no such file"));
        let name = name.rsplit("::").next().expect("a name");
        let exists = ["fn ", "struct ", "enum ", "trait "].iter().any(|kind| {
            let declared = format!("{kind}{name}");
            code.match_indices(&declared).any(|(at, _)| {
                !code[at + declared.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_')
            })
        });
        assert!(exists, "{quoted}: there is no such function");
        named += 1;
    }
    assert!(named >= 20, "a walkthrough names functions; this one names {named}");
}

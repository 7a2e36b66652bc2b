//! Every input that fuzzing found worth keeping, replayed: what holds for them holds in every build, not only in a fuzzer's.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

#[expect(
    unreachable_pub,
    reason = "the fuzz targets, which are a crate of their own, use the same functions"
)]
#[path = "../../fuzz/src/lib.rs"]
mod properties;

use properties::PROPERTIES;

/// The corpus stays what a reader of the repository can bear.
const MAX_SEEDS: usize = 200;
const MAX_SEED_BYTES: usize = 200 * 1024;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The names of files or folders, without what follows the dot.
fn names(folder: &str) -> BTreeSet<String> {
    let name = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    below(&fuzz().join(folder)).into_iter().map(name).collect()
}

#[test]
fn every_seed_keeps_its_property() {
    let mut broken = Vec::new();
    for (name, property) in PROPERTIES {
        let seeds = below(&fuzz().join("seeds").join(name));
        assert!(!seeds.is_empty(), "{name} has no seed");
        for path in seeds {
            let input = fs::read(&path).unwrap();
            if catch_unwind(|| property(&input)).is_err() {
                broken.push(path);
            }
        }
    }
    assert!(broken.is_empty(), "the panics are above: {broken:#?}");
}

#[test]
fn every_target_has_a_property_and_seeds() {
    let properties = PROPERTIES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), properties);
    assert_eq!(names("seeds"), properties);
}

#[test]
fn the_seeds_are_few_and_small() {
    let seeds: Vec<PathBuf> = below(&fuzz().join("seeds")).iter().flat_map(|folder| below(folder)).collect();
    let bytes: usize = seeds.iter().map(|path| fs::read(path).unwrap().len()).sum();
    assert!(seeds.len() <= MAX_SEEDS && bytes <= MAX_SEED_BYTES, "{} seeds of {bytes} bytes", seeds.len());
}

//! The file that says what a directory is: the format of the log in it and its epoch, readable for people.
//!
//! It is replaced as a whole: written beside, synced, renamed, the directory synced. A format newer than this build is told
//! from damage by its first line alone, so that line never changes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::OpenError;
use crate::domain::Epoch;

const NAME: &str = "identity";
const FIRST_WORDS: &str = "gateway log, format ";

/// One step for each older format, oldest first: the first step makes format 2 of format 1. There is only one format yet.
const UPGRADES: &[Upgrade] = &[];

/// Brings a directory from one format to the next; run again from its beginning when it was interrupted.
pub(super) type Upgrade = fn(&Path) -> io::Result<()>;

/// The epoch of the log in this directory, once it is in the format of this build; `None` in a directory without a log.
pub(super) fn open(directory: &Path) -> Result<Option<Epoch>, OpenError> {
    open_with(directory, UPGRADES)
}

fn open_with(directory: &Path, upgrades: &[Upgrade]) -> Result<Option<Epoch>, OpenError> {
    let path = directory.join(NAME);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io(&path, error)),
    };
    let text = String::from_utf8_lossy(&text);
    let damaged = || OpenError::DamagedFile { path: path.clone() };
    let found: u32 = format_of(&text).ok_or_else(damaged)?;
    let known = newest(upgrades);
    if found > known {
        return Err(OpenError::NewerFormat { found, known });
    }
    let epoch = parse(&text).filter(|_| found > 0).ok_or_else(damaged)?;
    for (format, upgrade) in (1..).zip(upgrades).skip(found as usize - 1) {
        upgrade(directory).map_err(|error| OpenError::io(directory, error))?;
        replace_with(directory, format + 1, epoch).map_err(|error| OpenError::io(&path, error))?;
        tracing::info!(directory = %directory.display(), from = format, to = format + 1, "the log was upgraded");
    }
    Ok(Some(epoch))
}

/// Writes the identity of a log in the format of this build.
pub(super) fn replace(directory: &Path, epoch: Epoch) -> io::Result<()> {
    replace_with(directory, newest(UPGRADES), epoch)
}

/// Makes what was created, renamed or removed in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn newest(upgrades: &[Upgrade]) -> u32 {
    u32::try_from(upgrades.len()).expect("few formats") + 1
}

fn replace_with(directory: &Path, format: u32, epoch: Epoch) -> io::Result<()> {
    let written = directory.join("identity.new");
    let mut file = File::create(&written)?;
    file.write_all(text(format, epoch).as_bytes())?;
    file.sync_all()?;
    fs::rename(&written, directory.join(NAME))?;
    sync_directory(directory)
}

fn text(format: u32, epoch: Epoch) -> String {
    let said = format!("{FIRST_WORDS}{format}\nepoch {:016x}\n", epoch.bits());
    let checksum = crc32fast::hash(said.as_bytes());
    format!("{said}checksum {checksum:08x}\n")
}

fn format_of(text: &str) -> Option<u32> {
    text.lines().next()?.strip_prefix(FIRST_WORDS)?.parse().ok()
}

fn parse(found: &str) -> Option<Epoch> {
    let bits = found.lines().nth(1)?.strip_prefix("epoch ")?;
    let epoch = Epoch::from_bits(u64::from_str_radix(bits, 16).ok()?);
    // Only what we would have written is whole, checksum included.
    (found == text(format_of(found)?, epoch)).then_some(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_and_damage_is_told_from_a_newer_format() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(open(directory.path()).unwrap(), None);
        replace(directory.path(), Epoch::from_bits(77)).unwrap();
        assert_eq!(open(directory.path()).unwrap(), Some(Epoch::from_bits(77)));
        let path = directory.path().join(NAME);
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, whole.replace("004d", "004e")).unwrap();
        assert!(matches!(open(directory.path()), Err(OpenError::DamagedFile { .. })));
        fs::write(&path, "gateway log, format 2\nwho knows").unwrap();
        assert!(matches!(open(directory.path()), Err(OpenError::NewerFormat { found: 2, known: 1 })));
        fs::write(&path, text(0, Epoch::from_bits(1))).unwrap();
        assert!(matches!(open(directory.path()), Err(OpenError::DamagedFile { .. })));
    }

    #[test]
    fn an_older_format_is_brought_up_step_by_step_from_where_it_stands() {
        const STEPS: &[Upgrade] = &[
            |directory| fs::write(directory.join("one"), "done"),
            |directory| fs::write(directory.join("two"), "done"),
        ];
        let directory = tempfile::tempdir().unwrap();
        replace_with(directory.path(), 2, Epoch::from_bits(5)).unwrap();
        assert_eq!(open_with(directory.path(), STEPS).unwrap(), Some(Epoch::from_bits(5)));
        assert!(!directory.path().join("one").exists() && directory.path().join("two").exists());
        let text = fs::read_to_string(directory.path().join(NAME)).unwrap();
        assert_eq!((format_of(&text), parse(&text)), (Some(3), Some(Epoch::from_bits(5))));
    }
}

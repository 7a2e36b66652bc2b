//! Journals of the log's database, whole and damaged.

use std::fs;
use std::hash::Hasher;
use std::ops::Range;
use std::path::Path;

use gateway::log::disk::{JournalError, Torn, inspect_journals};
use xxhash_rust::xxh3::Xxh3;

/// Batches that an input may ask for: enough for one in front of the damage and one behind.
const MAX_BATCHES: usize = 4;

/// What happens to a journal, by the input's first byte.
enum Damage {
    None,
    /// Nothing is there from this byte on.
    Cut(usize),
    /// This bit of this byte flips.
    Flip(usize, u8),
    /// Something else stands behind the last batch.
    Tail,
}

/// A torn last batch may be cut and nothing else: what stands in front stays, and damage in front of a whole batch is
/// named with its number and left alone.
pub fn journal(input: &[u8]) {
    let Some((&[kind, low, high, bit], rest)) = input.split_first_chunk() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("0.jnl");
    if kind >= 0x80 {
        // No journal of ours at all.
        fs::write(&file, rest).unwrap();
        return check_second_look(directory.path(), &file, inspect(directory.path()));
    }
    let (mut bytes, batches) = write_batches(rest);
    let at = usize::from(u16::from_le_bytes([low, high])) % bytes.len();
    let damage = match kind % 4 {
        0 => Damage::None,
        1 => Damage::Cut(at),
        2 => Damage::Flip(at, bit % 8),
        _ => Damage::Tail,
    };
    match damage {
        Damage::None => {}
        Damage::Cut(at) => bytes.truncate(at),
        Damage::Flip(at, bit) => bytes[at] ^= 1 << bit,
        // No mark of a batch begins with it.
        Damage::Tail => bytes.push(0xff),
    }
    if bit >= 0x80 && !matches!(damage, Damage::Cut(_)) {
        // Journals are laid out in advance.
        bytes.resize(bytes.len() + 64, 0);
    }
    fs::write(&file, &bytes).unwrap();
    let found = inspect(directory.path());
    let told = match &found {
        Ok(torn) => Ok(torn.as_ref().map(|torn| torn.after)),
        Err(number) => Err(*number),
    };
    assert_eq!(told, expected(&damage, &batches));
    check_second_look(directory.path(), &file, found);
}

/// A batch: where its bytes stand, and its last number.
struct Batch {
    bytes: Range<usize>,
    last: u64,
}

/// The last number in front of a torn batch, or the number that is damaged.
fn expected(damage: &Damage, batches: &[Batch]) -> Result<Option<Option<u64>>, u64> {
    let hit =
        |at: usize| batches.iter().position(|batch| batch.bytes.contains(&at)).expect("within the journal");
    let last_before = |index: usize| index.checked_sub(1).map(|before| batches[before].last);
    match *damage {
        Damage::None => Ok(None),
        Damage::Tail => Ok(Some(last_before(batches.len()))),
        Damage::Cut(at) => {
            let index = hit(at);
            // Between two batches nothing is torn.
            Ok((batches[index].bytes.start != at).then(|| last_before(index)))
        }
        Damage::Flip(at, _) => {
            let index = hit(at);
            // The database's own number of the batch stands in these bytes, and no checksum covers it.
            if (5..13).contains(&(at - batches[index].bytes.start)) {
                Ok(None)
            } else if index + 1 == batches.len() {
                Ok(Some(last_before(index)))
            } else {
                // Nothing in front: what is known is the number of the whole batch behind.
                Err(last_before(index).map_or(batches[index].last, |last| last + 1))
            }
        }
    }
}

fn inspect(directory: &Path) -> Result<Option<Torn>, u64> {
    match inspect_journals(directory) {
        Ok(torn) => Ok(torn),
        Err(JournalError::Damaged(damage)) => Err(damage.number),
        Err(JournalError::Io(path, error)) => panic!("{}: {error}", path.display()),
    }
}

/// Once the torn batch is cut off, the rest is whole; without one, looking changes nothing.
fn check_second_look(directory: &Path, file: &Path, found: Result<Option<Torn>, u64>) {
    let before = fs::read(file).unwrap();
    if let Ok(Some(torn)) = &found {
        torn.cut().unwrap();
        let after = fs::read(file).unwrap();
        assert!(after.len() < before.len() && before.starts_with(&after), "cut, and nothing else");
        assert_eq!(inspect(directory), Ok(None));
    } else {
        assert_eq!(inspect(directory), found);
        assert_eq!(fs::read(file).unwrap(), before);
    }
}

/// A journal as `fjall` 3 writes it, with what the input asks for in it: in turn a batch's count, a value's length, and
/// the value.
fn write_batches(mut input: &[u8]) -> (Vec<u8>, Vec<Batch>) {
    let mut take = |count: usize| {
        let (taken, rest) = input.split_at(count.min(input.len()));
        input = rest;
        taken
    };
    let (mut bytes, mut batches, mut number) = (Vec::new(), Vec::new(), 0_u64);
    while batches.len() < MAX_BATCHES {
        let Some(count) = take(1).first().map(|count| u32::from(1 + count % 3)) else { break };
        let start = bytes.len();
        bytes.push(1);
        bytes.extend(count.to_le_bytes());
        bytes.extend(number.to_le_bytes());
        let items = bytes.len();
        for _ in 0..count {
            number += 1;
            let length = take(1).first().map_or(0, |length| usize::from(*length));
            let value = take(length);
            let value_bytes = u32::try_from(value.len()).unwrap();
            // Tag, kind of value, compression, keyspace, and the lengths of key, value, and value as stored.
            bytes.extend([2, 0, 0]);
            bytes.extend(1_u64.to_le_bytes());
            bytes.extend(8_u16.to_le_bytes());
            bytes.extend(value_bytes.to_le_bytes());
            bytes.extend(value_bytes.to_le_bytes());
            bytes.extend(number.to_be_bytes());
            bytes.extend(value);
        }
        let mut checksum = Xxh3::default();
        checksum.update(&bytes[items..]);
        bytes.push(3);
        bytes.extend(checksum.finish().to_le_bytes());
        bytes.extend(b"FJL\x03");
        batches.push(Batch { bytes: start..bytes.len(), last: number });
    }
    if batches.is_empty() {
        return write_batches(&[0]);
    }
    (bytes, batches)
}

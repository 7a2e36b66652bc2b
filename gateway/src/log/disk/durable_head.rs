//! The small file that says how far the log is known to reach: the lower bound that an opened log must meet.
//!
//! The database cuts its journal behind a damaged place without a word. This record, kept outside of it, is how that is
//! noticed. It is written after each batch that was synced and needs no sync of its own: a process that is killed leaves
//! the page cache behind, and after a power failure an older record is still true, it only promises less.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: &[u8; 8] = b"gwdurbl1";

/// Magic, turn, head, first, timestamp, checksum.
const RECORD_BYTES: usize = 8 + 4 * 8 + 4;

/// Two places on pages of their own, written in turn: a torn write leaves the other one whole.
const PLACES: [u64; 2] = [0, 4_096];

/// How far the log reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    /// The last entry that was synced.
    pub(super) head: u64,
    /// Everything before it was trimmed.
    pub(super) first: u64,
    /// The newest timestamp given.
    pub(super) timestamp_ms: u64,
}

/// The open file.
pub(super) struct DurableHead {
    file: File,
    turn: u64,
    /// Whether something was written since the last sync.
    dirty: bool,
}

impl DurableHead {
    /// Creates the file with the reach of a log that is empty and begins at `first`, synced.
    pub(super) fn create(path: &Path, first: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        let mut record = Self { file, turn: 0, dirty: false };
        record.write(Reach { head: first - 1, first, timestamp_ms: 0 })?;
        record.sync()
    }

    /// Opens the file; `None` when neither of its two records is whole.
    pub(super) fn open(path: &Path) -> io::Result<Option<(Self, Reach)>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut newest = None;
        for place in PLACES {
            let mut bytes = [0; RECORD_BYTES];
            match file.read_exact_at(&mut bytes, place) {
                Ok(()) => newest = newest.max(decode(&bytes)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(error),
            }
        }
        Ok(newest.map(|(turn, head, first, timestamp_ms)| {
            (Self { file, turn, dirty: false }, Reach { head, first, timestamp_ms })
        }))
    }

    /// Records a reach that is synced in the database.
    pub(super) fn write(&mut self, reach: Reach) -> io::Result<()> {
        self.turn += 1;
        self.dirty = true;
        self.file.write_all_at(&encode(self.turn, reach), self.place())
    }

    /// Where the newest record stands.
    fn place(&self) -> u64 {
        PLACES[usize::from(self.turn.is_multiple_of(2))]
    }

    /// Brings what was written to the disk itself.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.dirty) { self.file.sync_data() } else { Ok(()) }
    }
}

fn encode(turn: u64, reach: Reach) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    let fields = [turn, reach.head, reach.first, reach.timestamp_ms];
    for (place, field) in bytes[8..40].chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_le_bytes());
    }
    let checksum = crc32fast::hash(&bytes[..40]);
    bytes[40..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Turn, head, first and timestamp, in this order: the greatest is the newest.
fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<(u64, u64, u64, u64)> {
    let field = |index: usize| {
        let place = bytes[8 + 8 * index..][..8].try_into().expect("eight bytes");
        u64::from_le_bytes(place)
    };
    let whole = bytes.starts_with(MAGIC) && bytes[40..] == crc32fast::hash(&bytes[..40]).to_le_bytes();
    whole.then(|| (field(0), field(1), field(2), field(3)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(head: u64) -> Reach {
        Reach { head, first: 3, timestamp_ms: 99 }
    }

    #[test]
    fn the_last_record_counts_and_a_torn_one_leaves_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("durable");
        DurableHead::create(&path, 1).unwrap();
        let (mut record, empty) = DurableHead::open(&path).unwrap().unwrap();
        assert_eq!(empty, Reach { head: 0, first: 1, timestamp_ms: 0 });
        record.write(reach(7)).unwrap();
        record.write(reach(9)).unwrap();
        let last = record.place();
        assert_eq!(DurableHead::open(&path).unwrap().unwrap().1, reach(9));
        record.file.write_all_at(&[0xff], last + 20).unwrap();
        assert_eq!(DurableHead::open(&path).unwrap().unwrap().1, reach(7));
        record.file.set_len(0).unwrap();
        assert!(DurableHead::open(&path).unwrap().is_none());
    }
}

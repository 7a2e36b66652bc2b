//! Keeps a reserve of free space: a database that meets a full disk in mid-write is lost for this process, so what does not
//! fit is refused before anything is written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::log::Claim;

/// Asks how many bytes are free where a directory lies.
pub type FreeSpace = Arc<dyn Fn(&Path) -> io::Result<u64> + Send + Sync>;

/// How long an answer holds.
const ASK_EVERY_MS: u64 = 100;

/// After how many written bytes it is asked again at once.
const ASK_AFTER_BYTES: u64 = 4 * 1024 * 1024;

/// What housekeeping entries leave of the reserve: a part of it.
const UNTOUCHED_PART: u64 = 4;

/// Asks the file system, for what users without privileges may take.
#[must_use]
pub fn system_free_space() -> FreeSpace {
    Arc::new(|directory| {
        let found = nix::sys::statvfs::statvfs(directory)?;
        Ok(found.blocks_available().saturating_mul(found.fragment_size()))
    })
}

/// The free space as last heard, less what was written since.
pub(super) struct Room {
    directory: PathBuf,
    reserve_bytes: u64,
    ask: FreeSpace,
    free_bytes: u64,
    asked_ms: u64,
    written_bytes: u64,
    short: bool,
}

impl Room {
    pub(super) fn new(
        directory: PathBuf,
        reserve_bytes: u64,
        ask: FreeSpace,
        now_ms: u64,
    ) -> io::Result<Self> {
        let free_bytes = ask(&directory)?;
        Ok(Self {
            directory,
            reserve_bytes,
            ask,
            free_bytes,
            asked_ms: now_ms,
            written_bytes: 0,
            short: false,
        })
    }

    /// Asks again when the last answer is old or used up, and always while room is short: it should end soon.
    pub(super) fn refresh(&mut self, now_ms: u64) {
        let holds = now_ms.abs_diff(self.asked_ms) < ASK_EVERY_MS
            && self.written_bytes < ASK_AFTER_BYTES
            && !self.short;
        if holds {
            return;
        }
        match (self.ask)(&self.directory) {
            Ok(free_bytes) => (self.free_bytes, self.written_bytes) = (free_bytes, 0),
            Err(error) => tracing::warn!(%error, "the free space on the log's disk is not known"),
        }
        self.asked_ms = now_ms;
        self.short = self.left() < self.reserve_bytes;
    }

    /// Takes room for an entry, if there is enough.
    pub(super) fn take(&mut self, bytes: u64, claim: Claim) -> bool {
        let kept = match claim {
            Claim::Ordinary => self.reserve_bytes,
            Claim::Acks | Claim::Housekeeping => self.reserve_bytes / UNTOUCHED_PART,
        };
        let fits = self.left().checked_sub(bytes).is_some_and(|left| left >= kept);
        if fits {
            self.written_bytes += bytes;
        } else {
            self.short = true;
        }
        fits
    }

    fn left(&self) -> u64 {
        self.free_bytes.saturating_sub(self.written_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn the_reserve_is_for_housekeeping_and_a_part_of_it_for_nobody() {
        let free = Arc::new(AtomicU64::new(1_000));
        let asked = Arc::new(AtomicU64::new(0));
        let ask: FreeSpace = Arc::new({
            let (free, asked) = (Arc::clone(&free), Arc::clone(&asked));
            move |_| {
                asked.fetch_add(1, Ordering::SeqCst);
                Ok(free.load(Ordering::SeqCst))
            }
        });
        let mut room = Room::new(PathBuf::new(), 400, ask, 0).unwrap();
        assert!(room.take(600, Claim::Ordinary) && !room.take(1, Claim::Ordinary));
        assert!(room.take(150, Claim::Acks) && room.take(150, Claim::Housekeeping));
        assert!(!room.take(1, Claim::Acks) && !room.take(1, Claim::Housekeeping));
        free.store(2_000, Ordering::SeqCst);
        room.refresh(1);
        assert!(room.take(1_000, Claim::Ordinary), "while it is short it asks each time");
        room.refresh(2);
        room.refresh(3);
        assert_eq!(asked.load(Ordering::SeqCst), 2, "an answer holds for a while");
        room.refresh(200);
        assert_eq!(asked.load(Ordering::SeqCst), 3);
    }
}

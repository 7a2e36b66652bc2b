//! Files that may change while the gateway runs.
//!
//! They are small and read whole: comparing what is in them is immune to clocks, to links that are swapped (as Kubernetes
//! does it) and to editors that write a new file in place of the old one.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The largest file of keys, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// What is in a file, or why it cannot be read.
type Content = Result<Vec<u8>, String>;

/// A file, and what was in it when it was last looked at.
pub(super) struct WatchedFile {
    path: PathBuf,
    looks: Mutex<Looks>,
}

struct Looks {
    /// What was told last.
    told: Content,
    /// What the last look found.
    last: Content,
}

impl WatchedFile {
    /// Reads it for the first time.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<u8>)> {
        let bytes = read(path)?;
        let looks = Looks { told: Ok(bytes.clone()), last: Ok(bytes.clone()) };
        Ok((Self { path: path.to_owned(), looks: Mutex::new(looks) }, bytes))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it now, if that is something else than was told last and the look before has found the same: what is being
    /// written makes no sense yet, or worse, less sense than it will. A failure is told once.
    pub(super) fn changed(&self) -> Option<Content> {
        let now = read(&self.path).map_err(|error| error.to_string());
        let mut looks = self.looks.lock().expect("nothing panics while it holds the looks");
        let settled = looks.last == now;
        looks.last.clone_from(&now);
        if !settled || looks.told == now {
            return None;
        }
        looks.told.clone_from(&now);
        Some(now)
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Whether everybody on this machine may read the file: then what is in it is no secret.
pub(super) fn is_readable_by_others(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

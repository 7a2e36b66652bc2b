//! The real process on a machine that fails on demand: its disk, its sockets, its random numbers; see `tests/faults/shim.c`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process_harness::{Folder, Server};

/// A library between a gateway and its system, and a directory for its log.
pub(crate) struct BadMachine {
    folder: Folder,
    library: PathBuf,
}

impl BadMachine {
    /// Everything works so far.
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        let library = folder.path().join("shim.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        assert!(compiled.unwrap().success(), "the library that makes calls fail compiles");
        std::fs::create_dir(folder.path().join("data")).unwrap();
        Self { folder, library }
    }

    /// Starts a gateway on it, whose log is what the one before left.
    pub(crate) async fn start(&self, settings: &[(&str, &str)]) -> Server {
        let data = self.folder.path().join("data").canonicalize().unwrap();
        let control = self.folder.path().join("control");
        let text = |path: &Path| path.display().to_string();
        let faults = [
            ("LD_PRELOAD", text(&self.library)),
            ("FAULT_DIRECTORY", text(&data)),
            ("FAULT_CONTROL", text(&control)),
        ];
        let faults = faults.iter().map(|(name, value)| (*name, value.as_str()));
        let variables: Vec<(&str, &str)> = faults.chain(settings.iter().copied()).collect();
        Server::start_on_disk(&data, &variables).await
    }

    /// From now on these calls fail, and no others.
    pub(crate) fn fails(&self, faults: &str) {
        let beside = self.folder.path().join("control.new");
        std::fs::write(&beside, faults).unwrap();
        std::fs::rename(beside, self.folder.path().join("control")).unwrap();
    }
}

//! Standard output belongs to the verdict: whoever reads it finds nothing before.
//!
//! Goose prints how many users it has launched, whatever it is told. So its standard output leads nowhere, and ours is a
//! copy of the descriptor that the process was started with.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;

/// What standard output was when the process began.
static STDOUT: OnceLock<File> = OnceLock::new();

/// Keeps standard output for [`print`], and lets what others print lead nowhere.
///
/// # Errors
/// When standard output is closed, or there is no nowhere.
pub(crate) fn take_stdout() -> std::io::Result<()> {
    let own = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let nowhere = File::options().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(nowhere)?;
    // A second call would keep the first one's.
    let _ = STDOUT.set(own);
    Ok(())
}

/// Prints. Nobody reads it when standard output is closed.
pub(crate) fn print(text: &str) {
    if let Some(mut stdout) = STDOUT.get() {
        let _ = stdout.write_all(text.as_bytes());
    }
}

/// Whether a person looks at standard output.
pub(crate) fn is_terminal() -> bool {
    STDOUT.get().is_some_and(IsTerminal::is_terminal)
}

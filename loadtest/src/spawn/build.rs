//! Finds the program to start, and builds it where that is ours to do.
//!
//! When cargo runs this program, the gateway beside it may be missing or old; it is then built with the same profile. Else
//! what lies beside this program was put there on purpose and is taken as it is.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::set_up::SetUpError;

/// The gateway's file name.
const NAME: &str = "gateway";

/// Built together with this tool: alone, the gateway would ask for other features of the same libraries, and all of them would
/// be compiled a second time.
#[cfg(not(test))]
const PACKAGES: [&str; 4] = ["-p", env!("CARGO_PKG_NAME"), "-p", NAME];
/// The same for this tool's own tests: features of dependencies are those that tests ask for.
#[cfg(test)]
const PACKAGES: [&str; 3] = ["--workspace", "--test", "tidy"];

/// A program that somebody named.
pub(super) fn given(binary: &Path) -> Result<PathBuf, SetUpError> {
    // It is started in another directory.
    let binary = std::path::absolute(binary).unwrap_or_else(|_| binary.to_owned());
    if binary.is_file() { Ok(binary) } else { Err(SetUpError(format!("there is no {}", binary.display()))) }
}

/// The gateway beside this program.
pub(super) async fn beside_own() -> Result<PathBuf, SetUpError> {
    let own = std::env::current_exe();
    let own = own.map_err(|error| SetUpError(format!("cannot tell where this program is: {error}")))?;
    let folder = profile_folder(&own);
    let binary = folder.join(NAME);
    let profile = profile_arguments(folder);
    if let (Some(cargo), Some(manifest)) = (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR"))
    {
        build(&cargo, Path::new(&manifest), folder, &profile).await?;
    }
    if binary.is_file() {
        return Ok(binary);
    }
    let command =
        [&["cargo", "build", "--locked"], &profile[..], &["-p", NAME, "--bin", NAME]].concat().join(" ");
    let binary = binary.display();
    Err(SetUpError(format!("there is no {binary}: run `{command}`, or name a gateway that is built")))
}

async fn build(cargo: &OsStr, manifest: &Path, folder: &Path, profile: &[&str]) -> Result<(), SetUpError> {
    let mut command = Command::new(cargo);
    command
        .args(["build", "--locked"])
        .args(profile)
        .args(PACKAGES)
        .args(["--bin", NAME])
        .current_dir(manifest);
    if let Some(target) = folder.parent() {
        // So that it lands beside this program, whatever decided where that is.
        command.arg("--target-dir").arg(target);
    }
    // What cargo says, it says on standard error: this program's own.
    let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).status().await;
    let shown =
        || format!("`cargo build --locked {} {} --bin {NAME}`", profile.join(" "), PACKAGES.join(" "));
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(SetUpError(format!("{} ended with {status}", shown()))),
        Err(error) => Err(SetUpError(format!("{} cannot be run: {error}", shown()))),
    }
}

/// Where cargo puts the programs of the profile that this one was built with; tests lie one deeper.
fn profile_folder(own: &Path) -> &Path {
    let folder = own.parent().unwrap_or(Path::new("."));
    match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().unwrap_or(folder),
        _ => folder,
    }
}

/// Cargo's flags for the profile that has this folder.
fn profile_arguments(folder: &Path) -> Vec<&str> {
    match folder.file_name().and_then(OsStr::to_str) {
        None | Some("debug") => Vec::new(),
        Some("release") => vec!["--release"],
        Some(profile) => vec!["--profile", profile],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_built_as_this_program_was() {
        for (own, folder, arguments) in [
            ("/t/release/loadtest", "/t/release", &["--release"][..]),
            ("/t/debug/loadtest", "/t/debug", &[]),
            ("/t/debug/deps/loadtest-0a1b", "/t/debug", &[]),
            ("/t/lean/loadtest", "/t/lean", &["--profile", "lean"]),
        ] {
            let found = profile_folder(Path::new(own));
            assert_eq!(found, Path::new(folder), "{own}");
            assert_eq!(profile_arguments(found), arguments, "{own}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let SetUpError(text) = given(Path::new("/nowhere/gateway")).unwrap_err();
        assert_eq!(text, "there is no /nowhere/gateway");
    }
}

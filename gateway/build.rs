//! Notes the commit that is built, for `gateway --version` and the metric `gateway_build_info`.

use std::path::Path;
use std::process::Command;

/// Grows with every commit and checkout.
const HISTORY: &str = "../.git/logs/HEAD";

fn main() {
    println!("cargo::rerun-if-env-changed=REVISION");
    // A path that does not exist would run this at every build.
    println!("cargo::rerun-if-changed={}", if Path::new(HISTORY).exists() { HISTORY } else { "build.rs" });
    let given = std::env::var("REVISION").ok().filter(|revision| !revision.is_empty());
    let revision = given.or_else(from_git);
    println!("cargo::rustc-env=BUILD_REVISION={}", revision.as_deref().unwrap_or("unknown"));
}

fn from_git() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

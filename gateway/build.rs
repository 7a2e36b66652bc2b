//! Notes the commit that is built, for `gateway --version` and the metric `gateway_build_info`.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=REVISION");
    println!("cargo::rerun-if-changed=../.git/HEAD");
    let revision = std::env::var("REVISION").ok().or_else(from_git);
    println!("cargo::rustc-env=BUILD_REVISION={}", revision.as_deref().unwrap_or("unknown"));
}

fn from_git() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

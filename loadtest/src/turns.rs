//! `loadtest compare`: runs the same scenario against several targets in turns, each run in a process of its own.
//!
//! In turns, because a machine is faster in one minute than in the next: whatever changes meanwhile hits all targets.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use loadtest::compare::{Runs, table};
use loadtest::summary::Summary;

use crate::arguments::{Compare, target_kinds};
use crate::output::print;
use crate::{Failure, USAGE, read, remark};

/// A target and the arguments that lead to it.
struct Target {
    name: String,
    arguments: Vec<String>,
}

/// Runs and compares; the exit code is that of the gravest run.
pub(crate) async fn take_turns(compare: &Compare) -> Result<u8, Failure> {
    let mut targets: Vec<Target> =
        compare.targets.iter().map(|text| parse(text)).collect::<Result<_, _>>().map_err(Failure::Usage)?;
    for text in &compare.processes {
        let (name, id) =
            text.split_once('=').ok_or_else(|| Failure::Usage(format!("{text:?} is not NAME=PID")))?;
        let target = targets.iter_mut().find(|target| target.name == name);
        let target = target.ok_or_else(|| Failure::Usage(format!("there is no target {name:?}")))?;
        target.arguments.extend(["--pid".to_owned(), id.to_owned()]);
    }
    let folder = match &compare.keep {
        Some(path) => {
            std::fs::create_dir_all(path)
                .map_err(|error| Failure::SetUp(format!("{}: {error}", path.display())))?;
            None
        }
        None => Some(tempfile::tempdir().map_err(|error| Failure::SetUp(error.to_string()))?),
    };
    let folder = compare
        .keep
        .clone()
        .unwrap_or_else(|| folder.as_ref().map_or_else(PathBuf::new, |kept| kept.path().to_owned()));
    let mut runs: Vec<Runs> =
        targets.iter().map(|target| Runs { name: target.name.clone(), summaries: Vec::new() }).collect();
    let mut gravest = 0;
    for round in 1..=compare.rounds {
        for (target, runs) in targets.iter().zip(&mut runs) {
            let file = folder.join(format!("{}-{round}.json", target.name));
            let (code, summary) = run(&compare.run, target, &file).await?;
            remark(&format!("{} {round}/{}: exit code {code}", target.name, compare.rounds));
            gravest = graver(gravest, code);
            runs.summaries.push(summary);
        }
    }
    print(&table(&runs));
    Ok(gravest)
}

/// The exit code that says more: what was lost before a run that cannot be believed, and that before a slow one.
fn graver(one: u8, other: u8) -> u8 {
    let gravity = |code: &u8| [0, 2, 3, 5, 4, 1].iter().position(|known| known == code);
    std::cmp::max_by_key(one, other, gravity)
}

async fn run(arguments: &[String], target: &Target, file: &Path) -> Result<(u8, Summary), Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::SetUp(error.to_string()))?;
    // One of an earlier comparison must not be taken for this run's.
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Failure::SetUp(format!("{}: {error}", file.display())));
        }
        _ => {}
    }
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).args(&target.arguments).arg("--json").arg(file);
    command.args(["--quiet", "--metrics-listen", "off"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let ended =
        command.kill_on_drop(true).output().await.map_err(|error| Failure::SetUp(error.to_string()))?;
    let code = ended.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(5);
    let summary = read(file).map_err(|_| {
        let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
        let why = format!("the run against {} came to nothing: {said}", target.name);
        if code == USAGE { Failure::Usage(why) } else { Failure::SetUp(why) }
    })?;
    Ok((code, summary))
}

/// `NAME=URL`, `NAME=kind:URL`, `NAME=spawn`.
fn parse(text: &str) -> Result<Target, String> {
    let (name, place) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=URL"))?;
    if name.is_empty()
        || !name.chars().all(|character| character.is_ascii_alphanumeric() || "-_".contains(character))
    {
        return Err(format!("{name:?} is no name: letters, digits, hyphens"));
    }
    let arguments = if place == "spawn" {
        vec!["--spawn".to_owned()]
    } else {
        let kinds = target_kinds();
        let found =
            kinds.iter().find_map(|kind| Some((kind, place.strip_prefix(kind.as_str())?.strip_prefix(':')?)));
        match found {
            Some((kind, url)) => {
                vec!["--adapter".to_owned(), kind.clone(), "--url".to_owned(), url.to_owned()]
            }
            None => vec!["--url".to_owned(), place.to_owned()],
        }
    };
    Ok(Target { name: name.to_owned(), arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_outweighs_a_run_that_cannot_be_believed() {
        assert_eq!(graver(5, 4), 4);
        assert_eq!(graver(4, 5), 4);
        assert_eq!(graver(3, 5), 5);
        assert_eq!(graver(0, 3), 3);
        assert_eq!(graver(3, 2), 3);
    }

    #[test]
    fn a_target_is_a_name_and_a_place() {
        let arguments = |text: &str| parse(text).map(|target| target.arguments.join(" "));
        assert_eq!(arguments("a=http://127.0.0.1:1").unwrap(), "--url http://127.0.0.1:1");
        assert_eq!(
            arguments("a=fastapi:http://127.0.0.1:1").unwrap(),
            "--adapter fastapi --url http://127.0.0.1:1"
        );
        assert_eq!(arguments("a=spawn").unwrap(), "--spawn");
        assert!(arguments("http://127.0.0.1:1").is_err());
        assert!(arguments("../a=http://127.0.0.1:1").is_err());
    }
}

//! Tests of starting, restarting and stopping a real gateway.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;
use crate::usage::{Source, scrape};

fn memory(arguments: &[&str]) -> SpawnOptions {
    let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    SpawnOptions { binary: None, log: SpawnLog::Memory, arguments, environment: Vec::new() }
}

fn signal(gateway: &Spawned, signal: Signal) {
    kill(Pid::from_raw(gateway.process_id()), signal).unwrap();
}

/// `None`: nobody answers.
async fn pending(client: &reqwest::Client, url: &str) -> Option<u64> {
    let answer = client.get(format!("{url}/v1/users/bob")).send().await.ok()?;
    let user: serde_json::Value = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
    user["pending"].as_u64()
}

/// One test, because each start may build: it is the only one that needs the gateway.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_built_started_restarted_with_its_log_and_stopped() {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let environment = vec![("OTEL_TRACES_SAMPLER_ARG", "0.25".to_owned())];
    let options = SpawnOptions { log: SpawnLog::Disk, environment, ..memory(&[]) };
    let mut gateway = Spawned::start(&options).await.unwrap();
    let (url, ops_url, first) = (gateway.url(), gateway.ops_url(), gateway.process_id());
    let folder = gateway.folder.path().to_owned();
    let environment_of = |process_id: i32| {
        let environment = std::fs::read_to_string(format!("/proc/{process_id}/environ")).unwrap();
        environment.split_terminator('\0').map(str::to_owned).collect::<Vec<_>>()
    };
    let (own, given): (Vec<_>, Vec<_>) =
        environment_of(first).into_iter().partition(|entry| !entry.starts_with("OTEL_"));
    assert_eq!(given, ["OTEL_TRACES_SAMPLER_ARG=0.25"]);
    let names: Vec<&str> = own.iter().filter_map(|entry| entry.split('=').next()).collect();
    assert!(names.contains(&"PATH"), "{names:?}");
    assert!(names.iter().all(|name| ["PATH", "HOME", "TMPDIR"].contains(name)), "{names:?}");
    assert_eq!(std::fs::read_link(format!("/proc/{first}/cwd")).unwrap(), folder.canonicalize().unwrap());

    let send = client.post(format!("{url}/v1/notifications")).header("content-type", "application/json");
    let answer = send.body(r#"{"to":["bob"],"body":"hello"}"#).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    assert_eq!(pending(&client, &url).await, Some(1));
    assert_eq!(gateway.ended_early().await, None);

    let restart = gateway.restart().await.unwrap();
    assert_eq!(restart.exit_code, Some(0));
    assert!(restart.down > Duration::ZERO && restart.down < RESTART_PATIENCE, "{restart:?}");
    assert_eq!((gateway.url(), gateway.ops_url()), (url.clone(), ops_url.clone()));
    assert_ne!(gateway.process_id(), first);
    assert!(environment_of(gateway.process_id()).contains(&given[0]), "the successor has the variables");
    assert_eq!(pending(&client, &url).await, Some(1), "the successor has the log");
    assert_eq!(Source::Process(first).read().await, None);

    let used = Source::Process(gateway.process_id()).read().await.unwrap();
    let reported = Source::Ops { client: client.clone(), url: ops_url.clone() }.read().await.unwrap();
    assert!(used.rss.abs_diff(reported.rss) < 8 << 20, "{used:?} {reported:?}");
    let values = scrape(&client, &ops_url, &["gateway_ledger_imbalance"]).await.unwrap();
    assert_eq!(values["gateway_ledger_imbalance"], 0.0);

    gateway.stop().await.unwrap();
    assert_eq!(pending(&client, &url).await, None);
    assert!(!folder.exists(), "{}", folder.display());

    // Whoever starts one and forgets it leaves neither a process nor a directory behind.
    let forgotten = Spawned::start(&options).await.unwrap();
    let (process_id, folder) = (forgotten.process_id(), forgotten.folder.path().to_owned());
    drop(forgotten);
    assert_eq!(Source::Process(process_id).read().await, None);
    assert!(!folder.exists(), "{}", folder.display());

    // One that does not stop is killed.
    let mut stuck = Spawned::start(&memory(&[])).await.unwrap();
    signal(&stuck, Signal::SIGSTOP);
    let ended = stuck.running.terminate(Duration::from_millis(100)).await.unwrap();
    assert_eq!(ended.code(), None);
    let SetUpError(said) = stuck.stop().await.unwrap_err();
    assert!(said.starts_with("the gateway was asked to stop and ended with signal: 9 (SIGKILL)"), "{said}");

    // One that is killed by somebody else says so.
    let mut killed = Spawned::start(&memory(&[])).await.unwrap();
    signal(&killed, Signal::SIGKILL);
    let said = tokio::time::timeout(RESTART_PATIENCE, async {
        loop {
            match killed.ended_early().await {
                Some(said) => break said,
                None => tokio::task::yield_now().await,
            }
        }
    });
    let said = said.await.unwrap();
    assert!(said.starts_with("the gateway ended with signal: 9 (SIGKILL)"), "{said}");

    // One that cannot start is quoted.
    let SetUpError(said) = Spawned::start(&memory(&["--config", "/nowhere/gateway.toml"])).await.unwrap_err();
    assert!(said.contains("ended with exit status: 78 before it was ready:"), "{said}");
    assert!(said.contains("cannot read /nowhere/gateway.toml"), "{said}");
}

#[tokio::test]
async fn a_program_that_is_no_gateway_is_quoted() {
    // Programs of the system: one complains of its arguments, the other does not look at them.
    let start = async |program: &str| {
        let binary = Some(PathBuf::from(program));
        let SetUpError(said) = Spawned::start(&SpawnOptions { binary, ..memory(&[]) }).await.unwrap_err();
        said
    };
    let said = start("/usr/bin/env").await;
    assert!(said.starts_with("/usr/bin/env ended with exit status: "), "{said}");
    assert!(said.contains(" before it was ready:\n  ") && said.contains("listen"), "{said}");
    let said = start("/bin/true").await;
    assert_eq!(said, "/bin/true ended with exit status: 0 before it was ready, without a word");
}

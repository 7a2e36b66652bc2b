//! Random logs in a real stream: what two nodes write, one of which starts again now and then, is the same to each of them and
//! to one that comes later, and is what the model says.

use std::path::Path;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::machine_property::{PACE, compare_shown};
use super::script::{Operation, Writer, settings, timed_operation};
use crate::clock::Clock;
use crate::log::nats::tests::nats_server::NatsCluster;
use crate::log::nats::{Connection, ConnectionOptions, StreamSettings};
use crate::log::{Log, LogEntry, NatsLog, NatsOptions, NewEntry};
use crate::registry::tests::property::fixed_runner;

/// Logs that are tried; the others are tried without a stream.
const LOGS: u32 = 12;

/// One of the two starts again behind so many entries.
const RESTART_EVERY: usize = 40;

async fn open(server: &NatsCluster, stream: &str, copy: &Path) -> NatsLog {
    let timeout = Duration::from_secs(10);
    let connecting = ConnectionOptions { servers: server.urls(), timeout, ..ConnectionOptions::default() };
    let connection = Connection::open(&connecting, Clock::system()).await.unwrap();
    let options = NatsOptions {
        stream: StreamSettings {
            name: stream.to_owned(),
            replicas: 1,
            max_age: Duration::from_secs(3_600),
            least_age: None,
            max_bytes: 1 << 28,
        },
        copy_directory: copy.to_owned(),
        timeout,
        new_epoch: false,
        random: || uuid::Uuid::new_v4().as_u64_pair().1,
    };
    NatsLog::open(connection, options, Clock::system()).await.unwrap()
}

async fn shown(log: &NatsLog, count: usize) -> Vec<LogEntry> {
    let mut tail = log.tail(0).unwrap();
    let mut entries = Vec::new();
    while entries.len() < count {
        let more = tokio::time::timeout(Duration::from_secs(10), tail.next()).await;
        entries.extend(more.expect("it shows all").unwrap());
    }
    entries
}

#[tokio::test]
async fn what_two_nodes_write_is_to_each_and_to_a_third_what_the_model_says() {
    let server = NatsCluster::single().await;
    let scripts = (settings(PACE.lasting_s), vec((any::<bool>(), timed_operation(PACE)), 20..160));
    let mut runner = fixed_runner(LOGS);
    for index in 0..LOGS {
        let (settings, script) = scripts.new_tree(&mut runner).unwrap().current();
        let (stream, folder) = (format!("script-{index}"), tempfile::tempdir().unwrap());
        let copies = ["first", "second", "third"].map(|name| folder.path().join(name));
        let mut nodes = [open(&server, &stream, &copies[0]).await, open(&server, &stream, &copies[1]).await];
        let mut writer = Writer::default();
        let begin = std::iter::once((false, Operation::Settings(settings)));
        let operations = begin.chain(script.into_iter().map(|(by, (_, operation))| (by, operation)));
        let mut count = 0;
        for (by_the_second, operation) in operations {
            count += 1;
            let payload = writer.write(&operation, count as u64, Clock::system().now_ms());
            let node = &nodes[usize::from(by_the_second)];
            assert_eq!(node.append(vec![NewEntry::housekeeping(payload)]).await, [Ok(count as u64)]);
            if count % RESTART_EVERY == 0 {
                let [first, second] = nodes;
                drop(second);
                nodes = [first, open(&server, &stream, &copies[1]).await];
            }
        }
        let third = open(&server, &stream, &copies[2]).await;
        let entries = shown(&nodes[0], count).await;
        for node in [&nodes[1], &third] {
            assert_eq!(shown(node, count).await, entries, "log {index}");
        }
        compare_shown(&entries).unwrap();
    }
}

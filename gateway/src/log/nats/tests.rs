//! The log in a real nats-server: the contract of every log, and what is special about this one.

#[path = "../../../tests/black_box/nats_server.rs"]
#[expect(dead_code, reason = "the black-box tests use more of it")]
pub(crate) mod nats_server;

mod histories;
mod trimming;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use nats_server::NatsCluster;

use super::*;
use crate::log::contract::{self, With};
use crate::log::entry;

const NAME: &str = "test";

fn random() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1
}

async fn connect(servers: Vec<String>) -> Connection {
    let options =
        ConnectionOptions { servers, timeout: Duration::from_secs(10), ..ConnectionOptions::default() };
    Connection::open(&options, Clock::system()).await.unwrap()
}

fn options(copy: &tempfile::TempDir) -> NatsOptions {
    NatsOptions {
        stream: StreamSettings {
            name: NAME.to_owned(),
            replicas: 1,
            max_age: Duration::from_secs(3_600),
            least_age: None,
            max_bytes: 1 << 30,
        },
        copy_directory: copy.path().join("copy"),
        timeout: Duration::from_secs(10),
        new_epoch: false,
        random,
    }
}

async fn open(server: &NatsCluster, options: NatsOptions) -> Result<NatsLog, NatsError> {
    NatsLog::open(connect(server.urls()).await, options, Clock::system()).await
}

/// A log with its server and the directory of its copy.
async fn new_log() -> With<NatsLog, (NatsCluster, tempfile::TempDir)> {
    let (server, copy) = (NatsCluster::single().await, tempfile::tempdir().unwrap());
    let log = open(&server, options(&copy)).await.unwrap();
    With { log, guard: (server, copy) }
}

contract::log_contract_tests!(new_log().await);

fn payload(text: &str) -> NewEntry {
    NewEntry::ordinary(Bytes::copy_from_slice(text.as_bytes()))
}

async fn append(log: &dyn Log, text: &str) -> u64 {
    log.append(vec![payload(text)]).await.remove(0).unwrap()
}

async fn all(log: &dyn Log, count: usize) -> Vec<(u64, Bytes)> {
    let mut tail = log.tail(0).unwrap();
    let mut found = Vec::new();
    while found.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(10), tail.next()).await;
        found.extend(next.unwrap().unwrap().into_iter().map(|entry| (entry.number, entry.payload)));
    }
    found
}

#[tokio::test]
async fn what_two_nodes_append_both_see_in_one_order() {
    let server = NatsCluster::single().await;
    let copies = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = Arc::new(open(&server, options(&copies[0])).await.unwrap());
    let second = Arc::new(open(&server, options(&copies[1])).await.unwrap());
    let writing = [&first, &second].map(|log| {
        let log = Arc::clone(log);
        tokio::spawn(async move {
            for index in 0..50 {
                append(&*log, &format!("{index}")).await;
            }
        })
    });
    for task in writing {
        task.await.unwrap();
    }
    let seen = all(&*first, 100).await;
    assert_eq!(seen, all(&*second, 100).await);
    assert!(seen.iter().map(|(number, _)| *number).eq(1..=100));
    assert_eq!(first.state().await.unwrap().epoch, second.state().await.unwrap().epoch);
}

#[tokio::test]
async fn a_copy_is_kept_from_one_start_to_the_next_and_fetched_again_when_it_is_damaged() {
    let (server, copy) = (NatsCluster::single().await, tempfile::tempdir().unwrap());
    let log = open(&server, options(&copy)).await.unwrap();
    for index in 0..10 {
        append(&log, &format!("{index}")).await;
    }
    let before = all(&log, 10).await;
    let epoch = log.state().await.unwrap().epoch;
    drop(log);
    let log = open(&server, options(&copy)).await.unwrap();
    assert_eq!(log.shared.copy.reach(), (1, 10), "nothing was fetched yet");
    assert_eq!(append(&log, "more").await, 11);
    assert_eq!(all(&log, 11).await[..10], before);
    drop(log);
    let directory = copy.path().join("copy");
    tokio::time::timeout(Duration::from_secs(10), async {
        // Its writing thread still closes it.
        while std::fs::File::open(directory.join("lock")).unwrap().try_lock().is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    std::fs::write(directory.join("durable"), "damaged").unwrap();
    let log = open(&server, options(&copy)).await.unwrap();
    assert_eq!(all(&log, 11).await[..10], before);
    assert_eq!(log.state().await.unwrap().epoch, epoch);
}

#[tokio::test]
async fn a_directory_that_is_no_copy_is_left_alone() {
    let (server, copy) = (NatsCluster::single().await, tempfile::tempdir().unwrap());
    let directory = copy.path().join("copy");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("precious"), "data").unwrap();
    let Err(error) = open(&server, options(&copy)).await else { panic!("it must not open") };
    assert!(matches!(error, NatsError::NotACopy { .. }) && error.is_final(), "{error}");
    assert_eq!(std::fs::read_to_string(directory.join("precious")).unwrap(), "data");
}

#[tokio::test]
async fn a_stream_that_is_not_as_it_must_be_is_refused_with_what_differs() {
    let (server, copy) = (NatsCluster::single().await, tempfile::tempdir().unwrap());
    drop(open(&server, options(&copy)).await.unwrap());
    let refused = async |change: fn(&mut StreamSettings)| {
        let mut options = options(&copy);
        change(&mut options.stream);
        let Err(error) = open(&server, options).await else { panic!("it must not open") };
        assert!(error.is_final() && !error.to_string().contains('\n'), "{error}");
        error.to_string()
    };
    assert!(refused(|stream| stream.max_age *= 2).await.contains("nats.max_age"));
    let hours = |hours: u64| Some(Duration::from_secs(hours * 3_600));
    assert!(
        refused(|stream| stream.least_age = Some(Duration::from_secs(3_601))).await.contains("nats.max_age")
    );
    let mut kept_longer = options(&copy);
    (kept_longer.stream.max_age, kept_longer.stream.least_age) = (Duration::from_secs(60), hours(1));
    drop(open(&server, kept_longer).await.unwrap());
    assert!(refused(|stream| stream.max_bytes *= 2).await.contains("nats.max_bytes"));
    assert!(refused(|stream| stream.replicas = 3).await.contains("nats.replicas"));
}

#[tokio::test]
async fn what_came_twice_or_overtook_another_one_or_is_of_somebody_else_is_shown_as_nothing() {
    let (server, copy) = (NatsCluster::single().await, tempfile::tempdir().unwrap());
    let log = open(&server, options(&copy)).await.unwrap();
    let connection = connect(server.urls()).await;
    let send = async |id: Option<&str>, text: &'static str| {
        let mut message = PublishMessage::build().payload(Bytes::from_static(text.as_bytes()));
        if let Some(id) = id {
            message = message.header(fence::HEADER, id);
        }
        connection
            .jetstream()
            .send_publish(format!("{NAME}.entries"), message)
            .await
            .unwrap()
            .await
            .unwrap()
            .sequence
    };
    // As a writer would whose second entry was lost.
    send(Some("aa.1.1"), "first").await;
    send(Some("aa.1.3"), "third, too early").await;
    send(Some("aa.1.2"), "second").await;
    send(Some("aa.1.1"), "the first again").await;
    send(None, "of somebody else").await;
    send(Some("bb.1.1"), "third, again in a batch of its own").await;
    let shown = all(&log, 6).await;
    let nothing = entry::encode_tick();
    let texts: Vec<&[u8]> = shown.iter().map(|(_, payload)| &payload[..]).collect();
    assert_eq!(
        texts,
        [
            b"first",
            &nothing[..],
            b"second",
            &nothing[..],
            &nothing[..],
            b"third, again in a batch of its own"
        ]
    );
    // Whoever reads the copy after a restart judges the same.
    drop(log);
    let log = open(&server, options(&copy)).await.unwrap();
    send(Some("aa.1.5"), "fifth, too early").await;
    send(Some("aa.1.x"), "no number").await;
    assert_eq!(all(&log, 8).await[6..], [(7, nothing.clone()), (8, nothing)]);
}

/// A server stands still while a batch is appended, until the first question to it is not answered; then it goes on, or dies
/// with what it had not read. Returns what the log shows.
async fn appended_while_it_stands_still(dies: bool) -> Vec<Bytes> {
    let (mut server, copy) = (NatsCluster::single().await, tempfile::tempdir().unwrap());
    let log = Arc::new(open(&server, options(&copy)).await.unwrap());
    append(&*log, "before").await;
    server.servers()[0].pause();
    let appending = tokio::spawn({
        let log = Arc::clone(&log);
        async move { log.append((0..20).map(|index| payload(&index.to_string())).collect()).await }
    });
    assert!(log.state().await.is_err());
    if dies {
        server.servers()[0].restart().await;
    } else {
        server.servers()[0].resume();
    }
    let numbers: Vec<u64> = appending.await.unwrap().into_iter().map(Result::unwrap).collect();
    assert!(numbers.is_sorted() && numbers.len() == 20, "{numbers:?}");
    let head = append(&*log, "after").await;
    let shown = all(&*log, usize::try_from(head).unwrap()).await;
    for (index, number) in numbers.iter().enumerate() {
        assert_eq!(shown[*number as usize - 1].1, index.to_string(), "at {number}");
    }
    shown.into_iter().map(|(_, payload)| payload).filter(|payload| *payload != entry::encode_tick()).collect()
}

#[tokio::test]
async fn what_nobody_answered_counts_once_and_in_order_whether_it_got_there_or_not() {
    let whole: Vec<String> = ["before".to_owned()]
        .into_iter()
        .chain((0..20).map(|index| index.to_string()))
        .chain(["after".to_owned()])
        .collect();
    for dies in [false, true] {
        assert_eq!(appended_while_it_stands_still(dies).await, whole, "dies: {dies}");
    }
}

//! The log in a real nats-server: the contract of every log, and what is special about this one.

#[path = "../../../tests/black_box/nats_server.rs"]
#[expect(dead_code, reason = "the black-box tests use more of it")]
pub(crate) mod nats_server;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use nats_server::NatsCluster;

use super::*;
use crate::log::contract::{self, With};

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

#[tokio::test]
async fn whoever_begins_behind_what_was_dropped_judges_what_comes_late_like_the_others() {
    let server = NatsCluster::single().await;
    let copies = [(); 4].map(|()| tempfile::tempdir().unwrap());
    let old = open(&server, options(&copies[0])).await.unwrap();
    let connection = connect(server.urls()).await;
    let send = async |tag: &str| {
        let message = PublishMessage::build().payload(Bytes::from(tag.to_owned())).header(fence::HEADER, tag);
        let sent = connection.jetstream().send_publish(format!("{NAME}.entries"), message).await;
        sent.unwrap().await.unwrap().sequence
    };
    for tag in ["aa.1.1", "aa.1.2", "bb.7.1", "cc.1.1", "cc.1.3"] {
        send(tag).await;
    }
    // What is said before that is the sixth.
    old.trim(4).await;
    for tag in ["aa.1.1", "aa.1.2", "aa.1.3", "bb.6.1", "cc.1.3", "cc.1.2", "dd.1.2", "bb.8.1"] {
        send(tag).await;
    }
    let shown = async |log: &dyn Log| {
        let mut tail = log.tail(4).unwrap();
        let mut texts = Vec::new();
        while texts.len() < 10 {
            let more = tokio::time::timeout(Duration::from_secs(10), tail.next()).await.unwrap().unwrap();
            texts.extend(more.into_iter().map(|entry| String::from_utf8(entry.payload.to_vec()).unwrap()));
        }
        texts.retain(|text| text.contains('.'));
        texts
    };
    let counted = ["aa.1.3", "cc.1.2", "bb.8.1"];
    assert_eq!(shown(&old).await, counted);
    let young = open(&server, options(&copies[1])).await.unwrap();
    assert_eq!(young.state().await.unwrap().first, 5);
    assert_eq!(shown(&young).await, counted, "it never saw the first ones");
    // Whoever is killed between saying and dropping has said it.
    let (checkpoint, last) = old.shared.stream.last_checkpoint().await.unwrap();
    assert_eq!(checkpoint.through, 4);
    let in_an_hour_ms = Clock::system().now_ms() + 3_600_000;
    let later = fence::Checkpoint { through: 6, newest_ms: in_an_hour_ms, ..checkpoint };
    assert!(old.shared.stream.say_checkpoint(&connection, last, later.encode()).await.unwrap());
    let later_one = open(&server, options(&copies[2])).await.unwrap();
    assert_eq!(later_one.state().await.unwrap().first, 7);
    let next = later_one.tail(6).unwrap().next().await.unwrap().remove(0);
    assert_eq!((next.number, next.timestamp_ms), (7, in_an_hour_ms), "time goes on from where it was");
    assert!(!old.shared.stream.say_checkpoint(&connection, last, later.encode()).await.unwrap());
    drop(young);
    let again = open(&server, options(&copies[1])).await.unwrap();
    send("bb.8.1").await;
    send("bb.8.2").await;
    let mut tail = again.tail(14).unwrap();
    let mut texts = Vec::new();
    while texts.last() != Some(&Bytes::from_static(b"bb.8.2")) {
        texts.extend(tail.next().await.unwrap().into_iter().map(|entry| entry.payload));
    }
    assert!(!texts.contains(&Bytes::from_static(b"bb.8.1")), "nor after a restart with its copy: {texts:?}");
}

#[tokio::test]
async fn of_a_stream_that_became_another_one_nothing_is_dropped() {
    let mut server = NatsCluster::single().await;
    let copies = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let old = open(&server, options(&copies[0])).await.unwrap();
    old.append(vec![payload("of before"); 10]).await;
    old.shared.copied(10).await.unwrap();
    server.servers()[0].kill();
    server.servers()[0].forget_everything();
    server.servers()[0].restart().await;
    let young = open(&server, options(&copies[1])).await.unwrap();
    young.append(vec![payload("of now"); 20]).await;
    assert!(upkeep::trim(&old.shared, 10).await.is_err(), "it is not its stream any more");
    assert_eq!(young.shared.stream.last_checkpoint().await, Ok((fence::Checkpoint::default(), 0)));
    assert_eq!(young.state().await.unwrap().first, 1);
}

#[tokio::test]
async fn a_stream_that_grows_meanwhile_is_trimmed() {
    let (server, copy) = (NatsCluster::single().await, tempfile::tempdir().unwrap());
    let log = Arc::new(open(&server, options(&copy)).await.unwrap());
    let appending = tokio::spawn({
        let log = Arc::clone(&log);
        async move { while log.append(vec![payload("more"); 5]).await.iter().all(Result::is_ok) {} }
    });
    for through in (10..200).step_by(10) {
        log.shared.copied(through).await.unwrap();
        upkeep::trim(&log.shared, through).await.unwrap();
        assert_eq!(log.state().await.unwrap().first, through + 1);
    }
    appending.abort();
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_is_overlooked_and_one_of_a_later_build_refused() {
    let (server, copy) = (NatsCluster::single().await, tempfile::tempdir().unwrap());
    let log = open(&server, options(&copy)).await.unwrap();
    append(&log, "first").await;
    let connection = connect(server.urls()).await;
    let impossible = fence::Checkpoint { through: u64::MAX, ..fence::Checkpoint::default() };
    assert!(log.shared.stream.say_checkpoint(&connection, 0, impossible.encode()).await.unwrap());
    drop(log);
    let log = open(&server, options(&copy)).await.unwrap();
    assert_eq!(log.state().await.unwrap().first, 1);
    let (_, last) = log.shared.stream.last_checkpoint().await.unwrap();
    assert!(log.shared.stream.say_checkpoint(&connection, last, Bytes::from_static(&[9; 17])).await.unwrap());
    drop(log);
    let once = NatsOptions { timeout: Duration::ZERO, ..options(&copy) };
    let Err(error) = open(&server, once).await else { panic!("it would judge otherwise than others") };
    assert!(error.to_string().contains("newer gateway"), "{error}");
}

#[tokio::test]
async fn an_epoch_that_was_said_long_ago_is_said_again_before_the_stream_drops_it() {
    let (server, copy) = (NatsCluster::single().await, tempfile::tempdir().unwrap());
    let declaring = NatsOptions { new_epoch: true, ..options(&copy) };
    let log = open(&server, declaring).await.unwrap();
    let (epoch, told) = (log.shared.epoch, log.shared.known().told.unwrap());
    drop(log);
    let half_the_time_later = Clock::system().now_us() + 1_800 * 1_000_000;
    let (clock, _hand) = Clock::manual(half_the_time_later);
    let log = NatsLog::open(connect(server.urls()).await, options(&copy), clock).await.unwrap();
    log.shared.copied(told.number + 1).await.unwrap();
    let standing = log.shared.stream.standing().await.unwrap();
    assert_eq!(standing.epoch, epoch, "the same one");
    assert_eq!(standing.told.unwrap().number, told.number + 1);
}

#[tokio::test]
async fn a_stream_that_reached_its_limit_is_full_until_it_is_trimmed() {
    let (server, copy) = (NatsCluster::single().await, tempfile::tempdir().unwrap());
    let mut small = options(&copy);
    small.stream.max_bytes = 256 * 1024;
    let log = open(&server, small).await.unwrap();
    let filling = NewEntry::housekeeping(Bytes::from(vec![b'x'; 31 * 1024]));
    let results = log.append(vec![filling; 12]).await;
    let taken = results.iter().take_while(|result| result.is_ok()).count();
    assert_eq!(taken, 8, "{results:?}");
    assert!(results[taken..].iter().all(|result| *result == Err(AppendError::Full)), "{results:?}");
    log.state().await.unwrap();
    assert_eq!(log.append(vec![payload("ordinary")]).await, [Err(AppendError::Full)]);
    let acks = NewEntry::housekeeping(entry::encode_acks([("bob", 0, 1)].into_iter()));
    assert_eq!(log.append(vec![acks]).await, [Err(AppendError::Full)], "they come again");
    let tick = NewEntry::housekeeping(entry::encode_tick());
    assert!(log.append(vec![tick]).await[0].is_ok(), "time has to go on");
    log.trim(5).await;
    log.state().await.unwrap();
    append(&log, "there is room again").await;
}

#[tokio::test]
async fn when_the_stream_loses_what_a_node_has_seen_the_tail_says_so_and_a_new_epoch_begins() {
    let copies = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut cluster = NatsCluster::single().await;
    let connection = connect(cluster.urls()).await;
    let open_at = async |copy: &tempfile::TempDir| {
        NatsLog::open(connection.clone(), options(copy), Clock::system()).await
    };
    let log = open_at(&copies[0]).await.unwrap();
    let epoch = log.state().await.unwrap().epoch;
    append(&log, "safe").await;
    let mut tail = log.tail(0).unwrap();
    tail.next().await.unwrap();
    // A backup of the server's files, an entry more, and the backup comes back.
    let server = &mut cluster.servers()[0];
    let (store, backup) = (server.store(), tempfile::tempdir().unwrap());
    let copy_tree = |from: &std::path::Path, to: &std::path::Path| {
        let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(copied.success());
    };
    server.kill();
    copy_tree(&store, &backup.path().join("store"));
    server.restart().await;
    append(&log, "lost").await;
    assert_eq!(tail.next().await.unwrap()[0].number, 2);
    server.kill();
    server.forget_everything();
    copy_tree(&backup.path().join("store"), &store);
    server.restart().await;
    // Nobody knows yet whether it comes back, and nothing gets a number meanwhile that meant something else.
    while !matches!(log.state().await, Err(ReadError(why)) if why.contains("ends before")) {}
    let (ended, meanwhile) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(60), tail.next()),
        log.append(vec![payload("meanwhile")])
    );
    assert!(matches!(ended, Ok(Err(TailError::Changed(_)))), "{ended:?}");
    assert!(matches!(meanwhile[0], Err(AppendError::Unavailable(_))), "{meanwhile:?}");
    drop((tail, log));
    let log = open_at(&copies[0]).await.unwrap();
    let state = log.state().await.unwrap();
    assert_ne!(state.epoch, epoch, "positions from before mean nothing");
    assert_eq!(state.head, 2, "the epoch entry has the number of the one that was lost");
    let shown = all(&log, 2).await;
    assert_eq!((&shown[0].1[..], entry::epoch_bits(&shown[1].1).is_some()), (&b"safe"[..], true));
    let other = open_at(&copies[1]).await.unwrap();
    assert_eq!(other.state().await.unwrap().epoch, state.epoch, "for whoever comes later, too");
}

#[tokio::test]
async fn an_entry_that_is_another_one_than_it_was_is_found_below_the_head_too() {
    let (mut server, copy, backup) =
        (NatsCluster::single().await, tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let connection = connect(server.urls()).await;
    let log = NatsLog::open(connection.clone(), options(&copy), Clock::system()).await.unwrap();
    let epoch = log.state().await.unwrap().epoch;
    let send = async |id: &str, text: &'static str| {
        let message =
            PublishMessage::build().payload(Bytes::from_static(text.as_bytes())).header(fence::HEADER, id);
        let sent = connection.jetstream().send_publish(format!("{NAME}.entries"), message).await;
        sent.map_err(drop)?.await.map(|kept| kept.sequence).map_err(drop)
    };
    assert_eq!(send("aa.1.1", "safe").await, Ok(1));
    let copy_tree = |from: &std::path::Path, to: &std::path::Path| {
        assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    };
    let store = server.servers()[0].store();
    server.servers()[0].kill();
    copy_tree(&store, &backup.path().join("store"));
    server.servers()[0].restart().await;
    while send("bb.1.1", "shown, and taken back").await.is_err() {}
    while send("cc.1.1", "the same").await.is_err() {}
    let head = log.state().await.unwrap().head;
    log.shared.copied(head).await.unwrap();
    let mut tail = log.tail(head).unwrap();
    server.servers()[0].kill();
    server.servers()[0].forget_everything();
    copy_tree(&backup.path().join("store"), &store);
    server.servers()[0].restart().await;
    // Everything is as it was, but for what stands in the middle; an answer that was lost may have made it come twice.
    for number in 2..head {
        while connection
            .jetstream()
            .get_stream(NAME)
            .await
            .is_ok_and(|stream| stream.cached_info().state.last_sequence < number)
        {
            let _ = send("dd.1.1", "what it had instead").await;
        }
    }
    while send("cc.1.1", "the same").await.is_err() {}
    let ended = tokio::time::timeout(Duration::from_secs(60), tail.next()).await.unwrap();
    assert!(matches!(ended, Err(TailError::Changed(_))), "{ended:?}");
    drop((tail, log));
    let log = NatsLog::open(connection.clone(), options(&copy), Clock::system()).await.unwrap();
    assert_ne!(log.state().await.unwrap().epoch, epoch, "positions from before mean nothing");
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

//! What is dropped of the stream, what is said before, and a stream that has no room.

use super::*;

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
    let acks = NewEntry::acks(entry::encode_acks([("bob", 0, 1)].into_iter()));
    assert_eq!(log.append(vec![acks]).await, [Err(AppendError::Full)], "they come again");
    let tick = NewEntry::housekeeping(entry::encode_tick());
    assert!(log.append(vec![tick]).await[0].is_ok(), "time has to go on");
    log.trim(5).await;
    log.state().await.unwrap();
    append(&log, "there is room again").await;
}

//! A stream that loses what was seen, or has another entry where it had one.

use super::*;

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
    let backup = cluster.servers()[0].back_up().await;
    append(&log, "lost").await;
    assert_eq!(tail.next().await.unwrap()[0].number, 2);
    cluster.servers()[0].go_back_to(&backup).await;
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
    let (mut server, copy) = (NatsCluster::single().await, tempfile::tempdir().unwrap());
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
    let backup = server.servers()[0].back_up().await;
    while send("bb.1.1", "shown, and taken back").await.is_err() {}
    while send("cc.1.1", "the same").await.is_err() {}
    let head = log.state().await.unwrap().head;
    log.shared.copied(head).await.unwrap();
    let mut tail = log.tail(head).unwrap();
    server.servers()[0].go_back_to(&backup).await;
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

//! A mailbox without a session: pages over HTTP are what a socket would have got, and acks over HTTP count.

use gateway::clock::Clock;
use gateway::config::LogStore;
use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, Place, SOME_TIME_US, segment, within};
use crate::process_harness::Folder;

async fn page(gateway: &Gateway, user: &str, query: &str) -> Value {
    let answer = gateway.get(&format!("/v1/users/{}/notifications?{query}", segment(user))).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("content-type"), "application/json");
    answer.body
}

fn texts(page: &Value) -> Vec<&str> {
    let frames = page["frames"].as_array().expect("a page has frames");
    frames.iter().map(|frame| frame["body"].as_str().unwrap_or_else(|| panic!("no text: {frame}"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailbox_is_read_page_by_page() {
    let gateway = Gateway::start().await;
    for text in ["a", "b", "c", "d", "e"] {
        gateway.send_text("bob", text).await;
    }
    let last = gateway.user("bob").await.body["position"].clone();
    let first = page(&gateway, "bob", "limit=2").await;
    assert_eq!((texts(&first), &first["more"], &first["head"]), (vec!["a", "b"], &json!(true), &last));
    assert_eq!(first["position"], first["frames"][1]["position"]);
    let after = |page: &Value| format!("limit=2&after={}", page["position"].as_str().expect("a position"));
    let second = page(&gateway, "bob", &after(&first)).await;
    assert_eq!((texts(&second), &second["more"]), (vec!["c", "d"], &json!(true)));
    let third = page(&gateway, "bob", &after(&second)).await;
    assert_eq!((texts(&third), &third["more"], &third["position"]), (vec!["e"], &json!(false), &last));
    let end = page(&gateway, "bob", &after(&third)).await;
    assert_eq!((texts(&end), &end["more"], &end["position"]), (vec![], &json!(false), &last));

    assert_eq!(texts(&page(&gateway, "bob", "").await), ["a", "b", "c", "d", "e"]);
    assert_eq!(texts(&page(&gateway, "bob", "after=now").await), [""; 0]);
    assert_eq!(gateway.user("bob").await.body["sessions"], 0, "reading holds no session");
    assert_eq!(page(&gateway, "never seen", "").await["frames"], json!([]));
    assert_eq!(gateway.metric("gateway_known_users").await, 1.0, "asking makes nobody known");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_holds_the_frames_that_a_socket_gets() {
    let (clock, hand) = Clock::manual(SOME_TIME_US);
    let gateway = Gateway::start_with_clock(clock, |_| {}).await;
    let start = gateway.dial("bob").acks_itself().open().await.position();
    gateway.until_sessions("bob", 0).await;
    let data = json!({"z": [1, {"ü": null}], "a": "\"quoted\"\n"});
    gateway
        .send(json!({"to": ["bob"], "from": "alice", "title": "t", "body": "b", "data": data}))
        .await
        .accepted();
    gateway.send(json!({"to": ["bob"], "ttl_seconds": 1})).await.accepted();
    let withdrawn = gateway.send(json!({"to": ["bob"]})).await.accepted();
    gateway.withdraw(&withdrawn).await;
    gateway.send_text("bob", "behind the hole").await;
    gateway.send(json!({"to": ["bob"], "ttl_seconds": 1})).await.accepted();
    hand.set(SOME_TIME_US + 3_000_000);
    gateway.until_metric("gateway_mailbox_expired_total", 2.0).await;

    let read = page(&gateway, "bob", &format!("after={start}")).await;
    let frames = read["frames"].as_array().expect("a page has frames");
    let kinds: Vec<_> = frames.iter().map(|frame| frame["type"].as_str().expect("a type")).collect();
    assert_eq!(kinds, ["notification", "gap", "notification", "gap"]);
    assert_eq!((&frames[1]["reason"], &frames[1]["count"]), (&json!("expired"), &json!(2)));
    assert_eq!(read["position"], frames[3]["until"], "a gap moves the position, too");

    let mut socket = gateway.dial("bob").acks_itself().after(&start).open().await;
    for frame in frames {
        assert_eq!(socket.next_event().await, *frame);
    }
    drop(socket);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_of_another_history_is_answered_with_a_gap_and_what_waits() {
    let gateway = Gateway::start().await;
    gateway.send_text("bob", "waits").await;
    let foreign = "0000000000000-7";
    let read = page(&gateway, "bob", &format!("after={foreign}")).await;
    let gap = &read["frames"][0];
    assert_eq!(
        (&gap["type"], &gap["reason"], &gap["after"]),
        (&json!("gap"), &json!("epoch"), &json!(foreign))
    );
    assert_eq!(read["frames"][1]["body"], "waits");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_over_http_moves_the_acked_position_and_never_back() {
    let gateway = Gateway::start().await;
    let mut sent = Vec::new();
    for text in ["a", "b", "c"] {
        sent.push(gateway.send_text("bob", text).await.position());
    }
    let acked = |body: &Value| Place::of(&body["acked"]).number;
    let before = gateway.user("bob").await.body;
    assert_eq!(before["pending"], 3);
    assert!(acked(&before) < Place::of(&json!(sent[0])).number, "nothing is acked: {before}");

    gateway.ack("bob", &sent[1]).await;
    let known = gateway.user("bob").await.body;
    assert_eq!((&known["pending"], &known["acked"]), (&json!(1), &json!(sent[1])));
    assert_eq!(texts(&page(&gateway, "bob", "").await), ["c"], "a page begins behind what is acked");
    assert_eq!(texts(&page(&gateway, "bob", "after=start").await), ["a", "b", "c"], "history can be read");

    gateway.ack("bob", &sent[0]).await;
    gateway.ack("bob", &sent[2]).await;
    let known = gateway.user("bob").await.body;
    assert_eq!(known["pending"], 0);
    assert!(acked(&known) >= Place::of(&json!(sent[2])).number, "{known}");
    let welcome = gateway.listen("bob").await.welcome().clone();
    assert!(Place::of(&welcome["position"]).number >= acked(&known), "a session begins behind what is acked");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_over_http_leaves_what_lies_before_its_reading() {
    let gateway = Gateway::start().await;
    let mut sent = Vec::new();
    for text in ["a", "b", "c"] {
        sent.push(gateway.send_text("bob", text).await.position());
    }
    let ack = json!({"position": sent[2], "after": sent[1]});
    let answer = gateway.sender().post("/v1/users/bob/acks", &ack).await;
    assert_eq!((answer.status, &answer.body), (202, &ack));
    within("one to be acked", async { while gateway.user("bob").await.body["pending"] != 2 {} }).await;
    assert_eq!(texts(&page(&gateway, "bob", "").await), ["a", "b", "c"], "behind what is acked in one piece");
    // A beginning behind the end covers nothing; one that is no position of this log could mean anything.
    let nothing = json!({"position": sent[0], "after": sent[1]});
    assert_eq!(gateway.sender().post("/v1/users/bob/acks", &nothing).await.status, 202);
    let epoch = "0000000000000-0";
    for (after, field) in [(json!("7"), "after"), (json!(7), "after"), (json!(epoch), "after")] {
        let refused = json!({"position": sent[2], "after": after});
        gateway.sender().post("/v1/users/bob/acks", &refused).await.refused(400, Some(field));
    }
    gateway.ack("bob", &sent[2]).await;
    assert_eq!(gateway.user("bob").await.body["pending"], 0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_of_what_never_was_is_refused() {
    let gateway = Gateway::start().await;
    let known = Place::of(&gateway.send_text("bob", "waits").await.body["position"]);
    let ack = |body: Value| {
        let sender = gateway.sender();
        async move { sender.post("/v1/users/bob/acks", &body).await }
    };
    for position in [
        format!("{}-{}", known.epoch, known.number + 1_000),
        format!("{}-{}", known.epoch, u64::MAX),
        format!("0000000000000-{}", known.number),
        "7".to_owned(),
        "start".to_owned(),
        String::new(),
    ] {
        println!("refused: {position}");
        ack(json!({"position": position})).await.refused(400, Some("position"));
    }
    ack(json!({"position": 7})).await.refused(400, Some("position"));
    ack(json!({})).await.refused(400, Some("position"));
    ack(json!({"position": "x", "surprise": 1})).await.refused(400, Some("surprise"));
    ack(json!([])).await.refused(400, None);
    assert_eq!(gateway.user("bob").await.body["pending"], 1);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_question_is_refused_by_field() {
    let gateway = Gateway::start().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=many", "limit"),
        ("after=7", "after"),
        ("after=", "after"),
        ("after=START", "after"),
    ] {
        let answer: Answer = gateway.get(&format!("/v1/users/bob/notifications?{query}")).await;
        println!("refused: {query}");
        answer.refused(400, Some(field));
    }
    page(&gateway, "bob", "limit=1").await;
    page(&gateway, "bob", "limit=1000").await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_leaves_the_recent_frames_while_a_page_is_put_together_is_no_loss() {
    const WAITING: usize = 200;
    let folder = Folder::new();
    let directory = folder.path().to_owned();
    let gateway = Gateway::start_with(|config| {
        config.log.store = LogStore::Disk(directory);
        config.frames.cache.0 = 256 * 1024;
    })
    .await;
    let text = "x".repeat(1_000);
    let to = |user: &str| json!({"to": [user], "body": text});
    let (sender, flood): (_, Value) = (gateway.sender(), (0..100).map(|_| to("somebody else")).collect());
    let flooding = tokio::spawn(async move {
        loop {
            sender.post("/v1/notifications/batch", &flood).await.accepted();
        }
    });
    let waiting: Value = (0..WAITING / 10).map(|_| to("bob")).collect();
    for round in 1..=10 {
        gateway.sender().post("/v1/notifications/batch", &waiting).await.accepted();
        for _ in 0..10 {
            let page = page(&gateway, "bob", "limit=1000").await;
            assert_eq!(texts(&page).len(), round * WAITING / 10, "everything waits, so everything is there");
        }
    }
    flooding.abort();
    // Ended for good: a request of its own would still count as active.
    assert!(flooding.await.is_err_and(|error| error.is_cancelled()));
    gateway.stop().await;
}

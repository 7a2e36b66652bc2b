//! Topics: who is subscribed when a notification comes, what full means, and everybody.

use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Answer, Gateway, Receiver};

async fn topics_of(gateway: &Gateway, user: &str) -> Value {
    gateway.get(&format!("/v1/users/{user}/topics")).await.body["topics"].clone()
}

fn to_topic(topic: &str, text: &str) -> Value {
    json!({"topic": topic, "body": text})
}

/// The next frame of a socket that is no heartbeat. Such a frame has no position, so the receiver cannot follow it.
async fn broadcast(receiver: &mut Receiver) -> Value {
    loop {
        match receiver.next_message().await {
            Some(Message::Text(text)) if !text.contains("heartbeat") => {
                return serde_json::from_str(text.as_str()).expect("a frame is JSON");
            }
            Some(Message::Text(_) | Message::Ping(_)) => {}
            other => panic!("a frame was expected: {other:?}"),
        }
    }
}

#[track_caller]
fn expect_topic(answer: &Answer, topic: &str, subscribers: u64) {
    assert_eq!((answer.status, &answer.body), (200, &json!({"topic": topic, "subscribers": subscribers})));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_joins_and_leaves_and_doing_so_twice_changes_nothing() {
    let gateway = Gateway::start().await;
    expect_topic(&gateway.get("/v1/topics/news").await, "news", 0);
    assert_eq!(topics_of(&gateway, "bob").await, json!([]));
    for (user, subscribers) in [("bob", 1), ("bob", 1), ("a/b ü", 2)] {
        expect_topic(&gateway.subscriber(Method::PUT, "news", user).await, "news", subscribers);
    }
    expect_topic(&gateway.subscriber(Method::PUT, "a/b *", "bob").await, "a/b *", 1);
    assert_eq!(topics_of(&gateway, "bob").await, json!(["a/b *", "news"]));
    expect_topic(&gateway.get("/v1/topics/news").await, "news", 2);
    assert_eq!(gateway.metric("gateway_topics").await, 2.0);
    assert_eq!(gateway.metric("gateway_topic_memberships").await, 3.0);

    for _ in 0..2 {
        expect_topic(&gateway.subscriber(Method::DELETE, "news", "bob").await, "news", 1);
    }
    expect_topic(&gateway.subscriber(Method::DELETE, "news", "never joined").await, "news", 1);
    assert_eq!(topics_of(&gateway, "bob").await, json!(["a/b *"]));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_users_join_and_leave_in_one_change() {
    let gateway = Gateway::start().await;
    let joined = gateway.subscribers(Method::PUT, "news", &json!(["bob", "carol", "bob", "dave"])).await;
    expect_topic(&joined, "news", 3);
    let left = gateway.subscribers(Method::DELETE, "news", &json!(["carol", "never joined", "carol"])).await;
    expect_topic(&left, "news", 2);
    let many: Value = (0..10_000).map(|number| json!(format!("user {number}"))).collect();
    expect_topic(&gateway.subscribers(Method::PUT, "crowd", &many).await, "crowd", 10_000);
    let sent = gateway.send(to_topic("crowd", "hello")).await.accepted();
    assert_eq!(sent.body["recipients"], 10_000);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_goes_to_those_who_are_subscribed_when_it_comes() {
    let gateway = Gateway::start().await;
    let mut bob = gateway.dial("bob").acks_itself().open().await;
    let nobody = gateway.send(to_topic("news", "too early")).await.accepted();
    assert_eq!((&nobody.body["recipients"], &nobody.body["online"]), (&json!(0), &json!(0)));

    gateway.subscribers(Method::PUT, "news", &json!(["bob", "carol"])).await;
    let both = gateway.send(to_topic("news", "both")).await.accepted();
    assert_eq!((&both.body["recipients"], &both.body["online"]), (&json!(2), &json!(1)));
    gateway.subscriber(Method::DELETE, "news", "bob").await;
    gateway.subscriber(Method::PUT, "news", "dave").await;
    gateway.send(to_topic("news", "without bob")).await.accepted();
    gateway.send_text("bob", "to bob").await;

    let notification = bob.notification().await;
    assert_eq!((&notification["body"], &notification["topic"]), (&json!("both"), &json!("news")));
    assert_eq!(notification["position"], both.body["position"]);
    assert_eq!(bob.texts(1).await, ["to bob"]);
    let mut carol = gateway.dial("carol").acks_itself().open().await;
    assert_eq!(carol.texts(2).await, ["both", "without bob"]);
    let mut dave = gateway.dial("dave").acks_itself().open().await;
    assert_eq!(dave.texts(1).await, ["without bob"], "not what came before dave");

    for user in ["bob", "carol"] {
        gateway.ack(user, &both.position()).await;
    }
    let outcome = gateway.until_outcome(&both, "acked", 2).await;
    let mut recipients = outcome["recipients"].as_array().expect("a list").clone();
    recipients.sort_by_key(|one| one["user"].as_str().map(str::to_owned));
    let acked = |user: &str| json!({"user": user, "state": "acked"});
    assert_eq!(recipients, [acked("bob"), acked("carol")], "those of then, whoever is subscribed now");
    let sent = r#"gateway_notifications_total{result="accepted",target="topic"}"#;
    assert_eq!(gateway.metric(sent).await, 3.0);
    assert_eq!(gateway.metric(r#"gateway_fanout_recipients_sum{target="topic"}"#).await, 1.0);
    drop((bob, carol, dave));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_is_who_is_connected_now() {
    let gateway = Gateway::start().await;
    let mut bob = gateway.listen("bob").await;
    let mut phone = gateway.listen("carol").await;
    let mut stream = gateway.stream("carol").await;
    let before = bob.position();
    let sent = gateway.send(to_topic("*", "maintenance at noon")).await.accepted();
    assert_eq!(
        (&sent.body["recipients"], &sent.body["online"]),
        (&json!(0), &json!(2)),
        "no mailbox took it; users are counted, not sessions"
    );

    for frame in [broadcast(&mut bob).await, broadcast(&mut phone).await] {
        assert_eq!((&frame["body"], &frame["topic"]), (&json!("maintenance at noon"), &json!("*")));
        assert_eq!((frame.get("position"), frame.get("prev")), (None, None), "it is in no mailbox: {frame}");
        assert_eq!(frame["id"], sent.body["id"]);
    }
    let event = stream.event().await;
    assert_eq!((event.kind.as_str(), event.id), ("notification", None), "an id would move the position");
    assert_eq!(event.frame["body"], "maintenance at noon");

    let mut late = gateway.listen_after("bob", &before).await;
    gateway.send_text("bob", "next").await;
    assert_eq!(late.texts(1).await, ["next"]);
    assert_eq!(gateway.user("dave").await.body["pending"], 0);
    let counted = r#"gateway_notifications_total{result="accepted",target="everybody"}"#;
    assert_eq!(gateway.metric(counted).await, 1.0);
    drop((bob, phone, stream, late));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_topic_and_a_user_with_too_many_topics_take_no_more() {
    let gateway = Gateway::start_with(|config| {
        config.topics.max_subscribers = 2;
        config.topics.max_per_user = 2;
    })
    .await;
    let full = gateway.subscribers(Method::PUT, "news", &json!(["bob", "carol", "dave"])).await;
    let refused = json!([{"user": "dave", "reason": "topic_full"}]);
    assert_eq!((full.status, &full.body["subscribers"], &full.body["refused"]), (200, &json!(2), &refused));
    gateway.subscriber(Method::PUT, "news", "dave").await.refused(507, None);
    expect_topic(&gateway.subscriber(Method::PUT, "news", "bob").await, "news", 2);

    expect_topic(&gateway.subscriber(Method::PUT, "weather", "bob").await, "weather", 1);
    gateway.subscriber(Method::PUT, "sports", "bob").await.refused(507, None);
    let busy = gateway.subscribers(Method::PUT, "sports", &json!(["bob", "erin"])).await;
    let refused = json!([{"user": "bob", "reason": "user_full"}]);
    assert_eq!((&busy.body["subscribers"], &busy.body["refused"]), (&json!(1), &refused));
    assert_eq!(topics_of(&gateway, "bob").await, json!(["news", "weather"]));

    // One change may refuse for both reasons: each user hears of the one that stood in the way.
    let both = gateway.subscribers(Method::PUT, "music", &json!(["bob", "carol", "dave", "erin"])).await;
    let refused = json!([{"user": "bob", "reason": "user_full"}, {"user": "erin", "reason": "topic_full"}]);
    assert_eq!((&both.body["subscribers"], &both.body["refused"]), (&json!(2), &refused));

    gateway.subscriber(Method::DELETE, "news", "carol").await;
    gateway.subscriber(Method::DELETE, "music", "dave").await;
    expect_topic(&gateway.subscriber(Method::PUT, "news", "dave").await, "news", 2);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_user_is_nowhere_any_more() {
    let gateway = Gateway::start().await;
    gateway.subscribers(Method::PUT, "news", &json!(["bob", "carol"])).await;
    let sent = gateway.send(to_topic("news", "hello")).await.accepted();
    let mut session = gateway.dial("bob").acks_itself().open().await;
    assert_eq!(session.texts(1).await, ["hello"]);

    let forgotten = gateway.ask(Method::DELETE, "/v1/users/bob").await;
    assert_eq!((forgotten.status, &forgotten.body), (204, &json!("")));
    assert_eq!(session.expect_closed().await, 4010);
    gateway.until_sessions("bob", 0).await;
    assert_eq!(topics_of(&gateway, "bob").await, json!([]));
    expect_topic(&gateway.get("/v1/topics/news").await, "news", 1);
    let known = gateway.user("bob").await.body;
    assert_eq!((&known["pending"], &known["sessions"]), (&json!(0), &json!(0)));
    let outcome = gateway.outcome(&sent).await.body;
    assert_eq!((&outcome["counts"]["withdrawn"], &outcome["counts"]["pending"]), (&json!(1), &json!(1)));

    let again = gateway.send(to_topic("news", "again")).await.accepted();
    assert_eq!(again.body["recipients"], 1, "only carol");
    let nobody = gateway.ask(Method::DELETE, "/v1/users/never-seen").await;
    assert_eq!(nobody.status, 204);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_break_a_rule_are_refused_by_field_and_change_nothing() {
    let gateway = Gateway::start().await;
    let long = "x".repeat(257);
    for topic in ["*", "a\nb", &long] {
        for method in [Method::PUT, Method::DELETE] {
            gateway.subscriber(method.clone(), topic, "bob").await.refused(400, Some("topic"));
            gateway.subscribers(method, topic, &json!(["bob"])).await.refused(400, Some("topic"));
        }
    }
    gateway.get("/v1/topics/*").await.refused(400, Some("topic"));
    gateway.subscriber(Method::PUT, "news", "a\nb").await.refused(400, Some("user"));
    let many: Value = (0..10_001).map(|number| json!(number.to_string())).collect();
    let item = |index: usize| format!("[{index}]");
    for (users, field) in [
        (json!([]), None),
        (many, None),
        (json!({"users": ["bob"]}), None),
        (json!("bob"), None),
        (json!(["bob", ""]), Some(item(1))),
        (json!(["bob", "a\nb"]), Some(item(1))),
        (json!(["bob", "carol", 7]), Some(item(2))),
    ] {
        for method in [Method::PUT, Method::DELETE] {
            gateway.subscribers(method, "news", &users).await.refused(400, field.as_deref());
        }
    }
    let text = gateway.request(Method::PUT, "/v1/topics/news/subscribers").body(r#"["bob"]"#);
    Answer::of(text).await.refused(415, None);
    for (topic, field) in [("", "topic"), (long.as_str(), "topic"), ("a\u{85}", "topic"), ("..", "topic")] {
        gateway.send(to_topic(topic, "hello")).await.refused(400, Some(field));
    }
    gateway.send(json!({"topic": "news", "to": ["bob"]})).await.refused(400, Some("to"));
    assert_eq!(gateway.metric("gateway_topic_memberships").await, 0.0);
    gateway.stop().await;
}

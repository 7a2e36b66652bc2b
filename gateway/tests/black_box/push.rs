//! Live delivery: who gets what, in which order, and who is told to leave.

use serde_json::json;

use crate::harness::Gateway;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_session_of_a_user_gets_it_and_nobody_else_does() {
    let gateway = Gateway::start().await;
    let mut phone = gateway.listen("bob").await;
    let mut desk = gateway.listen("bob").await;
    let mut other = gateway.listen("carol").await;

    let answer = gateway.send(json!({"to": ["bob"], "title": "Hello"})).await.accepted();
    assert_eq!((&answer.body["recipients"], &answer.body["online"]), (&json!(1), &json!(1)));
    for receiver in [&mut phone, &mut desk] {
        let notification = receiver.notification().await;
        assert_eq!(notification["title"], "Hello");
        assert_eq!(notification["id"], answer.body["id"]);
        assert_eq!(notification["position"], answer.body["position"]);
    }
    gateway.send_text("carol", "for carol").await;
    assert_eq!(other.notification().await["body"], "for carol");

    phone.close().await;
    drop((desk, other));
    gateway.stop().await;
}

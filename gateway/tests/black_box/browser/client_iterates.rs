//! A loop over the client: items in order, gaps in their places, acks as the loop goes on.

use serde_json::{Value, json};

use super::page::{Client, Page};
use super::scripted::{Scripted, at};
use crate::harness::Gateway;

/// What the iterator has given so far, shortly: a text, or the reason of a gap.
async fn items(page: &Page, client: &Client<'_>, count: usize) -> Vec<Value> {
    let shortly = "receivers.get(arguments[0]).items.length >= arguments[1] && \
                   receivers.get(arguments[0]).items.map((item) => item.type === 'gap' ? item.reason : item.body)";
    let items = page.browser.until(&format!("{count} items"), shortly, json!([client.name(), count])).await;
    items.as_array().expect("a list").clone()
}

/// Asks the iterator for so many more.
async fn next(page: &Page, client: &Client<'_>, count: usize) {
    let ask = "for (let asked = 0; asked < arguments[1]; asked++) page.next(arguments[0])";
    page.browser.run(ask, json!([client.name(), count])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_is_acked_once_the_loop_asks_for_the_next_one() {
    let scripted = Scripted::start().await;
    let page = Page::open(&[scripted.address()]).await;
    let bob = page.listen_with(json!({"user": "bob", "transport": "websocket"})).await;
    next(&page, &bob, 1).await;
    let mut line = scripted.welcome(10).await;
    for number in 11..=13 {
        line.notify(number, number - 1).await;
    }
    line.say(json!({"type": "gap", "after": at(13), "until": at(20), "count": 7, "reason": "expired"})).await;
    line.notify(21, 20).await;
    bob.until_events("notification", 4).await;
    assert_eq!(items(&page, &bob, 1).await, ["11"]);
    assert_eq!(bob.property("position").await, at(10), "everything has come, nothing is dealt with");

    let places = [("12", 11), ("13", 12), ("expired", 13), ("21", 20)];
    for (round, (item, acked)) in places.into_iter().enumerate() {
        next(&page, &bob, 1).await;
        assert_eq!(items(&page, &bob, round + 2).await[round + 1], item);
        assert_eq!(bob.property("position").await, at(acked));
        let ack = line.hear().await.expect("an ack");
        assert_eq!((&ack["type"], &ack["position"]), (&json!("ack"), &json!(at(acked))), "this and no other");
    }
    next(&page, &bob, 1).await;
    line.hear_ack(21).await;
    assert_eq!(bob.property("position").await, at(21));
    page.close(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_comes_in_its_place_and_the_loop_ends_with_the_client() {
    let gateway = Gateway::start_with(|config| config.mailbox.max_notifications = 5).await;
    let page = Page::open(&[gateway.address()]).await;
    let bob = page.listen("bob").await;
    next(&page, &bob, 20).await;
    bob.until_state("open").await;
    gateway.send_text("bob", "0").await;
    items(&page, &bob, 1).await;
    bob.call("pause", json!([])).await;
    gateway.until_sessions("bob", 0).await;
    for number in 1..=12 {
        gateway.send_text("bob", &number.to_string()).await;
    }
    bob.call("resume", json!([])).await;
    let expected = ["0", "overflow", "8", "9", "10", "11", "12"];
    assert_eq!(items(&page, &bob, 7).await, expected);
    let gap = page.browser.run("return receivers.get(arguments[0]).items[1]", json!([bob.name()])).await;
    assert_eq!(gap["isLoss"], true, "{gap}");
    assert_eq!(bob.events("gap").await[0]["until"], gap["until"], "listeners are told, too");

    // All further questions wait; the end of the client answers them.
    bob.close().await;
    page.browser.until("the end", "receivers.get(arguments[0]).ended", json!([bob.name()])).await;
    let after_the_end = "return receivers.get(arguments[0]).client[Symbol.asyncIterator]().next()";
    assert_eq!(page.browser.run(after_the_end, json!([bob.name()])).await["done"], true);

    let ann = page.listen("ann").await;
    next(&page, &ann, 2).await;
    gateway.send_text("ann", "before the end").await;
    items(&page, &ann, 1).await;
    let disconnected = gateway.ask(reqwest::Method::DELETE, "/v1/users/ann/sessions").await;
    assert!((200..300).contains(&disconnected.status), "{}", disconnected.body);
    let thrown =
        page.browser.until("an error", "receivers.get(arguments[0]).thrown", json!([ann.name()])).await;
    assert_eq!((&thrown["name"], &thrown["code"]), (&json!("ConnectionRefused"), &json!(4010)));
    assert_eq!(thrown["reason"], "disconnected");
    page.close(&[]).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordinary_loop_reads_everything_and_the_next_one_begins_where_it_was_left() {
    let gateway = Gateway::start().await;
    let page = Page::open(&[gateway.address()]).await;
    let bob = page.listen("bob").await;
    let read = "const { client } = receivers.get(arguments[0]); window.read = []; window.left = []; \
         (async () => { for (const last of ['three', 'five']) { \
             for await (const { body } of client) { read.push(body); if (body === last) break; } \
             left.push(last); } })()";
    page.browser.run(read, json!([bob.name()])).await;
    let mut sent = Vec::new();
    for text in ["one", "two", "three", "four", "five", "six"] {
        sent.push(gateway.send_text("bob", text).await);
    }
    page.browser.until("two loops", "left.length === 2", json!([])).await;
    let read = page.browser.run("return read", json!([])).await;
    assert_eq!(read, json!(["one", "two", "three", "three", "four", "five"]));
    bob.until_texts(6).await;
    // Who leaves at an item has not dealt with it.
    gateway.until_acked("bob", &sent[3].position()).await;
    for waiting in &sent[4..] {
        gateway.until_outcome(waiting, "pending", 1).await;
    }
    page.close(&[]).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_that_gives_up_leaves_what_it_waits_for_to_the_next_one() {
    let gateway = Gateway::start().await;
    let page = Page::open(&[gateway.address()]).await;
    let bob = page.listen("bob").await;
    bob.until_state("open").await;
    let give_up = "const { client } = receivers.get(arguments[0]); \
         const first = client[Symbol.asyncIterator](); \
         const questions = [first.next(), first.next()]; await first.return(); \
         return (await Promise.all(questions)).map(({ done }) => done)";
    assert_eq!(page.browser.run_async(give_up, json!([bob.name()])).await, json!([true, true]));
    // Before anything comes: a question behind an answer would deal with what was answered.
    next(&page, &bob, 2).await;
    let sent = gateway.send_text("bob", "one").await;
    assert_eq!(items(&page, &bob, 1).await, ["one"]);
    bob.until_texts(1).await;

    // It was asked twice: with the second item both questions are answered, and nothing is dealt with yet.
    gateway.send_text("bob", "two").await;
    assert_eq!(items(&page, &bob, 2).await, ["one", "two"]);
    gateway.until_outcome(&sent, "pending", 1).await;
    next(&page, &bob, 1).await;
    gateway.until_outcome(&sent, "acked", 1).await;
    page.close(&[]).await;
    gateway.stop().await;
}

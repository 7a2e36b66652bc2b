//! Credentials of a page: when the client asks for one, what it does with it, and what it makes of a refusal.

use serde_json::{Value, json};

use super::guarded::{Guarded, HEARTBEAT};
use super::within;
use crate::security::credentials::{Issuer, claims};

/// So long that nobody who waits for it comes back within a test.
const FOR_EVER_MS: u64 = 1_000_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_is_asked_for_once_more_and_a_forbidden_one_is_not() {
    let guarded = Guarded::start(|config| config.sessions.max_per_user = 1).await;
    let Guarded { secured, page, .. } = &guarded;
    let good = secured.issuer.token(&claims("bob"));
    let listen = async |tokens: Value| {
        let options = json!({
            "user": "bob", "transport": "websocket", "tokens": tokens, "after": "now",
            "minBackoffMs": 1, "maxBackoffMs": 1,
        });
        page.listen_with(options).await
    };

    let stranger = Issuer::hs256().token(&claims("bob"));
    let refused = listen(json!([stranger, "not.a.token"])).await;
    let error = refused.until_told("closed", 1).await["error"].clone();
    assert_eq!((&error["name"], &error["code"]), (&json!("ConnectionRefused"), &json!(4001)));
    assert_eq!((refused.asked().await, error["reason"].as_str()), (2, Some("invalid_token")));

    let second = listen(json!([stranger, good])).await;
    second.until_state("open").await;
    secured.tell("bob", "in").await;
    assert_eq!(second.until_texts(1).await, ["in"]);
    assert_eq!(second.asked().await, 2);

    let alice = listen(json!([secured.issuer.token(&claims("alice"))])).await;
    assert_eq!(alice.until_told("closed", 1).await["error"]["code"], 4003);
    assert_eq!(alice.asked().await, 1);

    // An API key that may read is a credential like another; its session is one too many for the one before.
    let key = listen(json!([secured.reading.text()])).await;
    key.until_state("open").await;
    let pushed_out = second.until_told("closed", 1).await;
    assert_eq!((&pushed_out["error"]["code"], &pushed_out["code"]), (&json!(4009), &json!(4009)));
    // Without a token there is nothing to ask for once more.
    let anonymous = page.listen_with(json!({"user": "bob", "transport": "websocket"})).await;
    assert_eq!(anonymous.until_told("closed", 1).await["error"]["code"], 4001);

    secured.tell("bob", "to the last one").await;
    assert_eq!(key.until_texts(1).await, ["to the last one"]);
    assert_eq!(guarded.proxy.seen().upgrades, 7, "nobody came back who was told not to");
    guarded.stop(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_takes_the_next_token_in_place_and_one_whose_token_is_over_comes_back_at_once() {
    let guarded = Guarded::start(|_| {}).await;
    let Guarded { secured, page, ahead, .. } = &guarded;
    let listen = async |user: &str, tokens: [String; 2]| {
        let options = json!({
            "user": user, "transport": "websocket", "tokens": tokens,
            "minBackoffMs": FOR_EVER_MS, "maxBackoffMs": FOR_EVER_MS,
        });
        page.listen_with(options).await
    };
    // Of ann's clock, minutes are left of her first token; of bob's, seconds.
    let anns_next = guarded.token("ann", 3_600);
    let ann = listen("ann", [guarded.token("ann", 300), anns_next]).await;
    ann.until_state("open").await;
    let bobs_next = guarded.token("bob", 3_600);
    let bob = listen("bob", [guarded.token("bob", 10), bobs_next.clone()]).await;
    bob.until_state("open").await;

    let heard = async |what: &str, kind: &str, count: usize| {
        let heard = async {
            loop {
                let frames = page.browser.sights().await.received;
                let of_kind = frames.iter().filter(|frame| frame["type"] == kind).count();
                if of_kind >= count {
                    return of_kind;
                }
                tokio::time::sleep(HEARTBEAT).await;
            }
        };
        within(what, heard).await
    };
    heard("the answer to a refresh", "refreshed", 1).await;
    let sent = page.browser.sights().await.sent;
    assert!(sent.contains(&json!({"type": "refresh", "token": bobs_next})), "{sent:?}");
    assert_eq!((bob.asked().await, ann.asked().await), (2, 1));

    // Both first tokens are over now, by the gateway's clock and its leeway.
    ahead.leap(600);
    let told = ann.until_told("waiting", 1).await;
    assert_eq!((&told["code"], &told["reason"]), (&json!(4205), &json!("token_expired")));
    ann.until_told("open", 2).await;
    let beats = heard("a heartbeat", "heartbeat", 1).await;
    heard("two heartbeats of each", "heartbeat", beats + 5).await;
    for (user, client, sessions) in [("ann", &ann, 2), ("bob", &bob, 1)] {
        secured.tell(user, "still here").await;
        assert_eq!(client.until_texts(1).await, ["still here"]);
        assert_eq!(client.events("welcome").await.len(), sessions, "{user}");
    }
    assert_eq!((bob.asked().await, ann.asked().await), (2, 2));
    guarded.stop(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_hands_out_tokens_hears_of_a_refusal_and_may_be_away_or_give_up() {
    let guarded = Guarded::start(|_| {}).await;
    let page = &guarded.page;
    // Says what it is to do next: throw, or hand out this token.
    let listen = "const [name, options, answers] = arguments; window.whys ??= {}; whys[name] = []; \
         const { ConnectionRefused } = await import('/client.js'); \
         options.token = async (why) => { whys[name].push(why); const answer = answers.shift(); \
             if (answer === 'away') throw new Error(answer); \
             if (answer === 'give up') throw new ConnectionRefused(4001, 'signed out'); return answer; }; \
         page.listen(name, options)";
    let listen = async |answers: Value| {
        let client = page.name_client();
        let options = json!({
            "user": "bob", "url": guarded.proxy.url(), "transport": "websocket", "minBackoffMs": 1, "maxBackoffMs": 1,
        });
        page.browser.run_async(listen, json!([client.name(), options, answers])).await;
        client
    };
    let refusals = async |name: &str| {
        let refusals = "return whys[arguments[0]].map(({ refused }) => refused)";
        page.browser.run(refusals, json!([name])).await
    };
    let good = guarded.token("bob", 3_600);
    let patient = listen(json!(["away", "away", "not.a.token", good])).await;
    patient.until_state("open").await;
    assert_eq!(refusals(patient.name()).await, json!([false, false, false, true]));

    let signed_out = listen(json!(["not.a.token", "give up"])).await;
    let error = signed_out.until_told("closed", 1).await["error"].clone();
    assert_eq!((&error["name"], &error["reason"]), (&json!("ConnectionRefused"), &json!("signed out")));
    assert_eq!(refusals(signed_out.name()).await, json!([false, true]));
    guarded.stop(&[]).await;
}

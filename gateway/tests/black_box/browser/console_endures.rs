//! The console through what goes wrong: cut connections, a second tab, a gateway that dies, a network that goes away, a token that
//! ends.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use super::BROKEN_LINES;
use super::chrome::Browser;
use super::guarded::Ahead;
use super::proxy::Proxy;
use crate::harness::Gateway;
use crate::process_harness::{self, Folder, Server};
use crate::security::credentials::{Issuer, now, sending_claims};
use crate::security::secured::Secured;

/// The texts that the first pane shows, oldest first.
const TEXTS: &str = "[...document.querySelectorAll('[data-test=entry][data-kind=notification] [data-test=entry-body]')]\
                     .map(({ innerText }) => innerText).reverse()";

/// How the first pane is connected.
const STATE: &str = "document.querySelector('[data-test=pane]').dataset.state";

async fn until_state(browser: &Browser, state: &str) {
    browser.until(state, &format!("{STATE} === arguments[0]"), json!([state])).await;
}

/// Waits until the first pane shows exactly these texts, in this order.
async fn until_texts(browser: &Browser, texts: &[&str]) {
    let same = format!("JSON.stringify({TEXTS}) === JSON.stringify(arguments[0])");
    browser.until("the texts", &same, json!([texts])).await;
}

/// Waits until the first pane has a remark that begins like this.
async fn until_remark(browser: &Browser, beginning: &str) {
    let remarks = "[...document.querySelectorAll('[data-test=entry][data-kind=remark] [data-test=entry-body]')]\
                   .some(({ innerText }) => innerText.startsWith(arguments[0]))";
    browser.until("a remark", remarks, json!([beginning])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_while_a_connection_is_cut_is_replayed_when_it_resumes() {
    let gateway = Gateway::start().await;
    let browser = Browser::start().await;
    browser.open(&format!("http://{}/", gateway.address())).await;
    browser.click("@pane-connect").await;
    until_state(&browser, "open").await;
    gateway.send_text("bob", "one").await;
    until_texts(&browser, &["one"]).await;

    browser.click("@pane-cut").await;
    until_state(&browser, "paused").await;
    gateway.until_sessions("bob", 0).await;
    gateway.send_text("bob", "two").await;
    gateway.send_text("bob", "three").await;
    browser
        .until(
            "the mailbox to fill",
            "document.querySelector('[data-test=pane-pending]').innerText === '2'",
            json!([]),
        )
        .await;
    browser.click("@pane-resume").await;
    until_remark(&browser, "resumed behind").await;
    until_texts(&browser, &["one", "two", "three"]).await;
    let replayed = "[...document.querySelectorAll('[data-test=entry][data-kind=notification]')].map(({ dataset }) => dataset.replayed)\
                    .reverse().join()";
    assert_eq!(browser.run(&format!("return {replayed}"), json!([])).await, "false,true,true");
    browser
        .until(
            "everything to be acked",
            "document.querySelector('[data-test=pane-pending]').innerText === '0'",
            json!([]),
        )
        .await;

    // Whatever it looks like, it is text.
    let hostile =
        "<img src=x onerror=\"document.title = 'broken'\"><script>document.title = 'broken'</script>";
    let data = json!({hostile: hostile});
    let looks = json!({"to": ["bob"], "from": hostile, "title": hostile, "body": hostile, "data": data});
    gateway.send(looks).await.accepted();
    until_texts(&browser, &["one", "two", "three", hostile]).await;
    for part in ["@entry-from", "@entry-title", "@entry-data"] {
        let shown = browser.text_of(part).await;
        assert!(shown.contains("<script>") && shown.contains("<img"), "{part}: {shown}");
    }
    assert_eq!(browser.run("return document.title.includes('broken')", json!([])).await, false);
    browser.click("@log-clear").await;

    // A topic has those who are subscribed to it, and everybody is who is there now.
    browser.fill("@topic-name", "news").await;
    browser.click("@topic-subscribe").await;
    browser.find("@topic").await;
    browser.run("document.querySelector('[data-test=target-topic]').click()", json!([])).await;
    browser.fill("#topic", "news").await;
    browser.fill("#body", "four").await;
    browser.click("#send-button").await;
    until_texts(&browser, &["four"]).await;
    browser.run("document.querySelector('[data-test=target-everybody]').click()", json!([])).await;
    browser.fill("#body", "five").await;
    browser.click("#send-button").await;
    until_texts(&browser, &["four", "five"]).await;
    browser.close(&[gateway.address()], &[]).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tabs_outlive_a_gateway_that_is_killed_and_a_network_that_is_gone() {
    let folder = Folder::new();
    let server = Server::start_on_disk(folder.path(), &[]).await;
    let proxy = Proxy::start(server.addresses.http);
    let browser = Browser::start().await;
    browser.open(&proxy.url()).await;
    let first = browser.tab().await;
    browser.click("@pane-connect").await;
    until_state(&browser, "open").await;
    let second = browser.open_tab(&proxy.url()).await;
    browser.click("@pane-connect").await;
    until_state(&browser, "open").await;
    let tell = async |http: SocketAddr, text: &str| {
        assert_eq!(process_harness::send(http, &["bob"], text).await.0, 202);
    };
    tell(server.addresses.http, "before").await;
    for tab in [&first, &second] {
        browser.switch_to(tab).await;
        until_texts(&browser, &["before"]).await;
    }

    // Whoever is given its port next is no gateway of theirs.
    proxy.refuse().await;
    server.kill();
    for tab in [&first, &second] {
        browser.switch_to(tab).await;
        browser.until("the end to be noticed", &format!("{STATE} !== 'open'"), json!([])).await;
    }
    let server = Server::start_on_disk(folder.path(), &[]).await;
    // Before the page can know that it is back.
    tell(server.addresses.http, "while they were away").await;
    proxy.retarget(server.addresses.http);
    proxy.forward();
    for tab in [&first, &second] {
        browser.switch_to(tab).await;
        until_texts(&browser, &["before", "while they were away"]).await;
        until_state(&browser, "open").await;
    }

    for tab in [&first, &second] {
        browser.switch_to(tab).await;
        browser.go_offline().await;
        browser.until("the network to be gone", "!navigator.onLine", json!([])).await;
        // The pane's own look at its mailbox is what a page without a network cannot do.
        browser
            .until(
                "the page to notice",
                "document.querySelector('#gateway-state').dataset.state === 'away'",
                json!([]),
            )
            .await;
    }
    tell(server.addresses.http, "without a network").await;
    for tab in [&first, &second] {
        browser.switch_to(tab).await;
        browser.go_online().await;
    }
    for tab in [&first, &second] {
        browser.switch_to(tab).await;
        until_texts(&browser, &["before", "while they were away", "without a network"]).await;
        until_state(&browser, "open").await;
    }
    tell(server.addresses.http, "at last").await;
    for tab in [&first, &second] {
        browser.switch_to(tab).await;
        until_texts(&browser, &["before", "while they were away", "without a network", "at last"]).await;
        let gaps = "document.querySelectorAll('[data-test=entry][data-kind=gap]').length";
        assert_eq!(browser.run(&format!("return {gaps}"), json!([])).await, 0);
    }
    // The browser's own words on requests that fail; those through the proxy meet nobody for a while.
    let expected = [BROKEN_LINES[0], BROKEN_LINES[1], "status of 50"];
    browser.close(&[proxy.address()], &expected).await;
    drop(proxy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_keys_it_asks_for_them_and_a_token_that_ends_is_replaced_by_another() {
    let ahead = Ahead::default();
    let secured = Secured::start_with_clock(ahead.clock(), Issuer::hs256(), |config, _| {
        config.auth.leeway = Duration::ZERO;
        config.sessions.heartbeat = Duration::from_millis(500);
    })
    .await;
    let browser = Browser::start().await;
    browser.open(&format!("http://{}/", secured.address())).await;
    // Nobody is known yet: the page says what it takes.
    browser.click("#send-button").await;
    browser
        .until("the refusal", "document.querySelector('#send-status').dataset.tone === 'bad'", json!([]))
        .await;
    browser.fill("#credential", &secured.sending.text()).await;
    browser.press("#credential", "\u{e006}").await;

    let short = secured.issuer.token(&json!({"sub": "bob", "exp": now() + 600}));
    browser.fill("@pane-credential", &short).await;
    browser.click("@pane-connect").await;
    until_state(&browser, "open").await;
    browser.click("#send-button").await;
    until_texts(&browser, &["Your parcel is at the door."]).await;
    browser
        .until(
            "the outcome",
            "document.querySelector('[data-test=outcome]')?.dataset.state === 'acked'",
            json!([]),
        )
        .await;

    ahead.leap(900);
    until_state(&browser, "closed").await;
    browser
        .until("the reason", "document.querySelector('[data-test=pane]').dataset.code === '4001'", json!([]))
        .await;
    browser.fill("#body", "It is still there.").await;
    browser.click("#send-button").await;
    let longer = secured.issuer.token(&json!({"sub": "bob", "exp": now() + 3_600}));
    browser.fill("@pane-credential", &longer).await;
    browser.click("@pane-connect").await;
    until_state(&browser, "open").await;
    until_texts(&browser, &["Your parcel is at the door.", "It is still there."]).await;

    // A user who may send waits for the outcome: to ask for it later takes an API key.
    browser.fill("#credential", &secured.issuer.token(&sending_claims("alice"))).await;
    browser.press("#credential", "\u{e006}").await;
    browser.fill("#body", "From alice herself.").await;
    browser.click("#send-button").await;
    browser
        .until(
            "the outcome",
            "document.querySelector('[data-test=sent] [data-test=outcome]')?.dataset.state === 'acked'",
            json!([]),
        )
        .await;
    assert_eq!(browser.text_of("@entry-from").await, "from alice");

    let stored = "JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + document.cookie";
    let stored = browser.run(&format!("return {stored}"), json!([])).await.to_string();
    for address in browser.sights().await.requests.into_iter().chain([stored]) {
        assert!(!address.contains("eyJ") && !address.contains("gwk_"), "{address}");
    }
    // The browser's own words on refused requests; what is shown to whom is the gateway's to say.
    let expected = ["the server responded with a status of 401", "the server responded with a status of 403"];
    browser.close(&[secured.address()], &expected).await;
    secured.stop().await;
}

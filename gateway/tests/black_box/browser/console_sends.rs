//! The console, as somebody uses it who has never seen it.

use serde_json::json;

use super::chrome::Browser;
use crate::harness::Gateway;

/// The return key, as WebDriver types it (W3C WebDriver, keyboard actions).
const RETURN: &str = "\u{e006}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_connects_bob_sends_to_him_and_sees_it_arrive_and_become_acked() {
    let gateway = Gateway::start().await;
    let browser = Browser::start().await;
    browser.open(&format!("http://{}/", gateway.address())).await;
    browser.click("@pane-connect").await;
    gateway.until_sessions("bob", 1).await;
    browser.click("#send-button").await;
    assert_eq!(
        browser.text_of("@entry[data-kind=notification] @entry-body").await,
        "Your parcel is at the door."
    );

    let hostile =
        "<script>document.title = 'broken'</script><img src=x onerror=\"document.title = 'broken'\">";
    browser.fill("#title", hostile).await;
    browser.press("#title", RETURN).await;
    let shown = "[...document.querySelectorAll('[data-test=entry-title]')].some(({ innerText }) => innerText === arguments[0])";
    browser.until("the text as it was typed", shown, json!([hostile])).await;
    assert_eq!(browser.run("return document.title.includes('broken')", json!([])).await, false);
    let pending = async {
        while gateway.user("bob").await.body["pending"] != 0 {
            tokio::task::yield_now().await;
        }
    };
    super::within("everything to be acked", pending).await;
    browser.until(
        "both to be acked",
        "[...document.querySelectorAll('[data-test=sent-outcomes]')].filter(({ innerText }) => /acked/i.test(innerText)).length === 2",
        json!([]),
    )
    .await;

    browser.resize(390, 844).await;
    let fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth";
    browser.until("the page to fit on a phone", fits, json!([])).await;
    browser.close(&[gateway.address()], &[]).await;
    gateway.stop().await;
}

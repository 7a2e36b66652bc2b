//! Whether a test would notice: what a page does wrong is seen, and a browser leaves nothing behind.

use std::fs;

use serde_json::json;

use super::{Browser, selector};
use crate::browser::page::Page;
use crate::browser::within;
use crate::harness::Gateway;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_page_does_wrong_is_seen() {
    let gateway = Gateway::start().await;
    let page = Page::open(&[gateway.address()]).await;
    assert_eq!(page.browser.sights().await.console, [] as [&str; 0]);
    let misdeeds = "console.warn('beware'); \
         await fetch('http://127.0.0.1:1/').catch(() => {}); \
         try { document.body.innerHTML = '<b>bold</b>' } catch { } \
         setTimeout(() => { throw new Error('nobody catches it') }, 0); \
         await new Promise((done) => setTimeout(done, 0));";
    page.browser.run_async(misdeeds, json!([])).await;
    page.browser.open(&format!("http://{}/asyncapi.yaml", gateway.address())).await;
    let sights = page.browser.sights().await;
    for expected in ["beware", "connect-src", "TrustedHTML", "nobody catches it"] {
        let noticed = sights.console.iter().any(|line| line.contains(expected));
        assert!(noticed, "{expected}: {:#?}", sights.console);
    }
    let elsewhere = format!("http://{}/asyncapi.yaml", gateway.address());
    assert!(sights.requests.contains(&elsewhere), "{:?}", sights.requests);
    page.browser.go_offline().await;
    page.browser.until("offline", "!navigator.onLine", json!([])).await;
    page.browser.go_online().await;
    page.browser.until("online", "navigator.onLine", json!([])).await;
    drop(page);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_a_test_drops_leaves_nothing_behind() {
    let browser = Browser::start().await;
    let profile = browser.profile.path().to_owned();
    let mark = format!("--user-data-dir={}", profile.display());
    // A process that has ended, but was not waited for yet, has no arguments any more.
    let processes = || {
        let all = fs::read_dir("/proc").expect("Linux").filter_map(|entry| Some(entry.ok()?.path()));
        let arguments = all.filter_map(|process| fs::read(process.join("cmdline")).ok());
        arguments.filter(|line| String::from_utf8_lossy(line).contains(&mark)).count()
    };
    assert!(processes() > 1, "the browser and its renderers");
    drop(browser);
    let gone = async {
        while processes() > 0 {
            tokio::task::yield_now().await;
        }
    };
    within("all processes to end", gone).await;
    assert!(!profile.exists(), "the profile is removed");
}

#[test]
fn names_of_tests_stand_in_selectors_of_css() {
    assert_eq!(selector("#send > button"), "#send > button");
    let written = r#"[data-test="pane"]:nth-child(2) [data-test="pane-user"][value]"#;
    assert_eq!(selector("@pane:nth-child(2) @pane-user[value]"), written);
}

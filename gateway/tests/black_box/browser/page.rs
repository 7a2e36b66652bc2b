//! A page of another origin with receivers on it: `client.js` as the source tree has it, under a policy that allows nothing but
//! it and the gateways of the test.

use std::cell::Cell;
use std::net::SocketAddr;

use poem::endpoint::make_sync;
use poem::http::StatusCode;
use poem::http::header::CONTENT_SECURITY_POLICY;
use poem::listener::{Acceptor, Listener, TcpListener};
use poem::{IntoResponse, Response, Route, Server};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::chrome::Browser;

/// The client under test, of the same build as the gateway.
const CLIENT: &str = include_str!("../../../src/console/client.js");

/// The script of the page.
const SCRIPT: &str = include_str!("page.js");

const MARKUP: &str = r#"<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page</title>
<script type="module" src="/page.js"></script></head><body></body></html>"#;

/// A server of such pages; it ends with its handle.
pub(crate) struct PageServer {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

/// A browser that shows such a page.
pub(crate) struct Page {
    pub(crate) browser: Browser,
    server: PageServer,
    hosts: Vec<SocketAddr>,
    clients: Cell<usize>,
}

/// A client on a page.
pub(crate) struct Client<'a> {
    page: &'a Page,
    name: String,
}

impl PageServer {
    /// Serves pages that may talk to these hosts only.
    pub(crate) async fn start(hosts: &[SocketAddr]) -> Self {
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.expect("a free port");
        let address = *acceptor.local_addr()[0].as_socket_addr().expect("an address of IP");
        let connect: String = hosts.iter().map(|host| format!(" http://{host} ws://{host}")).collect();
        let policy = format!(
            "default-src 'none'; script-src 'self'{connect}; connect-src{connect}; base-uri 'none'; \
             form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
        );
        let routes = Route::new()
            .at(
                "/",
                make_sync(move |_| file("text/html", MARKUP).with_header(CONTENT_SECURITY_POLICY, &policy)),
            )
            .at("/page.js", make_sync(|_| file("text/javascript", SCRIPT)))
            .at("/client.js", make_sync(|_| file("text/javascript", CLIENT)))
            .at("/favicon.ico", make_sync(|_| StatusCode::NO_CONTENT));
        let serving = tokio::spawn(async move {
            Server::new_with_acceptor(acceptor).run(routes).await.expect("the page's server runs");
        });
        Self { address, serving }
    }

    /// The origin of its pages.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for PageServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Page {
    /// Opens a page that may talk to these hosts; its clients talk to the first one unless they are told otherwise.
    pub(crate) async fn open(hosts: &[SocketAddr]) -> Self {
        Self::open_on(PageServer::start(hosts).await, hosts).await
    }

    /// The same, with a server whose origin had to be known before.
    pub(crate) async fn open_on(server: PageServer, hosts: &[SocketAddr]) -> Self {
        let browser = Browser::start().await;
        let page = Self { browser, server, hosts: hosts.to_vec(), clients: Cell::new(0) };
        page.browser.open(&page.server.origin()).await;
        page.loaded().await;
        page
    }

    /// Opens the page in another tab, too; new clients are on that one from now on.
    pub(crate) async fn open_tab(&self) -> super::chrome::Tab {
        let tab = self.browser.open_tab(&self.server.origin()).await;
        self.loaded().await;
        tab
    }

    /// Loads the page anew: its clients are gone.
    pub(crate) async fn reload(&self) {
        self.browser.reload().await;
        self.loaded().await;
    }

    /// Starts a client of `user`.
    pub(crate) async fn listen(&self, user: &str) -> Client<'_> {
        self.listen_with(json!({"user": user})).await
    }

    /// Starts a client with these options; `url` is the page's gateway unless it is among them.
    pub(crate) async fn listen_with(&self, mut options: Value) -> Client<'_> {
        if options["url"].is_null() {
            options["url"] = json!(format!("http://{}", self.hosts[0]));
        }
        let client = self.name_client();
        self.browser.run("page.listen(...arguments)", json!([client.name, options])).await;
        client
    }

    /// A name for a client that the test's own script will start.
    pub(crate) fn name_client(&self) -> Client<'_> {
        let number = self.clients.get();
        self.clients.set(number + 1);
        self.client(number)
    }

    /// The client that was started as this one, counted from 0.
    pub(crate) fn client(&self, number: usize) -> Client<'_> {
        Client { page: self, name: format!("client-{number}") }
    }

    /// Ends the browser and looks at what it saw; see [`Browser::close`].
    pub(crate) async fn close(self, expected: &[&str]) {
        let mut hosts = self.hosts;
        hosts.push(self.server.address);
        self.browser.close(&hosts, expected).await;
    }

    async fn loaded(&self) {
        self.browser.until("the page's script", "window.page !== undefined", json!([])).await;
    }
}

impl Client<'_> {
    /// Its name on the page, for a script of the test.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Everything of one kind that it told, in order.
    pub(crate) async fn events(&self, kind: &str) -> Vec<Value> {
        let events =
            self.page.browser.run("return page.events(...arguments)", json!([self.name, kind])).await;
        events.as_array().expect("a list").clone()
    }

    /// Waits until it told so many events of a kind; returns them all.
    pub(crate) async fn until_events(&self, kind: &str, count: usize) -> Vec<Value> {
        let reached = "page.events(arguments[0], arguments[1]).length >= arguments[2]";
        let what = format!("{count} events of the kind {kind}");
        self.page.browser.until(&what, reached, json!([self.name, kind, count])).await;
        self.events(kind).await
    }

    /// Waits until so many notifications came; returns all their texts.
    pub(crate) async fn until_texts(&self, count: usize) -> Vec<String> {
        texts(&self.until_events("notification", count).await)
    }

    /// The texts of all notifications that came.
    pub(crate) async fn texts(&self) -> Vec<String> {
        texts(&self.events("notification").await)
    }

    /// Waits until it is in this state.
    pub(crate) async fn until_state(&self, state: &str) {
        let reached = "receivers.get(arguments[0]).client.state === arguments[1]";
        self.page.browser.until(&format!("the state {state}"), reached, json!([self.name, state])).await;
    }

    /// Waits until it told that it came into this state, by now so many times; returns the last time.
    pub(crate) async fn until_told(&self, state: &str, times: usize) -> Value {
        let reached = "page.events(arguments[0], 'state').filter(({ state }) => state === arguments[1])\
                       .length >= arguments[2] && page.events(arguments[0], 'state')\
                       .findLast(({ state }) => state === arguments[1])";
        let what = format!("to be told {times} times of {state}");
        self.page.browser.until(&what, reached, json!([self.name, state, times])).await
    }

    /// One of its properties.
    pub(crate) async fn property(&self, name: &str) -> Value {
        let script = "return receivers.get(arguments[0]).client[arguments[1]]";
        self.page.browser.run(script, json!([self.name, name])).await
    }

    /// Waits until its position is this one.
    pub(crate) async fn until_position(&self, position: &str) {
        let reached = "receivers.get(arguments[0]).client.position === arguments[1]";
        self.page.browser.until("the position", reached, json!([self.name, position])).await;
    }

    /// Calls one of its methods.
    pub(crate) async fn call(&self, method: &str, arguments: Value) {
        let script = "receivers.get(arguments[0]).client[arguments[1]](...arguments[2])";
        self.page.browser.run(script, json!([self.name, method, arguments])).await;
    }

    /// How often it asked for a token.
    pub(crate) async fn asked(&self) -> u64 {
        let script = "return receivers.get(arguments[0]).asked";
        self.page.browser.run(script, json!([self.name])).await.as_u64().expect("a number")
    }

    /// From now on it is given this token.
    pub(crate) async fn hand_out(&self, token: &str) {
        let script = "receivers.get(arguments[0]).tokens = [arguments[1]]";
        self.page.browser.run(script, json!([self.name, token])).await;
    }

    /// Leaves for good.
    pub(crate) async fn close(&self) {
        self.call("close", json!([])).await;
    }
}

fn texts(notifications: &[Value]) -> Vec<String> {
    let text = |notification: &Value| notification["body"].as_str().expect("the test sends texts").to_owned();
    notifications.iter().map(text).collect()
}

/// A file of the page's server.
fn file(kind: &'static str, text: &'static str) -> Response {
    Response::builder().content_type(kind).body(text)
}

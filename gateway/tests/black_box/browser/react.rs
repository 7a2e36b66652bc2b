//! The chat of `examples/react-chat`, as two people use it: each in a tab, from the development server, under StrictMode.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use super::chrome::{Browser, Tab};
use super::{BROKEN_LINES, within};
use crate::process_harness::{Folder, Process, Server, until_some};
use crate::security::credentials::{Issuer, claims, sending_claims};
use crate::security::secured::Secured;

/// The return key, as WebDriver types it (W3C WebDriver, keyboard actions).
const RETURN: &str = "\u{e006}";

/// A message that would be heard if a page took it for markup.
const HOSTILE: &str = "<script>window.broken = true</script><img src=x onerror='window.broken = true'>";

/// All messages of the open conversation, from the top.
const MESSAGES: &str = "[...document.querySelectorAll('[data-test=message]')].map((message) => \
                        [message.dataset.from, message.querySelector('[data-test=text]').textContent])";

/// Two of them would write into the folder in which Vite keeps what it has bundled.
static PLACE: Semaphore = Semaphore::const_new(1);

/// The development server of the example. Its shell waits for the end of its input, which comes when the handle is dropped and
/// when the test process ends in whatever way, and kills the whole group, itself included.
struct Example {
    shell: Child,
    address: SocketAddr,
    _place: SemaphorePermit<'static>,
}

/// Alice and bob at the example, each with the other one's conversation open.
struct Chat {
    browser: Browser,
    alice: Tab,
    bob: Tab,
    example: Example,
    gateway: SocketAddr,
    /// What opens `GET /v1/users/{user}`, where something has to.
    key: Option<String>,
}

impl Example {
    /// Starts it as `npm run dev` does, on a port that the system chooses.
    async fn start() -> Self {
        let place = PLACE.acquire().await.expect("nobody closes it");
        let vite = "node_modules/.bin/vite --host 127.0.0.1 --port 0 & cat >/dev/null; kill -KILL 0";
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(vite);
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/react-chat"));
        // StrictMode does nothing in production, and an address in colours is none.
        command.env_remove("NODE_ENV").env("NO_COLOR", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut shell = command.spawn().expect("there is a shell");
        let output = BufReader::new(shell.stdout.take().expect("a pipe"));
        let (tell, told) = oneshot::channel();
        std::thread::spawn(move || {
            let mut tell = Some(tell);
            // To its end: it also writes of what it does later.
            for line in output.lines().map_while(Result::ok) {
                let address = line.split("Local:").nth(1).and_then(|rest| {
                    rest.trim().trim_start_matches("http://").trim_end_matches('/').parse().ok()
                });
                if let (Some(address), Some(tell)) = (address, tell.take_if(|_| address.is_some())) {
                    // The test may have ended.
                    let _ = tell.send(address);
                }
            }
        });
        let mut example = Self { shell, address: SocketAddr::from(([127, 0, 0, 1], 0)), _place: place };
        let address = within("the development server", told).await;
        example.address = address.expect("Vite starts (in examples/react-chat: npm ci)");
        example
    }

    /// Where its pages come from.
    fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // It fails only for a process that was waited for.
        let _ = self.shell.wait();
    }
}

impl Chat {
    /// Opens the page twice; both are asked who they are.
    async fn open(example: Example, gateway: SocketAddr) -> Self {
        let browser = Browser::start().await;
        let page = |user: &str, peer: &str| {
            format!("{}/?gateway=http://{gateway}&user={user}&peer={peer}", example.origin())
        };
        browser.open(&page("alice", "bob")).await;
        let alice = browser.tab().await;
        let bob = browser.open_tab(&page("bob", "alice")).await;
        Self { browser, alice, bob, example, gateway, key: None }
    }

    /// Enters this token, or none, below the name that stands there.
    async fn try_to_sign_in(&self, user: &str, token: &str) {
        self.look_at(user).await;
        let name = "document.querySelector('[data-test=name]')?.value === arguments[0]";
        self.browser.until("the name", name, json!([user])).await;
        self.browser.press("@token", token).await;
        self.browser.click("@sign-in").await;
    }

    /// The same, until the user is connected.
    async fn sign_in(&self, user: &str, token: &str) {
        self.try_to_sign_in(user, token).await;
        self.until_open(user).await;
    }

    async fn until_open(&self, user: &str) {
        self.look_at(user).await;
        self.browser.find("@state[data-state=open]").await;
        assert_eq!(self.browser.text_of("@user").await, user);
    }

    /// Waits until the page says that it has no connection.
    async fn until_away(&self, user: &str) {
        self.look_at(user).await;
        self.browser.find("@state:not([data-state=open])").await;
    }

    /// Waits until signing in was refused with this code; returns what is said of it.
    async fn refusal(&self, code: u16) -> String {
        self.browser.text_of(&format!("@sign-in-problem[data-code=\"{code}\"]")).await
    }

    /// Writes a message and presses the return key.
    async fn say(&self, user: &str, text: &str) {
        self.look_at(user).await;
        self.browser.press("@composer", &format!("{text}{RETURN}")).await;
    }

    /// Waits until the user sees so many messages; returns them, as who and what.
    async fn messages(&self, user: &str, count: usize) -> Vec<Value> {
        self.look_at(user).await;
        let reached = format!("{MESSAGES}.length >= arguments[0] && {MESSAGES}");
        let messages = self.browser.until(&format!("{count} messages"), &reached, json!([count])).await;
        messages.as_array().expect("a list").clone()
    }

    /// Waits until the user sees exactly these messages.
    async fn until_messages(&self, user: &str, messages: &[Value]) {
        self.look_at(user).await;
        let reached = format!("JSON.stringify({MESSAGES}) === JSON.stringify(arguments[0])");
        self.browser.until("these messages", &reached, json!([messages])).await;
    }

    /// Waits until the page says of every message of the user that the other one has seen it.
    async fn until_seen(&self, user: &str) {
        self.look_at(user).await;
        let seen = "[...document.querySelectorAll('[data-test=message] [data-test=status]')]\
                    .every((status) => status.closest('[data-status=seen]'))";
        self.browser.until("all to be seen", seen, json!([])).await;
    }

    /// Waits until both see each other's messages as seen and nothing is left to receive. Returns what both show: it is the same.
    async fn until_settled(&self, count: usize) -> Vec<Value> {
        let alices = self.messages("alice", count).await;
        self.until_seen("alice").await;
        let bobs = self.messages("bob", count).await;
        self.until_seen("bob").await;
        for user in ["alice", "bob"] {
            until_some(&format!("one session of {user}, and nothing pending"), async || {
                let state = self.state_of(user).await;
                (state["sessions"] == 1 && state["pending"] == 0).then_some(())
            })
            .await;
        }
        assert_eq!((alices.len(), &alices), (count, &bobs), "once, and in the same order");
        alices
    }

    /// What the gateway says of a user.
    async fn state_of(&self, user: &str) -> Value {
        let url = format!("http://{}/v1/users/{user}", self.gateway);
        let mut request = reqwest::Client::new().get(url);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let answer = within("the state of a user", request.send()).await.expect("the gateway answers");
        answer.json().await.expect("it is JSON")
    }

    /// How many sockets the pages have opened for a user, also those that are closed again.
    async fn sockets_of(&self, user: &str) -> usize {
        let opens = format!("ws://{}/ws/{user}?", self.gateway);
        self.browser.sights().await.requests.iter().filter(|url| url.starts_with(&opens)).count()
    }

    /// From now on the browser's verbs speak of this user's tab.
    async fn look_at(&self, user: &str) {
        self.browser.switch_to(if user == "alice" { &self.alice } else { &self.bob }).await;
    }

    /// Ends it all; see [`Browser::close`].
    async fn close(self, expected: &[&str]) {
        self.browser.close(&[self.example.address, self.gateway], expected).await;
    }
}

/// Starts a gateway where one was killed: on its port, with its log.
async fn start_again(address: SocketAddr, log: &Path) -> Process {
    let (listen, log) = (address.to_string(), format!("disk:{}", log.display()));
    let arguments = ["--listen", &listen, "--ops-listen", "127.0.0.1:0", "--log", &log];
    let started = async {
        loop {
            let mut process = Process::start(&arguments, &[]);
            while let Some(line) = process.line().await {
                // The greeting ends with the only line that speaks of curl.
                if line.contains("curl") {
                    return process;
                }
            }
            // Meanwhile somebody else may have been given the port for a moment.
        }
    };
    within("the gateway to start again", started).await
}

/// Who said what.
fn said(from: &str, text: &str) -> Value {
    json!([from, text])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_see_one_order_and_each_holds_one_session_under_strict_mode() {
    let folder = Folder::new();
    let server = Server::start_on_disk(folder.path(), &[]).await;
    let chat = Chat::open(Example::start().await, server.addresses.http).await;
    chat.sign_in("alice", "").await;
    chat.sign_in("bob", "").await;
    chat.say("alice", HOSTILE).await;
    chat.until_messages("bob", &[said("alice", HOSTILE)]).await;
    chat.say("bob", "hello").await;
    chat.until_messages("alice", &[said("alice", HOSTILE), said("bob", "hello")]).await;
    for number in ["one", "two", "three"] {
        // Neither waits for the other.
        chat.say("alice", number).await;
        chat.say("bob", number).await;
    }
    let messages = chat.until_settled(8).await;
    for user in ["alice", "bob"] {
        let own: Vec<_> = messages[2..].iter().filter(|message| message[0] == user).collect();
        assert_eq!(own, ["one", "two", "three"].map(|number| said(user, number)).iter().collect::<Vec<_>>());
        assert_eq!(chat.sockets_of(user).await, 1, "{user}");
        chat.look_at(user).await;
        assert_eq!(chat.browser.run("return window.broken === undefined", json!([])).await, true);
    }

    // A page that is loaded anew fetches what was acked before.
    chat.look_at("alice").await;
    chat.browser.reload().await;
    chat.until_open("alice").await;
    chat.until_messages("alice", &messages).await;
    chat.say("bob", "still there?").await;
    chat.until_messages("alice", &[&messages[..], &[said("bob", "still there?")]].concat()).await;
    chat.until_seen("bob").await;
    chat.close(&[]).await;
    server.process.terminate();
    assert_eq!(server.process.ended().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_they_write_while_the_gateway_is_dead_arrives_once_when_it_is_back() {
    let folder = Folder::new();
    let server = Server::start_on_disk(folder.path(), &[]).await;
    let chat = Chat::open(Example::start().await, server.addresses.http).await;
    chat.sign_in("alice", "").await;
    chat.sign_in("bob", "").await;
    chat.say("alice", "before").await;
    chat.say("bob", "before, too").await;
    let before = chat.until_settled(2).await;
    assert_eq!(chat.browser.sights().await.console, [] as [&str; 0]);

    // Whether this one was accepted nobody knows.
    chat.say("bob", "at the last moment").await;
    server.kill();
    for user in ["alice", "bob"] {
        chat.until_away(user).await;
        chat.say(user, "while it was dead").await;
        chat.say(user, "and once more").await;
        chat.messages(user, 4).await;
        chat.browser.find("@message:last-child[data-status=sending]").await;
    }
    let process = start_again(chat.gateway, folder.path()).await;
    for user in ["alice", "bob"] {
        chat.until_open(user).await;
    }
    let messages = chat.until_settled(7).await;
    assert_eq!(messages[..2], before);
    let of = |user: &str| messages.iter().filter(|message| message[0] == user).cloned().collect::<Vec<_>>();
    assert_eq!(of("alice"), ["before", "while it was dead", "and once more"].map(|text| said("alice", text)));
    let bobs = ["before, too", "at the last moment", "while it was dead", "and once more"];
    assert_eq!(of("bob"), bobs.map(|text| said("bob", text)));

    // Something that came twice would have come before this.
    chat.say("alice", "good to have you back").await;
    let messages = [messages, vec![said("alice", "good to have you back")]].concat();
    chat.until_messages("bob", &messages).await;
    chat.until_messages("alice", &messages).await;
    chat.close(&BROKEN_LINES).await;
    process.terminate();
    assert_eq!(process.ended().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_tokens_they_chat_as_well_and_a_wrong_one_leads_to_signing_in_with_the_reason() {
    let example = Example::start().await;
    let origin = example.origin();
    let secured =
        Secured::start_with(Issuer::hs256(), |config, _| config.http.allowed_origins = vec![origin]).await;
    let mut chat = Chat::open(example, secured.address()).await;
    chat.key = Some(secured.reading.text());
    let token = |user: &str| secured.issuer.token(&sending_claims(user));

    chat.try_to_sign_in("alice", &Issuer::hs256().token(&claims("alice"))).await;
    let reason = chat.refusal(4001).await;
    assert!(reason.contains("did not accept the token") && reason.contains("invalid_token"), "{reason}");
    chat.try_to_sign_in("alice", &token("bob")).await;
    let reason = chat.refusal(4003).await;
    assert!(reason.contains("another user's") && reason.contains("forbidden"), "{reason}");
    chat.sign_in("alice", &token("alice")).await;
    // Without the scope one reads, and is told why nobody else does.
    chat.sign_in("bob", &secured.issuer.token(&claims("bob"))).await;
    chat.say("bob", "hello").await;
    let reason = chat.browser.text_of("@message[data-status=failed] @reason").await;
    assert!(reason.contains("`send`"), "{reason}");
    chat.browser.click("@sign-out").await;
    chat.sign_in("bob", &token("bob")).await;

    chat.say("alice", "with a token").await;
    chat.until_messages("bob", &[said("alice", "with a token")]).await;
    chat.say("bob", "so am I").await;
    let messages = chat.until_settled(2).await;
    assert_eq!(messages, [said("alice", "with a token"), said("bob", "so am I")]);

    // A page keeps no token: one signs in again, and what was read before is there.
    chat.look_at("alice").await;
    chat.browser.reload().await;
    chat.sign_in("alice", &token("alice")).await;
    chat.until_messages("alice", &messages).await;
    for url in chat.browser.sights().await.requests {
        assert!(!url.contains("eyJ") && !url.contains("earer"), "{url}");
    }
    chat.close(&["the server responded with a status of 403"]).await;
    secured.stop().await;
}

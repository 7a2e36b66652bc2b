//! A headless Chromium and the chromedriver that drives it.
//!
//! Both live in a process group of their own that ends with its [`Browser`], with a test that panics, and with a test process
//! that is killed. [`Browser::close`] ends a test: it fails if the console complained or a request went elsewhere.

#[cfg(test)]
mod tests;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use thirtyfour::{By, Capabilities, WebDriver, WebElement, WindowHandle};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use super::sights::Sights;
use super::within;
use crate::process_harness::Folder;

/// Browsers that run at the same time: each takes a quarter of a gigabyte and most of a processor while it starts.
static PLACES: Semaphore = Semaphore::const_new(2);

/// How often a page is looked at while a test waits for something on it.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Ports that chromedriver tries before a test gives up.
const ATTEMPTS: usize = 10;

/// A directory into which a failing test puts a picture of its page.
const PICTURES: &str = "BROWSER_PICTURES";

/// Tests run as root, where there is no sandbox; nothing may be asked of the network that the page does not ask for.
const ARGUMENTS: [&str; 14] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
];

/// A browser with a profile of its own.
pub(crate) struct Browser {
    driver: WebDriver,
    sights: Mutex<Sights>,
    _chromedriver: Chromedriver,
    // Behind the processes that write to it: fields are dropped in their order.
    profile: Folder,
    _place: SemaphorePermit<'static>,
}

/// One of a browser's tabs.
#[derive(Debug, Clone)]
pub(crate) struct Tab(WindowHandle);

/// The running chromedriver. Its shell waits for the end of its input, which comes when the handle is dropped and when the test
/// process ends in whatever way, and kills the whole group, itself included.
struct Chromedriver(Child);

impl Chromedriver {
    /// Starts it on a free port.
    ///
    /// It asks for one of IPv4 and takes the same of IPv6: where somebody else has that one, it ends, and has to try another.
    async fn start() -> (Self, SocketAddr) {
        for _ in 0..ATTEMPTS {
            if let (chromedriver, Some(address)) = Self::try_start().await {
                return (chromedriver, address);
            }
        }
        panic!("chromedriver does not start (Debian: apt-get install chromium-driver)");
    }

    /// One attempt; `None` if it ended.
    async fn try_start() -> (Self, Option<SocketAddr>) {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg("{ chromedriver --port=0; echo ended; } & cat >/dev/null; kill -KILL 0");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut child = command.spawn().expect("there is a shell");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let chromedriver = Self(child);
        let (tell, told) = oneshot::channel();
        std::thread::spawn(move || {
            let mut tell = Some(tell);
            // The browser writes to the same pipe: it is read to its end.
            for line in output.lines().map_while(Result::ok) {
                let port = line.split("successfully on port ").nth(1);
                let port = port.and_then(|rest| rest.trim_end_matches('.').parse().ok());
                if let Some(tell) = tell.take_if(|_| port.is_some() || line == "ended") {
                    // The test may have ended.
                    let _ = tell.send(port.map(|port: u16| SocketAddr::from(([127, 0, 0, 1], port))));
                }
            }
        });
        let address = within("chromedriver", told).await;
        (chromedriver, address.expect("its output does not end before it says anything"))
    }
}

impl Drop for Chromedriver {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It fails only for a process that was waited for.
        let _ = self.0.wait();
    }
}

impl Browser {
    /// Starts a browser with an empty page as soon as there is a place for it.
    pub(crate) async fn start() -> Self {
        let place = PLACES.acquire().await.expect("nobody closes it");
        let profile = Folder::new();
        let (chromedriver, address) = Chromedriver::start().await;
        let connect = WebDriver::new(format!("http://{address}"), capabilities(profile.path()));
        let driver = within("the browser", connect).await.expect("Chromium starts");
        let sights = Mutex::new(Sights::default());
        Self { driver, sights, _chromedriver: chromedriver, profile, _place: place }
    }

    /// Opens an address in the current tab and waits until its page is loaded.
    pub(crate) async fn open(&self, url: &str) {
        within(url, self.driver.goto(url)).await.expect("the page opens");
    }

    /// Loads the current tab's page anew.
    pub(crate) async fn reload(&self) {
        within("a reload", self.driver.refresh()).await.expect("the page opens again");
    }

    /// The tab that the verbs speak of.
    pub(crate) async fn tab(&self) -> Tab {
        Tab(within("the tab", self.driver.window()).await.expect("a tab is open"))
    }

    /// Opens an address in another tab, which the verbs speak of from now on.
    pub(crate) async fn open_tab(&self, url: &str) -> Tab {
        let tab = Tab(within("a tab", self.driver.new_tab()).await.expect("a tab more"));
        self.switch_to(&tab).await;
        self.open(url).await;
        tab
    }

    /// From now on the verbs speak of this tab.
    pub(crate) async fn switch_to(&self, tab: &Tab) {
        within("the tab", self.driver.switch_to_window(tab.0.clone())).await.expect("the tab is open");
    }

    /// Sets the size of the window, to see a page as it is on a phone.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let resized = self.driver.set_window_rect(0, 0, width, height);
        within("another size", resized).await.expect("the window has a size");
    }

    /// The first element that a selector of CSS finds, once there is one; `@name` stands for `[data-test="name"]`.
    pub(crate) async fn find(&self, name: &str) -> WebElement {
        let selector = selector(name);
        self.until(
            &format!("{selector} on the page"),
            "document.querySelector(arguments[0])",
            json!([selector]),
        )
        .await;
        within(name, self.driver.find(By::Css(selector))).await.expect("it is still there")
    }

    /// Clicks on this element as a person does: it has to be seen and not to be covered.
    pub(crate) async fn click(&self, name: &str) {
        within(name, self.find(name).await.click()).await.expect("it can be clicked");
    }

    /// Replaces what stands in this field.
    pub(crate) async fn fill(&self, name: &str, text: &str) {
        let field = self.find(name).await;
        within(name, field.clear()).await.expect("it is a field");
        within(name, field.send_keys(text)).await.expect("it takes keys");
    }

    /// Types into this element, behind what stands there; keys such as Enter are characters of their own.
    pub(crate) async fn press(&self, name: &str, keys: &str) {
        within(name, self.find(name).await.send_keys(keys)).await.expect("it takes keys");
    }

    /// The text that this element shows.
    pub(crate) async fn text_of(&self, name: &str) -> String {
        within(name, self.find(name).await.text()).await.expect("it is still there")
    }

    /// Runs the body of a function on the page and returns what it returns; the arguments are its `arguments`.
    pub(crate) async fn run(&self, script: &str, arguments: Value) -> Value {
        let Value::Array(arguments) = arguments else { panic!("a list of arguments") };
        match within("a script", self.driver.execute(script, arguments)).await {
            Ok(returned) => returned.json().clone(),
            Err(error) => self.fail(&format!("the script {script}\nfailed: {error}")).await,
        }
    }

    /// The same for a function that waits: the value of its promise is returned.
    pub(crate) async fn run_async(&self, script: &str, arguments: Value) -> Value {
        let waiting = format!("return (async function () {{ {script} }}).apply(null, arguments)");
        self.run(&waiting, arguments).await
    }

    /// Waits until an expression is true on the page, and returns its value.
    pub(crate) async fn until(&self, what: &str, expression: &str, arguments: Value) -> Value {
        let script = format!("return {expression}");
        let reached = async {
            loop {
                let value = self.run(&script, arguments.clone()).await;
                if !matches!(value, Value::Null | Value::Bool(false)) {
                    return value;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        match tokio::time::timeout(super::PATIENCE, reached).await {
            Ok(value) => value,
            Err(_) => self.fail(&format!("waited in vain for {what}: {expression} with {arguments}")).await,
        }
    }

    /// Takes the network away from the current tab, as pulling the plug does.
    pub(crate) async fn go_offline(&self) {
        self.network(true).await;
    }

    /// Gives it back.
    pub(crate) async fn go_online(&self) {
        self.network(false).await;
    }

    /// Writes a picture of the page to a file.
    pub(crate) async fn picture(&self, path: &Path) {
        within("a picture", self.driver.screenshot(path)).await.expect("the page can be seen");
    }

    /// What the developer tools have seen so far.
    pub(crate) async fn sights(&self) -> Sights {
        let mut lines = Vec::new();
        for kind in ["browser", "performance"] {
            let log = within("a log", self.driver.get_log(kind)).await.expect("the log is kept");
            lines.push(log);
        }
        let [console, network] = <[_; 2]>::try_from(lines).expect("two logs");
        let mut sights = self.sights.lock().expect("nobody panicked with it");
        sights.add(&console, &network);
        sights.clone()
    }

    /// Ends the browser. Fails unless the console was silent, but for lines that contain one of the `expected` texts, and every
    /// request went to one of the `hosts`.
    pub(crate) async fn close(self, hosts: &[SocketAddr], expected: &[&str]) {
        let sights = self.sights().await;
        within("the end of the browser", self.driver.clone().quit()).await.expect("it ends");
        sights.check(hosts, expected);
    }

    /// Fails and says what is on the page.
    pub(crate) async fn fail(&self, what: &str) -> ! {
        let look = "return document.location + '\\n' + document.body?.innerText";
        let text = self.driver.execute(look, Vec::new()).await;
        let text = text.map_or_else(|error| error.to_string(), |text| text.json().to_string());
        if let Some(folder) = std::env::var_os(PICTURES) {
            let name = std::thread::current().name().unwrap_or("test").replace("::", "-");
            self.picture(&Path::new(&folder).join(format!("{name}.png"))).await;
        }
        let console = self.sights().await.console;
        panic!("{what}\non the page: {text}\nin the console: {console:#?}");
    }

    async fn network(&self, offline: bool) {
        let conditions =
            json!({"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1});
        let tools = self.driver.cdp();
        let set = tools.send_raw("Network.emulateNetworkConditions", conditions);
        within("the network to change", set).await.expect("Chromium can do that");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The processes are killed: nobody needs to say goodbye, which would block the runtime. It fails after `close`.
        let _ = self.driver.clone().leak();
    }
}

/// A selector of CSS with the names of `data-test` written out.
pub(crate) fn selector(short: &str) -> String {
    let mut parts = short.split('@');
    let mut selector = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|next: char| !next.is_ascii_alphanumeric() && next != '-').unwrap_or(part.len());
        selector.push_str(&format!("[data-test=\"{}\"]{}", &part[..end], &part[end..]));
    }
    selector
}

fn capabilities(profile: &Path) -> Capabilities {
    let mut arguments = ARGUMENTS.map(str::to_owned).to_vec();
    arguments.push(format!("--user-data-dir={}", profile.display()));
    let capabilities = json!({
        "browserName": "chrome",
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        "goog:chromeOptions": {
            "args": arguments,
            "perfLoggingPrefs": {"enableNetwork": true, "enablePage": false},
        },
    });
    let Value::Object(capabilities) = capabilities else { unreachable!("an object") };
    Capabilities::from(capabilities)
}

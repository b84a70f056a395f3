//! A headless Chromium, driven over its own debugging protocol: pages of the console, seen and used as by a person.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

use crate::support::PATIENCE;

const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// A browser with its profile in a temporary directory. It ends with this.
pub struct Browser {
    child: Child,
    socket: WebSocket<MaybeTlsStream<std::net::TcpStream>>,
    last: u64,
    /// What went wrong on the pages: exceptions, and what they logged as errors.
    pub errors: Vec<String>,
    _profile: TempDir,
}

/// One page in it.
#[derive(Debug, Clone)]
pub struct Page(String);

fn find() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).flat_map(|path| BROWSERS.map(|name| path.join(name))).find(|path| path.is_file())
}

impl Browser {
    /// Starts one; `None` if the environment says that there is none.
    pub fn start() -> Option<Self> {
        if std::env::var("RESTANTE_NO_BROWSER").is_ok_and(|value| value == "1") {
            eprintln!("RESTANTE_NO_BROWSER=1: the console is not looked at");
            return None;
        }
        let browser = find().expect(
            "no browser is here: install one (Debian: apt-get install -y chromium), or go without: RESTANTE_NO_BROWSER=1",
        );
        let profile = tempfile::Builder::new().prefix("restante-browser-").tempdir().expect("a temporary directory");
        let mut child = Command::new(browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--hide-scrollbars", "--remote-debugging-port=0", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the browser runs");
        let mut said = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let address = loop {
            let line = said.next().expect("it says where it listens").expect("it can be read");
            if let Some(address) = line.strip_prefix("DevTools listening on ") {
                break address.trim().to_owned();
            }
        };
        // What it says besides is of no use, and must not stop it.
        std::thread::spawn(move || said.for_each(drop));
        let (socket, _) = tungstenite::connect(&address).expect("it lets itself be driven");
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        }
        Some(Self { child, socket, last: 0, errors: Vec::new(), _profile: profile })
    }

    /// Asks something, and waits for the answer.
    #[track_caller]
    fn ask(&mut self, page: Option<&Page>, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut question = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(Page(session)) = page {
            question["sessionId"] = session.as_str().into();
        }
        self.socket.send(Message::text(question.to_string())).expect("the browser lives");
        loop {
            let text = match self.socket.read().expect("the browser answers") {
                Message::Text(text) => text,
                _ => continue,
            };
            let said: Value = serde_json::from_str(&text).expect("JSON");
            self.note(&said);
            if said["id"] == self.last {
                assert!(said["error"].is_null(), "{method}: {}", said["error"]);
                return said["result"].clone();
            }
        }
    }

    fn note(&mut self, said: &Value) {
        let parameters = &said["params"];
        match said["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.errors.push(parameters["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if parameters["type"] == "error" => {
                self.errors.push(parameters["args"].to_string());
            }
            // That a server is down is no fault of the page.
            Some("Log.entryAdded")
                if parameters["entry"]["level"] == "error" && parameters["entry"]["source"] != "network" =>
            {
                self.errors.push(parameters["entry"].to_string());
            }
            _ => {}
        }
    }

    /// A window of its own, with nothing of the others in it.
    pub fn open(&mut self, url: &str, (width, height): (u32, u32), dark: bool) -> Page {
        let context = self.ask(None, "Target.createBrowserContext", json!({}))["browserContextId"].clone();
        let target = json!({ "url": "about:blank", "browserContextId": context });
        let target = self.ask(None, "Target.createTarget", target)["targetId"].clone();
        let attached = self.ask(None, "Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        let page = Page(attached["sessionId"].as_str().expect("a session").to_owned());
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            self.ask(Some(&page), domain, json!({}));
        }
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.ask(Some(&page), "Emulation.setDeviceMetricsOverride", size);
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.ask(Some(&page), "Emulation.setEmulatedMedia", media);
        // Several windows are looked at in turn, and each is to believe that it is seen.
        self.ask(Some(&page), "Emulation.setFocusEmulationEnabled", json!({ "enabled": true }));
        self.ask(Some(&page), "Page.navigate", json!({ "url": url }));
        page
    }

    /// The value of an expression; what is promised is waited for.
    #[track_caller]
    pub fn value(&mut self, page: &Page, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.ask(Some(page), "Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn wait(&mut self, page: &Page, what: &str, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // A page that is not there yet has nothing of what is looked for.
            let asked = format!("(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()");
            if self.value(page, &asked) == true {
                return;
            }
            if Instant::now() > deadline {
                let text = self.value(page, "document.body.innerText");
                panic!("waited {PATIENCE:?} in vain for {what}; errors: {:?}; the page says:\n{text:#}", self.errors);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Gives a field the focus, and types into it as a keyboard does.
    #[track_caller]
    pub fn type_into(&mut self, page: &Page, selector: &str, text: &str) {
        let found = self.value(
            page,
            &format!("(() => {{ const f = document.querySelector('{selector}'); f?.focus(); f?.select?.(); return Boolean(f) }})()"),
        );
        assert_eq!(found, true, "there is no {selector}");
        self.ask(Some(page), "Input.insertText", json!({ "text": text }));
    }

    /// Presses a key.
    pub fn press(&mut self, page: &Page, key: &str) {
        let code = match key {
            "Enter" => 13,
            "Tab" => 9,
            _ => 0,
        };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let parameters =
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
            self.ask(Some(page), "Input.dispatchKeyEvent", parameters);
        }
    }

    /// A picture of what is seen, or of all of the page.
    pub fn picture(&mut self, page: &Page, whole: bool, file: &Path) {
        use base64::Engine as _;
        let parameters = json!({ "format": "png", "captureBeyondViewport": whole });
        let mut parameters = parameters;
        if whole {
            let height = self.value(page, "document.documentElement.scrollHeight");
            let width = self.value(page, "innerWidth");
            parameters["clip"] = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
        }
        let picture = self.ask(Some(page), "Page.captureScreenshot", parameters);
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(picture["data"].as_str().expect("a picture"))
            .expect("base64");
        std::fs::write(file, bytes).expect("it can be written");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

//! A real browser without a screen, driven over its DevTools protocol.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::lab::{Lab, system_program};
use crate::process::Process;
use crate::wait::{eventually, within};

/// One tab of one browser.
pub struct Chromium {
    socket: WebSocketStream<TcpStream>,
    session: String,
    next_id: u64,
    _process: Process,
}

impl Chromium {
    /// A browser that finds `hosts` where they are said to be, and asks the outside nothing.
    pub async fn start(lab: &Lab, hosts: &[(&str, SocketAddr)]) -> Self {
        let profile = lab.folder("chromium");
        let mut rules: Vec<_> = hosts
            .iter()
            .map(|(host, address)| format!("MAP {host} {address}"))
            .collect();
        rules.push("MAP * ~NOTFOUND".into());
        rules.push("EXCLUDE 127.0.0.1".into());
        rules.push("EXCLUDE localhost".into());
        let mut process = Process::start(lab, "chromium", system_program("chromium"), |command| {
            command
                .args([
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-quic",
                ])
                .args(["--no-first-run", "--disable-background-networking"])
                .args(["--disable-component-update", "--disable-sync"])
                .args(["--disable-dev-shm-usage", "--ignore-certificate-errors"])
                .args(["--remote-debugging-port=0", "--window-size=1280,1400"])
                .arg(format!("--host-resolver-rules={}", rules.join(",")))
                .arg(format!("--user-data-dir={}", profile.display()))
                .arg("about:blank")
                .env("HOME", &profile);
        });
        let (port, path) = eventually("chromium opens its port", Duration::from_secs(60), || {
            process.assert_running();
            std::future::ready(devtools(&profile.join("DevToolsActivePort")))
        })
        .await;
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("chromium listens");
        let url = format!("ws://127.0.0.1:{port}{path}");
        let (socket, _) = tokio_tungstenite::client_async(url, stream)
            .await
            .expect("chromium speaks DevTools");
        let mut browser = Self {
            socket,
            session: String::new(),
            next_id: 0,
            _process: process,
        };
        let made = browser
            .call("Target.createTarget", json!({ "url": "about:blank" }))
            .await;
        let target = made["targetId"].clone();
        let attached = browser
            .call(
                "Target.attachToTarget",
                json!({ "targetId": target, "flatten": true }),
            )
            .await;
        browser.session = attached["sessionId"]
            .as_str()
            .expect("a session's name")
            .to_owned();
        browser
    }

    /// Goes to `url`, and fails the test where the browser shows an error page of its own.
    pub async fn open(&mut self, url: &str) {
        let went = self.call("Page.navigate", json!({ "url": url })).await;
        assert!(went["errorText"].is_null(), "{url}: {went}");
        self.sees("document.readyState === 'complete'").await;
    }

    /// The value of a script, promises awaited.
    pub async fn eval(&mut self, script: &str) -> Value {
        let result = self
            .call(
                "Runtime.evaluate",
                json!({ "expression": script, "returnByValue": true, "awaitPromise": true }),
            )
            .await;
        assert!(result["exceptionDetails"].is_null(), "{script}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until a script is true.
    pub async fn sees(&mut self, script: &str) {
        let end = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let value = self.eval(script).await;
            if value == Value::Bool(true) {
                return;
            }
            if std::time::Instant::now() > end {
                let page = self.eval("document.documentElement.innerText").await;
                panic!("the page never came to `{script}` ({value}); it shows: {page}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Clicks on what a CSS selector finds.
    pub async fn click(&mut self, selector: &str) {
        let script = format!(
            "(() => {{ const found = document.querySelector({0}); if (!found) return false; found.click(); return true; }})()",
            json!(selector)
        );
        assert_eq!(
            self.eval(&script).await,
            Value::Bool(true),
            "{selector} is not there"
        );
    }

    /// The whole page as a person sees it, kept in `file` as PNG.
    pub async fn screenshot(&mut self, file: &Path) {
        let metrics = self.call("Page.getLayoutMetrics", json!({})).await;
        let size = &metrics["cssContentSize"];
        let clip =
            json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        let shot = self
            .call(
                "Page.captureScreenshot",
                json!({ "format": "png", "captureBeyondViewport": true, "clip": clip }),
            )
            .await;
        let data = shot["data"].as_str().expect("a picture");
        let png = BASE64_STANDARD.decode(data).expect("base64");
        assert!(png.starts_with(b"\x89PNG"), "not a picture");
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).expect("the folder can be made");
        }
        std::fs::write(file, png).expect("the picture can be kept");
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        let mut message = json!({ "id": id, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        within(method, Duration::from_secs(30), async {
            self.socket
                .send(Message::text(message.to_string()))
                .await
                .expect("chromium listens");
            loop {
                let Some(Ok(message)) = self.socket.next().await else {
                    panic!("chromium is gone");
                };
                let Message::Text(text) = message else {
                    continue;
                };
                let answer: Value = serde_json::from_str(&text).expect("DevTools speaks JSON");
                if answer["id"] == json!(id) {
                    assert!(answer["error"].is_null(), "{method}: {answer}");
                    return answer["result"].clone();
                }
            }
        })
        .await
    }
}

/// The port and path that chromium writes down once it listens.
fn devtools(file: &Path) -> Result<(u16, String), String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let mut lines = text.lines();
    let port = lines.next().and_then(|port| port.parse().ok());
    port.zip(lines.next().map(str::to_owned))
        .ok_or_else(|| format!("half written: {text:?}"))
}

//! The demonstration site, in a real browser.

use std::path::PathBuf;
use std::time::Duration;

use sovereign_tests::lab::Lab;
use sovereign_tests::port::free_address;
use sovereign_tests::process::Process;
use sovereign_tests::proxy::program;
use sovereign_tests::{Chromium, Client, Target, eventually};

/// Where pictures are kept for a person to look at: beside the test binary.
fn picture(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test
        .ancestors()
        .nth(2)
        .expect("it lies in the build folder");
    folder.join("e2e-pictures").join(name)
}

/// `sovereign-proxy demo`, and its plain and its TLS address.
async fn demo(lab: &Lab) -> (Process, Target, Target) {
    let (http, https) = (free_address(), free_address());
    let state = lab.folder("demo").join("state");
    let mut process = Process::start(lab, "demo", program(), |command| {
        command
            .arg("demo")
            .arg(format!("--http={http}"))
            .arg(format!("--https={https}"))
            .arg("--state")
            .arg(&state);
    });
    let target = eventually("the demonstration answers", Duration::from_secs(30), || {
        process.assert_running();
        let root = state.join("ca/root.pem");
        async move {
            if !root.exists() {
                return Err("no certificate yet".to_owned());
            }
            let target = Target::tls(https, "localhost", &root);
            target
                .connect("h2")
                .await
                .map_err(|error| error.to_string())?;
            Ok(target)
        }
    })
    .await;
    (process, Target::plain(http, "localhost"), target)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_three_things_to_try() {
    let lab = Lab::open().await;
    let (process, _, target) = demo(&lab).await;
    let port = target.address.port();
    // It greets once it listens, so who connects at once may be quicker.
    let address = format!("https://localhost:{port}");
    eventually("it greets", Duration::from_secs(30), || {
        let greeting = std::fs::read_to_string(process.stdout()).unwrap_or_default();
        let greets = greeting.contains(&address);
        std::future::ready(greets.then_some(()).ok_or(greeting))
    })
    .await;

    let mut browser = Chromium::start(&lab, &[]).await;
    browser.open(&format!("https://localhost:{port}/")).await;
    browser
        .sees("document.querySelector('h1').innerText.length > 0")
        .await;
    browser
        .sees("document.getElementById('origin-state').dataset.state === 'on'")
        .await;
    browser
        .sees("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        .await;

    // The page of the first panel comes from the origin, then from the cache.
    let title = "(document.querySelector('#load-result strong')?.innerText ?? '')";
    browser.click("#load button").await;
    browser
        .sees(&format!("{title}.startsWith('From the origin')"))
        .await;
    browser
        .sees("!document.querySelector('#load button').disabled")
        .await;
    browser.click("#load button").await;
    browser
        .sees(&format!("{title}.startsWith('From the cache')"))
        .await;
    browser
        .sees("document.querySelector('[data-fact=\"cache-status\"]').innerText.includes('hit')")
        .await;
    browser.screenshot(&picture("demo-cache.png")).await;

    // The origin is switched off, and the page that was read stays.
    browser.click("#origin-toggle").await;
    browser
        .sees("document.getElementById('origin-state').dataset.state === 'off'")
        .await;
    let asked = "(document.querySelector('#ask-result strong')?.innerText ?? '')";
    browser.click("#again").await;
    browser
        .sees(&format!("{asked}.startsWith('From the cache')"))
        .await;
    browser.click("#unseen").await;
    browser
        .sees(&format!("{asked}.startsWith('Answered 503')"))
        .await;
    browser.screenshot(&picture("demo-origin-off.png")).await;

    // A page that nobody has read waits, and arrives when the origin is back.
    browser.click("#unseen").await;
    browser
        .sees(&format!("{asked}.startsWith('Waiting')"))
        .await;
    browser.click("#origin-toggle").await;
    browser
        .sees("document.getElementById('origin-state').dataset.state === 'on'")
        .await;
    browser
        .sees(&format!("{asked}.startsWith('From the origin')"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_ticks() {
    let lab = Lab::open().await;
    let (_process, _, target) = demo(&lab).await;
    let mut browser = Chromium::start(&lab, &[]).await;
    browser
        .open(&format!(
            "https://localhost:{}/clock",
            target.address.port()
        ))
        .await;

    browser
        .sees("document.getElementById('clock-state').dataset.state === 'on'")
        .await;
    let time = browser
        .eval("document.getElementById('clock-time').innerText")
        .await;
    browser
        .sees(&format!(
            "document.getElementById('clock-time').innerText !== {time}"
        ))
        .await;
    browser
        .eval("document.getElementById('clock-text').value = 'is anybody there'")
        .await;
    browser.click("#clock-form button").await;
    browser
        .sees("document.querySelector('#clock-echoes li')?.innerText === 'is anybody there'")
        .await;
    browser.screenshot(&picture("demo-clock.png")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_page_and_file_is_there() {
    let lab = Lab::open().await;
    let (_process, plain, target) = demo(&lab).await;
    let client = Client::h2(&target);
    for (path, kind) in [
        ("/", "text/html"),
        ("/articles/", "text/html"),
        ("/clock", "text/html"),
        ("/feed.xml", "application/atom+xml"),
        ("/sitemap.xml", "application/xml"),
        ("/image.png", "image/png"),
        ("/image.svg", "image/svg+xml"),
        ("/robots.txt", "text/plain"),
    ] {
        let answer = client.get(path).await.expect(200);
        assert!(
            answer.header("content-type").starts_with(kind),
            "{path}: {answer}"
        );
        assert!(
            client
                .get(path)
                .await
                .header("cache-status")
                .contains("hit"),
            "{path}"
        );
    }
    client.get("/missing").await.expect(404);
    let plain = Client::h1(&plain).get("/articles/?a=b").await.expect(308);
    assert!(
        plain.header("location").starts_with("https://localhost"),
        "{plain}"
    );
    assert!(
        plain.header("location").ends_with("/articles/?a=b"),
        "{plain}"
    );
}

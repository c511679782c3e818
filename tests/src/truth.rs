//! An origin whose answers prove themselves: every byte of a body follows from what was asked for and
//! from the version that the origin was in, so whoever reads it can tell whether it is the right one.
//!
//! ```text
//! /truth/SIZE/NAME?option&option=value
//!   age=N          fresh for N seconds (a day)
//!   cc=TEXT        this Cache-Control instead
//!   private        for whoever asks, and different each time
//!   vary=FIELD     varies by that field, body included
//!   wait=MS        the head comes after so long
//!   drip=MS        64 KiB of the body, then a pause, and so on
//!   gate           the body stops half way until the origin's gate is opened
//!   held           the head comes when the gate is opened
//!   crowd=N        the first is held; the others are answered once N of them wait at one moment
//!   chunked        without a Content-Length
//!   pad=N          a field of N bytes
//!   FIELD:a+b      tags, in one of the fields that caches know
//!   drop=N         from version N on it may not be stored
//! ```
//!
//! A request other than GET and HEAD is answered with `x-say-NAME: value` fields turned into
//! `NAME: value`. The body itself is cheap to make and to check: pages of 4 KiB, each of which begins
//! with what it is a page of, filled from one table of noise.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::{HeaderMap, HeaderName, Method, Request, Response};
use hyper::body::Incoming;
use tokio::sync::watch;

use asked::Asked;
use matter::Matter;

pub use asker::{Asker, Tally, read_all, store_all};
pub use check::{Reading, check, check_part, check_variant, is_hit, is_stored};
pub use dice::Dice;

use crate::client::{Body, empty, whole};
use crate::origin::{Origin, reply};

// What an answer is made of.
mod asked;
mod matter;
// Who asks, and checks it.
mod asker;
mod check;
// What is left to chance.
mod dice;

/// How an answer names the version that it is of.
pub const VERSION: &str = "x-truth-version";
/// How an answer names the value that it varies by.
pub const VARIANT: &str = "x-truth-variant";
/// How an answer gives the checksum of its whole body.
pub const SUM: &str = "x-truth-sum";

/// The origin.
pub struct Truth {
    origin: Origin,
    state: Arc<State>,
}

struct State {
    version: AtomicU64,
    /// Counts answers for one visitor only.
    private: AtomicU64,
    now: AtomicUsize,
    most: AtomicUsize,
    gate: watch::Sender<bool>,
    /// Requests of a crowd so far, and the most of them that waited at one moment.
    crowd: AtomicUsize,
    crowd_now: AtomicUsize,
    crowd_most: watch::Sender<usize>,
}

impl Truth {
    /// An origin in its version 1, its gate shut.
    pub async fn start() -> Self {
        let state = Arc::new(State {
            version: AtomicU64::new(1),
            private: AtomicU64::new(0),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            gate: watch::Sender::new(false),
            crowd: AtomicUsize::new(0),
            crowd_now: AtomicUsize::new(0),
            crowd_most: watch::Sender::new(0),
        });
        let shared = state.clone();
        let origin = Origin::start(move |request| answer(shared.clone(), request)).await;
        Self { origin, state }
    }

    /// The origin as the harness knows it.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// One site, in plain HTTP and without a preset, in front of it; `more` is added.
    pub fn site(&self, host: &str, more: &str) -> String {
        format!(
            "[[site]]\nnames = [\"{host}\"]\ntls = \"off\"\nupstream = [\"{}\"]\n{more}\n",
            self.origin.url()
        )
    }

    /// How many requests it has seen.
    pub fn hits(&self) -> usize {
        self.origin.hits()
    }

    /// How many it has seen for one path and query.
    pub fn hits_of(&self, path: &str) -> usize {
        self.origin
            .seen()
            .iter()
            .filter(|seen| seen.path == path)
            .count()
    }

    /// The most requests that waited for their answer at one moment.
    pub fn most_at_once(&self) -> usize {
        self.state.most.load(Ordering::Relaxed)
    }

    /// Forgets the crowd that has been here: the next of a crowd is the first again.
    pub fn disperse(&self) {
        self.state.crowd.store(0, Ordering::SeqCst);
        self.state.crowd_most.send_replace(0);
    }

    /// The version that it is in.
    pub fn version(&self) -> u64 {
        self.state.version.load(Ordering::SeqCst)
    }

    /// Everything changes; gives the new version.
    pub fn change(&self) -> u64 {
        self.state.version.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Lets bodies that wait at the gate go on, from now on.
    pub fn open_gate(&self) {
        self.state.gate.send_replace(true);
    }

    /// Bodies wait at the gate again.
    pub fn shut_gate(&self) {
        self.state.gate.send_replace(false);
    }
}

/// A path of the origin's.
pub fn path(size: usize, name: &str) -> String {
    format!("/truth/{size}/{name}")
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Response<Body> {
    // What is under way when everything changes is still an answer of the version before.
    let version = state.version.load(Ordering::SeqCst);
    let now = state.now.fetch_add(1, Ordering::SeqCst) + 1;
    state.most.fetch_max(now, Ordering::SeqCst);
    let response = answer_of(&state, version, request).await;
    state.now.fetch_sub(1, Ordering::SeqCst);
    response
}

async fn answer_of(state: &Arc<State>, version: u64, request: Request<Incoming>) -> Response<Body> {
    let path = request
        .uri()
        .path_and_query()
        .map_or(String::new(), ToString::to_string);
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return said(request.headers());
    }
    let asked = Asked::of(&path);
    tokio::time::sleep(asked.milliseconds("wait")).await;
    if asked.has("held") {
        state.held().await;
    }
    if let Some(size) = asked.number("crowd") {
        state.crowded(size as usize).await;
    }

    let varies = asked.value("vary");
    let mut variant = varies
        .and_then(|name| request.headers().get(name))
        .map_or(String::new(), |value| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        });
    if asked.has("private") {
        // Nobody else is given this number: who gets somebody else's copy can be told.
        let number = state.private.fetch_add(1, Ordering::Relaxed);
        variant = format!("visitor-{number}");
    }
    let control = match (asked.value("cc"), asked.number("drop")) {
        (_, Some(from)) if version >= from => "no-store".to_owned(),
        (Some(text), _) => text.replace('+', ", "),
        (None, _) if asked.has("private") => "private".to_owned(),
        (None, _) => format!("max-age={}", asked.number("age").unwrap_or(86_400)),
    };
    let matter = Matter::new(&path, &variant, version, asked.size);
    let tag = format!("\"{version}-{:016x}\"", matter.seed);
    let mut response = reply(
        200,
        [
            ("cache-control", &control),
            ("content-type", "application/octet-stream"),
            ("etag", &tag),
            (VERSION, &version.to_string()),
            (VARIANT, &variant),
            (SUM, &matter.sum()),
        ],
        empty(),
    );
    let headers = response.headers_mut();
    if let Some(name) = varies {
        headers.insert("vary", name.parse().expect("a field's name"));
    }
    for (name, value) in asked.tags() {
        headers.append(name, value.parse().expect("tags"));
    }
    if let Some(length) = asked.number("pad") {
        let padding = "p".repeat(length as usize);
        headers.insert("x-pad", padding.parse().expect("a field's value"));
    }
    let known = request.headers().get("if-none-match");
    if known.is_some_and(|known| known == tag.as_str()) {
        *response.status_mut() = http::StatusCode::NOT_MODIFIED;
        return response;
    }
    if request.method() == Method::HEAD {
        return response;
    }
    if !asked.has("chunked") {
        let length = asked.size.to_string();
        headers.insert("content-length", length.parse().expect("a number"));
    }
    let gate = asked.has("gate").then(|| state.gate.subscribe());
    *response.body_mut() = matter.into_body(asked.milliseconds("drip"), gate);
    response
}

impl State {
    async fn held(&self) {
        // An error would mean that the origin is gone, and then nobody waits.
        let _ = self.gate.subscribe().wait_for(|open| *open).await;
    }

    async fn crowded(&self, size: usize) {
        if self.crowd.fetch_add(1, Ordering::SeqCst) == 0 {
            return self.held().await;
        }
        let now = self.crowd_now.fetch_add(1, Ordering::SeqCst) + 1;
        self.crowd_most.send_modify(|most| *most = now.max(*most));
        let enough = |most: &usize| *most >= size;
        let _ = self.crowd_most.subscribe().wait_for(enough).await;
        self.crowd_now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The answer to a request that changes something: what it was asked to say.
fn said(request: &HeaderMap) -> Response<Body> {
    let mut response = reply(200, [("cache-control", "no-store")], whole("done"));
    for (name, value) in request {
        if let Some(name) = name.as_str().strip_prefix("x-say-") {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a field's name");
            response.headers_mut().append(name, value.clone());
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::client::Target;

    /// An answer with one byte, one name or its length changed is found out.
    #[tokio::test]
    async fn what_is_not_true_is_told() {
        let truth = Truth::start().await;
        let target = Target::plain(truth.origin().address(), "truth.test");
        let mut asker = Asker::new(&target);
        for size in [0, 1, 16, 17, 4096, 70_000, 200_000] {
            let path = path(size, "a?drip=1");
            let sound = asker.get(&path).await.expect("an answer");
            assert_eq!(check(&path, &sound), Ok(1));
            assert!(size == 0 || check(&path.replace("/a", "/b"), &sound).is_err());
            for at in [0, size / 2, size.saturating_sub(1)] {
                let mut flipped = sound.clone();
                let mut body = flipped.body.to_vec();
                if let Some(byte) = body.get_mut(at) {
                    *byte ^= 0x10;
                    flipped.body = body.into();
                    assert!(check(&path, &flipped).is_err(), "{size} at {at}");
                }
            }
            let mut short = sound.clone();
            short.body = short.body.slice(..size.saturating_sub(1));
            assert!(size == 0 || check(&path, &short).is_err(), "{size}: short");
            let mut old = sound.clone();
            old.headers.insert(VERSION, HeaderValue::from_static("2"));
            assert!(check(&path, &old).is_err(), "{size}: another version");
            let mut other = sound;
            other.headers.insert(VARIANT, HeaderValue::from_static("x"));
            assert!(check(&path, &other).is_err(), "{size}: another variant");
        }
    }

    #[tokio::test]
    async fn versions_variants_and_visitors() {
        let truth = Truth::start().await;
        let target = Target::plain(truth.origin().address(), "truth.test");
        let mut asker = Asker::new(&target);
        let path = "/truth/5000/a?vary=x-shade&cache-tag:a+b&cache-groups:c+d&cc=public+max-age=3";
        let fields = [("x-shade", "red")];
        let red = asker.get_with(path, &fields).await.expect("an answer");
        assert_eq!(check_variant(path, "red", &red), Ok(1));
        assert!(check_variant(path, "blue", &red).is_err());
        assert_eq!(red.header("cache-tag"), "a, b");
        assert_eq!(red.header("cache-groups"), "\"c\", \"d\"");
        assert_eq!(red.header("cache-control"), "public, max-age=3");
        assert_eq!(truth.change(), 2);
        let red = asker.get_with(path, &fields).await.expect("an answer");
        assert_eq!(check_variant(path, "red", &red), Ok(2));
        let known = [("if-none-match", red.header("etag"))];
        let plain = asker.get_with(path, &known).await.expect("an answer");
        assert_eq!(
            check(path, &plain),
            Ok(2),
            "another variant has another tag"
        );

        let mine = asker.get("/truth/10/a?private").await.expect("an answer");
        let yours = asker.get("/truth/10/a?private").await.expect("an answer");
        assert_ne!(mine.header(VARIANT), yours.header(VARIANT));
        assert_ne!(mine.body, yours.body);
    }
}

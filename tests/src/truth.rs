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

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::watch;

use crate::client::{Answer, Body, H1, Sent, Target, empty, whole};
use crate::origin::{Origin, reply};

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

/// The version that an answer is of, where its status is 200 and every byte of it belongs to that
/// version of `path` as asked for without a varying field; else what is wrong with it.
pub fn check(path: &str, answer: &Answer) -> Result<u64, String> {
    check_variant(path, "", answer)
}

/// The same for a request whose varying field had this value.
pub fn check_variant(path: &str, variant: &str, answer: &Answer) -> Result<u64, String> {
    if answer.status != 200 {
        return Err(format!("{path}: answered {}", answer.status));
    }
    let (version, size) = claimed(path, variant, answer)?;
    let expected = Matter::new(path, variant, version, size);
    if answer.body.len() != size {
        let length = answer.body.len();
        return Err(format!("{path}: {length} bytes of {size}"));
    }
    expected.compare(0, &answer.body)?;
    if answer.header(SUM) != expected.sum() {
        return Err(format!("{path}: the sum of another body"));
    }
    Ok(version)
}

/// The same for a 206 of one range, by its first and last byte.
pub fn check_part(path: &str, first: usize, last: usize, answer: &Answer) -> Result<u64, String> {
    if answer.status != 206 {
        return Err(format!("{path}: answered {}", answer.status));
    }
    let (version, size) = claimed(path, "", answer)?;
    let wanted = format!("bytes {first}-{last}/{size}");
    if answer.header("content-range") != wanted {
        let found = answer.header("content-range");
        return Err(format!("{path}: {found:?} instead of {wanted:?}"));
    }
    if answer.body.len() != last + 1 - first {
        return Err(format!("{path}: {} bytes of a part", answer.body.len()));
    }
    Matter::new(path, "", version, size).compare(first, &answer.body)?;
    Ok(version)
}

/// A body that is checked as it comes, and not kept.
#[derive(Debug)]
pub struct Reading {
    path: String,
    /// What our own member of `Cache-Status` said, for whoever has to find out why it failed.
    cache: String,
    matter: Matter,
    at: usize,
}

impl Reading {
    /// Begins with the head of an answer to a GET of `path`; fails the test where that is wrong.
    pub fn begin(path: &str, status: http::StatusCode, head: &HeaderMap) -> Self {
        assert_eq!(status, 200, "{path}: {head:?}");
        let version = head
            .get(VERSION)
            .and_then(|text| text.to_str().ok()?.parse().ok());
        let version = version.unwrap_or_else(|| panic!("{path}: no version: {head:?}"));
        let cache = head.get("cache-status");
        Self {
            path: path.to_owned(),
            cache: cache.map_or(String::new(), |value| format!("{value:?}")),
            matter: Matter::new(path, "", version, Asked::of(path).size),
            at: 0,
        }
    }

    /// The next bytes; fails the test where they are wrong.
    pub fn feed(&mut self, bytes: &[u8]) {
        let wrong = self.matter.compare(self.at, bytes);
        wrong.unwrap_or_else(|wrong| panic!("{} ({}): {wrong}", self.path, self.cache));
        self.at += bytes.len();
    }

    /// How much has come.
    pub fn length(&self) -> usize {
        self.at
    }

    /// The body has ended; fails the test where something is missing.
    pub fn end(self) {
        let (at, size) = (self.at, self.matter.size);
        assert_eq!(at, size, "{} ({}): cut off", self.path, self.cache);
    }
}

/// Whether our own member of `Cache-Status` says that it is a hit.
pub fn is_hit(answer: &Answer) -> bool {
    says(answer, "hit")
}

/// Whether it says that it has been stored, which it is not for sure before its last byte.
pub fn is_stored(answer: &Answer) -> bool {
    says(answer, "stored")
}

fn says(answer: &Answer, word: &str) -> bool {
    let status = answer.header("cache-status");
    let ours = status.rsplit(',').next().unwrap_or_default();
    ours.split(';').skip(1).any(|part| part.trim() == word)
}

fn claimed(path: &str, variant: &str, answer: &Answer) -> Result<(u64, usize), String> {
    let version = answer.header(VERSION);
    let Ok(number) = version.parse() else {
        return Err(format!("{path}: version {version:?}"));
    };
    if answer.header(VARIANT) != variant {
        let found = answer.header(VARIANT);
        return Err(format!(
            "{path}: variant {found:?}, asked for was {variant:?}"
        ));
    }
    let size = Asked::of(path).size;
    Ok((number, size))
}

/// One connection that may break: the answer, or in a line why there is none.
#[derive(Debug)]
pub struct Asker {
    target: Target,
    open: Option<H1>,
}

impl Asker {
    /// It connects with the first request, and again after each failure.
    pub fn new(target: &Target) -> Self {
        Self {
            target: target.clone(),
            open: None,
        }
    }

    /// The answer to a GET.
    pub async fn get(&mut self, path: &str) -> Result<Answer, String> {
        self.get_with(path, &[]).await
    }

    /// The answer to a GET with fields.
    pub async fn get_with(
        &mut self,
        path: &str,
        fields: &[(&'static str, &str)],
    ) -> Result<Answer, String> {
        let open = match self.open.take() {
            Some(open) => open.if_open().await,
            None => None,
        };
        let mut connection = match open {
            Some(open) => open,
            None => H1::connect(&self.target)
                .await
                .map_err(|failure| failure.to_string())?,
        };
        let mut request = Request::new(empty());
        *request.uri_mut() = path
            .parse()
            .unwrap_or_else(|error| panic!("{path} is no path: {error}"));
        let headers = request.headers_mut();
        headers.insert("host", self.target.host.parse().expect("a host name"));
        for (name, value) in fields {
            let value = HeaderValue::from_str(value).expect("a field's value");
            headers.append(HeaderName::from_static(name), value);
        }
        let answer = match connection.send(request).await {
            Sent::Answered(response) => Answer::read(response)
                .await
                .map_err(|error| format!("cut off: {}", crate::client::chain(&error)))?,
            Sent::Untouched(word) | Sent::Failed(word) => return Err(word),
        };
        self.open = Some(connection);
        Ok(answer)
    }
}

/// What came of reading a number of paths, each of which was answered as it should be.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many were hits.
    pub hits: usize,
    /// Those that were not.
    pub missed: Vec<String>,
    /// Those of them that were not stored either: there was no room for them just then.
    pub refused: Vec<String>,
    /// The oldest version among the answers.
    pub oldest: Option<u64>,
}

impl Tally {
    /// Fails the test where one was not a hit.
    #[track_caller]
    pub fn assert_all_hits(&self) {
        let (missed, all) = (self.missed.len(), self.missed.len() + self.hits);
        let first = &self.missed[..missed.min(5)];
        assert_eq!(
            missed, 0,
            "{missed} of {all} are not hits, such as {first:?}"
        );
    }

    /// Fails the test where one was a hit.
    #[track_caller]
    pub fn assert_no_hits(&self) {
        let all = self.missed.len() + self.hits;
        assert_eq!(self.hits, 0, "of {all}, so many are hits");
    }
}

/// Reads every path once, over a few connections; fails the test where one is not answered or one
/// byte of an answer is wrong.
pub async fn read_all(target: &Target, paths: &[String]) -> Tally {
    let lanes = 8.min(paths.len());
    let mut readers = tokio::task::JoinSet::new();
    for lane in 0..lanes {
        let target = target.clone();
        let mine: Vec<_> = paths.iter().skip(lane).step_by(lanes).cloned().collect();
        readers.spawn(async move {
            let (mut asker, mut tally) = (Asker::new(&target), Tally::default());
            for path in mine {
                let answer = asker
                    .get(&path)
                    .await
                    .unwrap_or_else(|error| panic!("{path}: {error}"));
                let version =
                    check(&path, &answer).unwrap_or_else(|wrong| panic!("{wrong}\n{answer}"));
                tally.oldest = Some(tally.oldest.map_or(version, |old| old.min(version)));
                match is_hit(&answer) {
                    true => tally.hits += 1,
                    false => {
                        if !is_stored(&answer) {
                            tally.refused.push(path.clone());
                        }
                        tally.missed.push(path);
                    }
                }
            }
            tally
        });
    }
    let mut all = Tally::default();
    while let Some(tally) = readers.join_next().await {
        let tally = tally.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        all.hits += tally.hits;
        all.missed.extend(tally.missed);
        all.refused.extend(tally.refused);
        all.oldest = all.oldest.into_iter().chain(tally.oldest).min();
    }
    all
}

/// Reads every path until each of them has been stored: a small cache has no room for many bodies on
/// their way at one moment, and passes on what it has no room for.
pub async fn store_all(target: &Target, paths: &[String]) -> Tally {
    let first = read_all(target, paths).await;
    let mut left = first.refused.clone();
    for _ in 0..20 {
        if left.is_empty() {
            return first;
        }
        left = read_all(target, &left).await.refused;
    }
    panic!("{} are never stored, such as {}", left.len(), left[0]);
}

/// Numbers that look random and are the same for the same seed.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as this seed has it.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Dice that nobody has thrown before; the seed is printed, so that a failure can be repeated
    /// with `SOVEREIGN_SEED`.
    pub fn fresh() -> Self {
        let seed = std::env::var("SOVEREIGN_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| {
                let now = std::time::SystemTime::now();
                now.duration_since(std::time::UNIX_EPOCH)
                    .map_or(1, |since| since.as_nanos() as u64)
            });
        println!("SOVEREIGN_SEED={seed}");
        Self(seed)
    }

    /// The next number.
    pub fn throw(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood, 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.throw() % bound as u64) as usize
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What a path asks for.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    size: usize,
    query: &'a str,
}

impl<'a> Asked<'a> {
    fn of(path: &'a str) -> Self {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let size = path
            .strip_prefix("/truth/")
            .and_then(|rest| rest.split('/').next()?.parse().ok())
            .unwrap_or(0);
        Self { size, query }
    }

    fn has(&self, name: &str) -> bool {
        self.query.split('&').any(|option| option == name)
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.query
            .split('&')
            .find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.parse().ok()
    }

    fn milliseconds(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name).unwrap_or(0))
    }

    /// The field of each list of tags, and its value as that field is written.
    fn tags(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.query.split('&').filter_map(|option| {
            let (name, tags) = option.split_once(':')?;
            let (name, before, between) = TAG_FIELDS.iter().find(|(known, ..)| *known == name)?;
            let tags: Vec<_> = tags
                .split('+')
                .map(|tag| format!("{before}{tag}{before}"))
                .collect();
            Some((*name, tags.join(between)))
        })
    }
}

/// The fields that name tags: what stands round a tag, and between two.
const TAG_FIELDS: [(&str, &str, &str); 4] = [
    ("surrogate-key", "", " "),
    ("cache-tag", "", ", "),
    ("xkey", "", " "),
    ("cache-groups", "\"", ", "),
];

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

/// A body, made piece by piece.
#[derive(Debug)]
struct Matter {
    seed: u64,
    size: usize,
}

/// What a page begins with, and how long it is.
const STAMP: usize = 16;
const PAGE: usize = 4096;
/// How much a dripping body gives at once.
const PIECE: usize = 64 << 10;

impl Matter {
    fn new(path: &str, variant: &str, version: u64, size: usize) -> Self {
        // FNV-1a (Fowler, Noll, Vo) over all that the body depends on.
        let mut seed = 0xcbf2_9ce4_8422_2325_u64;
        let text = [path.as_bytes(), b"\n", variant.as_bytes(), b"\n"].concat();
        for byte in text.into_iter().chain(version.to_le_bytes()) {
            seed = (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        Self {
            seed: mix(seed),
            size,
        }
    }

    /// Part of the body, from one offset to another.
    fn bytes(&self, from: usize, to: usize) -> Bytes {
        let mut made = Vec::with_capacity(to - from + 2 * PAGE);
        for page in from / PAGE..to.div_ceil(PAGE) {
            made.extend_from_slice(&self.seed.to_le_bytes());
            made.extend_from_slice(&mix(self.seed ^ page as u64).to_le_bytes());
            let noise = noise();
            let at = (mix(self.seed.wrapping_add(page as u64)) as usize) % (noise.len() - PAGE);
            made.extend_from_slice(&noise[at..at + PAGE - STAMP]);
        }
        let skip = from % PAGE;
        Bytes::from(made).slice(skip..skip + to - from)
    }

    /// What is wrong with bytes that should stand at an offset.
    fn compare(&self, from: usize, found: &[u8]) -> Result<(), String> {
        for (number, piece) in found.chunks(PIECE).enumerate() {
            let at = from + number * PIECE;
            if at + piece.len() > self.size {
                return Err(format!("more than {} bytes", self.size));
            }
            let wanted = self.bytes(at, at + piece.len());
            if let Some(wrong) = wanted.iter().zip(piece).position(|(a, b)| a != b) {
                let (offset, size) = (at + wrong, self.size);
                let place = match self.place_of(&piece[wrong..]) {
                    Some(place) => format!("it belongs at {place}"),
                    None => "it belongs nowhere in this body".to_owned(),
                };
                return Err(format!("byte {offset} of {size} is wrong: {place}"));
            }
        }
        Ok(())
    }

    /// Where in the body some bytes stand that were found elsewhere.
    fn place_of(&self, found: &[u8]) -> Option<usize> {
        let sought = found.get(..32.min(found.len()))?;
        let whole = self.bytes(0, self.size);
        whole.windows(sought.len()).position(|some| some == sought)
    }

    /// A checksum of the whole.
    fn sum(&self) -> String {
        format!("{:016x}", mix(self.seed ^ self.size as u64))
    }

    fn into_body(self, pause: Duration, gate: Option<watch::Receiver<bool>>) -> Body {
        if pause.is_zero() && gate.is_none() && self.size <= PIECE {
            return whole(self.bytes(0, self.size));
        }
        let pieces = futures_util::stream::unfold((self, 0, gate), move |(matter, at, gate)| {
            async move {
                if at >= matter.size {
                    return None;
                }
                if at > 0 {
                    tokio::time::sleep(pause).await;
                }
                let mut gate = gate;
                if at >= matter.size / 2
                    && let Some(mut gate) = gate.take()
                {
                    // Where the origin is gone, the body ends with it.
                    gate.wait_for(|open| *open).await.ok()?;
                }
                let to = (at + PIECE).min(matter.size);
                let piece = matter.bytes(at, to);
                Some((Ok(Frame::data(piece)), (matter, to, gate)))
            }
        });
        StreamBody::new(pieces).boxed_unsync()
    }
}

/// A mebibyte that does not compress.
fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut dice = Dice::new(1);
        (0..(1 << 20) / 8)
            .flat_map(|_| dice.throw().to_le_bytes())
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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

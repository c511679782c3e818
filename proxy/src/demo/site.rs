//! Which answer a request gets.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HOST, HeaderMap, HeaderValue, LOCATION};
use hyper::{Request, Response, StatusCode};
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use super::answer::{self, Body, Content};
use super::connections::Tasks;
use super::switch::Switch;
use super::{clock, feeds, pages};

/// The site's state: little, and bounded.
pub(super) struct Site {
    switch: Switch,
    clocks: Arc<Semaphore>,
}

impl Site {
    pub(super) fn new(switch: Switch) -> Self {
        Self {
            switch,
            clocks: Arc::new(Semaphore::new(CLOCKS)),
        }
    }

    pub(super) async fn answer(&self, request: Request<Incoming>, tasks: Tasks) -> Response<Body> {
        let method = request.method().clone();
        let allowed = match request.uri().path() {
            "/echo" => "POST",
            "/clock/ws" => "GET",
            _ => "GET, HEAD",
        };
        if !allowed.split(", ").any(|known| known == method.as_str()) {
            let text = format!("{method} is not answered here; {allowed} is.\n");
            let mut response = answer::text(StatusCode::METHOD_NOT_ALLOWED, text);
            let allowed = HeaderValue::from_static(allowed);
            response.headers_mut().insert(ALLOW, allowed);
            return response;
        }
        let response = match request.uri().path() {
            "/echo" => echo(request).await,
            "/clock/ws" => clock::upgrade(request, &self.clocks, &self.switch, &tasks),
            "/slow" => slow(request.uri().query()).await,
            "/stream" => answer::stream(STREAM_PAUSE),
            "/download" => answer::download(),
            "/articles" => moved("/articles/"),
            path => content(path, request.headers()).respond(request.headers()),
        };
        answer::for_method(&method, response)
    }
}

/// What lies ready: pages, files, and the page that says there is none.
fn content(path: &str, headers: &HeaderMap) -> Content {
    let now = OffsetDateTime::now_utc();
    let page = match path {
        "/feed.xml" => return feeds::feed(&base(headers)),
        "/sitemap.xml" => return feeds::sitemap(&base(headers)),
        "/" => Some((pages::home(pages::rendering(now)), answer::PAGE)),
        "/articles/" => Some((pages::articles(pages::rendering(now)), answer::PAGE)),
        "/clock" => Some((pages::clock(pages::rendering(now)), answer::PAGE)),
        "/private" => Some((pages::private(now), answer::PRIVATE)),
        _ => {
            if let Some(slug) = path.strip_prefix("/articles/") {
                pages::article(slug, pages::rendering(now)).map(|page| (page, answer::PAGE))
            } else if let Some(token) = path.strip_prefix("/unseen/") {
                pages::unseen(token, pages::rendering(now)).map(|page| (page, answer::PAGE))
            } else if let Some(file) = pages::file(path) {
                return file;
            } else {
                None
            }
        }
    };
    let (status, (body, cache)) = match page {
        Some(page) => (StatusCode::OK, page),
        None => (
            StatusCode::NOT_FOUND,
            (pages::missing(now), answer::MISSING),
        ),
    };
    Content {
        status,
        content_type: answer::HTML,
        cache,
        body: body.into(),
    }
}

/// Says what was sent: the method, the fields, and how long the body was, which is counted and not kept.
async fn echo(request: Request<Incoming>) -> Response<Body> {
    let (head, mut body) = request.into_parts();
    let mut length = 0_u64;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => length += frame.data_ref().map_or(0, |data| data.len() as u64),
            Err(_) => return answer::text(StatusCode::BAD_REQUEST, "The body broke off.\n"),
        }
    }
    let mut headers = serde_json::Map::new();
    for name in head.headers.keys() {
        let values = head.headers.get_all(name).iter();
        let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into());
        headers.insert(name.to_string(), serde_json::Value::Array(values.collect()));
    }
    answer::json(
        StatusCode::OK,
        &serde_json::json!({
            "method": head.method.as_str(),
            "headers": headers,
            "body_length": length,
        }),
    )
}

/// Answers after `ms=` milliseconds.
async fn slow(query: Option<&str>) -> Response<Body> {
    let asked = query
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("ms="));
    let delay = match asked.map(str::parse::<u64>) {
        None => SLOW,
        Some(Ok(ms)) => Duration::from_millis(ms).min(SLOWEST),
        Some(Err(_)) => {
            let text = "ms= wants a number of milliseconds, as in /slow?ms=3000\n";
            return answer::text(StatusCode::BAD_REQUEST, text);
        }
    };
    tokio::time::sleep(delay).await;
    let text = format!("Answered after {} ms.\n", delay.as_millis());
    answer::text(StatusCode::OK, text)
}

fn moved(to: &'static str) -> Response<Body> {
    let mut response = answer::text(StatusCode::MOVED_PERMANENTLY, "");
    let to = HeaderValue::from_static(to);
    response.headers_mut().insert(LOCATION, to);
    response
}

/// The address under which the visitor knows the site, for the links of feeds. Whatever the request says that is not
/// plainly a host goes unused.
fn base(headers: &HeaderMap) -> String {
    let value = |field: Option<&HeaderValue>| field?.to_str().ok().map(str::to_owned);
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    let host = value(headers.get(HOST))
        .filter(|host| (1..=255).contains(&host.len()) && host.chars().all(plain))
        .unwrap_or_else(|| "localhost:8443".to_owned());
    let scheme = match value(headers.get("x-forwarded-proto")).as_deref() {
        Some("http") => "http",
        _ => "https",
    };
    format!("{scheme}://{host}")
}

/// WebSockets at a time.
const CLOCKS: usize = 64;
/// Between two lines of the stream.
const STREAM_PAUSE: Duration = Duration::from_secs(1);
/// The delay where none is asked for, and the longest.
const SLOW: Duration = Duration::from_secs(1);
const SLOWEST: Duration = Duration::from_secs(10);

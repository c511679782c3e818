//! The switch that stops the origin, and the answers of the server that works it.

use std::sync::Arc;

use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::watch;

use super::answer::{self, Body};

/// Whether the origin is on. Clones are the same switch. On to begin with.
#[derive(Clone, Debug)]
pub struct Switch(Arc<watch::Sender<bool>>);

impl Switch {
    /// A switch that is on.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(true)))
    }

    /// Starts the origin.
    pub fn on(&self) {
        self.0.send_replace(true);
    }

    /// Stops the origin: open connections are closed, new ones too.
    pub fn off(&self) {
        self.0.send_replace(false);
    }

    /// Whether the origin answers.
    #[must_use]
    pub fn is_on(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns as soon as the origin is off.
    pub(super) async fn until_off(&self) {
        // It fails only when the sender is gone, and `self` holds the sender.
        let _ = self.0.subscribe().wait_for(|on| !on).await;
    }

    /// Answers a request to `/switch` or below it.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        let allowed = match request.uri().path() {
            "/switch" => "GET, HEAD",
            "/switch/on" | "/switch/off" => "POST",
            _ => return problem(StatusCode::NOT_FOUND, "no such path"),
        };
        let method = request.method().as_str();
        if !allowed.split(", ").any(|known| known == method) {
            let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(allowed));
            return response;
        }
        if request.method() == Method::POST {
            // A page elsewhere can make a browser send a POST, but not with a header of its own.
            if request
                .headers()
                .get("x-demo")
                .is_none_or(|value| value != "1")
            {
                return problem(StatusCode::FORBIDDEN, "send the header X-Demo: 1");
            }
            match request.uri().path() {
                "/switch/on" => self.on(),
                _ => self.off(),
            }
        }
        let state = if self.is_on() { "on" } else { "off" };
        let body = serde_json::json!({ "origin": state });
        answer::for_method(request.method(), answer::json(StatusCode::OK, &body))
    }
}

impl Default for Switch {
    fn default() -> Self {
        Self::new()
    }
}

fn problem(status: StatusCode, what: &str) -> Response<Body> {
    answer::json(status, &serde_json::json!({ "error": what }))
}

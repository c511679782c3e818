//! A [`Downstream`] as Pingora sees it: a "custom session". This is the one place that knows
//! Pingora's session interface, which its authors call hidden; hence the exact version in Cargo.toml.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use http::response::Parts;
use http::{HeaderMap, StatusCode, header};
use parking_lot::Mutex;
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::custom::CustomMessageWrite;
use pingora_core::protocols::http::custom::server::Session;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use tokio::time::sleep_until;

use super::course::Course;
use crate::downstream::{BodyError, BodyLength, Downstream, ResponseHead};
use crate::fields::drop_hop_by_hop;
use crate::response::Failure;

/// One exchange on its way through Pingora.
pub struct Passage<D: Downstream> {
    /// There until the passage is dropped, which gives it back.
    client: Option<D>,
    slot: Slot<D>,
    request: RequestHeader,
    /// The status that has been passed on; Pingora asks for no more of it.
    written: Option<ResponseHeader>,
    course: Arc<Course>,
    upgrade: bool,
    upgraded: bool,
    body_taken: bool,
    /// The try whose request head has been sent; none before the first.
    head_sent_in: u32,
}

/// Where the client's side is found again afterwards.
pub struct Slot<D>(Arc<Mutex<Option<D>>>);

impl<D> Slot<D> {
    /// Takes it; `None` where the passage is still under way.
    pub fn take(&self) -> Option<D> {
        self.0.lock().take()
    }
}

impl<D: Downstream> Passage<D> {
    /// Sends `client` on its way with the request that the upstream is to get.
    pub fn new(
        client: D,
        mut request: http::request::Parts,
        course: Arc<Course>,
    ) -> (Self, Slot<D>) {
        let shared = Arc::new(Mutex::new(None));
        let upgrade = request.headers.contains_key(header::UPGRADE);
        request.extensions.insert(course.clone());
        let passage = Self {
            client: Some(client),
            slot: Slot(shared.clone()),
            request: request.into(),
            written: None,
            course,
            upgrade,
            upgraded: false,
            body_taken: false,
            head_sent_in: 0,
        };
        (passage, Slot(shared))
    }

    /// Whether the upstream has yet to say if it takes an upgrade. Until then the request counts as
    /// not ended: Pingora takes the end of an empty body that it sees after the 101 for the end of
    /// the upgraded connection, and which of the two it sees first is left to chance.
    fn awaits_upgrade(&self) -> bool {
        self.upgrade && self.written.is_none() && self.head_sent_in == self.course.tries()
    }

    fn client(&mut self) -> Result<&mut D> {
        self.client
            .as_mut()
            .ok_or_else(|| Error::new_in(ErrorType::InternalError))
    }

    async fn head(&mut self, response: Box<ResponseHeader>, end: bool) -> Result<()> {
        let parts = Parts::from(*response);
        let mut head = ResponseHead {
            status: parts.status,
            headers: parts.headers,
        };
        let course = self.course.clone();
        let method = self.request.method.clone();
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            drop_hop_by_hop(&mut head.headers);
            let sent = self.client()?.interim(&head).await;
            return sent.map_err(|error| self.broken(error));
        }
        let length = match content_length(&head.headers) {
            known @ Some(_) => BodyLength::of(&method, &head, known),
            None if end => BodyLength::of(&method, &head, Some(0)),
            None => BodyLength::of(&method, &head, None),
        };
        let protocol = head.headers.get(header::UPGRADE).cloned();
        drop_hop_by_hop(&mut head.headers);
        if length == BodyLength::Upgrade {
            self.upgraded = true;
            if let Some(protocol) = protocol {
                head.headers.insert(header::UPGRADE, protocol);
            }
        }
        course.dress(&mut head);
        self.written = ResponseHeader::build_no_case(head.status, None).ok();
        course.started();
        let started = self.client()?.start(head, length).await;
        started.map_err(|error| self.broken(error))?;
        if end { self.end(None).await } else { Ok(()) }
    }

    async fn data(&mut self, data: Option<Bytes>, end: bool) -> Result<()> {
        if let Some(data) = data.filter(|data| !data.is_empty()) {
            let sent = self.client()?.data(data).await;
            sent.map_err(|error| self.broken(error))?;
            self.course.moved();
        }
        if end { self.end(None).await } else { Ok(()) }
    }

    async fn end(&mut self, trailers: Option<HeaderMap>) -> Result<()> {
        let ended = self.client()?.finish(trailers).await;
        ended.map_err(|error| self.broken(error))
    }

    fn broken(&self, error: io::Error) -> Box<Error> {
        self.course.client_failed(Failure::ClientGone);
        Error::because(ErrorType::WriteError, "the client went away", error).into_down()
    }

    fn body_failed(&self, error: BodyError) -> Box<Error> {
        match error {
            BodyError::Malformed(reason) => {
                self.course.client_failed(Failure::BadRequest);
                Error::explain(ErrorType::InvalidHTTPHeader, reason).into_down()
            }
            BodyError::Io(error) => {
                self.course.client_failed(Failure::ClientGone);
                Error::because(
                    ErrorType::ReadError,
                    "while reading the request's body",
                    error,
                )
                .into_down()
            }
        }
    }

    fn timed_out(&self) -> Box<Error> {
        self.course.time_out();
        Error::explain(ErrorType::ReadTimedout, "the upstream took too long").into_up()
    }
}

impl<D: Downstream> Drop for Passage<D> {
    fn drop(&mut self) {
        *self.slot.0.lock() = self.client.take();
    }
}

#[async_trait]
impl<D: Downstream> Session for Passage<D> {
    fn req_header(&self) -> &RequestHeader {
        &self.request
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.request
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        let read = self.client()?.read_body().await;
        self.body_taken = true;
        if !self.upgraded {
            self.course.moved();
        }
        read.map_err(|error| self.body_failed(error))
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        Ok(())
    }

    async fn write_response_header(&mut self, resp: Box<ResponseHeader>, end: bool) -> Result<()> {
        self.head(resp, end).await
    }

    async fn write_response_header_ref(&mut self, resp: &ResponseHeader, end: bool) -> Result<()> {
        self.head(Box::new(resp.clone()), end).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.data(Some(data), end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.end(Some(trailers)).await
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut ended = false;
        for task in tasks {
            match task {
                HttpTask::Header(head, end) => {
                    ended |= end && !head.status.is_informational();
                    self.head(head, end).await?;
                }
                HttpTask::Body(data, end) | HttpTask::UpgradedBody(data, end) => {
                    self.data(data, end).await?;
                    ended |= end;
                }
                HttpTask::Trailer(trailers) => {
                    self.end(trailers.map(|trailers| *trailers)).await?;
                    ended = true;
                }
                HttpTask::Done => {
                    self.end(None).await?;
                    ended = true;
                }
                HttpTask::Failed(error) => return Err(error),
            }
        }
        Ok(ended)
    }

    /// The request's next bytes or, once it has ended, the client's going away; and in either case
    /// the upstream's time running out, since Pingora polls this whenever it waits.
    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        let idle = !self.upgraded
            && (no_body_expected || self.awaits_upgrade() || self.client()?.body_done());
        let deadline = self.course.deadline();
        if self.upgraded {
            // Silence is normal on an upgraded connection; its idle time covers both directions.
            return tokio::select! {
                read = self.read_body_bytes() => {
                    self.course.moved();
                    read
                }
                () = until(deadline) => Err(self.timed_out()),
            };
        }
        if !idle {
            return self.read_body_bytes().await;
        }
        let client = self.client()?;
        tokio::select! {
            error = client.gone() => Err(self.broken(error)),
            () = until(deadline) => Err(self.timed_out()),
        }
    }

    fn is_body_done(&mut self) -> bool {
        !self.awaits_upgrade() && self.client.as_ref().is_none_or(Downstream::body_done)
    }

    fn is_body_empty(&mut self) -> bool {
        !self.body_taken && self.is_body_done()
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    async fn shutdown(&mut self, _code: u32, _ctx: &str) {}

    fn is_upgrade_req(&self) -> bool {
        self.upgrade
    }

    fn was_upgraded(&self) -> bool {
        self.upgraded
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.written.as_ref()
    }

    fn body_bytes_sent(&self) -> usize {
        self.client
            .as_ref()
            .map_or(0, |client| client.bytes_sent() as usize)
    }

    fn body_bytes_read(&self) -> usize {
        self.client
            .as_ref()
            .map_or(0, |client| client.bytes_received() as usize)
    }

    fn request_summary(&self) -> String {
        format!("{} {}", self.request.method, self.request.uri.path())
    }

    // A body is never kept for a second try: what has been sent once is not sent again.
    fn enable_retry_buffering(&mut self) {
        self.head_sent_in = self.course.tries();
    }

    fn retry_buffer_truncated(&self) -> bool {
        self.body_taken
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }

    // Timeouts are the client's own (`Downstream`) and the course's.
    fn set_read_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_write_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_total_drain_timeout(&mut self, _timeout: Option<Duration>) {}

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        None
    }

    // The connection's facts stay with the request layer.
    fn digest(&self) -> Option<&Digest> {
        None
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        None
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }

    /// Only Pingora's subrequests ask for it, and there are none here.
    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        Bytes::new()
    }

    // Custom messages are a feature of other protocols than HTTP.
    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(
        &mut self,
        _writer: Box<dyn CustomMessageWrite>,
    ) -> Result<()> {
        Ok(())
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

async fn until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

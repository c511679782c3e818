//! A response that is passed through and looked at on its way: what answers a POST, a HEAD or a
//! request for a range goes past the flights, and yet may say something that the store should know.
//!
//! It stands round the client's side of one request, so that the passage need not know of it.

use std::future::Future;
use std::io;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::Room;
use crate::downstream::{BodyError, BodyLength, Downstream, ResponseHead};

/// A client whose response is looked at on its way.
pub struct Tee<D> {
    client: D,
    dress: Dress,
    progress: Progress,
    refused: bool,
}

/// What is to be done with a response whose head has come.
pub enum Verdict {
    /// Pass it on; nothing of it is wanted.
    Pass,
    /// Pass it on, and collect it.
    Collect(Allowance),
    /// Do not pass it on: the exchange ends as if the client had gone, and the client has seen nothing but
    /// interim responses. So something stored can stand in for it.
    Refuse,
}

/// What may be collected of a response's body.
pub struct Allowance {
    /// So many bytes at most; a body that turns out longer is not collected.
    pub most: u64,
    /// The room that was taken for them; it comes back with them.
    pub room: Option<Room>,
}

/// A response that has come to its end as it should.
pub struct Collected {
    /// Status and fields as the upstream sent them, without hop-by-hop fields.
    pub head: ResponseHead,
    /// When the head arrived.
    pub received: SystemTime,
    /// The whole body of the message, in memory of its own; empty where it has none, as that of a HEAD.
    pub body: BytesMut,
    /// The room that was taken for it.
    pub room: Option<Room>,
}

/// Makes the head of a response ready for the client.
type Dress = Box<dyn Fn(&mut ResponseHead) + Send + Sync>;
/// Judges a head as the upstream sent it.
type Judge = Box<dyn FnOnce(&ResponseHead, BodyLength) -> Verdict + Send + Sync>;
/// Takes the response at its end.
type Whole = Box<dyn FnOnce(Collected) + Send + Sync>;

enum Progress {
    Waiting(Judge, Whole),
    Collecting(Box<Collecting>),
    /// Nothing is collected, or no more.
    Over,
}

struct Collecting {
    head: ResponseHead,
    received: SystemTime,
    body: BytesMut,
    /// The body's length where the head told it.
    length: Option<u64>,
    most: u64,
    room: Option<Room>,
    whole: Whole,
}

/// What is made ready at once for a body: the rest comes when the bytes do.
const FIRST_PIECE: u64 = 64 * 1024;

impl<D: Downstream> Tee<D> {
    /// Looks at the response to `client`.
    ///
    /// `judge` sees the head of the final response as the upstream sent it, and how long its body will be.
    /// What is passed on is then made ready for the client by `dress`.
    /// `whole` is called at most once, when the response has come to its end, and before the client
    /// can know that it has: what it stores is there for the client's next request. It is called
    /// on the thread that serves the request, and must not block.
    pub fn new(
        client: D,
        judge: impl FnOnce(&ResponseHead, BodyLength) -> Verdict + Send + Sync + 'static,
        dress: impl Fn(&mut ResponseHead) + Send + Sync + 'static,
        whole: impl FnOnce(Collected) + Send + Sync + 'static,
    ) -> Self {
        Self {
            client,
            dress: Box::new(dress),
            progress: Progress::Waiting(Box::new(judge), Box::new(whole)),
            refused: false,
        }
    }

    /// Whether the response was refused.
    pub fn refused(&self) -> bool {
        self.refused
    }

    /// The client, when the exchange is over.
    pub fn into_inner(self) -> D {
        self.client
    }

    fn begin(&mut self, head: &ResponseHead, length: BodyLength) {
        let Progress::Waiting(judge, whole) = std::mem::replace(&mut self.progress, Progress::Over)
        else {
            return;
        };
        let allowance = match judge(head, length) {
            Verdict::Pass => return,
            Verdict::Refuse => {
                self.refused = true;
                return;
            }
            Verdict::Collect(allowance) => allowance,
        };
        let length = match length {
            BodyLength::Upgrade => return,
            BodyLength::None => Some(0),
            BodyLength::Exact(length) => Some(length),
            BodyLength::Unknown => None,
        };
        let expected = length.unwrap_or(0);
        if expected > allowance.most {
            return;
        }
        self.progress = Progress::Collecting(Box::new(Collecting {
            head: head.clone(),
            received: SystemTime::now(),
            body: BytesMut::with_capacity(expected.min(FIRST_PIECE) as usize),
            length,
            most: allowance.most,
            room: allowance.room,
            whole,
        }));
    }

    fn collect(&mut self, chunk: &[u8]) {
        let Progress::Collecting(collecting) = &mut self.progress else {
            return;
        };
        let have = collecting.body.len() as u64 + chunk.len() as u64;
        if have > collecting.most || collecting.length.is_some_and(|length| have > length) {
            self.progress = Progress::Over;
            return;
        }
        collecting.body.extend_from_slice(chunk);
    }

    fn end(&mut self) {
        let Progress::Collecting(collecting) =
            std::mem::replace(&mut self.progress, Progress::Over)
        else {
            return;
        };
        let Collecting {
            head,
            received,
            body,
            length,
            room,
            whole,
            ..
        } = *collecting;
        if length.is_some_and(|length| length != body.len() as u64) {
            return;
        }
        whole(Collected {
            head,
            received,
            body,
            room,
        });
    }
}

impl<D: Downstream> Downstream for Tee<D> {
    fn read_body(&mut self) -> impl Future<Output = Result<Option<Bytes>, BodyError>> + Send {
        self.client.read_body()
    }

    fn body_done(&self) -> bool {
        self.client.body_done()
    }

    fn gone(&mut self) -> impl Future<Output = io::Error> + Send {
        self.client.gone()
    }

    fn interim(&mut self, head: &ResponseHead) -> impl Future<Output = io::Result<()>> + Send {
        self.client.interim(head)
    }

    async fn start(&mut self, mut head: ResponseHead, length: BodyLength) -> io::Result<()> {
        self.begin(&head, length);
        if self.refused {
            return Err(io::Error::other("the response is refused"));
        }
        (self.dress)(&mut head);
        self.client.start(head, length).await
    }

    async fn data(&mut self, chunk: Bytes) -> io::Result<()> {
        self.collect(&chunk);
        self.client.data(chunk).await
    }

    async fn finish(&mut self, trailers: Option<HeaderMap>) -> io::Result<()> {
        self.end();
        self.client.finish(trailers).await
    }

    fn close_after(&mut self) {
        self.client.close_after();
    }

    fn started(&self) -> bool {
        self.client.started()
    }

    fn bytes_sent(&self) -> u64 {
        self.client.bytes_sent()
    }

    fn bytes_received(&self) -> u64 {
        self.client.bytes_received()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderValue, StatusCode};
    use parking_lot::Mutex;

    use super::*;

    /// A client that notes what reaches it; it goes away after so many calls.
    struct Noting {
        said: Arc<Mutex<Vec<String>>>,
        calls: usize,
    }

    impl Noting {
        fn note(&mut self, what: String) -> io::Result<()> {
            self.said.lock().push(what);
            self.calls = self.calls.checked_sub(1).ok_or(io::ErrorKind::BrokenPipe)?;
            Ok(())
        }
    }

    impl Downstream for Noting {
        async fn read_body(&mut self) -> Result<Option<Bytes>, BodyError> {
            Ok(None)
        }
        fn body_done(&self) -> bool {
            true
        }
        async fn gone(&mut self) -> io::Error {
            std::future::pending().await
        }
        async fn interim(&mut self, head: &ResponseHead) -> io::Result<()> {
            self.note(format!("interim {}", head.status.as_u16()))
        }
        async fn start(&mut self, head: ResponseHead, _: BodyLength) -> io::Result<()> {
            let dressed = head.headers.contains_key("x-dressed");
            self.note(format!("start {} dressed={dressed}", head.status.as_u16()))
        }
        async fn data(&mut self, chunk: Bytes) -> io::Result<()> {
            self.note(format!("data {}", String::from_utf8_lossy(&chunk)))
        }
        async fn finish(&mut self, _: Option<HeaderMap>) -> io::Result<()> {
            self.note("finish".to_owned())
        }
        fn close_after(&mut self) {}
        fn started(&self) -> bool {
            !self.said.lock().is_empty()
        }
        fn bytes_sent(&self) -> u64 {
            7
        }
        fn bytes_received(&self) -> u64 {
            8
        }
    }

    /// Passes a response of these pieces; gives what the client saw, with `whole: BODY` where it was handed over.
    async fn pass(
        length: BodyLength,
        pieces: &[&'static str],
        ends: bool,
        most: Option<u64>,
        calls: usize,
    ) -> Vec<String> {
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let client = Noting {
            said: said.clone(),
            calls,
        };
        let noted = said.clone();
        let mut tee = Tee::new(
            client,
            move |head, _| {
                assert!(!head.headers.contains_key("x-dressed"));
                match most {
                    Some(most) => Verdict::Collect(Allowance { most, room: None }),
                    None => Verdict::Pass,
                }
            },
            |head| {
                head.headers
                    .insert("x-dressed", HeaderValue::from_static("1"));
            },
            move |collected| {
                assert!(!collected.head.headers.contains_key("x-dressed"));
                let body = String::from_utf8(collected.body.to_vec()).unwrap();
                noted.lock().push(format!("whole: {body}"));
            },
        );
        let mut sent = tee
            .interim(&ResponseHead::new(StatusCode::EARLY_HINTS))
            .await;
        if sent.is_ok() {
            sent = tee.start(ResponseHead::new(StatusCode::OK), length).await;
        }
        for piece in pieces {
            if sent.is_ok() {
                sent = tee.data(Bytes::from_static(piece.as_bytes())).await;
            }
        }
        if sent.is_ok() && ends {
            sent = tee.finish(None).await;
            let again = tee.finish(None).await;
            assert_eq!(sent.is_ok(), again.is_ok());
        }
        assert!(tee.started() && tee.body_done());
        assert_eq!((tee.bytes_sent(), tee.bytes_received()), (7, 8));
        drop(tee.into_inner());
        said.lock().clone()
    }

    #[tokio::test]
    #[rustfmt::skip]
    async fn what_is_handed_over() {
        use BodyLength::{Exact, None as Bodiless, Unknown, Upgrade};
        // (length, pieces, whether it ends, how much is wanted, what is handed over)
        type Row<'a> = (BodyLength, &'a [&'static str], bool, Option<u64>, Option<&'a str>, &'a str);
        let rows: &[Row<'_>] = &[
            (Exact(4), &["ab", "cd"], true, Some(4), Some("abcd"), "whole"),
            (Unknown, &["ab", "cd"], true, Some(4), Some("abcd"), "whole, of unknown length"),
            (Bodiless, &[], true, Some(0), Some(""), "a HEAD's"),
            (Exact(4), &["ab", "cd"], true, None, None, "not wanted"),
            (Exact(4), &["ab", "cd"], false, Some(4), None, "no end"),
            (Exact(4), &["ab"], true, Some(9), None, "too short"),
            (Exact(2), &["ab", "cd"], true, Some(9), None, "longer than it said"),
            (Exact(4), &["ab", "cd"], true, Some(3), None, "more than is wanted"),
            (Unknown, &["ab", "cd"], true, Some(3), None, "more than is wanted, of unknown length"),
            (Upgrade, &["ab"], true, Some(9), None, "an upgraded connection"),
        ];
        for (length, pieces, ends, most, wanted, checks) in rows {
            let said = pass(*length, pieces, *ends, *most, 100).await;
            let whole: Vec<_> = said.iter().filter_map(|line| line.strip_prefix("whole: ")).collect();
            assert_eq!(whole, Vec::from_iter(*wanted), "{checks}");
            let seen: Vec<_> = said.iter().filter(|line| !line.starts_with("whole")).cloned().collect();
            let mut all = vec!["interim 103".to_owned(), "start 200 dressed=true".to_owned()];
            all.extend(pieces.iter().map(|piece| format!("data {piece}")));
            all.extend(ends.then_some(["finish"; 2]).into_iter().flatten().map(str::to_owned));
            assert_eq!(seen, all, "{checks}: the client sees all of it");
        }
    }

    /// The client's next request must find what this one stored.
    #[tokio::test]
    async fn it_is_handed_over_before_the_client_knows_of_the_end() {
        let said = pass(BodyLength::Exact(2), &["ab"], true, Some(2), 100).await;
        let at = |text: &str| said.iter().position(|line| line == text);
        assert!(at("whole: ab").unwrap() < at("finish").unwrap(), "{said:?}");
    }

    /// A client that goes away before the end takes the rest with it: there is no end to be sure of.
    #[tokio::test]
    async fn a_client_that_goes_away() {
        for calls in 0..3 {
            let said = pass(BodyLength::Exact(4), &["ab", "cd"], true, Some(4), calls).await;
            assert!(
                !said.iter().any(|line| line.starts_with("whole")),
                "{said:?}"
            );
        }
        let said = pass(BodyLength::Exact(4), &["ab", "cd"], true, Some(4), 4).await;
        assert!(said.contains(&"whole: abcd".to_owned()), "{said:?}");
    }

    /// What stands in for it finds a client to whom nothing has been said.
    #[tokio::test]
    async fn a_response_that_is_refused() {
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let client = Noting {
            said: said.clone(),
            calls: 100,
        };
        let judge = |_: &ResponseHead, _| Verdict::Refuse;
        let mut tee = Tee::new(client, judge, |_| panic!("dressed"), |_| panic!("whole"));
        let head = ResponseHead::new(StatusCode::SERVICE_UNAVAILABLE);
        assert!(!tee.refused());
        assert!(tee.start(head, BodyLength::Exact(1)).await.is_err());
        assert!(tee.refused() && !tee.started());
        assert!(said.lock().is_empty());
    }
}

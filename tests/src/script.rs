//! An origin that reads from a script: for each path, what it says to the first request, the second,
//! and so on. Its answers are written byte by byte as the script has them, so that it can say what no
//! server library would; each question is kept, to be asked about afterwards.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::date::dated;
use crate::origin::Origin;

/// The origin; it ends with its guard.
pub struct Script {
    origin: Origin,
    book: Arc<Mutex<Book>>,
}

/// What an origin says to one request.
#[derive(Clone)]
pub struct Say {
    status: u16,
    lines: Vec<Vec<u8>>,
    body: Option<Vec<u8>>,
    interim: Vec<(u16, Vec<Vec<u8>>)>,
    held: Option<Gate>,
    manner: Manner,
    to_head: Option<Box<Say>>,
}

#[derive(Clone)]
enum Manner {
    /// A response, with its length.
    Whole,
    /// These bytes and no other; then the connection is closed, or not.
    Bytes(Vec<u8>, bool),
    /// The connection is closed.
    Cut,
}

/// A request as the origin saw it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// On which of the origin's connections it came, from 0.
    pub connection: usize,
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub path: String,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

/// Holds an answer back until it is opened.
#[derive(Clone)]
pub struct Gate(watch::Sender<bool>);

#[derive(Default)]
struct Book {
    pages: HashMap<String, Vec<Say>>,
    asked: Vec<Asked>,
    closed: HashSet<usize>,
}

impl Script {
    /// An HTTP/1.1 origin that has nothing to say yet.
    pub async fn start() -> Self {
        let book = Arc::new(Mutex::new(Book::default()));
        let shared = book.clone();
        let origin = Origin::raw(move |stream, number| {
            let book = shared.clone();
            async move {
                // However the other side ends it, it is closed.
                let _ = serve(stream, number, &book).await;
                lock(&book).closed.insert(number);
            }
        })
        .await;
        Self { origin, book }
    }

    /// Its address, as an upstream is written.
    pub fn url(&self) -> String {
        self.origin.url()
    }

    /// Writes down what it says to the requests for a path, one after another; the last is repeated.
    pub fn says(&self, path: &str, sayings: impl IntoIterator<Item = Say>) {
        let sayings: Vec<_> = sayings.into_iter().collect();
        assert!(!sayings.is_empty(), "{path}: something has to be said");
        let before = lock(&self.book).pages.insert(path.to_owned(), sayings);
        assert!(before.is_none(), "{path} has been written down already");
    }

    /// The requests for a path that it has seen.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let book = lock(&self.book);
        let matches = book.asked.iter().filter(|asked| asked.path == path);
        matches.cloned().collect()
    }

    /// Whether the other side has closed a connection.
    pub fn is_closed(&self, connection: usize) -> bool {
        lock(&self.book).closed.contains(&connection)
    }

    /// Stops listening and cuts every connection.
    pub async fn down(&self) {
        self.origin.down().await;
    }
}

impl Say {
    /// A response with these fields, one a line; dates are written as `{+60}`, see [`dated`]. It gets
    /// an `X-Answer` field that counts the answers for its path, and where nothing else is said
    /// about the body, `answer 1` and so on, with its length.
    pub fn status(status: u16, lines: &[&str]) -> Self {
        Self {
            status,
            lines: lines.iter().map(|line| line.as_bytes().to_vec()).collect(),
            body: None,
            interim: Vec::new(),
            held: None,
            manner: Manner::Whole,
            to_head: None,
        }
    }

    /// The same with status 200.
    pub fn ok(lines: &[&str]) -> Self {
        Self::status(200, lines)
    }

    /// These bytes and nothing else. The connection stays open.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self::in_manner(Manner::Bytes(bytes.into(), false))
    }

    /// These bytes and nothing else; then the connection is closed.
    pub fn bytes_to_close(bytes: impl Into<Vec<u8>>) -> Self {
        Self::in_manner(Manner::Bytes(bytes.into(), true))
    }

    /// Nothing: the connection is closed.
    pub fn cut() -> Self {
        Self::in_manner(Manner::Cut)
    }

    /// With this body.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = Some(bytes.into());
        self
    }

    /// With one more line that is no text.
    pub fn line(mut self, bytes: &[u8]) -> Self {
        self.lines.push(bytes.to_vec());
        self
    }

    /// After this interim response.
    pub fn interim(mut self, status: u16, lines: &[&str]) -> Self {
        let lines = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
        self.interim.push((status, lines));
        self
    }

    /// Only once the gate is open; interim responses come before.
    pub fn held(mut self, gate: &Gate) -> Self {
        self.held = Some(gate.clone());
        self
    }

    /// To a HEAD, this instead.
    pub fn to_head(mut self, say: Self) -> Self {
        self.to_head = Some(Box::new(say));
        self
    }

    fn in_manner(manner: Manner) -> Self {
        Self {
            manner,
            ..Self::status(200, &[])
        }
    }

    /// The head and body of the `number`th answer; of a response to HEAD the head alone.
    fn written(&self, number: usize, head_only: bool) -> Vec<u8> {
        let bodiless = matches!(self.status, 204 | 304);
        let body = match &self.body {
            Some(body) => body.clone(),
            None if bodiless => Vec::new(),
            None => format!("answer {number}").into_bytes(),
        };
        let mut out = head(self.status, &self.lines);
        out.extend(format!("x-answer: {number}\r\n").bytes());
        let framed = self.lines.iter().any(|line| {
            let line = line.to_ascii_lowercase();
            line.starts_with(b"content-length:") || line.starts_with(b"transfer-encoding:")
        });
        if !framed && !bodiless {
            out.extend(format!("content-length: {}\r\n", body.len()).bytes());
        }
        out.extend(b"\r\n");
        if !head_only {
            out.extend(body);
        }
        out
    }
}

impl Asked {
    /// A field's value, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap_or("(not text)"))
    }
}

impl Gate {
    /// A closed one.
    #[expect(clippy::new_without_default, reason = "it reads better")]
    pub fn new() -> Self {
        Self(watch::channel(false).0)
    }

    /// Opens it, for good.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn passed(&self) {
        // It holds a sender itself, so it cannot be closed.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// Answers the requests of one connection.
async fn serve(mut stream: TcpStream, number: usize, book: &Mutex<Book>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let Some(asked) = read_request(&mut stream, &mut buffer, number).await? else {
            return Ok(());
        };
        let is_head = asked.method == Method::HEAD;
        let (say, count) = {
            let mut book = lock(book);
            let path = asked.path.clone();
            book.asked.push(asked);
            let count = book.asked.iter().filter(|asked| asked.path == path).count();
            let sayings = book.pages.get(&path);
            let say = sayings.and_then(|sayings| sayings.get(count - 1).or(sayings.last()));
            let say = say.cloned().unwrap_or_else(|| {
                Say::status(500, &[]).body(format!("nothing is written down for {path}"))
            });
            (say, count)
        };
        let say = match say.to_head {
            Some(to_head) if is_head => *to_head,
            _ => say,
        };
        for (status, lines) in &say.interim {
            let mut interim = head(*status, lines);
            interim.extend(b"\r\n");
            stream.write_all(&interim).await?;
        }
        if let Some(gate) = &say.held {
            gate.passed().await;
        }
        match &say.manner {
            Manner::Whole => stream.write_all(&say.written(count, is_head)).await?,
            Manner::Bytes(bytes, close) => {
                stream.write_all(bytes).await?;
                if *close {
                    return stream.shutdown().await;
                }
            }
            Manner::Cut => return Ok(()),
        }
    }
}

/// The status line and these fields.
fn head(status: u16, lines: &[Vec<u8>]) -> Vec<u8> {
    let reason = StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Unheard Of");
    let mut out = format!("HTTP/1.1 {status} {reason}\r\n").into_bytes();
    // One moment for all dates of a response.
    let now = SystemTime::now();
    for line in lines {
        match std::str::from_utf8(line) {
            Ok(text) => out.extend(dated(text, now).bytes()),
            Err(_) => out.extend(line),
        }
        out.extend(b"\r\n");
    }
    out
}

/// Reads a request and its body; none where the other side has closed the connection.
async fn read_request(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    connection: usize,
) -> io::Result<Option<Asked>> {
    let end = loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let text = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let mut lines = text.split("\r\n");
    let mut start = lines.next().unwrap_or_default().split(' ');
    let method = start.next().and_then(|method| method.parse().ok());
    let (Some(method), Some(path)) = (method, start.next()) else {
        return Err(io::Error::other("no request line"));
    };
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let field = (
            name.parse::<HeaderName>(),
            HeaderValue::from_str(value.trim()),
        );
        if let (Ok(name), Ok(value)) = field {
            headers.append(name, value);
        }
    }
    let chunked = headers.contains_key("transfer-encoding");
    let length: usize = headers
        .get("content-length")
        .and_then(|length| length.to_str().ok()?.parse().ok())
        .unwrap_or(0);
    let body = loop {
        // No body of a test holds the last chunk's bytes itself.
        let end = match find(buffer, b"0\r\n\r\n") {
            Some(at) if chunked => Some(at + 5),
            None if chunked => None,
            _ => (buffer.len() >= length).then_some(length),
        };
        if let Some(end) = end {
            break buffer.drain(..end).collect();
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    Ok(Some(Asked {
        connection,
        method,
        path: path.to_owned(),
        headers,
        body,
    }))
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The upstream servers of a site or route: which is next, which is down, and how it fared.

// Whom a member trusts to be its server.
mod trusted;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pingora_core::protocols::ALPN;
use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use sovereign_config::model::{Timeouts, Upstream, UpstreamAddress, UpstreamScheme};
use tokio::sync::OnceCell;

use trusted::Trusted;

/// How long a resolved name is used before it is asked for again; the old addresses stay in use where that fails.
const RESOLVED_FOR: Duration = Duration::from_secs(10);
/// A member that failed is passed over for so long, where there is another.
const REST: Duration = Duration::from_secs(2);
/// How long an unused connection to an upstream is kept; below the 5 s after which Node.js and
/// others close theirs, so that we do not write to a connection that is just being closed.
const KEEP: Duration = Duration::from_secs(4);

/// The members of a pool, balanced in turn.
#[derive(Debug)]
pub struct Pool {
    members: Vec<Member>,
    timeouts: Timeouts,
    next: AtomicUsize,
}

/// One upstream server.
#[derive(Debug)]
pub struct Member {
    upstream: Upstream,
    socket: Option<PathBuf>,
    /// Read at the first need.
    trusted: OnceCell<Option<Arc<Trusted>>>,
    resolved: Mutex<Option<(Instant, VecDeque<SocketAddr>)>>,
    health: Mutex<Health>,
    requests: AtomicU64,
    failures: AtomicU64,
    active: AtomicU64,
}

#[derive(Debug, Default)]
struct Health {
    answered: bool,
    failed_at: Option<Instant>,
    last_error: Option<String>,
}

/// What is known of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has not been asked yet.
    Unknown,
    /// Its last exchange went well.
    Up,
    /// Its last exchange failed.
    Down,
}

impl Pool {
    /// A pool; `demo` is the socket of the demonstration site.
    pub fn new(upstreams: &[Upstream], timeouts: &Timeouts, demo: &std::path::Path) -> Self {
        let members = upstreams
            .iter()
            .map(|upstream| Member::new(upstream.clone(), demo))
            .collect();
        Self {
            members,
            timeouts: timeouts.clone(),
            next: AtomicUsize::new(0),
        }
    }

    /// The members, in the order of the configuration.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// How long its members may take.
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Whether it has the same members and timeouts, and so can go on over a reload.
    pub fn is_for(&self, upstreams: &[Upstream], timeouts: &Timeouts) -> bool {
        self.timeouts == *timeouts
            && self
                .members
                .iter()
                .map(|member| &member.upstream)
                .eq(upstreams)
    }

    /// The next member in turn; one that failed just now only where all did.
    pub fn pick(&self) -> usize {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let turn = |offset: usize| start.wrapping_add(offset) % self.members.len();
        (0..self.members.len())
            .map(turn)
            .find(|at| !self.members[*at].rests())
            .unwrap_or_else(|| turn(0))
    }
}

impl Member {
    fn new(upstream: Upstream, demo: &std::path::Path) -> Self {
        let socket = match &upstream.address {
            UpstreamAddress::Tcp(..) => None,
            UpstreamAddress::Unix(path) => Some(path.clone()),
            UpstreamAddress::Demo => Some(demo.to_owned()),
        };
        Self {
            upstream,
            socket,
            trusted: OnceCell::new(),
            resolved: Mutex::default(),
            health: Mutex::default(),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            active: AtomicU64::new(0),
        }
    }

    /// The server as a person writes it.
    pub fn display(&self) -> String {
        self.upstream.display()
    }

    /// Requests sent to it, failures among them, and requests under way.
    pub fn counts(&self) -> (u64, u64, u64) {
        (
            self.requests.load(Ordering::Relaxed),
            self.failures.load(Ordering::Relaxed),
            self.active.load(Ordering::Relaxed),
        )
    }

    /// What is known of it, and its last error.
    pub fn state(&self) -> (State, Option<String>) {
        let health = self.health.lock();
        let state = match (health.failed_at, health.answered) {
            (Some(_), _) => State::Down,
            (None, true) => State::Up,
            (None, false) => State::Unknown,
        };
        (state, health.last_error.clone())
    }

    /// It answered.
    pub fn answered(&self) {
        let mut health = self.health.lock();
        health.answered = true;
        health.failed_at = None;
    }

    /// It failed, in these words.
    pub fn failed(&self, error: String) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        // A name may have an address that nothing listens on: `localhost` in both families, say.
        if let Some((_, addresses)) = &mut *self.resolved.lock() {
            addresses.rotate_left(usize::from(addresses.len() > 1));
        }
        let mut health = self.health.lock();
        health.failed_at = Some(Instant::now());
        health.last_error = Some(error);
    }

    /// Counts a request that begins; [`end`](Self::end) must follow.
    pub fn begin(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that has ended.
    pub fn end(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    fn rests(&self) -> bool {
        let failed = self.health.lock().failed_at;
        failed.is_some_and(|at| at.elapsed() < REST)
    }

    /// Where to connect, as Pingora wants it.
    pub async fn peer(&self, timeouts: &Timeouts) -> Result<HttpPeer, String> {
        let tls = self.upstream.scheme == UpstreamScheme::Https;
        let mut peer = match (&self.socket, &self.upstream.address) {
            (Some(socket), _) => {
                let path = socket.to_str().ok_or("the socket's path is not UTF-8")?;
                HttpPeer::new_uds(path, tls, String::new()).map_err(|error| error.to_string())?
            }
            (None, UpstreamAddress::Tcp(host, port)) => {
                let name = self.upstream.tls.name.as_ref().unwrap_or(host);
                HttpPeer::new(self.resolve(host, *port).await?, tls, name.clone())
            }
            // `new` gives every other address a socket.
            (None, _) => return Err("no address".to_owned()),
        };
        if let Some(trusted) = self.trusted().await {
            peer.options.ca = Some(trusted.certificates.clone());
            // Else a connection to the same server that others trust might be taken for ours.
            peer.group_key = trusted.group;
        }
        let options = &mut peer.options;
        options.alpn = match self.upstream.scheme {
            UpstreamScheme::Http => ALPN::H1,
            UpstreamScheme::Https => ALPN::H2H1,
            UpstreamScheme::H2c => ALPN::H2,
        };
        // Hop-by-hop fields are ours to drop (`upstream::request`): Pingora's own rules would also
        // drop `TE: trailers`, which gRPC needs, and upgrades other than WebSocket.
        options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
        options.connection_timeout = Some(timeouts.connect);
        options.total_connection_timeout = Some(timeouts.connect);
        options.idle_timeout = Some(KEEP);
        options.write_timeout = Some(timeouts.idle);
        // The passage keeps both times itself; this one only stands behind it.
        options.read_timeout = Some(timeouts.idle.max(timeouts.first_byte) + timeouts.connect);
        Ok(peer)
    }

    /// Whom it trusts in place of the system's authorities alone.
    async fn trusted(&self) -> Option<&Arc<Trusted>> {
        let roots = &self.upstream.tls.roots;
        if roots.is_empty() {
            return None;
        }
        let read = || Trusted::read(roots.clone());
        self.trusted.get_or_init(read).await.as_ref()
    }

    async fn resolve(&self, host: &str, port: u16) -> Result<SocketAddr, String> {
        if let Ok(ip) = host.parse() {
            return Ok(SocketAddr::new(ip, port));
        }
        if let Some((at, addresses)) = &*self.resolved.lock()
            && at.elapsed() < RESOLVED_FOR
            && !addresses.is_empty()
        {
            return Ok(addresses[0]);
        }
        match tokio::net::lookup_host((host, port)).await {
            Ok(found) => {
                let mut found: VecDeque<_> = found.collect();
                // The one that worked stays in front.
                let worked = self
                    .resolved
                    .lock()
                    .as_ref()
                    .and_then(|known| known.1.front().copied());
                if let Some(place) = found.iter().position(|address| Some(*address) == worked) {
                    found.rotate_left(place);
                }
                let first = *found
                    .front()
                    .ok_or_else(|| format!("{host} has no address"))?;
                *self.resolved.lock() = Some((Instant::now(), found));
                Ok(first)
            }
            Err(error) => match &*self.resolved.lock() {
                Some((_, addresses)) if !addresses.is_empty() => Ok(addresses[0]),
                _ => Err(format!("{host} was not found: {error}")),
            },
        }
    }
}

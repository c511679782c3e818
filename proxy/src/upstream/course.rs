//! The course of one exchange with an upstream: what the phases of Pingora's proxy and the client's
//! side of the passage both need to know, and what the log says of it afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use parking_lot::Mutex;
use pingora_error::{Error, ErrorSource, ErrorType};
use tokio::sync::OwnedSemaphorePermit;

use crate::downstream::ResponseHead;
use crate::pool::Pool;
use crate::response::Failure;
use crate::route::{Route, Site};

/// The first pause before an upstream is asked again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long an upstream is asked again that takes a request on a fresh connection and hangs up. It is
/// not away but there and broken, or the request breaks it; and clients that give up after 10 s
/// should hear of it.
const HUNG_UP_FOR: Duration = Duration::from_secs(5);

/// Who an exchange is for.
pub enum Purpose {
    /// A client waits for it; this makes the head of its response ready.
    Client(Box<dyn Fn(&mut ResponseHead) + Send + Sync>),
    /// It fills the cache, and is made ready later, at each use.
    Fill,
}

/// One exchange with an upstream.
pub struct Course {
    /// The site it belongs to.
    pub site: Arc<Site>,
    /// Its route.
    route: Arc<Route>,
    /// The servers that may take it.
    pub pool: Arc<Pool>,
    /// It changes nothing, so it may be sent again.
    pub safe: bool,
    purpose: Purpose,
    hold_until: Instant,
    state: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    tries: u32,
    member: Option<usize>,
    sent: Option<Instant>,
    connected: Option<Instant>,
    began: Option<Instant>,
    first_byte: Option<Instant>,
    deadline: Option<Instant>,
    failure: Option<Failure>,
    timed_out: bool,
    /// When the upstream first hung up, of the breaks that came one after another.
    hung_up: Option<Instant>,
    status: Option<u16>,
    started: bool,
    client: Option<Failure>,
    /// Its turn among those of its route, where there is a bound.
    turn: Option<OwnedSemaphorePermit>,
}

/// How long the stages of an exchange took, for the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings {
    /// From the first try to the last connection: what was held.
    pub connect: Option<Duration>,
    /// From there to the response's head.
    pub first_byte: Option<Duration>,
}

impl Course {
    /// An exchange that begins now and may wait for an upstream until `hold_until`.
    pub fn new(
        (site, route): (Arc<Site>, Arc<Route>),
        pool: Arc<Pool>,
        safe: bool,
        hold_until: Instant,
        purpose: Purpose,
    ) -> Self {
        Self {
            site,
            route,
            pool,
            safe,
            purpose,
            hold_until,
            state: Mutex::default(),
        }
    }

    /// Waits for its turn; false, and it has failed, where that does not come in time.
    pub async fn has_turn(&self) -> bool {
        let Some(turns) = &self.route.turns else {
            return true;
        };
        if self.state.lock().turn.is_some() {
            return true;
        }
        let turn = turns.take().await;
        if turn.is_none() {
            self.fail(Failure::Busy);
        }
        let mut state = self.state.lock();
        state.turn = turn;
        state.turn.is_some()
    }

    /// It is over: another one has its turn.
    pub fn ends_turn(&self) {
        self.state.lock().turn = None;
    }

    /// Begins a try: the pause before it, and the member it goes to.
    pub fn begin_try(&self) -> (Duration, usize) {
        let member = self.pool.pick();
        let mut state = self.state.lock();
        let pause = match state.tries {
            0 => Duration::ZERO,
            // Every member is asked once before there is any pause.
            tries if (tries as usize) < self.pool.members().len() => Duration::ZERO,
            tries => FIRST_PAUSE
                .saturating_mul(1 << (tries - 1).min(8))
                .min(LONGEST_PAUSE),
        };
        state.tries += 1;
        state.began.get_or_insert_with(Instant::now);
        (pause, member)
    }

    /// The request goes to `member`, or to nobody more.
    pub fn at_member(&self, member: Option<usize>) {
        let mut state = self.state.lock();
        if let Some(before) = std::mem::replace(&mut state.member, member) {
            self.pool.members()[before].end();
        }
        if let Some(now) = member {
            self.pool.members()[now].begin();
        }
    }

    /// A connection is there, and the request is about to be sent on it.
    pub fn connected(&self) {
        let mut state = self.state.lock();
        state.connected = Some(Instant::now());
        state.sent = None;
        state.deadline = None;
        state.failure = None;
    }

    /// The response's head has come.
    pub fn answered(&self, status: StatusCode) {
        let mut state = self.state.lock();
        state.first_byte = Some(Instant::now());
        state.status = Some(status.as_u16());
        if let Some(member) = state.member {
            self.pool.members()[member].answered();
        }
    }

    /// Something of the response has been passed on: nothing can be tried again from here.
    pub fn started(&self) {
        let mut state = self.state.lock();
        state.started = true;
        state.deadline = None;
    }

    /// When the upstream must have said something: `waiting` for the response's head, from the end
    /// of the request on, and for each piece of the body.
    /// None while the request is held.
    pub fn deadline(&self) -> Option<Instant> {
        let timeouts = self.pool.timeouts();
        let mut state = self.state.lock();
        if state.connected.is_none() || state.failure.is_some() {
            return None;
        }
        let limit = if state.started {
            timeouts.idle
        } else {
            timeouts.first_byte
        };
        Some(*state.deadline.get_or_insert_with(|| Instant::now() + limit))
    }

    /// Something moved: the idle time begins anew.
    pub fn moved(&self) {
        self.state.lock().deadline = None;
    }

    /// The deadline has passed.
    pub fn time_out(&self) {
        self.state.lock().timed_out = true;
    }

    /// The client's side failed; that counts before anything the upstream says later.
    pub fn client_failed(&self, failure: Failure) {
        self.state.lock().client.get_or_insert(failure);
    }

    /// The upstream says that it is restarting.
    pub fn restarting(&self) {
        self.state.lock().failure = Some(Failure::Restarting);
    }

    /// Judges an error and says whether to try again. `sent` is false only where not one byte of
    /// the request can have reached the upstream.
    pub fn failed(&self, error: &Error, sent: bool, reused: bool) -> bool {
        let mut state = self.state.lock();
        let failure = state
            .client
            .or(state.timed_out.then_some(Failure::TimedOut))
            .or(state.failure)
            .unwrap_or_else(|| classify(error));
        state.failure = Some(failure);
        let of_upstream = matches!(
            failure,
            Failure::Unreachable | Failure::Restarting | Failure::Garbage | Failure::TimedOut
        );
        // A kept connection that breaks says nothing about the server: it may just have closed it.
        if of_upstream
            && !(reused && failure == Failure::Unreachable)
            && let Some(member) = state.member
        {
            self.pool.members()[member].failed(error_text(failure, error));
        }
        let again = matches!(failure, Failure::Unreachable | Failure::Restarting)
            && !state.started
            && (!sent || self.safe);
        let untried = (state.tries as usize) < self.pool.members().len();
        let now = Instant::now();
        let until = if sent && !reused && failure == Failure::Unreachable {
            let first = *state.hung_up.get_or_insert(now);
            self.hold_until.min(first + HUNG_UP_FOR)
        } else {
            if !sent {
                state.hung_up = None;
            }
            self.hold_until
        };
        again && (reused || untried || now < until)
    }

    /// Why there is no response to pass on.
    pub fn failure(&self) -> Option<Failure> {
        let state = self.state.lock();
        state.client.or(state.failure)
    }

    /// Records a failure that no upstream caused.
    pub fn fail(&self, failure: Failure) {
        self.state.lock().failure.get_or_insert(failure);
    }

    /// The status that the upstream gave.
    pub fn status(&self) -> Option<u16> {
        self.state.lock().status
    }

    /// Makes the head of a response ready for the client, where one waits.
    pub fn dress(&self, head: &mut ResponseHead) {
        if let Purpose::Client(dress) = &self.purpose {
            dress(head);
        }
    }

    /// How long its stages took.
    pub fn timings(&self) -> Timings {
        let state = self.state.lock();
        let between =
            |from: Option<Instant>, to: Option<Instant>| Some(to?.saturating_duration_since(from?));
        Timings {
            connect: between(state.began, state.connected),
            first_byte: between(state.connected, state.first_byte),
        }
    }

    /// The upstream it went to last, for the log.
    pub fn upstream(&self) -> Option<String> {
        let member = self.state.lock().member?;
        Some(self.pool.members()[member].display())
    }

    /// How often it was tried.
    pub fn tries(&self) -> u32 {
        self.state.lock().tries
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        self.at_member(None);
    }
}

/// What Pingora's error means to us.
fn classify(error: &Error) -> Failure {
    use ErrorType as E;
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, E::InvalidHTTPHeader) => Failure::BadRequest,
        (ErrorSource::Downstream, _) => Failure::ClientGone,
        (_, E::ReadTimedout | E::WriteTimedout) => Failure::TimedOut,
        (
            _,
            E::ConnectTimedout
            | E::ConnectRefused
            | E::ConnectNoRoute
            | E::ConnectError
            | E::ConnectProxyFailure
            | E::SocketError
            | E::TLSHandshakeFailure
            | E::TLSHandshakeTimedout
            | E::HandshakeError
            | E::InvalidCert
            | E::ConnectionClosed
            | E::ReadError
            | E::WriteError,
        ) => Failure::Unreachable,
        (ErrorSource::Upstream, _) => Failure::Garbage,
        (_, E::InvalidHTTPHeader | E::H2Error | E::InvalidH2 | E::H2Downgrade) => Failure::Garbage,
        _ => Failure::Internal,
    }
}

fn error_text(failure: Failure, error: &Error) -> String {
    let text = match failure {
        // Pingora reports it as the client's, since it was noticed on that side.
        Failure::TimedOut => failure.as_str().to_owned(),
        _ => format!("{}: {error}", failure.as_str()),
    };
    text.chars().take(300).collect()
}

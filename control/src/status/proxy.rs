//! What a proxy says of itself, by its own `status --json`. Pure. It is read member by member: a proxy of another
//! version may say more, or less.

use serde::Serialize;
use serde_json::Value;

use crate::observe::ObservedProxy;

/// A proxy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProxyStatus {
    /// Whether it serves.
    pub state: ProxyState,
    /// Why it does not.
    pub why: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The program it was given last, 12 digits.
    pub program: Option<String>,
    /// The configuration it was given last.
    pub revision: Option<String>,
    /// How many sites it serves.
    pub sites: usize,
    /// Its certificates, the soonest to lapse first.
    pub certificates: Vec<CertificateStatus>,
    /// What else is not as it should be, each with a word that stays while it is the same trouble.
    #[serde(skip)]
    pub troubles: Vec<(&'static str, String)>,
}

/// Whether a proxy serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyState {
    /// It does.
    Serving,
    /// It ends once the requests under way are answered.
    Draining,
    /// It was deployed, and does not answer.
    Silent,
    /// It was never deployed.
    Missing,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateStatus {
    /// The names that it covers, or should.
    pub names: Vec<String>,
    /// Whole days until it lapses; negative once it has; none where there is none yet.
    pub days_left: Option<i64>,
    /// When it lapses, RFC 3339.
    pub not_after: Option<String>,
    /// How its renewal stands, as the proxy says it; none where it is renewed by other means.
    pub state: Option<String>,
    /// Why it needs attention, where it does.
    pub trouble: Option<String>,
}

/// Below this a certificate should have been renewed.
const SOON: i64 = 10;

/// What a proxy says.
pub(super) fn status(host: &str, proxy: Option<&ObservedProxy>) -> ProxyStatus {
    let mut status = ProxyStatus {
        state: ProxyState::Missing,
        why: None,
        version: None,
        program: None,
        revision: None,
        sites: 0,
        certificates: Vec::new(),
        troubles: Vec::new(),
    };
    let Some(proxy) = proxy else { return status };
    status.program = Some(proxy.program.clone());
    status.revision = Some(proxy.revision.to_string());
    match &proxy.status {
        Err(why) => {
            status.state = ProxyState::Silent;
            status.why = Some(super::words::without_host(why, host));
        }
        Ok(said) => read(said, &mut status),
    }
    status
}

fn read(said: &Value, status: &mut ProxyStatus) {
    let draining = said["draining"].as_bool() == Some(true);
    status.state = if draining {
        ProxyState::Draining
    } else {
        ProxyState::Serving
    };
    status.version = text(&said["version"]);
    status.sites = said["sites"].as_array().map_or(0, Vec::len);
    status.certificates = list(&said["certificates"]).map(certificate).collect();
    // What is not there at all comes first.
    status
        .certificates
        .sort_by_key(|one| (one.days_left, one.names.clone()));
    let reload = &said["last_reload"];
    if reload["ok"].as_bool() == Some(false) {
        let why = text(&reload["message"]).unwrap_or_default();
        status.troubles.push((
            "reload",
            format!(
                "its last configuration was refused: {}",
                super::words::line(&why)
            ),
        ));
    }
    let disk = &said["cache"]["disk"];
    if let Some(health) = text(&disk["health"]).filter(|health| !WELL.contains(&health.as_str())) {
        let why = text(&disk["error"]).map(|error| format!(" ({})", super::words::line(&error)));
        status.troubles.push((
            "cache",
            format!("its cache on disk is {health}{}", why.unwrap_or_default()),
        ));
    }
    let skew = said["acme"]["clock_skew_seconds"]
        .as_i64()
        .unwrap_or_default();
    if skew.unsigned_abs() >= SKEW {
        status.troubles.push((
            "clock",
            format!(
                "its host's clock is off by {}",
                super::words::span(skew.unsigned_abs())
            ),
        ));
    }
    for authority in
        list(&said["acme"]["authorities"]).filter(|one| one["agreed"].as_bool() == Some(false))
    {
        let name = text(&authority["name"]).unwrap_or_default();
        status.troubles.push((
            "terms",
            format!("the terms of {name} are not agreed to: it is asked for nothing"),
        ));
    }
}

fn certificate(said: &Value) -> CertificateStatus {
    let order = Some(&said["order"]).filter(|order| order.is_object());
    let state = order.and_then(|order| text(&order["state"]));
    let not_after = text(&said["not_after"]).filter(|end| !end.is_empty());
    let days_left = said["days_left"].as_i64().filter(|_| not_after.is_some());
    let error = order.and_then(|order| text(&order["last_error"]));
    let mut names: Vec<String> = list(&said["names"]).filter_map(text).collect();
    if names.is_empty() {
        names = order
            .map(|order| list(&order["names"]).filter_map(text).collect())
            .unwrap_or_default();
    }
    CertificateStatus {
        trouble: trouble(days_left, state.as_deref(), error.as_deref()),
        names,
        days_left,
        not_after,
        state,
    }
}

/// Why a certificate needs attention. What is being ordered, or renewed in time, does not.
fn trouble(days: Option<i64>, state: Option<&str>, error: Option<&str>) -> Option<String> {
    let because = error
        .map(|error| format!(": {}", super::words::line(error)))
        .unwrap_or_default();
    match (state, days) {
        (Some("doubtful"), _) => Some(format!(
            "has lapsed by a clock that nobody has confirmed{because}"
        )),
        (_, Some(..0)) => Some(format!("has lapsed{because}")),
        (Some("missing" | "failing" | "waiting"), None) => {
            Some(format!("cannot be had so far{because}"))
        }
        (Some("waiting"), Some(_)) => {
            Some(format!("is not renewed: something has to be done{because}"))
        }
        // Some live for a few days only, and are renewed in time.
        (Some("good" | "ordering"), _) => None,
        (_, Some(days)) if days < SOON => {
            Some(format!("lapses in {}{because}", super::words::days(days)))
        }
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// What the cache on disk says where nothing has to be done.
const WELL: [&str; 3] = ["good", "off", "paused"];
/// Seconds that a clock may be off: less is felt by no certificate.
const SKEW: u64 = 3600;

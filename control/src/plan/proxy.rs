//! What has to be done with the proxy of a host. Stands alone because every visitor passes it: it is started only
//! where it does not run, and everything else is done while it serves.

use std::collections::BTreeSet;

use sovereign_config::stack::model::ProxyAs;

use super::{Action, FileDiff, ProxyChange, Step, Subject, diff, why};
use crate::desired::{DesiredProxy, Files};
use crate::observe::{DeployedProxy, ObservedHost, ObservedProxy};

/// Its configuration, in the folder of a revision.
const CONFIG: &str = "proxy.toml";
/// What runs it in a container, in the folder of a revision.
const COMPOSE: &str = "compose.yaml";
/// The addresses that systemd listens at for it, in the folder of a revision.
const SOCKET: &str = "sovereign-proxy.socket";
/// How many digits name a program.
const DIGITS: usize = 12;

/// The steps, those that bring something first.
pub(super) fn steps(wanted: &DesiredProxy, seen: &ObservedHost) -> Vec<Step> {
    let now = deployed(wanted);
    let Some((turn, why, diff)) = decide(wanted, &now, seen.proxy.as_ref()) else {
        return Vec::new();
    };
    let mut steps = Vec::new();
    let lacking = wanted.image.iter().filter(|image| !seen.has(image));
    steps.extend(lacking.map(|image| step(Action::Image(image.clone()))));
    if !seen.programs.contains(&now.program) {
        steps.push(step(Action::PlaceProgram(wanted.program.clone())));
    }
    let as_placed = |proxy: &ObservedProxy| {
        proxy.revision == now.revision && diff::between(&proxy.files, &wanted.files).is_empty()
    };
    if !seen.proxy.as_ref().is_some_and(as_placed) {
        let place = Action::Place {
            revision: now.revision.clone(),
            files: wanted.files.clone(),
        };
        steps.push(Step {
            diff,
            ..step(place)
        });
    }
    let was = seen
        .proxy
        .as_ref()
        .and_then(|proxy| runs(&proxy.files))
        .filter(|was| *was != wanted.runs);
    let before = seen
        .proxy
        .as_ref()
        .map(ObservedProxy::deployed)
        .filter(|before| *before != now);
    let change = ProxyChange {
        now,
        runs: wanted.runs,
        before,
        was,
    };
    let action = match turn {
        Turn::Start => Action::StartProxy(change),
        Turn::Reload => Action::ReloadProxy(change),
        Turn::Upgrade => Action::UpgradeProxy(change),
    };
    steps.push(Step {
        why,
        ..step(action)
    });
    steps
}

/// What is written down of a proxy as it should be.
pub(super) fn deployed(wanted: &DesiredProxy) -> DeployedProxy {
    let digest = &wanted.program.digest;
    let program = digest.get(..DIGITS).unwrap_or(digest).to_owned();
    DeployedProxy {
        revision: wanted.revision.clone(),
        program,
    }
}

/// The names of the sites that a proxy serves.
pub(super) fn sites(proxy: &DesiredProxy) -> BTreeSet<String> {
    let content = proxy
        .files
        .get(CONFIG)
        .map(|file| String::from_utf8_lossy(&file.content));
    let table: toml::Table = content
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    let sites = table.get("site").and_then(toml::Value::as_array);
    let names = sites
        .into_iter()
        .flatten()
        .filter_map(|site| site.get("names"));
    let each = names.flat_map(|names| match names {
        toml::Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    });
    each.filter_map(|name| Some(name.as_str()?.to_owned()))
        .collect()
}

/// What is done with it.
enum Turn {
    Start,
    Reload,
    Upgrade,
}

type Decided = (Turn, Vec<String>, Vec<FileDiff>);

fn decide(
    wanted: &DesiredProxy,
    now: &DeployedProxy,
    seen: Option<&ObservedProxy>,
) -> Option<Decided> {
    let Some(seen) = seen else {
        return Some((Turn::Start, vec!["is not there yet".to_owned()], Vec::new()));
    };
    let diff = diff::diff(&seen.files, &wanted.files);
    let mut why = Vec::new();
    if seen.program != now.program {
        why.push(format!(
            "program {} -> {} (version {})",
            seen.program, now.program, wanted.program.version
        ));
    }
    if seen.revision != now.revision {
        let changed = why::files(&diff);
        why.extend(if changed.is_empty() {
            vec!["its configuration changed".to_owned()]
        } else {
            changed
        });
    }
    let strange =
        seen.revision == now.revision && !diff::between(&seen.files, &wanted.files).is_empty();
    if strange {
        why.push("its files on the host are not those that were placed".to_owned());
    }
    let other = other_program(seen, now);
    why.extend(
        other
            .iter()
            .map(|other| format!("runs program {other}, which is not the one that was placed")),
    );
    let stopped = stopped(wanted, seen, &diff);
    let turn = match &stopped {
        Some(_) => Turn::Start,
        None if seen.program != now.program || other.is_some() => Turn::Upgrade,
        None if seen.revision != now.revision || strange => Turn::Reload,
        None => return None,
    };
    why.extend(stopped);
    Some((turn, why, diff))
}

/// The program that runs, 12 digits, where that is neither the one that was placed last nor the new one.
fn other_program(seen: &ObservedProxy, now: &DeployedProxy) -> Option<String> {
    let digest = seen.status.as_ref().ok()?.get("digest")?.as_str()?;
    let runs = digest.get(..DIGITS)?;
    (runs != seen.program && runs != now.program).then(|| runs.to_owned())
}

/// Why it has to be started, not only told of something new.
fn stopped(wanted: &DesiredProxy, seen: &ObservedProxy, diff: &[FileDiff]) -> Option<String> {
    if let Err(why) = &seen.status {
        return Some(format!("does not answer: {why}"));
    }
    if runs(&seen.files).is_some_and(|was| was != wanted.runs) {
        return Some(match wanted.runs {
            ProxyAs::Systemd => "is run by systemd now: sites are away for a moment".to_owned(),
            ProxyAs::Container => {
                "is run in a container now: sites are away for a moment".to_owned()
            }
        });
    }
    // A socket that is open keeps its addresses until it is closed.
    let socket = |files: &Files| files.get(SOCKET).map(|file| file.content.clone());
    if socket(&seen.files).is_some_and(|was| Some(was) != socket(&wanted.files)) {
        return Some("listens at other addresses: sites are away for a moment".to_owned());
    }
    let contained =
        wanted.runs == ProxyAs::Container && diff.iter().any(|file| file.path == COMPOSE);
    contained.then(|| "its container is another one: sites are away for a moment".to_owned())
}

/// How a proxy with these files is run; nobody knows where they are lost.
fn runs(files: &Files) -> Option<ProxyAs> {
    let runs = if files.contains_key(COMPOSE) {
        ProxyAs::Container
    } else {
        ProxyAs::Systemd
    };
    (!files.is_empty()).then_some(runs)
}

fn step(action: Action) -> Step {
    Step::of(Subject::Proxy, action)
}

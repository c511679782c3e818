//! A plan, for people as lines like those of a diff, and for machines as JSON. Stands alone so that a plan, what is
//! done of it, and what is left of it are told in the same words.

// For machines.
mod json;

use std::fmt::Write as _;

use crate::observe::Slot;
use crate::plan::{Action, HostPlan, Plan, Step, Subject};
use crate::printer::{Look, Tone, paint};
use crate::ssh::seconds;

pub use json::json;

/// How much of a digest is shown.
const DIGITS: usize = 12;
/// Before what explains a step.
const DEEP: &str = "        ";

/// A plan as lines, and a summary.
pub fn text(plan: &Plan, look: Look) -> String {
    let mut text = String::new();
    let told = plan
        .hosts
        .iter()
        .filter(|host| !host.steps.is_empty() || host.blocked.is_some());
    for host in told {
        tell_host(&mut text, host, look);
        text.push('\n');
    }
    text + &summary(plan) + "\n"
}

/// What a plan comes to, in one line.
pub fn summary(plan: &Plan) -> String {
    let tally = Tally::of(plan);
    let counts = [
        (tally.start, "to start"),
        (tally.change, "to change"),
        (tally.remove, "to remove"),
        (tally.unchanged, "unchanged"),
    ];
    let told = counts.iter().filter(|(count, _)| *count > 0);
    let told: Vec<String> = told
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let hosts = plan.hosts.len() - tally.blocked;
    if hosts == 0 && tally.blocked > 0 {
        return format!("nothing can be planned; left out: {}", left_out(plan));
    }
    let mut text = match told.is_empty() {
        true => "nothing".to_owned(),
        false => told.join(", "),
    };
    let _ = write!(
        text,
        " on {hosts} {}",
        if hosts == 1 { "host" } else { "hosts" }
    );
    if tally.blocked > 0 {
        let _ = write!(text, "; left out: {}", left_out(plan));
    }
    if plan.is_done() {
        text.insert_str(0, "nothing to do: ");
    }
    text
}

/// The hosts for which nothing can be planned.
fn left_out(plan: &Plan) -> String {
    let blocked = plan.hosts.iter().filter(|host| host.blocked.is_some());
    let names: Vec<&str> = blocked.map(|host| host.host.as_str()).collect();
    names.join(", ")
}

/// A step in a few words: `blog: start`.
pub fn line(step: &Step) -> String {
    format!("{}: {}", subject(&step.subject), what(&step.action))
}

/// How many of what.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    start: usize,
    change: usize,
    remove: usize,
    unchanged: usize,
    blocked: usize,
}

impl Tally {
    fn of(plan: &Plan) -> Self {
        let mut tally = Self::default();
        for host in &plan.hosts {
            tally.unchanged += host.unchanged;
            tally.blocked += usize::from(host.blocked.is_some());
            for step in &host.steps {
                match turn(host, step) {
                    Turn::Start => tally.start += 1,
                    Turn::Change => tally.change += 1,
                    Turn::Remove => tally.remove += 1,
                    Turn::Beside => {}
                }
            }
        }
        tally
    }
}

/// What a step means for a service or a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It begins to run.
    Start,
    /// It runs, and becomes another.
    Change,
    /// It goes.
    Remove,
    /// Nothing by itself: it belongs to another step.
    Beside,
}

fn turn(host: &HostPlan, step: &Step) -> Turn {
    match &step.action {
        Action::Start { before: None, .. } => Turn::Start,
        Action::StartProxy(change) if change.before.is_none() => Turn::Start,
        Action::Start { .. } | Action::StartBeside { .. } | Action::StartProxy(_) => Turn::Change,
        Action::ReloadProxy(_) | Action::UpgradeProxy(_) => Turn::Change,
        Action::Remove => Turn::Remove,
        Action::StopBeside { .. } if !starts(host, &step.subject) => Turn::Change,
        _ => Turn::Beside,
    }
}

fn starts(host: &HostPlan, subject: &Subject) -> bool {
    let of_it = host.steps.iter().filter(|step| step.subject == *subject);
    let mut actions = of_it.map(|step| &step.action);
    actions.any(|action| matches!(action, Action::Start { .. } | Action::StartBeside { .. }))
}

fn tell_host(text: &mut String, host: &HostPlan, look: Look) {
    let _ = writeln!(text, "{}", host.host);
    if let Some((why, hint)) = &host.blocked {
        let label = paint("error:", Tone::Bad, look.colour);
        let _ = writeln!(text, "  {label} {}", indented(why));
        if let Some(hint) = hint {
            let _ = writeln!(
                text,
                "  {} {}",
                paint("hint:", Tone::Link, look.colour),
                indented(hint)
            );
        }
    }
    if let Some(who) = &host.locked_by {
        let label = paint("warning:", Tone::Warn, look.colour);
        let _ = writeln!(text, "  {label} another deployment runs: {}", indented(who));
    }
    let subjects = host
        .steps
        .iter()
        .map(|step| subject(&step.subject).chars().count());
    let width = subjects.max().unwrap_or(0);
    for step in &host.steps {
        let sign = sign(turn(host, step), look);
        let _ = writeln!(
            text,
            "  {sign} {:width$}  {}",
            subject(&step.subject),
            what(&step.action)
        );
        explain(text, step, look);
    }
}

fn explain(text: &mut String, step: &Step, look: Look) {
    for why in &step.why {
        let _ = writeln!(text, "{DEEP}{}", indented(why));
    }
    if let Some(name) = &step.destroys {
        let label = paint("destroys", Tone::Bad, look.colour);
        let _ = writeln!(text, "{DEEP}{label} the data of {name}");
    }
    for file in &step.diff {
        match file.lines.as_slice() {
            [one] if !one.starts_with(['+', '-']) => {
                let _ = writeln!(text, "{DEEP}{}: {one}", file.path);
            }
            lines => {
                let _ = writeln!(text, "{DEEP}{}", file.path);
                for line in lines {
                    let _ = writeln!(
                        text,
                        "{}",
                        format!("{DEEP}  {}", painted(line, look)).trim_end()
                    );
                }
            }
        }
    }
}

fn painted(line: &str, look: Look) -> String {
    let tone = match line.chars().next() {
        Some('+') => Tone::Good,
        Some('-') => Tone::Bad,
        _ => return line.to_owned(),
    };
    paint(line, tone, look.colour)
}

/// What hosts say comes from outside: what steers a terminal is taken out.
fn indented(text: &str) -> String {
    let steers = |c: char| c.is_control() && c != '\n';
    text.trim_end()
        .replace(steers, " ")
        .replace('\n', &format!("\n{DEEP}"))
}

fn sign(turn: Turn, look: Look) -> String {
    match turn {
        Turn::Start => paint("+", Tone::Good, look.colour),
        Turn::Change => paint("~", Tone::Warn, look.colour),
        Turn::Remove => paint("-", Tone::Bad, look.colour),
        Turn::Beside => " ".to_owned(),
    }
}

fn subject(subject: &Subject) -> &str {
    match subject {
        Subject::Host => "host",
        Subject::Service(name) => name,
        Subject::Proxy => "proxy",
    }
}

/// What is done, in a few words.
fn what(action: &Action) -> String {
    match action {
        Action::Archive => "archive".to_owned(),
        Action::Image(image) if image.sent => format!("send image {}", image.reference),
        Action::Image(image) => format!("pull image {}", image.reference),
        Action::Place { revision, files } => {
            let count = files.len();
            format!(
                "place {count} {} as {revision}",
                if count == 1 { "file" } else { "files" }
            )
        }
        Action::AwaitBitcoin { patience, .. } => {
            format!(
                "wait until it has the whole chain, {} at most",
                seconds(patience)
            )
        }
        Action::Rotate { to, .. } => {
            format!(
                "change {} inside {}",
                to.rotation.secret, to.rotation.service
            )
        }
        Action::Start { before: None, .. } => "start".to_owned(),
        Action::Start { .. } => "change where it is".to_owned(),
        Action::StartBeside { .. } => "start the new one beside the old one".to_owned(),
        Action::StopBeside { slot: Slot::A } => "stop the other one, in slot a".to_owned(),
        Action::StopBeside { slot: Slot::B } => "stop the other one, in slot b".to_owned(),
        Action::Remove => "remove, keep its data".to_owned(),
        Action::PlaceProgram(program) => {
            let digits = program.digest.get(..DIGITS).unwrap_or(&program.digest);
            format!("place program {digits}, version {}", program.version)
        }
        Action::StartProxy(_) => "start".to_owned(),
        Action::ReloadProxy(_) => "reload".to_owned(),
        Action::UpgradeProxy(_) => "upgrade, without a pause".to_owned(),
        Action::Record { .. } => "write the deployment down".to_owned(),
    }
}

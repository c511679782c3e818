//! What has to be done with a service. Stands alone because this is the decision that keeps a site up: whether a new
//! one may stand beside the old, what goes back in force where it does not get healthy, which secrets change inside
//! what runs, and what a run that was cut off has left.

use sovereign_config::stack::catalogue::Rotation;

use super::why::Options;
use super::{Action, FileDiff, NewSecret, Run, Step, Subject, diff, why};
use crate::desired::{DesiredService, Files, Revision, SLOT_B};
use crate::observe::{Current, Health, ObservedService, Slot};

/// What is done with a service, and where it then runs.
#[derive(Debug)]
pub(super) struct Decision {
    /// How it changes.
    pub(super) turn: Turn,
    /// Where it runs then.
    pub(super) slot: Slot,
    /// Why.
    pub(super) why: Vec<String>,
    /// How its files change.
    pub(super) diff: Vec<FileDiff>,
    /// Its files have to be placed.
    pub(super) place: bool,
    /// Secrets that change in parts that keep them by themselves: as they should be, and as they are.
    rotated: Vec<(NewSecret, NewSecret)>,
    /// Something runs in the other slot, and has to stop.
    pub(super) left: bool,
}

/// How a service changes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Not at all.
    Keep,
    /// Where it is.
    InPlace {
        /// What ran before, where its files are still there.
        before: Option<Revision>,
    },
    /// In the other slot, while the old one goes on.
    Beside,
}

/// Decides. `options` are those that it was deployed with last.
pub(super) fn decide(
    service: &DesiredService,
    seen: Option<&ObservedService>,
    options: Option<&Options>,
) -> Decision {
    let Some(seen) = seen else {
        return fresh(service, &ObservedService::default());
    };
    match &seen.current {
        None => fresh(service, seen),
        Some(current) if current.revision == service.revision => kept(service, seen, current),
        Some(current) => change(service, seen, current, options),
    }
}

/// Nothing of it is in force.
fn fresh(service: &DesiredService, seen: &ObservedService) -> Decision {
    let why = if occupied(seen, Slot::A) || occupied(seen, Slot::B) {
        "was cut off before it was healthy"
    } else if !seen.revisions.is_empty() {
        "is not running: it was taken down, or was cut off before it was healthy"
    } else {
        "is not there yet"
    };
    Decision {
        turn: Turn::InPlace { before: None },
        slot: Slot::A,
        why: vec![why.to_owned()],
        diff: Vec::new(),
        place: !seen.revisions.contains(&service.revision),
        rotated: Vec::new(),
        left: occupied(seen, Slot::B),
    }
}

/// What is in force is what should be: does it run, and alone?
fn kept(service: &DesiredService, seen: &ObservedService, current: &Current) -> Decision {
    let slot = home(service, current);
    let diff = diff::between(&seen.files, &service.files);
    let mut why = why::unwell(seen, slot, &service.revision);
    if !diff.is_empty() {
        why.push("its files on the host are not those that were placed".to_owned());
    }
    let turn = if why.is_empty() {
        Turn::Keep
    } else {
        Turn::InPlace { before: None }
    };
    let left = occupied(seen, slot.other());
    Decision {
        turn,
        slot,
        why,
        place: !diff.is_empty(),
        rotated: Vec::new(),
        diff,
        left,
    }
}

/// Something else should be in force.
fn change(
    service: &DesiredService,
    seen: &ObservedService,
    current: &Current,
    options: Option<&Options>,
) -> Decision {
    let diff = diff::diff(&seen.files, &service.files);
    let mut why = why::changed(service, seen, options, &diff);
    let place = !seen.revisions.contains(&service.revision);
    if service.two && serves(seen, current.slot) {
        let slot = current.slot.other();
        return Decision {
            turn: Turn::Beside,
            slot,
            why,
            diff,
            place,
            rotated: Vec::new(),
            left: true,
        };
    }
    let slot = home(service, current);
    if !serves(seen, current.slot) {
        why.extend(why::unwell(seen, current.slot, &current.revision));
    }
    let before = Some(&current.revision).filter(|revision| seen.revisions.contains(revision));
    let turn = Turn::InPlace {
        before: before.cloned(),
    };
    Decision {
        turn,
        slot,
        why,
        diff,
        place,
        rotated: rotated(service, &seen.files),
        left: occupied(seen, slot.other()),
    }
}

/// Secrets whose file changes and that a part keeps by itself. Of what may run twice nothing does: both would need it.
fn rotated(service: &DesiredService, files: &Files) -> Vec<(NewSecret, NewSecret)> {
    let change = |rotation: &Rotation| {
        let path = format!("secrets/{}", rotation.secret);
        let secret = |files: &Files| {
            Some(NewSecret {
                rotation: rotation.clone(),
                file: files.get(&path)?.clone(),
            })
        };
        let (new, old) = (secret(&service.files)?, secret(files)?);
        (new.file.content != old.file.content).then_some((new, old))
    };
    service.rotations.iter().filter_map(change).collect()
}

/// Where it runs when it is changed in place. Only of what may run twice is there a second slot.
fn home(service: &DesiredService, current: &Current) -> Slot {
    if service.two { current.slot } else { Slot::A }
}

/// Whether visitors are served from this slot.
fn serves(seen: &ObservedService, slot: Slot) -> bool {
    let parts = seen.running.get(&slot).map_or(&[][..], Vec::as_slice);
    let up = parts
        .iter()
        .filter(|part| matches!(part.health, Health::Healthy | Health::Running));
    !parts.is_empty() && up.count() == parts.len()
}

fn occupied(seen: &ObservedService, slot: Slot) -> bool {
    seen.running
        .get(&slot)
        .is_some_and(|parts| !parts.is_empty())
}

impl Decision {
    /// Whether anything is to be done.
    pub(super) fn is_change(&self) -> bool {
        self.turn != Turn::Keep || self.left
    }

    /// Whether it can wait for others: what starts beside the old one goes before the proxy, which moves to it.
    pub(super) fn can_wait(&self) -> bool {
        matches!(self.turn, Turn::InPlace { .. })
    }

    /// Whether its images have to be there.
    pub(super) fn starts(&self) -> bool {
        self.turn != Turn::Keep
    }

    /// What is done before the proxy moves.
    pub(super) fn start(&self, service: &DesiredService) -> Vec<Step> {
        let revision = service.revision.clone();
        let run = run(service, self.slot);
        match &self.turn {
            Turn::Keep => Vec::new(),
            Turn::Beside => vec![self.step(
                service,
                Action::StartBeside {
                    revision,
                    slot: self.slot,
                    run,
                },
            )],
            Turn::InPlace { before } => {
                // Two of it must never run at once on the same data.
                let first = (self.left && !service.two).then(|| self.stop(service));
                let rotate = self
                    .rotated
                    .iter()
                    .map(|(new, _)| self.rotate(service, new));
                let start = Action::Start {
                    revision,
                    slot: self.slot,
                    before: before.clone(),
                    back: self.rotated.iter().map(|(_, old)| old.clone()).collect(),
                    run,
                };
                rotate
                    .chain(first)
                    .chain([self.step(service, start)])
                    .collect()
            }
        }
    }

    /// What is done once the proxy has moved.
    pub(super) fn finish(&self, service: &DesiredService) -> Option<Step> {
        let after = self.left && (service.two || self.turn == Turn::Keep);
        after.then(|| self.stop(service))
    }

    fn rotate(&self, service: &DesiredService, new: &NewSecret) -> Step {
        let action = Action::Rotate {
            slot: self.slot,
            to: new.clone(),
        };
        let why = format!(
            "`{}` keeps it by itself: another file alone does not change it there",
            new.rotation.service
        );
        Step {
            why: vec![why],
            ..Step::of(Subject::Service(service.name.clone()), action)
        }
    }

    fn stop(&self, service: &DesiredService) -> Step {
        let why = match self.turn {
            Turn::Beside => "once the proxy has moved to the new one",
            _ => "was cut off before: one runs beside the one that is in force",
        };
        let action = Action::StopBeside {
            slot: self.slot.other(),
        };
        Step {
            why: vec![why.to_owned()],
            ..Step::of(Subject::Service(service.name.clone()), action)
        }
    }

    fn step(&self, service: &DesiredService, action: Action) -> Step {
        Step {
            why: self.why.clone(),
            ..Step::of(Subject::Service(service.name.clone()), action)
        }
    }
}

/// How a service is run in a slot.
fn run(service: &DesiredService, slot: Slot) -> Run {
    let beside = if slot == Slot::B { SLOT_B } else { 0 };
    Run {
        port: service.port.map(|port| port + beside),
        patience: service.patience,
    }
}

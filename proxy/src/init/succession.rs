//! Which daemon is in force, and what became of it. No I/O, so that every order of events is a row of a
//! table.

use std::fmt;

use rustix::process::{Pid, Signal};

use super::told::News;

/// The daemons that are left, and what is known of the one in force.
pub(super) struct Succession {
    in_force: Pid,
    /// It has said that it drains.
    stopping: bool,
    ended: Option<Ended>,
    /// Those that have handed over and may still drain.
    earlier: Vec<Pid>,
    /// All are to end, by this signal.
    stop: Option<Signal>,
    /// Who has been told so.
    told: Option<Pid>,
    /// Who can hear it: until it is ready, a signal would end a daemon as if it had failed.
    ready: Option<Pid>,
}

/// How a daemon has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// With a code.
    Exited(i32),
    /// By a signal.
    Killed(i32),
    /// While it drained; its code went to another process.
    AfterDrain,
    /// Somehow: its code went to another process.
    Somehow,
}

impl Succession {
    /// The first daemon.
    pub(super) fn new(first: Pid) -> Self {
        Self {
            in_force: first,
            stopping: false,
            ended: None,
            earlier: Vec::new(),
            stop: None,
            told: None,
            ready: None,
        }
    }

    /// Who serves, or did last.
    pub(super) fn in_force(&self) -> Pid {
        self.in_force
    }

    /// How that one has ended, where it has.
    pub(super) fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// Who may still drain.
    pub(super) fn earlier(&self) -> &[Pid] {
        &self.earlier
    }

    /// Takes in what a daemon has said.
    pub(super) fn hear(&mut self, news: &News) {
        if let Some(pid) = news.main.filter(|pid| *pid != self.in_force) {
            self.earlier.retain(|known| *known != pid);
            if self.ended.take().is_none() {
                self.earlier.push(self.in_force);
            }
            self.in_force = pid;
            self.stopping = false;
        }
        self.stopping |= news.stopping;
        if news.ready {
            self.ready = Some(self.in_force);
        }
    }

    /// All are to end, and the one in force is told so now.
    pub(super) fn stop(&mut self, signal: Signal) {
        self.stop = Some(signal);
        self.told = Some(self.in_force);
    }

    /// A daemon that came into force after all were told to end, once it can hear it.
    pub(super) fn tell_late(&mut self) -> Option<(Pid, Signal)> {
        let now = Some(self.in_force);
        let signal = self
            .stop
            .filter(|_| self.told != now && self.ready == now)?;
        self.told = now;
        Some((self.in_force, signal))
    }

    /// A process was reaped; most of them are none of ours.
    pub(super) fn reaped(&mut self, pid: Pid, ended: Ended) {
        if pid == self.in_force {
            self.ended = Some(ended);
        }
        self.earlier.retain(|known| *known != pid);
    }

    /// The daemon in force is gone, and it was not ours to reap.
    pub(super) fn vanished(&mut self) {
        let stopping = self.stopping;
        self.ended.get_or_insert(if stopping {
            Ended::AfterDrain
        } else {
            Ended::Somehow
        });
    }

    /// Forgets those that have handed over and are gone.
    pub(super) fn forget(&mut self, is_gone: impl Fn(Pid) -> bool) {
        self.earlier.retain(|pid| !is_gone(*pid));
    }
}

impl Ended {
    /// Whether it served to no good end.
    pub(super) fn is_failure(self) -> bool {
        self.code() != 0
    }

    /// What process 1 ends with; 128 + n for signal n, as shells say it.
    pub(super) fn code(self) -> u8 {
        let code = match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => 128 + signal,
            Self::AfterDrain => 0,
            Self::Somehow => 1,
        };
        u8::try_from(code).unwrap_or(1)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "ended with code {code}"),
            Self::Killed(signal) => write!(f, "was killed by signal {signal}"),
            Self::AfterDrain => write!(f, "has drained"),
            Self::Somehow => write!(f, "ended without having drained"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(number: i32) -> Pid {
        Pid::from_raw(number).expect("not 0")
    }

    fn say(succession: &mut Succession, text: &str) {
        succession.hear(&News::read(text));
    }

    #[test]
    fn an_upgrade_moves_on_and_the_end_of_the_old_one_is_no_end() {
        let mut all = Succession::new(pid(7));
        say(&mut all, "READY=1");
        say(&mut all, "MAINPID=9");
        say(&mut all, "READY=1");
        assert_eq!((all.in_force(), all.earlier()), (pid(9), &[pid(7)][..]));
        all.reaped(pid(7), Ended::Exited(0));
        assert_eq!((all.ended(), all.earlier().len()), (None, 0));
        all.reaped(pid(8), Ended::Killed(9));
        assert_eq!(all.ended(), None);
        all.reaped(pid(9), Ended::Killed(9));
        assert_eq!(all.ended().map(Ended::code), Some(137));
    }

    #[test]
    fn an_offer_that_is_taken_back_leaves_the_old_one() {
        let mut all = Succession::new(pid(7));
        say(&mut all, "MAINPID=9");
        say(&mut all, "MAINPID=7");
        assert_eq!((all.in_force(), all.earlier()), (pid(7), &[pid(9)][..]));
        all.forget(|pid| pid == Pid::from_raw(9).expect("not 0"));
        assert!(all.earlier().is_empty());
    }

    #[test]
    fn who_takes_over_from_the_dead_goes_on() {
        let mut all = Succession::new(pid(7));
        all.reaped(pid(7), Ended::Killed(9));
        assert!(all.ended().is_some_and(Ended::is_failure));
        say(&mut all, "MAINPID=9");
        assert_eq!((all.ended(), all.in_force()), (None, pid(9)));
        assert!(all.earlier().is_empty());
    }

    #[test]
    fn one_that_another_has_reaped_has_failed_unless_it_drained() {
        for (said, code) in [("READY=1", 1), ("STOPPING=1", 0)] {
            let mut all = Succession::new(pid(7));
            say(&mut all, "MAINPID=9");
            say(&mut all, said);
            all.vanished();
            assert_eq!(all.ended().map(Ended::code), Some(code), "{said}");
        }
    }

    #[test]
    fn a_successor_hears_that_all_are_to_end_once() {
        let mut all = Succession::new(pid(7));
        all.stop(Signal::TERM);
        say(&mut all, "READY=1");
        assert_eq!(all.tell_late(), None, "it has been told");
        say(&mut all, "MAINPID=9");
        assert_eq!(all.tell_late(), None, "it cannot hear yet");
        say(&mut all, "READY=1");
        assert_eq!(all.tell_late(), Some((pid(9), Signal::TERM)));
        say(&mut all, "READY=1");
        assert_eq!(all.tell_late(), None, "once");
    }
}

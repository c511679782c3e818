//! What an operator reads of a deployment that did not come to its end.

use super::*;
use crate::apply::{At, StepError};
use crate::plan::stage::{as_it_should, host, seen, service, silent, stack};
use crate::plan::{Action, Step};
use crate::printer::Printer;
use crate::ssh;

/// The start of a service, as a plan has it.
fn start() -> Step {
    let desired = stack([host("h1", vec![service("cloud", 'c', 20000)])]);
    let before = host("h1", vec![service("cloud", 'b', 20000)]);
    let plan = plan(
        &desired,
        &seen([("h1", as_it_should(&before))]),
        &Filter::default(),
    );
    let mut steps = plan.hosts.into_iter().flat_map(|host| host.steps);
    steps
        .find(|step| matches!(step.action, Action::Start { .. }))
        .expect("it starts")
}

fn failed() -> Became {
    let said = ssh::Error::Failed {
        host: "h1".to_owned(),
        command: "docker compose up".to_owned(),
        code: 1,
        said: "no database\nNo space left on device".to_owned(),
    };
    let error = StepError::PutBack {
        what: "cloud".to_owned(),
        source: Box::new(said.into()),
    };
    Became::Failed(Failure {
        at: Some((At { step: 3, of: 5 }, Box::new(start()))),
        error,
    })
}

fn context() -> Context {
    use clap::Parser as _;
    let cli = crate::args::Cli::parse_from(["sovereign", "deploy"]);
    Context::new(cli.command.common(), Printer::caught(&[]))
}

#[test]
fn a_failure_names_the_host_the_step_what_was_said_and_the_way_out() {
    let ctx = context();
    tell("h1", &failed(), &ctx);
    tell("h2", &Became::Stopped { done: 2, of: 7 }, &ctx);
    tell("h3", &Became::Done { steps: 4 }, &ctx);
    let wanted = "\
error: h1: step 3 of 5, cloud: change where it is:
  cloud did not come up; the version before serves again:
    h1: `docker compose up` failed with exit code 1: no database
    No space left on device
hint: the host's disk is full: `docker system df` there says what images take; `sovereign status` shows disks
warning: h2: ended after 2 of 7 steps
";
    assert_eq!(ctx.printer.take(), (String::new(), wanted.to_owned()));
}

#[test]
fn what_was_left_out_is_said_at_the_end() {
    let ctx = context();
    let mut observed = seen([]);
    observed.hosts.push(silent("h1"));
    let left = plan(&stack([host("h1", vec![])]), &observed, &Filter::default());
    tell_left(&Applied::default(), &left, &ctx).expect("it is said");
    let wanted = "warning: h1 was left out\nhint: run it again: it takes up where this one ended\n";
    assert_eq!(ctx.printer.take(), (String::new(), wanted.to_owned()));
    assert_eq!(shown(&left), Outcome::Differs);
}

#[test]
fn as_json_too() {
    let applied = Applied {
        hosts: vec![
            ("h1".to_owned(), failed()),
            ("h3".to_owned(), Became::Done { steps: 4 }),
        ],
    };
    let value = json(&Plan::default(), &applied, &Plan::default());
    assert_eq!(value["hosts"][0]["outcome"], "failed");
    assert_eq!(
        value["hosts"][0]["step"]["what"],
        "cloud: change where it is"
    );
    assert_eq!(
        value["hosts"][1],
        serde_json::json!({ "host": "h3", "outcome": "done", "steps": 4 })
    );
    assert_eq!(value["left"]["summary"]["left_out"], 0);
}

#[test]
fn that_it_is_to_be_run_again_is_said_once() {
    let told = |error: StepError| {
        let ctx = context();
        let became = Became::Failed(Failure { at: None, error });
        let applied = Applied {
            hosts: vec![("h1".to_owned(), became)],
        };
        tell("h1", &applied.hosts[0].1, &ctx);
        tell_left(&applied, &Plan::default(), &ctx).expect("it is said");
        ctx.printer.take().1
    };
    let host = || "h1".to_owned();
    let table = [
        (
            StepError::Overtaken { host: host() },
            "run it again: the plan is then made of what is there now",
        ),
        (StepError::LockLost { host: host() }, AGAIN),
        (
            StepError::Locked {
                host: host(),
                who: "ann@laptop".to_owned(),
            },
            "wait for it, then run it again; where it was cut off, the host lets go of its lock within a minute",
        ),
    ];
    for (error, hint) in table {
        let said = told(error);
        let hints: Vec<&str> = said
            .lines()
            .filter_map(|line| line.strip_prefix("hint: "))
            .collect();
        assert_eq!(hints, [hint], "{said}");
    }
}

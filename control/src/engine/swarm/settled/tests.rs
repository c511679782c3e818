use super::*;

fn services(update: &str) -> String {
    let update = if update.is_empty() {
        String::new()
    } else {
        format!(
            r#","UpdateStatus":{{"State":"{update}","Message":"update rolled back due to failure"}}"#
        )
    };
    format!(
        r#"[{{"ID":"x","Spec":{{"Name":"sovereign-blog_app","Mode":{{"Replicated":{{"Replicas":1}}}}}}{update}}}]"#
    )
}

fn task(state: &str, desired: &str, error: &str) -> String {
    format!(
        r#"{{"CurrentState":"{state}","DesiredState":"{desired}","Error":"{error}","ID":"y","Image":"ghost","Name":"sovereign-blog_app.1","Node":"h1","Ports":""}}"#
    )
}

#[test]
fn whether_a_stack_has_settled() {
    let up = task("Running 3 seconds ago", "Running", "");
    let starting = task("Starting 3 seconds ago", "Running", "");
    let dead = task(
        "Failed 9 seconds ago",
        "Shutdown",
        "task: non-zero exit (1)",
    );
    let unwell = |state: &str| {
        vec![Unwell {
            part: "app".to_owned(),
            state: state.to_owned(),
            last: Vec::new(),
        }]
    };
    let table = [
        ("", up.clone(), Look::Settled),
        ("completed", format!("{up}\n{dead}"), Look::Settled),
        (
            "updating",
            up.clone(),
            Look::Changing(unwell("is being changed")),
        ),
        (
            "",
            starting.clone(),
            Look::Moving(unwell("does not run (Starting 3 seconds ago)")),
        ),
        (
            "",
            format!("{starting}\n{dead}"),
            Look::Moving(unwell(
                "does not run (Starting 3 seconds ago): task: non-zero exit (1)",
            )),
        ),
        (
            "rollback_completed",
            format!("{up}\n{dead}"),
            Look::Failed(unwell("was changed back: task: non-zero exit (1)")),
        ),
        (
            "rollback_completed",
            up,
            Look::Failed(unwell(
                "was changed back: update rolled back due to failure",
            )),
        ),
    ];
    for (update, tasks, wanted) in table {
        let got = look(services(update).as_bytes(), &tasks, "sovereign-blog").expect("read");
        assert_eq!(got, wanted, "{update}: {tasks}");
    }
}

#[test]
fn what_starts_has_its_time_and_what_is_being_changed_ends_first() {
    let wrong = || vec![];
    let (short, long) = (Duration::from_secs(60), Duration::from_secs(61) + ENDING);
    for (look, after, given_up) in [
        (Look::Settled, long, false),
        (Look::Moving(wrong()), Duration::from_secs(59), false),
        (Look::Moving(wrong()), short, true),
        (Look::Changing(wrong()), short, false),
        (Look::Changing(wrong()), long, true),
        (Look::Failed(wrong()), Duration::ZERO, true),
    ] {
        let what = format!("{look:?} after {after:?}");
        assert_eq!(look.given_up(after, short).is_some(), given_up, "{what}");
    }
}

#[test]
fn who_may_tell_a_swarm_what_to_run() {
    let table = [
        (
            r#"{"NodeID":"a","LocalNodeState":"active","ControlAvailable":true}"#,
            None,
        ),
        (
            r#"{"NodeID":"a","LocalNodeState":"active","ControlAvailable":false}"#,
            Some("worker"),
        ),
        (
            r#"{"NodeID":"","LocalNodeState":"inactive","ControlAvailable":false}"#,
            Some("in no Swarm"),
        ),
        (
            r#"{"NodeID":"a","LocalNodeState":"locked","ControlAvailable":false}"#,
            Some("locked"),
        ),
    ];
    for (json, wanted) in table {
        let member: Member = serde_json::from_str(json).expect(json);
        let said = member.is_told_nothing().map(|(why, _)| why);
        match wanted {
            None => assert_eq!(said, None, "{json}"),
            Some(word) => assert!(said.is_some_and(|why| why.contains(word)), "{json}"),
        }
    }
}

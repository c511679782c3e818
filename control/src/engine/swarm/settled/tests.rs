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
            Look::Moving(unwell("is being changed")),
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
fn who_may_tell_a_swarm_what_to_run() {
    assert_eq!(
        member(r#"{"NodeID":"a","LocalNodeState":"active","ControlAvailable":true}"#),
        None
    );
    assert!(
        member(r#"{"LocalNodeState":"active","ControlAvailable":false}"#)
            .is_some_and(|why| why.contains("worker"))
    );
    assert!(
        member(r#"{"LocalNodeState":"inactive","ControlAvailable":false}"#)
            .is_some_and(|why| why.contains("in no Swarm"))
    );
}

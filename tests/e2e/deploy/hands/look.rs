//! How everything is, and what it says: at terminals of all widths, as JSON, as it comes, through a tunnel, as a feed.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use sovereign_tests::{Lab, eventually};

use super::super::stage::{Stage, assert_says};

/// A table, JSON, and a screen that is drawn again and again.
pub(super) async fn at_everything(stage: &Stage) {
    let table = stage.sovereign(&["status"]).await;
    eprintln!("{table}");
    assert_says(
        &table,
        &["HOST", "SERVICE", "healthy", "Nothing needs attention."],
    );
    assert!(!table.contains('\x1b'), "it steers what is no terminal");
    let json = stage
        .cluster
        .sovereign(&["status", "--json"])
        .await
        .expect(0);
    let status: Value = serde_json::from_str(&json.stdout).expect("it is JSON");
    assert_eq!(status["hosts"].as_array().map(Vec::len), Some(3));
    assert_eq!(status["services"][0]["state"], "healthy", "{status:#}");

    // Colour at a terminal, unless it is refused; no line is wider than the terminal.
    for (columns, line) in [
        (100, "sovereign status"),
        (40, "NO_COLOR=1 sovereign status"),
    ] {
        let ended = stage
            .cluster
            .terminal(columns, 40, line)
            .end()
            .await
            .expect(0);
        eprintln!("{}", ended.stdout);
        assert_eq!(ended.stdout.contains("\x1b[32m"), columns == 100);
        let widest = ended.stdout.lines().map(|line| plain(line).chars().count());
        assert!(
            widest.max() <= Some(usize::from(columns)),
            "{}",
            ended.stdout
        );
    }

    let mut screen = stage.cluster.terminal(100, 40, "sovereign status --watch");
    screen.until("Ctrl-C ends").await;
    screen.until("Nothing needs attention.").await;
    stage
        .cluster
        .machine("h2")
        .shell("docker stop sovereign-calendar-app-1")
        .await;
    screen.until("1 thing needs attention").await;
    stage
        .cluster
        .machine("h2")
        .shell("docker start sovereign-calendar-app-1")
        .await;
    screen.until("Nothing needs attention.").await;
    screen.types("\x03").await;
    let ended = screen.end().await.expect(0);
    assert!(
        ended.stdout.ends_with("\x1b[?25h\x1b[?1049l"),
        "the terminal is not put right"
    );
    let refused = stage
        .cluster
        .sovereign(&["status", "--watch"])
        .await
        .expect(2);
    assert_says(&refused.stderr, &["--watch needs a terminal to draw on"]);
}

/// A line without what was cleared of it, and without what colours it.
fn plain(line: &str) -> String {
    let line = line.trim_end().rsplit("\x1b[2K").next();
    let mut parts = line.unwrap_or_default().split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| {
        plain + part.split_once('m').map_or("", |(_, rest)| rest)
    })
}

/// A value is printed alone.
pub(super) async fn at_one_secret(stage: &Stage) {
    let get = ["secret", "get", "calendar.password"];
    let ended = stage.cluster.sovereign(&get).await.expect(0);
    let value = ended.stdout.strip_suffix('\n').expect("a line");
    assert!(
        value.len() == 24 && value.chars().all(char::is_alphanumeric),
        "{value}"
    );
    assert_eq!(ended.stderr, "");
    let line = "sovereign secret get calendar.password";
    let shown = stage.cluster.terminal(80, 24, line).end().await.expect(0);
    assert_eq!(shown.stdout, format!("{value}\r\n"));
    // It is the one that the service goes by.
    let ask = format!(
        "curl -s -o /dev/null -w %{{http_code}} -u admin:{value} -X PROPFIND http://127.0.0.1:$(docker port sovereign-calendar-app-1 5232 | cut -d: -f2)/admin/"
    );
    assert_eq!(stage.cluster.machine("h2").shell(&ask).await, "207");
    let list = stage.sovereign(&["secret", "list"]).await;
    assert_says(&list, &["calendar.password", "made"]);
    assert!(!list.contains(value), "{list}");
}

/// Lines of the past, and as they come, of two hosts at once.
pub(super) async fn at_what_is_said(stage: &Stage) {
    for (host, service, part) in [("h1", "files", "app"), ("h2", "calendar", "app")] {
        says(stage, host, service, &format!("before-{service}")).await;
        let lines = stage.sovereign(&["logs", service, "--lines", "5"]).await;
        assert_says(
            &lines,
            &[&format!("{service}/{part}"), &format!("before-{service}")],
        );
    }
    let json = stage
        .sovereign(&["logs", "files", "--lines", "1", "--json"])
        .await;
    let line: Value = serde_json::from_str(json.trim()).expect("a line is JSON");
    assert_eq!(
        (&line["service"], &line["text"]),
        (&"files".into(), &"before-files".into())
    );

    let mut terminal = stage
        .cluster
        .terminal(100, 40, "sovereign logs --follow --lines 3");
    for wanted in ["before-files", "before-calendar"] {
        shows(&terminal, wanted).await;
    }
    for (host, service) in [("h1", "files"), ("h2", "calendar")] {
        says(stage, host, service, &format!("now-{service}")).await;
        shows(&terminal, &format!("now-{service}")).await;
    }
    // It goes on in what comes after.
    stage.sovereign(&["restart", "files"]).await;
    eventually("the container says it", Duration::from_secs(30), || async {
        says(stage, "h1", "files", "after-files").await;
        let shown = terminal.shown();
        shown.contains("after-files").then_some(()).ok_or(shown)
    })
    .await;
    terminal.types("\x03").await;
    terminal.end().await.expect(0);

    // Whoever reads has seen enough.
    let head = "cd /root/stack; timeout 30 sovereign logs --follow --lines 5 | head -n 1; echo ${PIPESTATUS[0]}";
    let ended = stage.cluster.management().run(&["bash", "-c", head]).await;
    assert!(ended.expect(0).stdout.ends_with("\n0\n"));
}

/// Has a container say a word, as its first process would.
async fn says(stage: &Stage, host: &str, service: &str, word: &str) {
    let pid = format!("docker inspect --format {{{{.State.Pid}}}} sovereign-{service}-app-1");
    let say = format!("echo {word} >/proc/$({pid})/fd/1");
    stage.cluster.machine(host).shell(&say).await;
}

async fn shows(terminal: &sovereign_tests::cluster::Terminal, wanted: &str) {
    eventually(wanted, Duration::from_secs(30), || {
        let shown = terminal.shown();
        std::future::ready(shown.contains(wanted).then_some(()).ok_or(shown))
    })
    .await;
}

/// The page for administrators comes through a tunnel, which ends with the command.
pub(super) async fn at_a_page(lab: &Lab, stage: &Stage) {
    let mut open = stage.cluster.begin(lab, &["open", "calendar"]);
    let url = eventually("an address is printed", Duration::from_secs(30), || {
        let (out, err) = open.said();
        std::future::ready(out.strip_suffix('\n').map(str::to_owned).ok_or(out + &err))
    })
    .await;
    assert!(
        url.starts_with("http://127.0.0.1:") && url.ends_with("/.web/"),
        "{url}"
    );
    let fetch = ["curl", "-sS", "--max-time", "10", &url];
    let page = stage.cluster.management().run(&fetch).await.expect(0);
    assert_says(&page.stdout, &["Radicale"]);
    open.signal(Signal::INT);
    open.wait(Duration::from_secs(20)).await.expect(0);
    stage.cluster.management().run(&fetch).await.expect(7);
}

/// A host that is cut off is told in a feed and in a calendar, and no longer once it is back. Proxies tell of theirs.
pub(super) async fn at_what_needs_attention(stage: &Stage) {
    let write = ["feed", "--atom", "stack.xml", "--ics", "stack.ics"];
    let quiet = stage.sovereign(&write).await;
    assert_says(&quiet, &["0 things in stack.xml"]);
    stage.cluster.cut("h2");
    stage.sovereign(&write).await;
    let first = entries(stage).await;
    assert!(first.contains(" h2: no SSH connection"), "{first}");
    stage.sovereign(&write).await;
    assert_eq!(
        entries(stage).await,
        first,
        "the same trouble is another entry"
    );
    let ics = read(stage, "stack.ics");
    assert!(ics.starts_with("BEGIN:VCALENDAR\r\n") && ics.ends_with("END:VCALENDAR\r\n"));
    assert!(ics.contains("\r\nSUMMARY:h2: "), "{ics}");
    assert!(ics.split("\r\n").all(|line| line.len() <= 75), "{ics}");
    stage.cluster.heal("h2");
    stage.sovereign(&["status"]).await;
    stage.sovereign(&write).await;
    assert_eq!(entries(stage).await, "");

    // A proxy that does not answer is told of as well, and each tells of its certificates itself.
    let proxy = "sovereign-proxy.socket sovereign-proxy.service";
    let h1 = stage.cluster.machine("h1");
    h1.shell(&format!("systemctl stop {proxy}")).await;
    stage.sovereign(&write).await;
    assert_says(&entries(stage).await, &[" h1: the proxy does not answer"]);
    h1.shell(&format!("systemctl start {proxy}")).await;
    for (format, begins, ends) in [
        ("--atom", "<?xml", "</feed>"),
        ("--ics", "BEGIN:VCALENDAR", "END:VCALENDAR"),
    ] {
        let program = "$(ls /var/lib/sovereign/proxy/bin/sovereign-proxy-* | head -n 1)";
        let ask = format!("{program} certs feed {format} --admin /run/sovereign-proxy/admin.sock");
        let told = h1.shell(&ask).await;
        assert!(
            told.starts_with(begins) && told.trim_end().ends_with(ends),
            "{told}"
        );
    }
}

fn read(stage: &Stage, name: &str) -> String {
    std::fs::read_to_string(stage.cluster.home().join("stack").join(name)).expect("it was written")
}

/// What a reader of feeds shows: a line of id, time and title for each.
async fn entries(stage: &Stage) -> String {
    let path = stage.cluster.home().join("stack/stack.xml");
    let read = "import sys, xml.etree.ElementTree as E\n\
        a = '{http://www.w3.org/2005/Atom}'\n\
        f = E.parse(sys.argv[1]).getroot()\n\
        assert f.tag == a + 'feed' and f.find(a + 'id').text and f.find(a + 'updated').text and f.find(a + 'title').text\n\
        for e in f.iter(a + 'entry'): print(e.find(a + 'id').text, e.find(a + 'updated').text, e.find(a + 'title').text)";
    let output = tokio::process::Command::new("/usr/bin/python3")
        .args(["-c", read])
        .arg(path)
        .output()
        .await
        .expect("Debian's Python runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#![allow(clippy::unwrap_used)]

use std::time::{Duration, SystemTime};

use sovereign_config::model::Challenge;

use super::*;
use crate::acme::history::{Event, What};
use crate::acme::{self, CertificateReport, Report, Standing};
use crate::status::Look;
use crate::tls::{CertificateInfo, Source};

#[test]
fn what_is_served_and_what_is_done_for_it_are_one_line_each() {
    let known = known(None);
    let list = known.overview().certificates;
    let told: Vec<_> = list
        .iter()
        .map(|one| {
            let order = one.order.as_ref().map(|order| order.id.as_str());
            (one.names[0].as_str(), one.source.as_str(), order)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("a.example", "acme ca.example", Some("a.example")),
            ("b.example", "temporary", Some("b.example")),
            ("c.example", "/etc/c.pem", None),
            ("d.test", "local CA", None),
            ("e.example", "none", Some("e.example")),
        ]
    );
    assert_eq!(list[0].days_left, 29);
    assert_eq!(list[2].days_left, -1);
    assert_eq!(list[4].not_after, "");
}

/// The authorities' clock is the one that counts.
#[test]
fn a_clock_that_is_wrong_makes_no_certificate_lapse() {
    // Ours is three days ahead.
    let overview = known(Some(-3 * 86400)).overview();
    assert_eq!(overview.certificates[2].days_left, 2);
    assert_eq!(overview.acme.clock_skew_seconds, Some(3 * 86400));
    let text = list(&overview, Look::PLAIN);
    assert!(
        text.contains("\nclock: this machine's clock is 3 d 0 h ahead of"),
        "{text}"
    );
    let behind = known(Some(2 * 86400)).overview();
    assert_eq!(behind.certificates[0].days_left, 27);
    // Some seconds are the network's delay, and moved a day here that the keeper did not see.
    let delayed = known(Some(-10)).overview();
    assert_eq!(delayed.certificates[0].days_left, 29);
}

#[test]
fn the_list_for_a_person() {
    let mut overview = known(None).overview();
    for certificate in &mut overview.certificates {
        certificate.not_after = "2026-01-01T00:00:00Z".to_owned();
    }
    let text = list(&overview, Look::PLAIN);
    let expected = "\
names           source           ends                  left               state    renewal               by
a.example (+1)  acme ca.example  2026-01-01T00:00:00Z  29 days            good     1970-01-02T00:00:00Z  http-01
b.example       temporary        2026-01-01T00:00:00Z  89 days            failing  -                     -
c.example       /etc/c.pem       2026-01-01T00:00:00Z  expired 1 day ago  -        -                     -
d.test          local CA         2026-01-01T00:00:00Z  89 days            -        -                     -
e.example       none             2026-01-01T00:00:00Z  0 days, expires soon  waiting  -  -

b.example: the last attempt failed; next attempt 1970-01-03T00:00:00Z
  port 80 of b.example leads elsewhere
  asked 203.0.113.9, got  [31m404

e.example: waiting
  its authority's terms wait for a word

terms: ca.example is asked for nothing until its terms are agreed to: `sovereign-proxy certs agree`

What happened, the latest first
when                  names      what    more
1970-01-01T00:00:07Z  b.example  failed  no. 7
1970-01-01T00:00:06Z  b.example  failed  no. 6
1970-01-01T00:00:05Z  b.example  failed  no. 5
1970-01-01T00:00:04Z  b.example  failed  no. 4
1970-01-01T00:00:03Z  b.example  failed  no. 3
";
    let squeezed = |text: &str| -> String {
        let lines = text.lines().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.join(" ")
        });
        lines.collect::<Vec<String>>().join("\n")
    };
    assert_eq!(squeezed(&text), squeezed(expected));
    let empty = list(&Overview::default(), Look::PLAIN);
    assert_eq!(empty, "no certificates: no site has TLS\n");
}

#[test]
fn how_a_dry_run_went() {
    let trial = |ok: bool, text: &str| Trial {
        names: vec!["a.example".to_owned(), "b.example".to_owned()],
        authority: ok.then(|| "https://ca.example/staging".to_owned()),
        challenge: ok.then(|| "dns-01".to_owned()),
        ok,
        text: text.to_owned(),
    };
    let text = trials(&[trial(true, "issued by it"), trial(false, "no\x1b[31m\nway")]);
    assert_eq!(
        text,
        "works: a.example, b.example (https://ca.example/staging by dns-01)\n  issued by it\n\
         fails: a.example, b.example (no authority)\n  no [31m\n  way\n"
    );
}

#[test]
fn feeds_tell_of_what_nobody_renews_and_not_of_the_local_authority() {
    let known = known(None);
    let atom = known.feed(Form::Atom, "https://a.example/x");
    for name in ["a.example", "c.example", "no. 7", "https://a.example/x"] {
        assert!(atom.contains(name), "{name} in {atom}");
    }
    assert!(!atom.contains("d.test"), "{atom}");
    let calendar = known.feed(Form::Calendar, "");
    assert!(calendar.starts_with("BEGIN:VCALENDAR\r\n"), "{calendar}");
    assert!(calendar.contains("c.example"), "{calendar}");
}

#[test]
fn json_goes_both_ways() {
    let overview = known(None).overview();
    let text = serde_json::to_string(&overview).unwrap();
    assert_eq!(serde_json::from_str::<Overview>(&text).unwrap(), overview);
    assert!(text.contains(r#""state":"failing""#), "{text}");
}

/// A daemon with a certificate of each kind.
fn known(skew: Option<i64>) -> Known {
    let acme = Source::Acme {
        directory: "https://ca.example/d".to_owned(),
        obtained: SystemTime::UNIX_EPOCH,
    };
    let file = Source::Files("/etc/c.pem".into());
    let mut good = wanted(&["a.example", "www.a.example"], Standing::Good);
    good.directory = Some("https://ca.example/d".to_owned());
    good.not_after = Some(SystemTime::now() + days(30));
    good.challenge = Some("http-01".to_owned());
    good.due = Some(SystemTime::UNIX_EPOCH + days(1));
    let mut failing = wanted(&["b.example"], Standing::Failing);
    failing.last_error =
        Some("port 80 of b.example leads elsewhere\nasked 203.0.113.9, got \x1b[31m404".to_owned());
    failing.next_attempt = Some(SystemTime::UNIX_EPOCH + days(2));
    let mut waiting = wanted(&["e.example"], Standing::Waiting);
    waiting.text = "its authority's terms wait for a word".to_owned();
    Known {
        served: vec![
            info(&["a.example", "www.a.example"], acme, 30),
            info(&["b.example"], Source::Temporary, 90),
            info(&["c.example"], file, 0),
            info(&["d.test"], Source::Local, 90),
        ],
        wanted: Report {
            certificates: vec![good, failing, waiting],
            authorities: vec![acme::Authority {
                directory: "https://ca.example/d".to_owned(),
                name: "ca.example".to_owned(),
                agreed: false,
                terms: None,
                trouble: None,
                until: None,
            }],
            skew,
            ..Report::default()
        },
        events: (0..8).map(event).collect(),
    }
}

fn info(names: &[&str], source: Source, left: u64) -> CertificateInfo {
    CertificateInfo {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        source,
        issuer: "Example CA".to_owned(),
        not_before: SystemTime::UNIX_EPOCH,
        // A second before, so that days are whole ones less.
        not_after: SystemTime::now() + days(left) - Duration::from_secs(1),
    }
}

fn wanted(names: &[&str], standing: Standing) -> CertificateReport {
    CertificateReport {
        id: names[0].into(),
        site: names[0].into(),
        names: names.iter().map(|&name| name.to_owned()).collect(),
        standing,
        text: String::new(),
        directory: None,
        challenge: None,
        profile: None,
        obtained: None,
        not_after: None,
        due: None,
        window: None,
        explanation: None,
        next_attempt: None,
        failures: 0,
        last_error: None,
    }
}

fn event(number: u64) -> Event {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(number);
    Event {
        at,
        first: at,
        id: "b.example".into(),
        names: vec!["b.example".to_owned()],
        what: What::Failed,
        directory: None,
        challenge: Some(Challenge::Http01),
        text: format!("no. {number}"),
    }
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86400)
}

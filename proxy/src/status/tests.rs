#![allow(clippy::unwrap_used)]

use super::render::{count, left, ratio, size, span};
use super::*;

#[test]
fn the_whole_status_as_text() {
    let expected = "\
sovereign-proxy 0.1.0  process 4242, up 3 d 4 h, since 2026-01-02T03:04:05Z
state                  serving
configuration          /etc/sovereign-proxy/proxy.toml
last reload            refused 2026-01-05T00:00:00Z: 2 problems in proxy.toml
listening              http [::]:80, https [::]:443
traffic                12 connections open, 1,234,567 requests
cache                  1.5 MiB of 256 MiB in 321 objects; hit ratio 90.0 % (880 hits, 20 stale, 100 misses, 7 bypassed)
cache on disk          full: nothing is stored (No space left on device); 2.5 GiB of 10.0 GiB in 54,321 objects; 1 damaged and dropped; 3 not stored
terms                  acme-v02.api.letsencrypt.org is asked for nothing until its terms are agreed to: `sovereign-proxy certs agree`
authority              ca.example: it answers 503; left alone until 2026-01-05T01:00:00Z
clock                  this machine's clock is 2 d 0 h ahead of the certificate authorities'; certificates are judged by theirs, so that none counts as lapsed for it; set it right
shared store           etcd cannot be reached since 2026-01-05T00:00:00Z

Sites
site                  tls    preset  requests  hit ratio
www.example.org (+1)  local  ghost      1,000     90.0 %
git.example.org       files  -              0          -

Upstreams
site             upstream               state  requests  failed  active  last error
www.example.org  http://127.0.0.1:2368  up          120       1       3  -
git.example.org  http://127.0.0.1:3000  down          4       4       0  connection refused [31m

Certificates
names                 source                             issuer      ends                  left                                renewal
www.example.org (+1)  acme acme-v02.api.letsencrypt.org  Example CA  2026-02-01T00:00:00Z  27 days                             due 2026-01-12T00:00:00Z
six.example.org       acme ca.example                    Example CA  2026-01-10T00:00:00Z  5 days                              due 2026-01-08T00:00:00Z
git.example.org       file                               Example CA  2026-01-14T00:00:00Z  9 days, expires soon                -
old.example.org       file                               Example CA  2026-01-04T00:00:00Z  expired 1 day ago                   -
new.example.org       temporary                          Example CA  2026-04-01T00:00:00Z  86 days                             failing: port 80 of new.example.org leads elsewhere
far.example.org       none                               -           -                     -                                   waiting: another proxy orders it
odd.example.org       acme ca.example                    Example CA  2026-01-04T00:00:00Z  1 day over by an unconfirmed clock  doubtful: nobody has confirmed the clock
";
    assert_eq!(render(&example(), Look::PLAIN), expected);
}

#[test]
fn a_narrow_terminal_cuts_the_widest_column() {
    let look = Look {
        width: Some(80),
        colour: false,
    };
    let text = render(&example(), look);
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(text.contains('\u{2026}'));
}

#[test]
fn colour_repeats_what_the_words_say() {
    let look = Look {
        width: None,
        colour: true,
    };
    let text = render(&example(), look);
    assert!(text.contains("\x1b[31mdown\x1b[0m"));
    assert!(text.contains("\x1b[33m9 days, expires soon\x1b[0m"));
    let mut plain = text;
    for code in [0, 2, 31, 32, 33] {
        plain = plain.replace(&format!("\x1b[{code}m"), "");
    }
    let trimmed: Vec<&str> = plain.lines().map(str::trim_end).collect();
    assert_eq!(trimmed.join("\n") + "\n", render(&example(), Look::PLAIN));
}

#[test]
fn an_empty_daemon_has_no_tables() {
    let mut status = Status::default();
    status.cache.memory_limit = 0;
    status.draining = true;
    let text = render(&status, Look::PLAIN);
    assert!(!text.contains("Sites"));
    assert!(text.contains("draining"), "{text}");
    assert!(text.contains("cache             off"), "{text}");
}

#[test]
fn json_goes_both_ways() {
    let text = serde_json::to_string(&example()).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), example());
    assert!(text.contains("\"state\":\"down\""));
}

/// A new command asks a daemon that was started before these were told.
#[test]
fn an_older_daemon_is_understood() {
    let mut status = serde_json::to_value(example()).unwrap();
    for (part, key) in [
        ("/sites/0", "in_the_clear"),
        ("/cache/disk", "waiting"),
        ("/cache", "disk"),
        ("/certificates/0", "order"),
        ("", "acme"),
    ] {
        let part = status
            .pointer_mut(part)
            .and_then(|part| part.as_object_mut());
        assert!(part.unwrap().remove(key).is_some(), "{key}");
        let read = serde_json::from_value::<Status>(status.clone());
        assert!(read.is_ok(), "{key}: {read:?}");
    }
}

/// As `Router::site` and `Site::canonical` have it.
#[test]
fn which_site_takes_a_host_and_how_it_is_served() {
    let site = |names: &[&str]| SiteStatus {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        ..SiteStatus::default()
    };
    let mut sites = vec![
        site(&["*.a.example", "a.example"]),
        site(&["www.a.example", "other.example", "*.b.example"]),
    ];
    for (host, wanted) in [
        ("a.example", Some((0, "a.example"))),
        ("x.a.example", Some((0, "x.a.example"))),
        ("x.y.a.example", None),
        ("www.a.example", Some((1, "www.a.example"))),
        ("other.example", Some((1, "www.a.example"))),
        ("x.b.example", Some((1, "x.b.example"))),
        ("b.example", None),
        ("example", None),
        ("::1", None),
    ] {
        let taking = SiteStatus::taking(&sites, host);
        let place = sites.iter().position(|site| Some(site) == taking);
        let served = taking.map(|site| site.served_as(host));
        assert_eq!(place.zip(served), wanted, "{host}");
    }
    sites.push(site(&["*"]));
    for host in ["b.example", "example", "::1"] {
        let taking = SiteStatus::taking(&sites, host).unwrap();
        assert_eq!((&taking.names[0][..], taking.served_as(host)), ("*", host));
    }
}

#[test]
fn numbers_for_people() {
    assert_eq!(count(0), "0");
    assert_eq!(count(999), "999");
    assert_eq!(count(1_000), "1,000");
    assert_eq!(size(1023), "1023 B");
    assert_eq!(size(1024), "1.0 KiB");
    assert_eq!(size(u64::MAX), "16777216 TiB");
    assert_eq!(span(59), "59 s");
    assert_eq!(span(3599), "59 min 59 s");
    assert_eq!(span(86399), "23 h 59 min");
    assert_eq!(left(&ends_in(1)).text, "1 day, expires soon");
    assert_eq!(left(&ends_in(10)).text, "10 days");
    assert_eq!(left(&ends_in(0)).text, "0 days, expires soon");
    assert_eq!(ratio(Some(0.999)), "99.9 %");
}

fn example() -> Status {
    let text = |text: &str| text.to_owned();
    Status {
        version: text("0.1.0"),
        program: Some(text("/usr/local/bin/sovereign-proxy")),
        digest: None,
        pid: 4242,
        started: text("2026-01-02T03:04:05Z"),
        uptime_seconds: 3 * 86400 + 4 * 3600 + 59,
        config: Some(text("/etc/sovereign-proxy/proxy.toml")),
        draining: false,
        connections: 12,
        requests: 1_234_567,
        sites: vec![
            SiteStatus {
                names: vec![text("www.example.org"), text("example.org")],
                preset: Some(text("ghost")),
                tls: text("local"),
                in_the_clear: false,
                requests: 1000,
                hit_ratio: Some(0.9),
                upstreams: vec![UpstreamStatus {
                    address: text("http://127.0.0.1:2368"),
                    state: UpstreamState::Up,
                    requests: 120,
                    failures: 1,
                    last_error: None,
                    active: 3,
                }],
            },
            SiteStatus {
                names: vec![text("git.example.org")],
                tls: text("files"),
                upstreams: vec![UpstreamStatus {
                    address: text("http://127.0.0.1:3000"),
                    state: UpstreamState::Down,
                    requests: 4,
                    failures: 4,
                    last_error: Some(text("connection refused\x1b[31m")),
                    active: 0,
                }],
                ..SiteStatus::default()
            },
        ],
        certificates: certificates(),
        acme: AcmeStatus {
            authorities: vec![
                AuthorityStatus {
                    name: text("acme-v02.api.letsencrypt.org"),
                    ..AuthorityStatus::default()
                },
                AuthorityStatus {
                    name: text("ca.example"),
                    agreed: true,
                    trouble: Some(text("it answers 503")),
                    until: Some(text("2026-01-05T01:00:00Z")),
                    ..AuthorityStatus::default()
                },
            ],
            clock_skew_seconds: Some(2 * 86400),
            store_trouble: Some(text("etcd cannot be reached since 2026-01-05T00:00:00Z")),
        },
        cache: CacheStatus {
            memory_bytes: 3 << 19,
            memory_limit: 256 << 20,
            objects: 321,
            hits: 880,
            misses: 100,
            stale: 20,
            bypass: 7,
            hit_ratio: Some(0.9),
            disk: DiskStatus {
                health: text("full"),
                bytes: 5 << 29,
                limit: 10 << 30,
                objects: 54_321,
                waiting: 0,
                not_stored: 3,
                corrupt: 1,
                error: Some(text("No space left on device")),
            },
        },
        listeners: vec![text("http [::]:80"), text("https [::]:443")],
        last_reload: Some(ReloadStatus {
            time: text("2026-01-05T00:00:00Z"),
            ok: false,
            message: text("2 problems in proxy.toml"),
        }),
    }
}

/// One of each kind.
fn certificates() -> Vec<CertificateStatus> {
    let acme = "acme ca.example";
    let mut all = vec![
        certificate(
            &["www.example.org", "example.org"],
            "acme acme-v02.api.letsencrypt.org",
            "2026-02-01",
            27,
        ),
        certificate(&["six.example.org"], acme, "2026-01-10", 5),
        certificate(&["git.example.org"], "file", "2026-01-14", 9),
        certificate(&["old.example.org"], "file", "2026-01-04", -1),
        certificate(&["new.example.org"], "temporary", "2026-04-01", 86),
        CertificateStatus {
            names: vec!["far.example.org".to_owned()],
            source: "none".to_owned(),
            ..CertificateStatus::default()
        },
        certificate(&["odd.example.org"], acme, "2026-01-04", -1),
    ];
    let order = |state: &str, text: &str, due: Option<&str>| OrderStatus {
        state: state.to_owned(),
        text: text.to_owned(),
        due: due.map(str::to_owned),
        ..OrderStatus::default()
    };
    all[0].order = Some(order("good", "", Some("2026-01-12T00:00:00Z")));
    all[1].order = Some(order("good", "", Some("2026-01-08T00:00:00Z")));
    all[4].order = Some(OrderStatus {
        last_error: Some("port 80 of new.example.org leads elsewhere".to_owned()),
        ..order("failing", "", None)
    });
    all[5].order = Some(order("waiting", "another proxy orders it", None));
    all[6].order = Some(order("doubtful", "nobody has confirmed the clock", None));
    all
}

/// A certificate of a file, with so many days left.
fn ends_in(days: i64) -> CertificateStatus {
    certificate(&["a.example"], "file", "2026-01-01", days)
}

fn certificate(names: &[&str], source: &str, ends: &str, days_left: i64) -> CertificateStatus {
    CertificateStatus {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        source: source.to_owned(),
        issuer: "Example CA".to_owned(),
        not_after: format!("{ends}T00:00:00Z"),
        days_left,
        order: None,
    }
}

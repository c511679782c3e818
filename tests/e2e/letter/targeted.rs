//! `CDN-Cache-Control`, which speaks to caches like this one (item 28).

use sovereign_tests::script::Say;

use super::{NOT_REUSED, Reuse, Stage, check, each, is_hit, same_reuse};

/// Item 28 (9213 2.1, 2.2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[rustfmt::skip]
async fn item_28_a_valid_field_decides_alone() {
    check(&[
        (&["cdn-cache-control: max-age=3600"], Some(3600)),
        // In both directions: what Cache-Control and Expires say does not count.
        (&["cdn-cache-control: max-age=3600", "cache-control: no-store"], Some(3600)),
        (&["cdn-cache-control: max-age=3600", "cache-control: private"], Some(3600)),
        (&["cdn-cache-control: max-age=3600", "cache-control: no-cache"], Some(3600)),
        (&["cdn-cache-control: max-age=3600", "cache-control: max-age=0"], Some(3600)),
        (&["cdn-cache-control: max-age=3600", "cache-control: s-maxage=0"], Some(3600)),
        (&["cdn-cache-control: max-age=3600", "cache-control: max-age=7200"], Some(3600)),
        (&["cdn-cache-control: max-age=3600", "expires: 0"], Some(3600)),
        (&["cache-control: no-store", "cdn-cache-control: max-age=3600"], Some(3600)),
        (&["cdn-cache-control: no-store", "cache-control: max-age=3600"], NOT_REUSED),
        (&["cdn-cache-control: private", "cache-control: max-age=3600"], NOT_REUSED),
        (&["cdn-cache-control: no-cache", "cache-control: max-age=3600"], NOT_REUSED),
        (&["cdn-cache-control: max-age=0", "cache-control: max-age=3600", "expires: {+3600}"], NOT_REUSED),
        (&["cdn-cache-control: max-age=-3600", "cache-control: max-age=3600"], NOT_REUSED),
        // It says nothing about a lifetime: nor do the others then.
        (&["cdn-cache-control: public", "cache-control: max-age=3600"], NOT_REUSED),
        (&["cdn-cache-control: foo", "expires: {+3600}"], NOT_REUSED),
        // A heuristic is neither.
        (&["cdn-cache-control: foo", "cache-control: max-age=7200", "last-modified: {-36000}"], Some(3600)),
        // Age counts.
        (&["cdn-cache-control: max-age=3600", "age: 1800"], Some(1800)),
        (&["cdn-cache-control: max-age=3600", "age: 3600"], NOT_REUSED),
        (&["cdn-cache-control: max-age=3600", "date: {-1800}"], Some(1800)),
        // Any valid dictionary.
        (&["cdn-cache-control: public, max-age=3600"], Some(3600)),
        (&["cdn-cache-control:   public ,  max-age=3600  "], Some(3600)),
        (&["cdn-cache-control: foo=bar, b=\"c, no-store\", d=(1 2), max-age=3600;x=1"], Some(3600)),
        (&["cdn-cache-control: foo", "cdn-cache-control: max-age=3600"], Some(3600)),
        (&["cdn-cache-control: max-age=0, max-age=3600"], Some(3600)),
        (&["cdn-cache-control: no-store=?0, max-age=3600"], Some(3600)),
        (&["cdn-cache-control: max-age=999999999999999"], Some(1 << 31)),
    ])
    .await;
}

/// Item 28 (9213 2.1; 8941 3.2): what does not parse is ignored, all of it, what would store a
/// response and what would not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_28_what_does_not_parse_is_ignored_whole() {
    #[rustfmt::skip]
    let allowing = [
        "", " ", "max-age=7200, &&&", "&&&, max-age=7200", "max-age=7200,", ",max-age=7200", "max-age=7200,,foo",
        "Max-Age=7200", "MAX-AGE=7200", "max-age=7200, No-Transform", "max-age=7200;Foo", "max-age = 7200",
        "max-age=7200, foo=", "max-age=\"7200\"", "max-age=7200.0", "max-age=a7200", "max-age=7200a", "max-age='7200'",
        "max-age=7200, b=\"c", "max-age=7200 foo", "max-age=9999999999999999", "max-age", "=7200", "\"max-age\"=7200",
        "max-age=7200, d=(1 2", "max-age=7200, \u{e9}",
    ];
    let others: &[(&str, Reuse)] = &[
        ("cache-control: max-age=3600", Some(3600)),
        ("expires: {+3600}", Some(3600)),
        ("cache-control: no-store", NOT_REUSED),
        ("cache-control: max-age=0", NOT_REUSED),
    ];
    let forbidding = [
        "no-store, &&&",
        "No-Store",
        "no-store;,",
        "no-store,",
        "no-store, max-age=1.5",
    ];
    let rows = allowing
        .iter()
        .flat_map(|field| others.iter().map(move |other| (field, other)))
        .chain(forbidding.iter().map(|field| (field, &others[0])));
    let stage = Stage::open().await;
    each(
        rows,
        async |(field, (other, wanted))| {
            let field = format!("cdn-cache-control: {field}");
            same_reuse(stage.reuse(Say::ok(&[&field, other])).await?, *wanted)
        },
        |row| format!("{row:?}"),
    )
    .await;
}

/// Item 28 (9213 3): it is forwarded, at first and on reuse, unless the site says otherwise; then it
/// decides all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_28_it_is_forwarded() {
    for (more, forwarded) in [
        ("", true),
        (
            "response_headers = { remove = [\"CDN-Cache-Control\"] }",
            false,
        ),
    ] {
        let stage = Stage::with(more).await;
        let lines = [
            "cdn-cache-control: max-age=3600, foo",
            "cache-control: no-store",
        ];
        for (lines, hit) in [
            (&lines[..], true),
            (&["cdn-cache-control: no-store"], false),
        ] {
            let path = stage.page([Say::ok(lines)]);
            for wanted in [false, hit] {
                let answer = stage.get(&path).await.expect(200);
                assert_eq!(is_hit(&answer), wanted, "{answer}");
                let field = answer.header("cdn-cache-control");
                let sent = lines[0].split_once(": ").map_or("", |(_, value)| value);
                assert_eq!(field, if forwarded { sent } else { "" }, "{answer}");
            }
        }
    }
}

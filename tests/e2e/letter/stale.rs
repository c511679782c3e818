//! What is served although it is stale (items 19 and 20).

use std::time::Duration;

use sovereign_tests::script::{Gate, Say};
use sovereign_tests::{Answer, Client, eventually};

use super::{Stage, TAG, Told, age, each, ensure, is_hit, number, same};

/// A minute's lifetime, over when it arrives.
const AGE: &str = "age: 1000";

/// Whether the stored response may stand in: its `Cache-Control`, its `Age`, and whether it may.
#[rustfmt::skip]
const MAY_STAND_IN: &[(&str, &str, bool)] = &[
    // As long as it says.
    ("max-age=60, stale-if-error=3600", AGE, true),
    ("stale-if-error=3600, max-age=60", AGE, true),
    ("max-age=60, stale-if-error=500", AGE, false),
    ("max-age=60, stale-if-error=0", AGE, false),
    // Else within the site's own bound, which is a day where nothing is set.
    ("max-age=60", AGE, true),
    ("max-age=60", "age: 80000", true),
    ("max-age=60", "age: 90000", false),
    ("max-age=60, stale-if-error=604800", "age: 90000", true),
    // Never where it is forbidden.
    ("max-age=60, must-revalidate", AGE, false),
    ("max-age=60, proxy-revalidate", AGE, false),
    ("s-maxage=60", AGE, false),
    ("max-age=3600, s-maxage=60", AGE, false),
    ("max-age=60, no-cache", AGE, false),
    ("max-age=3600, no-cache", "age: 0", false),
    ("max-age=60, stale-if-error=3600, must-revalidate", AGE, false),
    ("max-age=60, stale-if-error=3600, proxy-revalidate", AGE, false),
    ("s-maxage=60, stale-if-error=3600", AGE, false),
    ("max-age=60, stale-if-error=3600, no-cache", AGE, false),
    // Of a field only, it forbids nothing.
    ("max-age=60, stale-if-error=3600, no-cache=\"x-a\"", AGE, true),
];

/// Item 19 (9111 4.2.4, 5.2.2; 5861 4): answers that are errors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_19_stale_is_served_instead_of_an_error() {
    let stage = Stage::open().await;
    let statuses = [500, 502, 503, 504];
    let rows = statuses
        .into_iter()
        .flat_map(|status| MAY_STAND_IN.iter().map(move |row| (status, row)));
    each(
        rows,
        async |(status, (control, old, may))| {
            let control = format!("cache-control: {control}");
            let path = stage.page([Say::ok(&[&control, old, TAG]), Say::status(*status, &[])]);
            stage.get(&path).await;
            let answer = stage.get(&path).await;
            same("asked", stage.asked(&path), 2)?;
            stands_in(&answer, *may, *status, old)
        },
        |row| format!("{row:?}"),
    )
    .await;
}

/// Item 19 (5861 4): what is no such error is passed on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_19_other_errors_are_answers() {
    let stage = Stage::open().await;
    each(
        [400, 403, 404, 410, 429, 501, 505, 507],
        async |status| {
            let stored = ["cache-control: max-age=60, stale-if-error=3600", AGE, TAG];
            let path = stage.page([Say::ok(&stored), Say::status(*status, &[])]);
            stage.get(&path).await;
            stands_in(&stage.get(&path).await, false, *status, AGE)
        },
        ToString::to_string,
    )
    .await;
}

/// Item 19 (9111 4.2.4): an origin that breaks the connection, that says nothing, that is not there.
/// (An upstream that is not there is waited for where nothing may stand in for it; here it is not.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_19_stale_is_served_when_the_origin_does_not_answer() {
    let never = Gate::new();
    for (how, second, otherwise) in [
        ("broken", Say::cut(), 503),
        ("too slow", Say::ok(&[]).held(&never), 504),
        ("refused", Say::ok(&[]), 503),
    ] {
        let stage = Stage::with("hold = \"0s\"\ntimeouts = { first_byte = \"2s\" }").await;
        let mut paths = Vec::new();
        for (control, old, _) in MAY_STAND_IN {
            let control = format!("cache-control: {control}");
            let path = stage.page([Say::ok(&[&control, old, TAG]), second.clone()]);
            stage.get(&path).await.expect(200);
            paths.push(path);
        }
        if how == "refused" {
            stage.origin.down().await;
        }
        // All at once: each waits its time.
        let asking: Vec<_> = paths
            .into_iter()
            .map(|path| {
                let client = Client::h1(stage.client.target());
                tokio::spawn(async move { client.get(&path).await })
            })
            .collect();
        let mut rows = Vec::new();
        for (row, answer) in MAY_STAND_IN.iter().zip(asking) {
            rows.push((row, answer.await.expect("it is answered")));
        }
        each(
            rows,
            async |((_, old, may), answer)| stands_in(answer, *may, otherwise, old),
            |(row, _)| format!("{how}: {row:?}"),
        )
        .await;
    }
}

/// Whether an answer is the stored one where that may be, else an error.
fn stands_in(answer: &Answer, may: bool, or: u16, old: &str) -> Result<(), String> {
    let status = if may { 200 } else { or };
    ensure(answer.status == status, format!("not {status}: {answer}"))?;
    ensure(is_hit(answer) == may, format!("a hit: {answer}"))?;
    if may {
        same("the body", answer.text().as_str(), "answer 1")?;
        let least: i64 = old[5..].parse().expect("an age");
        ensure(age(answer) >= least, format!("its age: {answer}"))?;
        ensure(Told::of(answer)?.ttl()? < 0, format!("the ttl: {answer}"))?;
    }
    Ok(())
}

/// Item 20 (5861 3).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_20_a_stale_response_is_refreshed_in_the_background_once() {
    let stage = Stage::open().await;
    let gate = Gate::new();
    let path = stage.page([
        Say::ok(&[
            "cache-control: max-age=60, stale-while-revalidate=3600",
            AGE,
            TAG,
        ]),
        Say::ok(&["cache-control: max-age=3600"]).held(&gate),
    ]);
    stage.get(&path).await.expect(200);
    // Nobody waits for the origin, which does not answer.
    for _ in 0..10 {
        let answer = stage.get(&path).await.expect(200);
        assert!(is_hit(&answer) && number(&answer) == "1", "{answer}");
        assert!(age(&answer) >= 1000, "{answer}");
        assert!(
            Told::of(&answer)
                .and_then(|told| told.ttl())
                .is_ok_and(|ttl| ttl < 0)
        );
    }
    eventually("the origin is asked", Duration::from_secs(20), || async {
        if stage.asked(&path) > 1 {
            Ok(())
        } else {
            Err("not yet")
        }
    })
    .await;
    let refresh = stage.last(&path);
    assert_eq!(refresh.header("if-none-match"), "\"a\"");
    stage.get(&path).await.expect(200);
    gate.open();
    eventually("the new one is there", Duration::from_secs(20), || async {
        let answer = stage.get(&path).await.expect(200);
        assert!(is_hit(&answer), "{answer}");
        if number(&answer) == "2" {
            Ok(())
        } else {
            Err(answer)
        }
    })
    .await;
    assert_eq!(stage.asked(&path), 2);
}

/// Item 20 (5861 3): where the origin is asked first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_20_after_its_window_the_origin_is_asked_first() {
    let stage = Stage::open().await;
    #[rustfmt::skip]
    let rows = [
        ("max-age=60, stale-while-revalidate=3600", true),
        ("stale-while-revalidate=3600, s-maxage=60", true),
        ("max-age=60, stale-while-revalidate=900", false),
        ("max-age=60, stale-while-revalidate=0", false),
        ("max-age=60, stale-while-revalidate=x", false),
        ("max-age=60", false),
        ("max-age=60, stale-if-error=3600", false),
        ("max-age=60, stale-while-revalidate=3600, must-revalidate", false),
        ("max-age=60, stale-while-revalidate=3600, proxy-revalidate", false),
        ("max-age=60, stale-while-revalidate=3600, no-cache", false),
    ];
    each(
        rows,
        async |(control, inside)| {
            let control = format!("cache-control: {control}");
            let path = stage.page([
                Say::ok(&[&control, AGE, TAG]),
                Say::ok(&["cache-control: max-age=3600"]),
            ]);
            stage.get(&path).await;
            let answer = stage.get(&path).await;
            same("a hit", is_hit(&answer), *inside)?;
            same(
                "the answer",
                number(&answer),
                if *inside { "1" } else { "2" },
            )
        },
        |(control, _)| (*control).to_owned(),
    )
    .await;
}

/// Item 20 (5861 3): the refresh brought a response that has to be asked about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_20_a_refresh_that_brings_no_cache() {
    let stage = Stage::open().await;
    let gate = Gate::new();
    #[rustfmt::skip]
    let stored = [
        "cache-control: max-age=60, stale-while-revalidate=3600",
        AGE,
        TAG,
    ];
    let path = stage.page([
        Say::ok(&stored),
        Say::ok(&["cache-control: no-cache, stale-while-revalidate=3600", TAG]).held(&gate),
        Say::ok(&["cache-control: max-age=3600"]),
    ]);
    stage.get(&path).await.expect(200);
    assert_eq!(number(&stage.get(&path).await), "1");
    gate.open();
    eventually("the refresh is over", Duration::from_secs(20), || async {
        let answer = stage.get(&path).await.expect(200);
        if number(&answer) == "1" {
            return Err(answer);
        }
        // Not what the refresh brought, but what the origin said when it was asked about that.
        assert!(!is_hit(&answer) && number(&answer) == "3", "{answer}");
        Ok(())
    })
    .await;
    assert_eq!(stage.asked(&path), 3);
}

//! What the operator adds never takes one visitor's page to another (item 31).

use sovereign_tests::script::Say;

use super::{
    NOT_REUSED, Reuse, Stage, Told, each, ensure, is_hit, number, reused, same, same_reuse,
};

/// A default lifetime for all, another for a path, and a session's cookie.
const ADDED: &str = r#"cache = { lifetime = "1h", session_cookies = ["session"] }
[[site.route]]
path = "/page-*"
cache = { lifetime = "2h" }
"#;
const COOKIE: &str = "set-cookie: visitor=1";

/// Item 31: what the origin says explicitly is obeyed, by default without exception.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_31_without_an_operator_the_origin_is_obeyed() {
    let stage = Stage::open().await;
    #[rustfmt::skip]
    let rows: &[(&[&str], Reuse)] = &[
        (&["cache-control: max-age=3600"], Some(3600)),
        (&["cache-control: max-age=3600", COOKIE], Some(3600)),
        (&["expires: {+3600}", COOKIE], Some(3600)),
        (&["x-no: freshness"], NOT_REUSED),
        (&["cache-control: public"], NOT_REUSED),
        (&["cache-control: public, max-age=0"], NOT_REUSED),
        // Guessed is not explicit.
        (&["last-modified: {-36000}"], Some(3600)),
        (&["last-modified: {-36000}", COOKIE], NOT_REUSED),
    ];
    let cookies: [&[&str]; 2] = [&[], &["cookie: session=abc"]];
    let rows = cookies
        .iter()
        .flat_map(|cookie| rows.iter().map(move |row| (cookie, row)));
    each(
        rows,
        async |(cookie, (lines, wanted))| {
            let found = stage.reuse_for(cookie, cookie, Say::ok(lines)).await?;
            same_reuse(found, *wanted)
        },
        |row| format!("{row:?}"),
    )
    .await;
}

/// Item 31: what is added applies where the origin says nothing, and never beside `Set-Cookie`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_31_what_the_operator_adds() {
    let stage = Stage::with(ADDED).await;
    #[rustfmt::skip]
    let rows: &[(&[&str], Reuse)] = &[
        // Of the path, before that of the site.
        (&["x-no: freshness"], Some(7200)),
        (&["cache-control: public"], Some(7200)),
        (&["cache-control: foo"], Some(7200)),
        (&["last-modified: {-36000}"], Some(7200)),
        (&["age: 600"], Some(6600)),
        // "Whoever knows better may": as some applications say it.
        (&["cache-control: public, max-age=0"], Some(7200)),
        // What the origin says explicitly.
        (&["cache-control: max-age=3600"], Some(3600)),
        (&["cache-control: s-maxage=3600, max-age=0"], Some(3600)),
        (&["expires: {+3600}"], Some(3600)),
        (&["cdn-cache-control: max-age=3600"], Some(3600)),
        (&["cache-control: max-age=0"], NOT_REUSED),
        (&["cache-control: s-maxage=0, public"], NOT_REUSED),
        (&["expires: 0"], NOT_REUSED),
        (&["cache-control: max-age=soon"], NOT_REUSED),
        (&["cache-control: no-store"], NOT_REUSED),
        (&["cache-control: private"], NOT_REUSED),
        (&["cache-control: no-cache"], NOT_REUSED),
        (&["cache-control: public, max-age=0, must-revalidate"], NOT_REUSED),
        (&["cache-control: public, max-age=0, no-cache"], NOT_REUSED),
        (&["cache-control: public, max-age=0, private"], NOT_REUSED),
        (&["vary: *"], NOT_REUSED),
        // Never beside a cookie.
        (&[COOKIE], NOT_REUSED),
        (&[COOKIE, "cache-control: public"], NOT_REUSED),
        (&[COOKIE, "cache-control: public, max-age=0"], NOT_REUSED),
        (&[COOKIE, "cache-control: foo"], NOT_REUSED),
        (&[COOKIE, "etag: \"a\""], NOT_REUSED),
        (&["set-cookie: "], NOT_REUSED),
        (&[COOKIE, "cache-control: max-age=3600"], Some(3600)),
    ];
    let rows = rows.iter().map(|(lines, wanted)| (200, *lines, *wanted));
    reused(&stage, rows).await;
    // The lifetime of the site, elsewhere.
    stage.origin.says("/elsewhere", [Say::ok(&[])]);
    stage.get("/elsewhere").await.expect(200);
    let left = Told::of(&stage.get("/elsewhere").await).and_then(|told| told.ttl());
    same_reuse(left.map(Some).expect("it is stored"), Some(3600)).expect("the site's");
}

/// Item 31: nor for a request with the cookie of a session, in either direction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_31_a_session_is_nobody_elses() {
    let stage = Stage::with(ADDED).await;
    #[rustfmt::skip]
    let sessions: [&[&str]; 6] = [
        &["cookie: session=abc"],
        &["cookie: theme=dark; session=abc"],
        &["cookie: session=abc; theme=dark"],
        &["cookie:  theme=dark;session=abc"],
        &["cookie: theme=dark", "cookie: session=abc"],
        &["cookie: session="],
    ];
    #[rustfmt::skip]
    let others: [&[&str]; 5] = [
        &[],
        &["cookie: theme=dark"],
        &["cookie: theme=session"],
        &["cookie: mysession=abc; session2=abc"],
        &["cookie: theme=\"dark; mode\""],
    ];
    let responses: [&[&str]; 3] = [&[], &["cache-control: public"], &["etag: \"a\""]];
    let rows = sessions
        .iter()
        .flat_map(|session| responses.iter().map(move |lines| (session, lines)));
    each(
        rows,
        async |(session, lines)| {
            let path = stage.page([Say::ok(lines)]);
            // What one with a session got goes to nobody.
            same(
                "the session's own",
                number(&stage.get_with(&path, session).await),
                "1",
            )?;
            same("another's", number(&stage.get(&path).await), "2")?;
            // What others share goes to nobody with a session.
            for other in others {
                let answer = stage.get_with(&path, other).await;
                ensure(is_hit(&answer), format!("{other:?}: {answer}"))?;
                same("what others share", number(&answer), "2")?;
            }
            let again = stage.get_with(&path, session).await;
            same("the session's own, again", number(&again), "3")?;
            // And does not change it.
            same("what others share", number(&stage.get(&path).await), "2")
        },
        |row| format!("{row:?}"),
    )
    .await;
}

/// Item 31: the bound for stale ones is an addition too (item 19).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_31_no_bound_for_stale_beside_a_cookie() {
    let stage = Stage::open().await;
    // (stored, whether it stands in for an error)
    #[rustfmt::skip]
    let rows: &[(&[&str], bool)] = &[
        (&["cache-control: max-age=60"], true),
        (&["cache-control: max-age=60", COOKIE], false),
        (
            &["cache-control: max-age=60, stale-if-error=3600", COOKIE],
            true,
        ),
    ];
    each(
        rows,
        async |(lines, may)| {
            let stored = [*lines, &["age: 1000", "etag: \"a\""]].concat();
            let path = stage.page([Say::ok(&stored), Say::status(500, &[])]);
            stage.get(&path).await;
            let answer = stage.get(&path).await;
            same(
                "the status",
                answer.status.as_u16(),
                if *may { 200 } else { 500 },
            )
        },
        |(lines, _)| format!("{lines:?}"),
    )
    .await;
}

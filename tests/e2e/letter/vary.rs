//! Which of several stored responses a request selects (item 14).

use sovereign_tests::script::Say;

use super::{HOUR, NOT_REUSED, Stage, Told, each, ensure, is_hit, number, same, same_reuse};

/// Item 14 (9111 4.1; 9110 12.5.5).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_14_a_star_anywhere_is_never_reused() {
    let stage = Stage::open().await;
    #[rustfmt::skip]
    let rows: &[(&[&str], bool)] = &[
        (&["vary: *"], false),
        (&["vary: accept, *"], false),
        (&["vary: *,accept"], false),
        (&["vary: accept", "vary: *"], false),
        (&["vary: *", "vary: accept"], false),
        (&["vary: , ,*,"], false),
        (&["vary: accept", "vary: x-a, *, x-b"], false),
        // Empty members mean nothing.
        (&["vary: "], true),
        (&["vary: ,accept,, ,"], true),
        (&["vary: ", "vary: accept"], true),
        (&["vary: accept"], true),
    ];
    each(
        rows,
        async |(lines, reused)| {
            let fields = ["accept: a"];
            let say = Say::ok(&[lines, &[HOUR][..]].concat());
            let found = stage.reuse_for(&fields, &fields, say).await?;
            same_reuse(found, if *reused { Some(3600) } else { NOT_REUSED })
        },
        |(lines, _)| format!("{lines:?}"),
    )
    .await;
}

/// Item 14 (9111 4.1): what `Vary` names, in the request that was stored and in the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_14_the_same_fields_select_the_same_variant() {
    let stage = Stage::open().await;
    #[rustfmt::skip]
    let rows: &[(&str, &[&str], &[&str], bool)] = &[
        ("x-a", &["x-a: 1"], &["x-a: 1"], true),
        ("x-a", &["x-a: 1"], &["x-a: 2"], false),
        ("x-a", &["x-a: 1"], &["x-a: 10"], false),
        ("x-a", &["x-a: a"], &["x-a: A"], false),
        ("X-A", &["x-a: 1"], &["x-a: 1"], true),
        ("X-A", &["x-a: 1"], &["x-a: 2"], false),
        ("x-a", &["x-a: 1", "x-b: 1"], &["x-a: 1", "x-b: 2"], true),
        (",, x-a ,", &["x-a: 1"], &["x-a: 2"], false),
        ("x-b, x-a", &["x-a: 1", "x-b: 1"], &["x-b: 1", "x-a: 1"], true),
        ("x-b, x-a", &["x-a: 1", "x-b: 1"], &["x-a: 1", "x-b: 2"], false),
        ("x-b, x-a", &["x-a: 1", "x-b: 2"], &["x-a: 2", "x-b: 1"], false),
        // What `Vary` names over two lines.
        ("x-b\r\nvary: x-a", &["x-a: 1", "x-b: 1"], &["x-a: 1", "x-b: 1"], true),
        ("x-b\r\nvary: x-a", &["x-a: 1", "x-b: 1"], &["x-a: 2", "x-b: 1"], false),
        ("x-b\r\nvary: x-a", &["x-a: 1", "x-b: 1"], &["x-a: 1", "x-b: 2"], false),
        // Absent matches absent only.
        ("x-a", &[], &[], true),
        ("x-a", &[], &["x-a: 1"], false),
        ("x-a", &["x-a: 1"], &[], false),
        ("x-a", &[], &["x-a:"], false),
        ("x-a", &["x-a:"], &[], false),
        ("x-a, x-b", &["x-a: 1"], &["x-b: 1"], false),
        // Lines are joined, and white space round members is none of theirs.
        ("x-a", &["x-a: 1, 2"], &["x-a: 1,2"], true),
        ("x-a", &["x-a: 1 ,\t2"], &["x-a: 1,   2"], true),
        ("x-a", &["x-a: 1", "x-a: 2"], &["x-a: 1, 2"], true),
        ("x-a", &["x-a: 1, 2", "x-a: 3"], &["x-a: 1", "x-a: 2,3"], true),
        ("x-a", &["x-a: 1", "x-a: 2"], &["x-a: 2", "x-a: 1"], false),
        ("x-a", &["x-a: 1, 2"], &["x-a: 2, 1"], false),
        ("x-a", &["x-a: 1 2"], &["x-a: 12"], false),
        ("x-a", &["x-a: 1 2"], &["x-a: 1, 2"], false),
        ("x-a", &["x-a: \"1, 2\""], &["x-a: \"1,2\""], false),
        // Languages: without case, and without order among equal weights.
        ("accept-language", &["accept-language: en"], &["accept-language: EN"], true),
        ("Accept-Language", &["accept-language: de-at"], &["accept-language: de-AT"], true),
        ("accept-language", &["accept-language: en, de"], &["accept-language: de, en"], true),
        ("accept-language", &["accept-language: en,DE,fr"], &["accept-language: fr", "accept-language: de, en"], true),
        (
            "accept-language",
            &["accept-language: en;q=0.5, de;q=0.5"],
            &["accept-language: de;q=0.5, en;q=0.5"],
            true,
        ),
        (
            "accept-language",
            &["accept-language: fr, en;q=0.5, de;q=0.5"],
            &["accept-language: fr, de;q=0.5, en;q=0.5"],
            true,
        ),
        ("accept-language", &["accept-language: en, de;q=0.5"], &["accept-language: de, en;q=0.5"], false),
        ("accept-language", &["accept-language: en"], &["accept-language: de"], false),
        ("accept-language", &["accept-language: en"], &["accept-language: en, de"], false),
        ("accept-language", &["accept-language: en"], &["accept-language: en-GB"], false),
        ("accept-language", &["accept-language: en;q=0.5"], &["accept-language: en;q=0.6"], false),
        ("accept-language", &[], &["accept-language: en"], false),
    ];
    each(
        rows,
        async |(vary, first, second, reused)| {
            let vary = format!("vary: {vary}");
            let lines: Vec<_> = vary.split("\r\n").chain([HOUR]).collect();
            let found = stage.reuse_for(first, second, Say::ok(&lines)).await?;
            same_reuse(found, if *reused { Some(3600) } else { NOT_REUSED })
        },
        |(vary, first, second, _)| format!("{vary:?}: {first:?}, then {second:?}"),
    )
    .await;
}

/// Item 14 (9111 4.1).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_14_several_variants_are_kept_at_once() {
    let stage = Stage::open().await;
    let path = stage.page([Say::ok(&[HOUR, "vary: x-a, accept-language"])]);
    #[rustfmt::skip]
    let requests: &[&[&str]] = &[
        &[],
        &["x-a: 1"],
        &["x-a: 2"],
        &["accept-language: en"],
        &["accept-language: de"],
        &["x-a: 1", "accept-language: de"],
        &["x-a: 2", "accept-language: de"],
    ];
    for round in 0..3 {
        each(
            requests.iter().zip(1..),
            async |(fields, wanted)| {
                let answer = stage.get_with(&path, fields).await;
                same("the variant", number(&answer), wanted.to_string().as_str())?;
                let told = Told::of(&answer)?;
                match (round, wanted) {
                    (0, 1) => same("why", told.word.as_str(), "uri-miss"),
                    (0, _) => same("why", told.word.as_str(), "vary-miss"),
                    _ => ensure(is_hit(&answer), format!("no hit: {answer}")),
                }
            },
            |(fields, _)| format!("{fields:?}, round {round}"),
        )
        .await;
    }
    assert_eq!(stage.asked(&path), requests.len());
}

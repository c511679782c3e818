//! Parts of a response: out of a stored one, and an origin's own (item 22).

use http::Method;
use sovereign_tests::Answer;
use sovereign_tests::script::Say;

use super::{CHANGED, HOUR, Stage, TAG, each, ensure, is_hit, same};

const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";

/// Item 22 (9110 14.2, 15.3.7).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_22_one_range_out_of_a_stored_response() {
    let stage = Stage::open().await;
    let path = stage.page([Say::ok(&[HOUR, TAG, "x-a: 1"]).body(LETTERS)]);
    stage.get(&path).await.expect(200);
    // (Range, status, Content-Range, body)
    #[rustfmt::skip]
    let rows = [
        ("bytes=0-4", 206, "bytes 0-4/26", "abcde"),
        ("bytes=3-3", 206, "bytes 3-3/26", "d"),
        ("bytes=20-25", 206, "bytes 20-25/26", "uvwxyz"),
        ("bytes=20-99", 206, "bytes 20-25/26", "uvwxyz"),
        ("bytes=20-99999999999999999999999", 206, "bytes 20-25/26", "uvwxyz"),
        ("bytes=20-", 206, "bytes 20-25/26", "uvwxyz"),
        ("bytes=0-", 206, "bytes 0-25/26", LETTERS),
        ("bytes=25-", 206, "bytes 25-25/26", "z"),
        ("bytes=-4", 206, "bytes 22-25/26", "wxyz"),
        ("bytes=-26", 206, "bytes 0-25/26", LETTERS),
        ("bytes=-99", 206, "bytes 0-25/26", LETTERS),
        ("bytes=,0-4 ,", 206, "bytes 0-4/26", "abcde"),
        ("Bytes=0-4", 206, "bytes 0-4/26", "abcde"),
        ("bytes=0-1,99-", 206, "bytes 0-1/26", "ab"),
        // Nothing of it is there.
        ("bytes=26-", 416, "bytes */26", ""),
        ("bytes=26-30", 416, "bytes */26", ""),
        ("bytes=99999999999999999999999-", 416, "bytes */26", ""),
        ("bytes=-0", 416, "bytes */26", ""),
        ("bytes=30-40,50-60", 416, "bytes */26", ""),
        // What is no range, or another unit, is as if it were not there.
        ("bytes=4-0", 200, "", LETTERS),
        ("bytes=a-b", 200, "", LETTERS),
        ("bytes=0-4;q=1", 200, "", LETTERS),
        ("bytes=", 200, "", LETTERS),
        ("bytes=-", 200, "", LETTERS),
        ("bytes 0-4", 200, "", LETTERS),
        ("letters=0-4", 200, "", LETTERS),
    ];
    each(
        rows,
        async |(range, status, content_range, body)| {
            let answer = stage.get_with(&path, &[&format!("range: {range}")]).await;
            same("the status", answer.status.as_u16(), *status)?;
            ensure(is_hit(&answer), format!("no hit: {answer}"))?;
            same(
                "Content-Range",
                answer.header("content-range"),
                *content_range,
            )?;
            if *status != 416 {
                same("the body", answer.text().as_str(), *body)?;
                same(
                    "its length",
                    answer.header("content-length"),
                    body.len().to_string().as_str(),
                )?;
                same("its tag", answer.header("etag"), "\"a\"")?;
                same("X-A", answer.header("x-a"), "1")?;
            }
            same("asked", stage.asked(&path), 1)
        },
        |(range, ..)| (*range).to_owned(),
    )
    .await;
    // A HEAD has no parts (9110 14.2).
    let head = stage
        .ask(Method::HEAD, &path, &["range: bytes=0-4"], "")
        .await
        .expect(200);
    assert!(
        is_hit(&head) && head.header("content-length") == "26",
        "{head}"
    );
    // Of another status than 200 there are none.
    let path = stage.page([Say::status(404, &[HOUR]).body(LETTERS)]);
    stage.get(&path).await.expect(404);
    let answer = stage
        .get_with(&path, &["range: bytes=0-4"])
        .await
        .expect(404);
    assert!(is_hit(&answer) && answer.text() == LETTERS, "{answer}");
}

/// Item 22 (9110 14.6, 15.3.7.2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_22_several_ranges_at_once() {
    let stage = Stage::open().await;
    let path = stage.page([Say::ok(&[HOUR, "content-type: text/a"]).body(LETTERS)]);
    stage.get(&path).await.expect(200);
    #[rustfmt::skip]
    let rows: &[(&str, &[(&str, &str)])] = &[
        ("bytes=0-1,4-5", &[("bytes 0-1/26", "ab"), ("bytes 4-5/26", "ef")]),
        ("bytes=4-5 , 0-1", &[("bytes 4-5/26", "ef"), ("bytes 0-1/26", "ab")]),
        (
            "bytes=0-0,-1,10-11",
            &[("bytes 0-0/26", "a"), ("bytes 25-25/26", "z"), ("bytes 10-11/26", "kl")],
        ),
        ("bytes=0-1,99-,24-", &[("bytes 0-1/26", "ab"), ("bytes 24-25/26", "yz")]),
    ];
    each(
        rows,
        async |(range, wanted)| {
            let answer = stage.get_with(&path, &[&format!("range: {range}")]).await;
            same("the status", answer.status.as_u16(), 206)?;
            ensure(is_hit(&answer), format!("no hit: {answer}"))?;
            same("Content-Range", answer.header("content-range"), "")?;
            let length = answer.body.len().to_string();
            same(
                "its length",
                answer.header("content-length"),
                length.as_str(),
            )?;
            let parts = parts(&answer)?;
            let found: Vec<_> = parts
                .iter()
                .map(|(range, kind, body)| (range.as_str(), kind.as_str(), body.as_str()))
                .collect();
            let wanted: Vec<_> = wanted
                .iter()
                .map(|(range, body)| (*range, "text/a", *body))
                .collect();
            same("the parts", found, wanted)
        },
        |(range, _)| (*range).to_owned(),
    )
    .await;
    assert_eq!(stage.asked(&path), 1);
}

/// `Content-Range`, `Content-Type` and body of each part of a multipart/byteranges (9110 14.6).
fn parts(answer: &Answer) -> Result<Vec<(String, String, String)>, String> {
    let wrong = |what: &str| format!("{what}: {answer}");
    let boundary = answer
        .header("content-type")
        .strip_prefix("multipart/byteranges; boundary=")
        .ok_or_else(|| wrong("no multipart/byteranges"))?
        .trim_matches('"');
    let text = format!("\r\n{}", answer.text());
    let border = format!("\r\n--{boundary}");
    let mut pieces = text.split(&border);
    ensure(
        pieces.next() == Some(""),
        wrong("something before the first part"),
    )?;
    let mut found = Vec::new();
    for piece in pieces {
        if let Some(end) = piece.strip_prefix("--") {
            ensure(
                end.trim().is_empty(),
                wrong("something after the last part"),
            )?;
            return Ok(found);
        }
        let (head, body) = piece
            .split_once("\r\n\r\n")
            .ok_or_else(|| wrong("a part without a head"))?;
        let field = |name: &str| {
            head.lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(found, _)| found.eq_ignore_ascii_case(name))
                .map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        found.push((
            field("content-range"),
            field("content-type"),
            body.to_owned(),
        ));
    }
    Err(wrong("no last boundary"))
}

/// That an answer is one part, of this range.
fn same_part(answer: &Answer, range: &str, body: &str) -> Result<(), String> {
    same("the status", answer.status.as_u16(), 206)?;
    same("Content-Range", answer.header("content-range"), range)?;
    same("the body", answer.text().as_str(), body)
}

/// That an answer is all there is.
fn same_whole(answer: &Answer) -> Result<(), String> {
    same("the status", answer.status.as_u16(), 200)?;
    same("the body", answer.text().as_str(), LETTERS)
}

/// Item 22 (9110 13.1.5).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_22_if_range() {
    let stage = Stage::open().await;
    let weak = "etag: W/\"a\"";
    let recent = "last-modified: {+0}";
    // (validators, If-Range, whether the part is given)
    #[rustfmt::skip]
    let rows: &[(&[&str], &str, bool)] = &[
        (&[TAG], "\"a\"", true),
        (&[TAG], "\"b\"", false),
        (&[TAG], "W/\"a\"", false),
        (&[weak], "W/\"a\"", false),
        (&[weak], "\"a\"", false),
        (&[TAG], "\"a\", \"b\"", false),
        (&[TAG], "*", false),
        (&[CHANGED], "\"a\"", false),
        (&[CHANGED], "Sun, 06 Nov 1994 08:49:37 GMT", true),
        (&[TAG, CHANGED], "Sun, 06 Nov 1994 08:49:37 GMT", true),
        (&[CHANGED], "Sun, 06 Nov 1994 08:49:36 GMT", false),
        (&[CHANGED], "Sun, 06 Nov 1994 08:49:38 GMT", false),
        (&[CHANGED], "yesterday", false),
        (&[TAG], "Sun, 06 Nov 1994 08:49:37 GMT", false),
        // What changed in the second in which it was sent may have changed twice.
        (&[recent], "LAST", false),
    ];
    each(
        rows,
        async |(validators, condition, holds)| {
            let lines = [*validators, &[HOUR, "date: {+0}"]].concat();
            let path = stage.page([Say::ok(&lines).body(LETTERS)]);
            let first = stage.get(&path).await;
            let condition = match *condition {
                "LAST" => first.header("last-modified"),
                other => other,
            };
            let fields = ["range: bytes=0-4", &format!("if-range: {condition}")];
            let answer = stage.get_with(&path, &fields).await;
            match *holds {
                true => same_part(&answer, "bytes 0-4/26", "abcde")?,
                false => same_whole(&answer)?,
            }
            same("asked", stage.asked(&path), 1)
        },
        |row| format!("{row:?}"),
    )
    .await;
}

/// Item 22 (9111 3.3, 3.4; 9110 15.3.7.1), and the 206 of item 5: an origin's own part.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_22_a_part_of_the_origins_is_stored() {
    let stage = Stage::open().await;
    let part = "content-range: bytes 0-4/26";
    #[rustfmt::skip]
    let rows: &[&[&str]] = &[
        &[part, HOUR, TAG],
        &[part, HOUR, "last-modified: {-36000}", "date: {-1000}"],
        &[part, "expires: {+3600}", TAG],
        // Item 5: guessed at.
        &[part, "last-modified: {-36000}", TAG],
    ];
    each(
        rows,
        async |lines| {
            let whole = Say::ok(&[HOUR, TAG]).body(LETTERS);
            let path = stage.page([Say::status(206, lines).body("abcde"), whole]);
            for wanted in [false, true] {
                let answer = stage.get_with(&path, &["range: bytes=0-4"]).await;
                same("a hit", is_hit(&answer), wanted)?;
                same_part(&answer, "bytes 0-4/26", "abcde")?;
            }
            // A part of the part is there as well.
            let inside = stage.get_with(&path, &["range: bytes=1-3"]).await;
            same_part(&inside, "bytes 1-3/26", "bcd")?;
            same("asked", stage.asked(&path), 1)?;
            // It is no answer to who wants all of it.
            same_whole(&stage.get(&path).await)?;
            same("asked for the whole", stage.asked(&path), 2)
        },
        |row| format!("{row:?}"),
    )
    .await;
}

/// Item 22 (9111 3.3, 3.4): what does not agree is not stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_22_a_part_that_does_not_agree_is_not_stored() {
    let stage = Stage::open().await;
    let part = "content-range: bytes 0-4/26";
    #[rustfmt::skip]
    let rows: &[&[&str]] = &[
        // The body is five bytes long.
        &["content-range: bytes 0-9/26", HOUR, TAG],
        &["content-range: bytes 0-3/26", HOUR, TAG],
        &["content-range: bytes 5-0/26", HOUR, TAG],
        &["content-range: bytes 0-4/3", HOUR, TAG],
        &["content-range: bytes */26", HOUR, TAG],
        &["content-range: letters 0-4/26", HOUR, TAG],
        &["content-range: 0-4/26", HOUR, TAG],
        &["content-range: bytes 0-4/26", "content-range: bytes 0-4/27", HOUR, TAG],
        &["x-no: range", HOUR, TAG],
        // Nothing strong to tell it by.
        &[part, HOUR],
        &[part, HOUR, "etag: W/\"a\""],
        &[part, HOUR, "last-modified: {+0}", "date: {+0}"],
        // Nothing that allows it.
        &[part, TAG],
        &[part, TAG, "cache-control: no-store"],
        &[part, TAG, "cache-control: private, max-age=3600"],
    ];
    each(
        rows,
        async |lines| {
            let whole = Say::ok(&[HOUR, TAG]).body(LETTERS);
            let say = Say::status(206, lines).body("abcde");
            let path = stage.page([say.clone(), say, whole]);
            for wanted in 1..=2 {
                let answer = stage.get_with(&path, &["range: bytes=0-4"]).await;
                same("a hit", is_hit(&answer), false)?;
                same("asked", stage.asked(&path), wanted)?;
            }
            same_whole(&stage.get(&path).await)
        },
        |row| format!("{row:?}"),
    )
    .await;
}

//! What is told about a response, and told to us about others (items 29 and 30).

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use sovereign_tests::script::{Gate, Say};
use sovereign_tests::{Answer, Client, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::{HOUR, Stage, TAG, Told, ask, each, ensure, is_hit, same};

const STALE: [&str; 2] = ["cache-control: max-age=60", "age: 1000"];

fn told(answer: &Answer) -> Told {
    Told::of(answer).unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// What is told of an answer, in the order of the alphabet: a detail without its words, and seconds
/// of freshness in full hundreds, since some have passed.
fn outline(answer: &Answer) -> Result<String, String> {
    let told = Told::of(answer)?;
    let mut parts = Vec::new();
    for (name, value) in &told.parameters {
        parts.push(match (name.as_str(), value.as_str()) {
            ("ttl", _) => format!("ttl={}", -(-told.ttl()?).div_euclid(100) * 100),
            ("detail", words) if !words.is_empty() => "detail".to_owned(),
            (name, "") => name.to_owned(),
            (name, value) => format!("{name}={value}"),
        });
    }
    Ok(parts.join("; "))
}

/// Item 29 (9211 2): how a response was come by, and of a detail that there is one where nothing was
/// stored or something stale was served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_29_how_a_response_was_come_by() {
    let stage = Stage::with("[[site.route]]\npath = \"/past\"\ncache = \"bypass\"").await;
    stage.origin.says("/past", [Say::ok(&[HOUR])]);
    let fresh = Say::ok(&[HOUR, "age: 600", TAG]);
    let stale = Say::ok(&[STALE[0], STALE[1], TAG]);
    let revalidating = "cache-control: max-age=60, stale-while-revalidate=3600";

    // A first request: (what the origin says, what is told).
    #[rustfmt::skip]
    let misses = [
        (fresh.clone(), "fwd=uri-miss; fwd-status=200; stored; ttl=3000"),
        (stale.clone(), "fwd=uri-miss; fwd-status=200; stored; ttl=-900"),
        (Say::status(404, &[HOUR]), "fwd=uri-miss; fwd-status=404; stored; ttl=3600"),
        (Say::ok(&[]), "detail; fwd=uri-miss; fwd-status=200"),
        (Say::ok(&["cache-control: no-store"]), "detail; fwd=uri-miss; fwd-status=200"),
    ];
    each(
        misses,
        async |(say, wanted)| {
            let answer = stage.get(&stage.page([say.clone()])).await;
            same("what is told", outline(&answer)?.as_str(), *wanted)
        },
        |(_, wanted)| format!("a first request: {wanted}"),
    )
    .await;

    // A second: (what the origin says to the first, and to this, its method and fields, its body,
    // what is told).
    type Row<'a> = (&'a [&'a Say], &'a str, &'a [&'a str], &'a str, &'a str);
    let [error, gone] = [500, 404].map(|status| Say::status(status, &[]));
    let confirmed = Say::status(304, &[HOUR, "age: 600", TAG]);
    let varying = Say::ok(&[HOUR, "vary: x-a"]);
    let background = Say::ok(&[revalidating, STALE[1]]);
    #[rustfmt::skip]
    let rows: &[Row<'_>] = &[
        (&[&fresh], "GET", &[], "", "hit; ttl=3000"),
        (&[&fresh], "HEAD", &[], "", "hit; ttl=3000"),
        (&[&fresh], "GET", &["if-none-match: \"a\""], "", "hit; ttl=3000"),
        (&[&fresh], "GET", &["range: bytes=0-1"], "", "hit; ttl=3000"),
        (&[&fresh], "GET", &["range: bytes=99-"], "", "hit; ttl=3000"),
        (&[&stale], "GET", &["cache-control: max-stale"], "", "hit; ttl=-900"),
        (&[&background], "GET", &[], "", "detail; hit; ttl=-900"),
        (&[&stale, &error], "GET", &[], "", "detail; hit; ttl=-900"),
        (&[&varying], "GET", &["x-a: 1"], "", "fwd=vary-miss; fwd-status=200; stored; ttl=3600"),
        (&[&stale, &fresh], "GET", &[], "", "fwd=stale; fwd-status=200; stored; ttl=3000"),
        (&[&stale, &confirmed], "GET", &[], "", "fwd=stale; fwd-status=304; stored; ttl=3000"),
        (&[&stale, &gone], "GET", &[], "", "detail; fwd=stale; fwd-status=404"),
        (&[&fresh], "GET", &["cache-control: no-cache"], "", "fwd=request; fwd-status=200; stored; ttl=3000"),
        (&[&fresh], "GET", &["cache-control: max-age=60"], "", "fwd=request; fwd-status=200; stored; ttl=3000"),
        (&[&fresh], "GET", &["cache-control: min-fresh=3300"], "", "fwd=request; fwd-status=200; stored; ttl=3000"),
        (&[&fresh], "POST", &[], "a body", "detail; fwd=method; fwd-status=200"),
        (&[&fresh], "DELETE", &[], "", "detail; fwd=method; fwd-status=200"),
        (&[&fresh], "GET", &[], "a body", "detail; fwd=bypass; fwd-status=200"),
    ];
    each(
        rows,
        async |(sayings, method, fields, body, wanted)| {
            let path = stage.page(sayings.iter().map(|say| (*say).clone()));
            stage.get(&path).await;
            let method = method.parse().expect("a method");
            let answer = stage.ask(method, &path, fields, body).await;
            same("what is told", outline(&answer)?.as_str(), *wanted)
        },
        |(_, method, fields, _, wanted)| format!("{method} {fields:?}: {wanted}"),
    )
    .await;
    for _ in 0..2 {
        let told = outline(&stage.get("/past").await).expect("it is told");
        assert_eq!(told, "detail; fwd=bypass; fwd-status=200");
    }
}

/// Item 29 (9211 2.2): a part is there, but not the one that is asked for (item 22).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_29_partial() {
    let stage = Stage::open().await;
    let part = Say::status(206, &["content-range: bytes 0-4/26", HOUR, TAG]).body("abcde");
    let next = Say::status(206, &["content-range: bytes 10-14/26", HOUR, TAG]).body("klmno");
    let path = stage.page([part, next]);
    stage
        .get_with(&path, &["range: bytes=0-4"])
        .await
        .expect(206);
    let answer = stage
        .get_with(&path, &["range: bytes=10-14"])
        .await
        .expect(206);
    assert_eq!(answer.text(), "klmno");
    let told = told(&answer);
    assert_eq!(
        (told.word.as_str(), told.value("fwd-status")),
        ("partial", "206"),
        "{answer}"
    );
}

/// Item 29 (9211 2.7).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_29_collapsed() {
    let stage = Stage::open().await;
    let gate = Gate::new();
    let path = stage.page([Say::ok(&[HOUR]).held(&gate)]);
    let other = Client::h1(stage.client.target());
    let (one, two, ()) = tokio::join!(stage.get(&path), other.get(&path), async {
        stage.all_wait(&path, 2).await;
        gate.open();
    });
    let (one, two) = (told(&one), told(&two));
    assert_ne!(
        one.has("collapsed"),
        two.has("collapsed"),
        "{one:?}, {two:?}"
    );
    for told in [one, two] {
        assert_eq!(
            (told.word.as_str(), told.value("fwd-status")),
            ("uri-miss", "200")
        );
        assert!(told.has("stored") && told.ttl().is_ok(), "{told:?}");
    }
}

/// Item 29 (9211 2): on every response, errors of our own included.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_29_on_every_response() {
    let stage = Stage::with("hold = \"0s\"\ntimeouts = { first_byte = \"2s\" }").await;
    let slow = Gate::new();
    let only = &["cache-control: only-if-cached"][..];
    #[rustfmt::skip]
    let rows = [
        (Say::bytes_to_close("nothing like HTTP\r\n\r\n"), &[][..], 502, "fwd=uri-miss"),
        (Say::ok(&[]).held(&slow), &[], 504, "fwd=uri-miss"),
        (Say::cut(), &[], 503, "fwd=uri-miss"),
        (Say::ok(&[]), only, 504, "sovereign"),
        (Say::status(500, &[]), &[], 500, "fwd=uri-miss"),
        (Say::status(204, &[]), &[], 204, "fwd=uri-miss"),
    ];
    each(
        rows,
        async |(say, fields, status, wanted)| {
            for method in [Method::GET, Method::HEAD] {
                let path = stage.page([say.clone()]);
                let answer = stage.ask(method, &path, fields, "").await;
                same("the status", answer.status.as_u16(), *status)?;
                let field = answer.header("cache-status");
                let ours = field.starts_with("sovereign") && field.contains(wanted);
                ensure(ours, format!("Cache-Status: {answer}"))?;
            }
            Ok(())
        },
        |(_, fields, status, _)| format!("{status} {fields:?}"),
    )
    .await;
}

/// Item 29 (9211 2): behind what the caches of the origin's side say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_29_what_other_caches_say_stays() {
    let stage = Stage::open().await;
    let inner = "cache-status: \"the, inner; one\"; hit; ttl=5";
    let path = stage.page([Say::ok(&[inner, "cache-status: outer; fwd=miss", HOUR])]);
    for word in ["uri-miss", "hit"] {
        let answer = stage.get(&path).await.expect(200);
        assert_eq!(told(&answer).word, word, "{answer}");
        let lines: Vec<_> = answer.headers.get_all("cache-status").iter().collect();
        let lines = lines.iter().map(|line| line.to_str().expect("text"));
        let field = lines.collect::<Vec<_>>().join(", ");
        let before = format!("{}, outer; fwd=miss, sovereign; ", &inner[14..]);
        assert!(field.starts_with(&before), "{answer}");
        assert_eq!(field.matches("sovereign").count(), 1, "{answer}");
    }
}

/// Item 29: the same word in the access log and in the metric.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_29_the_same_word_everywhere() {
    let stage = Stage::open().await;
    let varies = [HOUR, "vary: x-a", TAG];
    let path = stage.page([Say::ok(&varies)]);
    let old = stage.page([Say::ok(&[STALE[0], STALE[1], TAG])]);
    let mut words = BTreeMap::new();
    let mut of_page = Vec::new();
    #[rustfmt::skip]
    let requests: &[(&str, &str, &[&str], &str)] = &[
        ("GET", &path, &[], ""),
        ("GET", &path, &[], ""),
        ("GET", &path, &[], ""),
        ("HEAD", &path, &[], ""),
        ("GET", &path, &["if-none-match: \"a\""], ""),
        ("GET", &path, &["range: bytes=0-1"], ""),
        ("GET", &path, &["x-a: 1"], ""),
        ("GET", &path, &["x-a: 2"], ""),
        ("GET", &path, &["cache-control: no-cache"], ""),
        ("GET", &old, &[], ""),
        ("GET", &old, &[], ""),
        ("GET", &path, &[], "a body"),
        ("GET", &path, &[], "a body"),
        ("DELETE", &path, &[], ""),
    ];
    for (method, path_asked, fields, body) in requests {
        let method = method.parse().expect("a method");
        let answer = stage.ask(method, path_asked, fields, body).await;
        let word = told(&answer).word;
        *words.entry(word.clone()).or_insert(0) += 1;
        if *path_asked == path {
            of_page.push(word);
        }
    }
    let wanted: BTreeMap<_, _> = [
        ("uri-miss", 2),
        ("hit", 5),
        ("vary-miss", 2),
        ("request", 1),
        ("stale", 1),
        ("bypass", 2),
        ("method", 1),
    ]
    .map(|(word, count)| (word.to_owned(), count))
    .into();
    assert_eq!(words, wanted);

    eventually(
        "every line of the access log",
        Duration::from_secs(20),
        || async {
            let lines = stage.proxy.logged(&path).await;
            let found: Vec<_> = lines
                .iter()
                .map(|line| line["cache"].as_str().unwrap_or_default())
                .collect();
            if found == of_page {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        },
    )
    .await;
    eventually("every count", Duration::from_secs(20), || async {
        let found = counted(&stage).await;
        if found == words {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;
}

/// How often each word was counted, of those that were.
async fn counted(stage: &Stage) -> BTreeMap<String, i64> {
    let socket = stage.proxy.state().join("admin.sock");
    let mut stream = UnixStream::connect(socket).await.expect("the admin API");
    let request = "GET /metrics HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n";
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it listens");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("text");
    text.lines()
        .filter(|line| line.starts_with("sovereign_cache_total{"))
        .filter_map(|line| {
            let (_, rest) = line.split_once("word=\"")?;
            let (word, rest) = rest.split_once('"')?;
            let count: i64 = rest.rsplit(' ').next()?.parse().ok()?;
            (count > 0).then(|| (word.to_owned(), count))
        })
        .collect()
}

/// Item 30 (9875 2, 3).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_30_groups_are_invalidated_together() {
    let stage = Stage::open().await;
    let method = |name: &str| -> Method { name.parse().expect("a method") };
    // (method, status, what its answer invalidates, the page's groups, whether it is invalidated)
    type Row<'a> = (&'a str, u16, &'a [&'a str], &'a [&'a str], bool);
    #[rustfmt::skip]
    let rows: &[Row<'_>] = &[
        ("POST", 200, &["\"g1\""], &["\"g1\""], true),
        ("POST", 200, &["\"g1\""], &["\"g2\""], false),
        ("POST", 200, &["\"g1\""], &[], false),
        ("POST", 200, &[], &["\"g1\""], false),
        ("PUT", 204, &["\"g1\""], &["\"g1\""], true),
        ("DELETE", 303, &["\"g1\""], &["\"g1\""], true),
        ("FOO", 200, &["\"g1\""], &["\"g1\""], true),
        // Several, on one line or over more; parameters mean nothing.
        ("POST", 200, &["\"g1\", \"g2\""], &["\"g2\", \"g3\""], true),
        ("POST", 200, &["\"g1\"", "\"g2\""], &["\"g3\"", "\"g2\""], true),
        ("POST", 200, &["\"g2\";a=1"], &["\"g1\" , \"g2\";b;c=\"d\""], true),
        ("POST", 200, &["\"g 1, and \\\"more\\\"\""], &["\"g 1, and \\\"more\\\"\""], true),
        // Compared byte for byte.
        ("POST", 200, &["\"G1\""], &["\"g1\""], false),
        ("POST", 200, &["\"g1 \""], &["\"g1\""], false),
        ("POST", 200, &["\"g\""], &["\"g1\""], false),
        // What is no list of strings is none.
        ("POST", 200, &["g1"], &["\"g1\""], false),
        ("POST", 200, &["\"g1\""], &["g1"], false),
        ("POST", 200, &["\"g1\", g2"], &["\"g1\""], false),
        ("POST", 200, &["\"g1\","], &["\"g1\""], false),
        ("POST", 200, &["\"g1"], &["\"g1\""], false),
        // A request that changes nothing invalidates nothing.
        ("GET", 200, &["\"g1\""], &["\"g1\""], false),
        ("HEAD", 200, &["\"g1\""], &["\"g1\""], false),
        ("OPTIONS", 200, &["\"g1\""], &["\"g1\""], false),
    ];
    each(
        rows,
        async |(by, status, groups, of_page, gone)| {
            let lines = |name: &str, values: &[&str]| -> Vec<String> {
                values
                    .iter()
                    .map(|value| format!("{name}: {value}"))
                    .collect()
            };
            let page = lines("cache-groups", of_page);
            let page: Vec<_> = page.iter().map(String::as_str).chain([HOUR]).collect();
            let (one, two) = (stage.page([Say::ok(&page)]), stage.page([Say::ok(&page)]));
            let form = lines("cache-group-invalidation", groups);
            let form: Vec<_> = form.iter().map(String::as_str).collect();
            let form = stage.page([Say::status(*status, &form)]);
            for path in [&one, &two] {
                stage.get(path).await;
                ensure(is_hit(&stage.get(path).await), "it is stored")?;
            }
            let answer = stage.ask(method(by), &form, &[], "").await;
            same("the status", answer.status.as_u16(), *status)?;
            for path in [&one, &two] {
                same("a hit", is_hit(&stage.get(path).await), !gone)?;
                // What came afterwards is as good as any.
                ensure(is_hit(&stage.get(path).await), "it is stored again")?;
            }
            Ok(())
        },
        |row| format!("{row:?}"),
    )
    .await;
}

/// Item 30 (9875 2.1): groups of another origin are others, whatever their name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn item_30_another_origins_groups_are_not_touched() {
    let stage = Stage::open().await;
    let other = Client::h1(&stage.proxy.http("other.test"));
    let page = stage.page([Say::ok(&[HOUR, "cache-groups: \"g1\""])]);
    let form = stage.page([Say::ok(&["cache-group-invalidation: \"g1\""])]);
    stage.get(&page).await;
    ask(&other, Method::GET, &page, &[], "").await;
    stage.post(&form).await.expect(200);
    let others = ask(&other, Method::GET, &page, &[], "").await;
    assert!(is_hit(&others), "{others}");
    let own = stage.get(&page).await;
    assert!(!is_hit(&own), "{own}");
}

//! Applications behind their presets: calendars and a Nostr relay here, what is larger below.

mod forge;
mod nextcloud;

use std::time::Duration;

use http::Method;
use sovereign_tests::client::whole;
use sovereign_tests::proxy::{memory_of, site};
use sovereign_tests::websocket::{Said, WebSocket};
use sovereign_tests::{Client, Lab, NostrRelay, Proxy, Radicale};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_calendar_goes_round() {
    let lab = Lab::open().await;
    let radicale = Radicale::start(&lab).await;
    let sites = site("calendar.test", &radicale.url(), "preset = \"radicale\"");
    let proxy = Proxy::start(&lab, &sites).await;
    // "ada" and an empty password.
    let owner = [("authorization", "Basic YWRhOg==")];

    let target = proxy.https("calendar.test");
    for (number, client) in [Client::h1(&target), Client::h2(&target)]
        .iter()
        .enumerate()
    {
        client.get("/.well-known/caldav").await.expect(301);
        let calendar = format!("/ada/rounds-{number}/");
        let method = |name: &[u8]| Method::from_bytes(name).expect("a method");
        client
            .ask(method(b"MKCALENDAR"), &calendar, &owner, whole(MKCALENDAR))
            .await
            .expect(201);

        let event = format!("{calendar}meeting.ics");
        let fields = [owner[0], ("content-type", "text/calendar; charset=utf-8")];
        client
            .ask(Method::PUT, &event, &fields, whole(EVENT))
            .await
            .expect(201);
        let stored = client.get_with(&event, &owner).await.expect(200);
        assert!(stored.text().contains("SUMMARY:Reading round"), "{stored}");
        assert!(
            stored.header("content-type").starts_with("text/calendar"),
            "{stored}"
        );

        // What a calendar program asks for; Depth has to arrive.
        let fields = [
            owner[0],
            ("depth", "1"),
            ("content-type", "application/xml"),
        ];
        let report = client
            .ask(method(b"PROPFIND"), &calendar, &fields, whole(PROPFIND))
            .await
            .expect(207);
        assert!(report.text().contains("meeting.ics"), "{report}");

        // A change is seen at once, and a wrong precondition is refused.
        let moved = EVENT.replace("Reading round", "Writing round");
        let stale = [
            owner[0],
            ("if-match", "\"not this\""),
            ("content-type", "text/calendar"),
        ];
        client
            .ask(Method::PUT, &event, &stale, whole(moved.clone()))
            .await
            .expect(412);
        let fresh = [
            owner[0],
            ("if-match", stored.header("etag")),
            ("content-type", "text/calendar"),
        ];
        client
            .ask(Method::PUT, &event, &fresh, whole(moved))
            .await
            .expect(201);
        let stored = client.get_with(&event, &owner).await.expect(200);
        assert!(stored.text().contains("SUMMARY:Writing round"), "{stored}");

        client
            .ask(Method::DELETE, &event, &owner, whole(""))
            .await
            .expect(200);
        client.get_with(&event, &owner).await.expect(404);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nostr_relay_over_wss() {
    let lab = Lab::open().await;
    let relay = NostrRelay::start(&lab).await;
    let sites = site("relay.test", &relay.url(), "preset = \"nostr\"");
    let proxy = Proxy::start(&lab, &sites).await;

    // What the relay says of itself (NIP-11).
    let target = proxy.https("relay.test");
    let about = Client::h2(&target)
        .get_with("/", &[("accept", "application/nostr+json")])
        .await
        .expect(200);
    assert_eq!(about.json()["name"], "a relay that stays up");

    let mut socket = WebSocket::open(&target, "/").await;
    socket.say(r#"["REQ","before",{"kinds":[1]}]"#).await;
    assert_eq!(
        socket.hear().await,
        Said::Text(r#"["EOSE","before"]"#.into())
    );

    socket.say(&format!(r#"["EVENT",{NOTE}]"#)).await;
    let heard = [text(&mut socket).await, text(&mut socket).await];
    // The subscription hears of it, and the sender that it was taken; in either order.
    assert!(
        heard
            .iter()
            .any(|text| text.starts_with(r#"["OK""#) && text.contains("true")),
        "{heard:?}"
    );
    assert!(
        heard
            .iter()
            .any(|text| text.contains("A relay that stays up.")),
        "{heard:?}"
    );

    let mut other = WebSocket::open(&target, "/").await;
    other.say(r#"["REQ","after",{"kinds":[1]}]"#).await;
    assert!(text(&mut other).await.contains("A relay that stays up."));
    assert_eq!(other.hear().await, Said::Text(r#"["EOSE","after"]"#.into()));
}

/// A subscription waits for as long as nobody writes: an hour by the preset, whatever other connections are granted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_subscription_stays() {
    let lab = Lab::open().await;
    let relay = NostrRelay::start(&lab).await;
    let limits = "[limits]\nheader_timeout = \"200ms\"\nidle_timeout = \"200ms\"\n";
    let short = "[site.timeouts]\nfirst_byte = \"1s\"\nidle = \"1s\"";
    let sites = |more: &str| {
        let kept = site(
            "relay.test",
            &relay.url(),
            &format!("preset = \"nostr\"\n{more}"),
        );
        format!("{limits}{kept}{}", site("other.test", &relay.url(), short))
    };
    let proxy = Proxy::start_with(&lab, "drain = \"3s\"", &sites("")).await;

    let target = proxy.https("relay.test");
    let mut quiet = WebSocket::open(&target, "/").await;
    quiet.say(r#"["REQ","quiet",{"kinds":[1]}]"#).await;
    assert_eq!(text(&mut quiet).await, r#"["EOSE","quiet"]"#);
    // What is not a relay's is given up after its second, which is longer than any limit.
    let mut other = WebSocket::open(&proxy.https("other.test"), "/").await;
    other.say(r#"["REQ","other",{"kinds":[1]}]"#).await;
    assert_eq!(text(&mut other).await, r#"["EOSE","other"]"#);
    let given_up = other.hear().await;
    assert!(
        matches!(given_up, Said::Gone(_) | Said::Close(_)),
        "{given_up:?}"
    );

    proxy.write_sites(&sites("[site.response_headers]\nset = { X-New = \"1\" }"));
    proxy.reload().await;
    let mut writer = WebSocket::open(&target, "/").await;
    writer.say(&format!(r#"["EVENT",{NOTE}]"#)).await;
    assert!(text(&mut writer).await.starts_with(r#"["OK""#));
    assert!(text(&mut quiet).await.contains("A relay that stays up."));

    // By an upgrade it is told to come again (1001), and finds the new program at once.
    proxy.upgrade().await;
    assert_eq!(quiet.hear().await, Said::Close(Some(1001)));
    let mut again = WebSocket::open(&target, "/").await;
    again.say(r#"["REQ","again",{"kinds":[1]}]"#).await;
    assert!(text(&mut again).await.contains("A relay that stays up."));
    proxy.assert_no_panic();
}

/// How far the memory of a proxy grows meanwhile.
struct Peak {
    before: u64,
    over: watch::Sender<bool>,
    looks: JoinHandle<u64>,
}

impl Peak {
    async fn watch(proxy: &Proxy) -> Self {
        let (over, mut ended) = watch::channel(false);
        let pid = proxy.pid().await;
        let looks = tokio::spawn(async move {
            let mut most = 0;
            loop {
                most = most.max(memory_of(pid));
                let pause = Duration::from_millis(50);
                if tokio::time::timeout(pause, ended.changed()).await.is_ok() {
                    return most;
                }
            }
        });
        Self {
            before: memory_of(pid),
            over,
            looks,
        }
    }

    async fn grown(self) -> u64 {
        self.over.send_replace(true);
        let most = self.looks.await.expect("it ends");
        most.saturating_sub(self.before)
    }
}

/// The next text, written without the spaces that JSON allows.
async fn text(socket: &mut WebSocket) -> String {
    match socket.hear().await {
        Said::Text(text) => text.replace("\", ", "\","),
        other => panic!("no text: {other:?}"),
    }
}

const MKCALENDAR: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<C:mkcalendar xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav">
  <D:set><D:prop><D:displayname>Rounds</D:displayname></D:prop></D:set>
</C:mkcalendar>"#;

const PROPFIND: &str = r#"<?xml version="1.0" encoding="utf-8"?>
<D:propfind xmlns:D="DAV:"><D:prop><D:getetag/></D:prop></D:propfind>"#;

const EVENT: &str = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//sovereign//tests//EN\r\nBEGIN:VEVENT\r\n\
UID:meeting\r\nDTSTAMP:20260101T000000Z\r\nDTSTART:20260102T090000Z\r\nDTEND:20260102T100000Z\r\n\
SUMMARY:Reading round\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";

/// A note of the first of January 2026, signed with the key that is 32 times 7.
const NOTE: &str = r#"{"pubkey":"989c0b76cb563971fdc9bef31ec06c3560f3249d6ee9e5d83c57625596e05f6f","created_at":1767225600,"kind":1,"tags":[],"content":"A relay that stays up.","id":"37f1e9e5e42fa2a6b9dd32c9b73b79db9269ae131cf553a45d5bac0f233346ae","sig":"689c369320ffe64e3c920be270fbb2b69660c081021074ffe0e77ffbcb2d58da888f8fbeb1b2e8d7f7b35ba626f6e3064f7644bda594a7ae206a1544fa59172a"}"#;

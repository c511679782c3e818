//! Client certificates for a route, and which TLS a site speaks.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, HandshakeKind};
use sovereign_tests::client::{Body, client_config, whole};
use sovereign_tests::faketime;
use sovereign_tests::lab::system_program;
use sovereign_tests::origin::reply;
use sovereign_tests::pebble::{Identity, vouch};
use sovereign_tests::proxy::site;
use sovereign_tests::wait::within;
use sovereign_tests::{Lab, Origin, Proxy, Target, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// An authority of the operator's, and somebody it has given a certificate: a person, or the host of two sites.
struct House(Identity);

impl House {
    fn found(lab: &Lab, name: &str) -> Self {
        Self(vouch(
            &lab.folder(name),
            name,
            "DNS:open.test,DNS:inner.test",
        ))
    }

    /// Gives somebody else a certificate that is good for a month from a moment on, such as `-1h`.
    fn welcome(&self, lab: &Lab, from: &str) -> Self {
        let folder = lab.folder("member");
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let mut command = Command::new(system_program("openssl"));
        command
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "30"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=Ada"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-CA".as_ref(), self.0.ca.as_os_str(), "-CAkey".as_ref()])
            .arg(self.0.ca.with_file_name("ca-key.pem"))
            .args(["-out".as_ref(), cert.as_os_str()])
            .args(["-keyout".as_ref(), key.as_os_str()])
            .envs(faketime::environment(from));
        let output = command.output().expect("openssl starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        let ca = self.0.ca.clone();
        Self(Identity { ca, cert, key })
    }

    /// A route's keys.
    fn guards(&self, path: &str, more: &str) -> String {
        let ca = self.0.ca.display();
        format!("[[site.route]]\npath = \"{path}\"\nclient_ca = \"{ca}\"\n{more}\n")
    }

    /// The certificate as RFC 9440 shows it.
    fn shown(&self) -> String {
        let pem = std::fs::read_to_string(&self.0.cert).expect("it was written");
        let base64: String = pem
            .lines()
            .filter(|line| !line.starts_with("---"))
            .collect();
        format!(":{base64}:")
    }
}

/// A client of a site, with or without a certificate.
fn client(target: &Target, house: Option<&House>) -> ClientConfig {
    let mut config = client_config(target.roots.as_ref().expect("a TLS target"));
    let Some(house) = house else {
        return config;
    };
    let chain = CertificateDer::pem_file_iter(&house.0.cert)
        .expect("it was written")
        .collect::<Result<_, _>>()
        .expect("PEM");
    let key = PrivateKeyDer::from_pem_file(&house.0.key).expect("PEM");
    let roots = target.roots.clone().expect("a TLS target");
    config = ClientConfig::builder_with_provider(config.crypto_provider().clone())
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .expect("the key is that of the certificate");
    config
}

async fn shake_hands(
    target: &Target,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(target.address).await?;
    let name = target.host.clone().try_into().expect("a name");
    let connector = tokio_rustls::TlsConnector::from(config.clone());
    connector.connect(name, tcp).await
}

/// The answer to one GET of HTTP/1.1, as text; the connection stays.
async fn ask(tls: &mut TlsStream<TcpStream>, host: &str, path: &str, fields: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
    tls.write_all(request.as_bytes()).await.expect("it listens");
    let mut got = Vec::new();
    within(path, Duration::from_secs(20), async {
        loop {
            let mut buffer = [0; 4096];
            let count = tls.read(&mut buffer).await.expect("it answers");
            assert!(count > 0, "{path}: the connection was closed");
            got.extend_from_slice(&buffer[..count]);
            if is_whole(&got) {
                break;
            }
        }
    })
    .await;
    String::from_utf8(got).expect("text")
}

/// Whether an answer with a length has come to its end.
fn is_whole(got: &[u8]) -> bool {
    let text = String::from_utf8_lossy(got).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    length.and_then(|length| length.trim().parse().ok()) == Some(body.len())
}

/// The status of one GET on a connection of its own.
async fn visit(target: &Target, house: Option<&House>, path: &str) -> u16 {
    let config = Arc::new(client(target, house));
    let mut tls = shake_hands(target, &config).await.expect("a handshake");
    status(&ask(&mut tls, &target.host, path, "").await)
}

#[track_caller]
fn status(answer: &str) -> u16 {
    let word = answer.split(' ').nth(1).unwrap_or_default();
    word.parse().unwrap_or_else(|_| panic!("{answer}"))
}

async fn origin() -> Origin {
    Origin::start(|request: Request<Incoming>| async move { fine(&request) }).await
}

/// What may be stored, and for `/each` by who asks.
fn fine(request: &Request<Incoming>) -> Response<Body> {
    let fresh = ("cache-control", "public, max-age=600");
    let path = request.uri().path();
    if path.ends_with("/each") {
        let who = request.headers().get("client-cert");
        let who = who.map_or("nobody", |who| who.to_str().expect("text"));
        return reply(200, [fresh, ("vary", "client-cert")], whole(who.to_owned()));
    }
    reply(200, [fresh], whole(format!("fine: {path}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_lets_in_only_bearers_of_its_authority() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let (ours, theirs) = (House::found(&lab, "ours"), House::found(&lab, "theirs"));
    let stranger = House::found(&lab, "stranger");
    let routes = ours.guards("/admin", "") + &theirs.guards("/partners", "");
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), &routes)).await;
    let target = proxy.https("app.test");

    // Nobody is asked for anything elsewhere.
    assert_eq!(visit(&target, None, "/").await, 200);
    let config = Arc::new(client(&target, None));
    let mut tls = shake_hands(&target, &config).await.expect("a handshake");
    let refused = ask(&mut tls, "app.test", "/admin/users", "").await;
    assert_eq!(status(&refused), 403, "{refused}");
    assert!(
        refused.contains("a client certificate is wanted here"),
        "{refused}"
    );
    assert!(refused.contains("cache-control: no-store"), "{refused}");
    // The connection lives on.
    assert_eq!(status(&ask(&mut tls, "app.test", "/", "").await), 200);

    assert_eq!(visit(&target, Some(&ours), "/admin/users").await, 200);
    assert_eq!(visit(&target, Some(&ours), "/partners").await, 403);
    assert_eq!(visit(&target, Some(&theirs), "/partners").await, 200);
    assert_eq!(visit(&target, Some(&theirs), "/admin").await, 403);
    // Whom no route knows does not get past the handshake.
    let config = Arc::new(client(&target, Some(&stranger)));
    let answered = async {
        let mut tls = shake_hands(&target, &config).await?;
        // TLS 1.3 tells a client with its first read.
        tls.read_u8().await
    };
    let outcome = within("a refusal", Duration::from_secs(20), answered).await;
    assert!(outcome.is_err());
    let lines = proxy.logged("/admin/users").await;
    assert!(
        lines
            .iter()
            .any(|line| line.to_string().contains("no-client-certificate")),
        "{lines:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_disguise_of_a_path_gets_past_its_guard() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let ours = House::found(&lab, "ours");
    let routes = ours.guards("/admin", "");
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), &routes)).await;
    let target = proxy.https("app.test");
    let config = Arc::new(client(&target, None));
    let mut tls = shake_hands(&target, &config).await.expect("a handshake");
    for path in [
        "/%61dmin",
        "/%2561dmin",
        "//admin",
        "/./admin",
        "/open/../admin",
        "/open/%2e%2e/admin",
        "/open/..%2fadmin",
        "/open/..;/admin",
        "/ADMIN",
        "/admin;a=b/x",
        "/admin%2Fx",
        "/admin%5Cx",
        "/admin%00/x",
    ] {
        let answer = ask(&mut tls, "app.test", path, "").await;
        assert_eq!(status(&answer), 403, "{path}: {answer}");
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
    for path in ["/administration", "/open/%20x", "/a%2Fb", "/x//y"] {
        let answer = ask(&mut tls, "app.test", path, "").await;
        assert_eq!(status(&answer), 200, "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_upstream_learns_who_the_client_is_from_nobody_else() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let ours = House::found(&lab, "ours");
    let routes = ours.guards("/admin", "");
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), &routes)).await;
    let target = proxy.https("app.test");
    let claims =
        "Client-Cert: :c3RyYW5nZXI=:\r\nClient-Cert-Chain: :c3RyYW5nZXI=:\r\nClient_Cert: x\r\n";
    let config = Arc::new(client(&target, Some(&ours)));
    let mut tls = shake_hands(&target, &config).await.expect("a handshake");
    for path in ["/admin", "/open"] {
        let answer = ask(&mut tls, "app.test", path, claims).await;
        assert_eq!(status(&answer), 200, "{answer}");
    }
    let seen = origin.seen();
    let [behind, open] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert_eq!(behind.header("client-cert"), ours.shown());
    assert_eq!(open.header("client-cert"), "");
    for seen in [behind, open] {
        assert_eq!(seen.header("client-cert-chain"), "");
        assert_eq!(seen.header("client_cert"), "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_is_shown_to_bearers_only() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let ours = House::found(&lab, "ours");
    let routes = ours.guards("/admin", "") + &ours.guards("/shared", "cache = { enabled = true }");
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), &routes)).await;
    let target = proxy.https("app.test");
    for _ in 0..2 {
        assert_eq!(visit(&target, Some(&ours), "/shared/a").await, 200);
        assert_eq!(visit(&target, None, "/shared/a").await, 403);
        assert_eq!(visit(&target, Some(&ours), "/admin/a").await, 200);
        assert_eq!(visit(&target, None, "/admin/a").await, 403);
    }
    // Stored where the route says so, and only there.
    let asked = |path: &str| {
        origin
            .seen()
            .iter()
            .filter(|seen| seen.path == path)
            .count()
    };
    assert_eq!((asked("/shared/a"), asked("/admin/a")), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_by_certificate_is_stored_for_each() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let (ours, theirs) = (House::found(&lab, "ours"), House::found(&lab, "theirs"));
    // Both authorities in one file.
    let read = |house: &House| std::fs::read_to_string(&house.0.ca).expect("it was written");
    let both = read(&ours) + &read(&theirs);
    std::fs::write(&ours.0.ca, both).expect("the folder is ours");
    let routes = ours.guards("/shared", "cache = { enabled = true }");
    let proxy = Proxy::start(&lab, &site("app.test", &origin.url(), &routes)).await;
    let target = proxy.https("app.test");
    for house in [&ours, &theirs, &ours, &theirs] {
        let config = Arc::new(client(&target, Some(house)));
        let mut tls = shake_hands(&target, &config).await.expect("a handshake");
        let claim = "Client-Cert: :c3RyYW5nZXI=:\r\n";
        let answer = ask(&mut tls, "app.test", "/shared/each", claim).await;
        assert!(answer.ends_with(&house.shown()), "{answer}");
    }
    assert_eq!(origin.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_lasts_over_a_resumed_session_and_ends_with_its_authority() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let (ours, theirs) = (House::found(&lab, "ours"), House::found(&lab, "theirs"));
    let guarded = |house: &House| site("app.test", &origin.url(), &house.guards("/admin", ""));
    let proxy = Proxy::start(&lab, &guarded(&ours)).await;
    let target = proxy.https("app.test");
    let config = Arc::new(client(&target, Some(&ours)));
    let mut first = shake_hands(&target, &config).await.expect("a handshake");
    assert_eq!(
        status(&ask(&mut first, "app.test", "/admin", "").await),
        200
    );
    let mut second = shake_hands(&target, &config).await.expect("a handshake");
    let kind = second.get_ref().1.handshake_kind();
    assert_eq!(kind, Some(HandshakeKind::Resumed));
    assert_eq!(
        status(&ask(&mut second, "app.test", "/admin", "").await),
        200
    );

    // Who is let in is what the configuration in force says, also on connections that were there before.
    proxy.write_sites(&guarded(&theirs));
    proxy.reload().await;
    for tls in [&mut first, &mut second] {
        assert_eq!(status(&ask(tls, "app.test", "/admin", "").await), 403);
    }
    // A session of then is not taken up for a site that asks for another's certificates.
    let third = shake_hands(&target, &config).await;
    if let Ok(mut tls) = third {
        assert_ne!(
            tls.get_ref().1.handshake_kind(),
            Some(HandshakeKind::Resumed)
        );
        let _ = tls.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_not_in_force_is_refused() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let ours = House::found(&lab, "ours");
    let sites = site("app.test", &origin.url(), &ours.guards("/admin", ""))
        + &site("other.test", &origin.url(), "");
    let proxy = Proxy::start(&lab, &sites).await;
    let (target, other) = (proxy.https("app.test"), proxy.https("other.test"));
    let good = ours.welcome(&lab, "-1h");
    assert_eq!(visit(&target, Some(&good), "/admin/users").await, 200);

    // Lapsed ten days ago, and to begin in ten days.
    for from in ["-40d", "+10d"] {
        let member = ours.welcome(&lab, from);
        let config = Arc::new(client(&target, Some(&member)));
        let answered = async {
            let mut tls = shake_hands(&target, &config).await?;
            // Nothing is sent: that would meet a closed connection, and its reset hide the alert.
            tls.read_u8().await
        };
        let outcome = within("a refusal", Duration::from_secs(20), answered).await;
        let told = outcome.expect_err(from).to_string();
        assert!(told.contains("received fatal alert"), "{from}: {told}");
        // Whoever it belongs to comes in wherever none is wanted: without it, or where nobody asks for it.
        assert_eq!(visit(&target, None, "/open").await, 200, "{from}");
        assert_eq!(visit(&target, None, "/admin/users").await, 403, "{from}");
        assert_eq!(visit(&other, Some(&member), "/").await, 200, "{from}");
    }
    let behind = origin.seen();
    let behind = behind.iter().filter(|seen| seen.path == "/admin/users");
    assert_eq!(behind.count(), 1);
    let counted = "sovereign_connection_failures_total{reason=\"client-certificate\"}";
    eventually("both are counted", Duration::from_secs(20), || async {
        let count = proxy.metric(counted).await;
        (count == Some(2.0))
            .then_some(())
            .ok_or(format!("{count:?}"))
    })
    .await;
}

/// The clock that goes over the ends of a certificate is the proxy's: nobody waits for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_lapses_opens_no_door_any_more_and_shuts_no_other() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let ours = House::found(&lab, "ours");
    let sites = site("app.test", &origin.url(), &ours.guards("/admin", ""));
    let (launch, clock) = faketime::launch(&lab);
    let mut proxy = Proxy::prepare(&lab, launch, "", &sites);
    proxy.start_again(&lab).await;
    let target = proxy.https("app.test");
    // One of them lapses in an hour, the other one began an hour ago.
    let members = [("-719h", "+2h"), ("-1h", "-2h")];
    let members = members.map(|(from, out_of_force)| (ours.welcome(&lab, from), out_of_force));
    for (member, out_of_force) in members {
        let config = Arc::new(client(&target, Some(&member)));
        let mut open = shake_hands(&target, &config).await.expect("a handshake");
        assert_eq!(status(&ask(&mut open, "app.test", "/", "").await), 200);

        faketime::set(&clock, out_of_force);
        let refused = ask(&mut open, "app.test", "/admin", "").await;
        assert_eq!(status(&refused), 403, "{out_of_force}: {refused}");
        assert_eq!(status(&ask(&mut open, "app.test", "/", "").await), 200);
        // A session that began while it was good gets no further.
        let mut later = shake_hands(&target, &config).await.expect("a handshake");
        let kind = later.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Resumed), "{out_of_force}");
        let refused = ask(&mut later, "app.test", "/admin", "").await;
        assert_eq!(status(&refused), 403, "{out_of_force}: {refused}");
        assert_eq!(status(&ask(&mut later, "app.test", "/", "").await), 200);

        faketime::set(&clock, "+0");
        assert_eq!(status(&ask(&mut open, "app.test", "/admin", "").await), 200);
    }
    let behind = origin.seen();
    let behind = behind.iter().filter(|seen| seen.path == "/admin");
    assert_eq!(behind.count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_to_one_site_opens_no_door_of_another() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let ours = House::found(&lab, "ours");
    let host = House::found(&lab, "host");
    let own = |name: &str, routes: &str| {
        let (cert, key) = (host.0.cert.display(), host.0.key.display());
        let files = format!("tls = {{ cert = \"{cert}\", key = \"{key}\" }}");
        site(name, &origin.url(), routes).replace("tls = \"local\"", &files)
    };
    let sites = site("local.test", &origin.url(), "")
        + &own("open.test", "")
        + &own("inner.test", &ours.guards("/admin", ""));
    let proxy = Proxy::start(&lab, &sites).await;
    let address = proxy.https("local.test").address;
    let open = Target::tls(address, "open.test", &host.0.ca);

    let mut config = client(&open, Some(&ours));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tls = shake_hands(&open, &Arc::new(config))
        .await
        .expect("a handshake");
    let (mut h2, connection) = h2::client::handshake(tls).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let mut status = async |url: &str| -> StatusCode {
        let request = Request::get(url).body(()).expect("a URL");
        let (answer, _) = h2.send_request(request, true).expect("it is open");
        let answer: Response<h2::RecvStream> = answer.await.expect("an answer");
        answer.status()
    };
    // What both may show comes over one connection; what asks for a certificate wants its own.
    assert_eq!(status("https://open.test/").await, 200);
    assert_eq!(status("https://inner.test/").await, 200);
    assert_eq!(status("https://inner.test/admin").await, 421);
    connection.abort();
    assert_eq!(
        visit(&open.named("inner.test"), Some(&ours), "/admin").await,
        200
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_modern_site_speaks_the_newest_only_and_nobody_gets_early_data() {
    let lab = Lab::open().await;
    let origin = origin().await;
    let sites = site("modern.test", &origin.url(), "tls_policy = \"modern\"\n")
        + &site("both.test", &origin.url(), "");
    let proxy = Proxy::start(&lab, &sites).await;
    let (modern, both) = (proxy.https("modern.test"), proxy.https("both.test"));
    let old = ClientConfig::builder_with_provider(client(&both, None).crypto_provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("the provider has it")
        .with_root_certificates(both.roots.clone().expect("a TLS target"))
        .with_no_client_auth();
    let old = Arc::new(old);
    shake_hands(&modern, &old).await.expect_err("it is too old");
    shake_hands(&both, &old).await.expect("it is old enough");
    for target in [modern, both] {
        let mut config = client(&target, None);
        config.enable_early_data = true;
        let config = Arc::new(config);
        let mut first = shake_hands(&target, &config).await.expect("a handshake");
        assert_eq!(status(&ask(&mut first, &target.host, "/", "").await), 200);
        let mut second = shake_hands(&target, &config).await.expect("a handshake");
        assert_eq!(status(&ask(&mut second, &target.host, "/", "").await), 200);
        let kind = second.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Resumed));
        // The ticket of the second visit would allow early data here, if any did.
        let name = target.host.clone().try_into().expect("a name");
        let mut third = ClientConnection::new(config, name).expect("a client");
        assert!(third.early_data().is_none());
    }
}

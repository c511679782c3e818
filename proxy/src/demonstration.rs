//! What `sovereign-proxy demo` adds to an ordinary run: a folder, a configuration, and a greeting.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use sovereign_proxy::{app, handover};

/// The folder of the demonstration unless another one is named.
pub(crate) fn default_state() -> anyhow::Result<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_STATE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/state")))
        .map(|folder| folder.join("sovereign-proxy-demo"))
        .context("neither XDG_STATE_HOME nor HOME is set: name a folder with --state")
}

/// Makes the folder and writes the configuration into it, so that `reload` works and a visitor
/// can read it; returns the configuration's path.
pub(crate) fn prepare(
    state: &Path,
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
) -> anyhow::Result<PathBuf> {
    let state = std::path::absolute(state).context("finding the demonstration's folder")?;
    let text = config(&state, &addresses(http, 8080), &addresses(https, 8443))?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&state)
        .with_context(|| format!("making {}", state.display()))?;
    // One that runs keeps its file; its successor writes the same again.
    let admin = state.join("admin.sock");
    if !is_successor() && UnixStream::connect(&admin).is_ok() {
        bail!(
            "the demonstration in {} runs already: end it, or name another folder with --state",
            state.display()
        );
    }
    let path = state.join("demo.toml");
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Whether this process takes over from one that runs.
pub(crate) fn is_successor() -> bool {
    std::env::var_os(handover::ENVIRONMENT).is_some()
}

/// What to open, and three things to try.
pub(crate) fn demo_greeting(bound: &app::Bound) -> String {
    let https = url("https", &bound.https);
    let http = url("http", &bound.http);
    let program = handover::program().unwrap_or_else(|_| "sovereign-proxy".into());
    let (program, admin) = (quoted(&program), quoted(&bound.admin));
    let root = bound.admin.with_file_name("ca").join("root.pem");
    format!(
        "
The demonstration site is up. Open

    {https}/

{http}/ redirects there. The browser warns at first: the certificate comes from an
authority that was made on this machine. To trust it, import {root}

Three things to try:

  1. See a page come from the cache: ask twice, and read what Cache-Status says.

     curl -sk -o /dev/null -D - {https}/ | grep -i cache-status

  2. Switch the origin off, and see the site stay up. The page has a button for it, too.

     curl -sk -X POST -H 'X-Demo: 1' {https}/switch/off
     curl -sk -X POST -H 'X-Demo: 1' {https}/switch/on

  3. Look at what the proxy knows about itself.

     {program} status --admin {admin}

Ctrl-C ends it. Requests are logged below.

",
        root = quoted(&root),
    )
}

fn config(state: &Path, http: &[SocketAddr], https: &[SocketAddr]) -> anyhow::Result<String> {
    let folder = state
        .to_str()
        .filter(|folder| !folder.contains(|c: char| c.is_control()))
        .ok_or_else(|| {
            anyhow!(
                "{state:?} cannot be written in a configuration: name another folder with --state"
            )
        })?;
    // Within a TOML string these two are all that needs escaping.
    let folder = folder.replace('\\', "\\\\").replace('"', "\\\"");
    let list = |addresses: &[SocketAddr]| {
        let quoted: Vec<String> = addresses.iter().map(|a| format!("\"{a}\"")).collect();
        quoted.join(", ")
    };
    Ok(TEMPLATE
        .replace("\"{http}\"", &list(http))
        .replace("\"{https}\"", &list(https))
        .replace("{state}", &folder))
}

/// The address asked for, or this machine only, by IPv4 and, where it has it, IPv6.
fn addresses(asked: Option<SocketAddr>, port: u16) -> Vec<SocketAddr> {
    if let Some(address) = asked {
        return vec![address];
    }
    let mut addresses = vec![SocketAddr::from(([127, 0, 0, 1], port))];
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        addresses.push((Ipv6Addr::LOCALHOST, port).into());
    }
    addresses
}

/// How a browser on this machine reaches one of these addresses.
fn url(scheme: &str, bound: &[SocketAddr]) -> String {
    let Some(address) = bound.first() else {
        return format!("{scheme}://localhost");
    };
    let host = match address.ip() {
        ip if ip.is_loopback() || ip.is_unspecified() => "localhost".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    format!("{scheme}://{host}:{}", address.port())
}

/// A path that can be pasted into a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

const TEMPLATE: &str = include_str!("../demo.toml");

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_has_no_problem() {
        for folder in ["/var/lib/demo", "/home/a b/c \"d\" \\e/ü"] {
            let folder = Path::new(folder);
            let text = config(
                folder,
                &addresses(None, 8080),
                &addresses(Some(([127, 0, 0, 1], 0).into()), 8443),
            )
            .unwrap();
            let proxy = sovereign_config::parse("demo.toml", &text, folder)
                .unwrap_or_else(|report| panic!("{report}\n{text}"));
            assert_eq!(proxy.state, folder);
            assert_eq!(proxy.admin, folder.join("admin.sock"));
            assert_eq!(proxy.listen.http[0].port(), 8080);
            assert_eq!(proxy.listen.https.len(), 1);
        }
        assert!(config(Path::new("/a\nb"), &[], &[]).is_err());
    }

    #[test]
    fn the_greeting_names_what_was_bound() {
        let text = demo_greeting(&app::Bound {
            http: vec![([127, 0, 0, 1], 8080).into()],
            https: vec![([0, 0, 0, 0], 9443).into()],
            admin: "/home/a b/admin.sock".into(),
        });
        assert!(text.contains("    https://localhost:9443/\n"), "{text}");
        assert!(
            text.contains("status --admin '/home/a b/admin.sock'\n"),
            "{text}"
        );
        assert!(text.contains("'/home/a b/ca/root.pem'\n"), "{text}");
    }

    #[test]
    fn addresses_for_a_browser() {
        assert_eq!(
            url("http", &["[::1]:80".parse().unwrap()]),
            "http://localhost:80"
        );
        assert_eq!(
            url("http", &["192.0.2.1:80".parse().unwrap()]),
            "http://192.0.2.1:80"
        );
        assert_eq!(
            url("http", &["[2001:db8::1]:80".parse().unwrap()]),
            "http://[2001:db8::1]:80"
        );
    }
}

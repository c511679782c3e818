//! Certificates without a pause: had, renewed and replaced while everything runs, with a real authority.

// What happens, from the first certificate on.
mod authorities;
mod first;
mod renewal;
mod shared;
// What goes wrong.
mod clock;
mod crowd;
mod kills;
mod reach;
mod wrong;
// What an operator sees, and what others think of the TLS.
mod files;
mod findings;
mod seen;

use std::time::Duration;

use serde_json::Value;
use sovereign_tests::client::whole;
use sovereign_tests::origin::reply;
use sovereign_tests::pebble::Manner;
use sovereign_tests::proxy::Launch;
use sovereign_tests::served::{Served, served};
use sovereign_tests::{ChallTest, Lab, Origin, Pebble, Proxy, Target, eventually};

/// Seconds, on a machine that has other things to do.
const SOON: Duration = Duration::from_secs(60);

/// A proxy that is yet to be started, an authority, and the DNS that both ask.
struct Stage {
    proxy: Proxy,
    dns: ChallTest,
    pebble: Pebble,
    /// More keys of `[certificates]`.
    certificates: String,
    /// More keys of `[[acme]]`.
    authority: String,
}

impl Stage {
    async fn set(lab: &Lab, manner: &Manner) -> Self {
        Self::set_with(lab, Launch::default(), manner).await
    }

    async fn set_with(lab: &Lab, launch: Launch, manner: &Manner) -> Self {
        let proxy = Proxy::prepare_empty(lab, launch);
        let dns = ChallTest::start(lab).await;
        let pebble = Pebble::start(lab, &proxy, dns.address(), manner).await;
        Self {
            proxy,
            dns,
            pebble,
            certificates: String::new(),
            authority: String::new(),
        }
    }

    /// Writes the configuration, with these sites.
    fn write(&self, sites: &str) {
        let authority = self.pebble.table(&self.authority);
        self.write_with(&authority, sites);
    }

    /// The same with other authorities.
    fn write_with(&self, authorities: &str, sites: &str) {
        let (dns, more) = (self.dns.address(), &self.certificates);
        self.proxy.write_sites(&format!(
            "[certificates]\nresolver = \"{dns}\"\n{more}\n{authorities}\n{sites}"
        ));
    }

    /// The proxy over TLS, for somebody who trusts the authority.
    fn target(&self, host: &str) -> Target {
        Target::tls(self.proxy.secure_address(), host, self.pebble.root())
    }
}

/// What stands behind the sites.
async fn origin() -> Origin {
    Origin::start(|_| async { reply(200, [], whole("fine")) }).await
}

/// A site as short as it can be.
fn plain_site(host: &str, upstream: &str, more: &str) -> String {
    format!("[[site]]\nnames = [\"{host}\"]\nupstream = \"{upstream}\"\n{more}\n")
}

/// Waits until a certificate of an authority is served.
async fn from_pebble(proxy: &Proxy, host: &str) -> Served {
    eventually("a certificate of the authority is served", SOON, || async {
        let served = served(proxy.secure_address(), host).await?;
        let issuer = format!("{host}: {}", served.issuer);
        served.is_pebbles().then_some(served).ok_or(issuer)
    })
    .await
}

/// Waits until another certificate than `old` is served.
async fn another(proxy: &Proxy, host: &str, old: &Served) -> Served {
    eventually("another certificate is served", SOON, || async {
        let served = served(proxy.secure_address(), host).await?;
        (served.der != old.der)
            .then_some(served)
            .ok_or("still the old one".to_owned())
    })
    .await
}

/// What `status` says of the order for the certificate that covers a name.
async fn order(proxy: &Proxy, name: &str) -> Value {
    let status = proxy.status().await;
    let all = status["certificates"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let covers = |one: &&Value| {
        let names = one["order"]["names"].as_array();
        names.is_some_and(|names| names.iter().any(|own| own == name))
    };
    let found = all.iter().find(covers).map(|one| one["order"].clone());
    found.unwrap_or_else(|| panic!("no order for {name}: {status:#}"))
}

/// Its state, in one word.
async fn standing(proxy: &Proxy, name: &str) -> String {
    order(proxy, name).await["state"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

//! Whether the names that an authority is to certify can be proved by a challenge at all, as far as
//! the file alone shows it. Stands alone because it looks at the sites, the listeners and the DNS together.

use std::net::IpAddr;

use super::Check;
use crate::model::{self, Challenge, SiteCertificates, Tls, Until};
use crate::problem::{Key, quoted};
use crate::raw;

/// What there is to prove names with.
#[derive(Clone, Copy)]
struct Means {
    /// Records can be put into the DNS.
    dns: bool,
    /// Something listens on plain HTTP.
    http: bool,
}

impl Check<'_, '_> {
    /// Every name that is to be certified can be proved by some challenge.
    pub(super) fn provable(&mut self, raw: &raw::File, proxy: &model::Proxy) {
        let root = Key::root();
        let (all, listen) = (root.key("certificates"), root.key("listen"));
        let unsure = |key: &Key, name: &str| {
            self.problems.is_incomplete(key) || self.problems.is_incomplete(&key.key(name))
        };
        let written = raw.certificates.as_ref();
        let means = Means {
            dns: written.is_some_and(|all| all.dns.is_some()) || unsure(&all, "dns"),
            http: !proxy.listen.http.is_empty() || unsure(&listen, "http"),
        };
        for (index, site) in proxy.sites.iter().enumerate() {
            if site.tls == Tls::Acme {
                self.site_provable(&root.key("site").item(index), site, means);
            }
        }
    }

    fn site_provable(&mut self, key: &Key, site: &model::Site, means: Means) {
        let wishes = &site.certificates;
        let own = key.key("certificates");
        if wishes.until == Until::Http && !means.http {
            let (found, hint) = (
                "\"http\" without plain HTTP",
                "listen.http names no address",
            );
            self.problems
                .add_with_hint(&own.key("until"), found, "\"local\"", hint);
        }
        let challenges = own.key("challenges");
        if wishes.challenges.contains(&Challenge::Dns01) && !means.dns {
            let found = "dns-01 without a way to put a record into the DNS";
            let hint = "set certificates.dns, or take it out";
            self.problems
                .add_with_hint(&challenges, found, "challenges that can work", hint);
            return;
        }
        if self.problems.is_incomplete(&challenges) || self.problems.is_incomplete(&own) {
            return;
        }
        let stuck = |name: &String| Some((name.clone(), unprovable(name, wishes, means)?));
        if let Some((name, hint)) = site
            .names
            .iter()
            .filter(|name| !name.is_empty())
            .find_map(stuck)
        {
            let found = format!("{}, which no challenge can prove", quoted(&name));
            let wanted = "a name that an authority can check";
            self.problems
                .add_with_hint(&key.key("names"), found, wanted, hint);
        }
    }
}

/// Why no challenge can prove `name`, where that is so: the hint.
fn unprovable(name: &str, wishes: &SiteCertificates, means: Means) -> Option<&'static str> {
    let named = &wishes.challenges;
    let may = |challenge| named.contains(&challenge) || named.is_empty();
    // A standing record is the operator's own work: it is only counted on where it is named.
    let in_dns = (may(Challenge::Dns01) && means.dns) || named.contains(&Challenge::DnsPersist01);
    let on_host = (may(Challenge::Http01) && means.http) || may(Challenge::TlsAlpn01);
    if name.starts_with("*.") {
        let hint = "a wildcard is proved by DNS: set certificates.dns, or challenges = [\"dns-persist-01\"]";
        return (!in_dns).then_some(hint);
    }
    if name.parse::<IpAddr>().is_ok() {
        let hint = "an address is proved by http-01 or tls-alpn-01";
        return (!on_host).then_some(hint);
    }
    let hint = "http-01 needs listen.http, and dns-01 needs certificates.dns";
    (!in_dns && !on_host).then_some(hint)
}

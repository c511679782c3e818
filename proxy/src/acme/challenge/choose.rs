//! Which challenges can be tried for one name, before anybody is asked: by the kind of the name, what
//! the authority offers, what the site allows, and what there is here.

use std::net::IpAddr;

use sovereign_config::model::Challenge;

/// What there is here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Here {
    /// A listener for plain HTTP.
    pub(super) http: bool,
    /// A listener for HTTPS.
    pub(super) https: bool,
    /// A way to put records into the DNS.
    pub(super) dns: bool,
}

/// The challenges worth a closer look, in the order in which they are wanted, and why the others are not.
pub(super) fn choose(
    name: &str,
    allowed: &[Challenge],
    offered: &[Challenge],
    here: Here,
) -> (Vec<Challenge>, Vec<(Challenge, String)>) {
    let rest = Challenge::ALL.iter();
    let rest = rest.filter(|challenge| !allowed.contains(challenge));
    let mut usable = Vec::new();
    let mut unusable = Vec::new();
    for challenge in allowed.iter().chain(rest) {
        match obstacle(name, *challenge, allowed, offered, here) {
            None if usable.contains(challenge) => {}
            None => usable.push(*challenge),
            Some(why) => unusable.push((*challenge, why)),
        }
    }
    (usable, unusable)
}

/// Why not, in the operator's words.
fn obstacle(
    name: &str,
    challenge: Challenge,
    allowed: &[Challenge],
    offered: &[Challenge],
    here: Here,
) -> Option<String> {
    use Challenge::{Dns01, DnsPersist01, Http01, TlsAlpn01};
    let by_dns = matches!(challenge, Dns01 | DnsPersist01);
    if name.starts_with("*.") && !by_dns {
        return Some("a wildcard can be proved by the DNS only".to_owned());
    }
    if name.parse::<IpAddr>().is_ok() && by_dns {
        return Some("an address cannot be proved by the DNS".to_owned());
    }
    if !allowed.is_empty() && !allowed.contains(&challenge) {
        return Some("the site's `challenges` do not name it".to_owned());
    }
    if !offered.contains(&challenge) {
        return Some(format!("the authority does not offer it for {name}"));
    }
    let missing = match challenge {
        Http01 if !here.http => "no address is listened on for plain HTTP (`listen.http`)",
        TlsAlpn01 if !here.https => "no address is listened on for HTTPS (`listen.https`)",
        Dns01 if !here.dns => "no way into the DNS is configured (`certificates.dns`)",
        // An operator who names it may have put the record there by hand.
        DnsPersist01 if !here.dns && allowed.is_empty() => {
            "no way into the DNS is configured (`certificates.dns`)"
        }
        _ => return None,
    };
    Some(missing.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Challenge::{Dns01, DnsPersist01, Http01, TlsAlpn01};

    const HERE: Here = Here {
        http: true,
        https: true,
        dns: true,
    };

    #[test]
    fn the_kind_of_a_name_decides() {
        let offered = [Http01, TlsAlpn01, Dns01];
        let usable = |name, allowed: &[_], here| choose(name, allowed, &offered, here).0;
        assert_eq!(usable("a.example", &[], HERE), [Http01, TlsAlpn01, Dns01]);
        assert_eq!(usable("*.a.example", &[], HERE), [Dns01]);
        assert_eq!(usable("192.0.2.1", &[], HERE), [Http01, TlsAlpn01]);
        assert_eq!(usable("2001:db8::1", &[], HERE), [Http01, TlsAlpn01]);
        assert_eq!(usable("a.example", &[Dns01, Http01], HERE), [Dns01, Http01]);
        let plain = Here {
            https: false,
            dns: false,
            ..HERE
        };
        assert_eq!(usable("a.example", &[], plain), [Http01]);
        assert!(usable("*.a.example", &[], plain).is_empty());
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        let nothing = Here {
            http: false,
            https: false,
            dns: false,
        };
        let (usable, unusable) = choose("a.example", &[], &[Http01, TlsAlpn01, Dns01], nothing);
        assert!(usable.is_empty());
        let why: Vec<_> = unusable.iter().map(|(_, why)| why.as_str()).collect();
        assert_eq!(
            why,
            [
                "no address is listened on for plain HTTP (`listen.http`)",
                "no address is listened on for HTTPS (`listen.https`)",
                "no way into the DNS is configured (`certificates.dns`)",
                "the authority does not offer it for a.example",
            ]
        );
        let (_, unusable) = choose("*.a.example", &[Http01], &[Http01, Dns01], HERE);
        assert_eq!(unusable.len(), 4);
        assert_eq!(unusable[0].1, "a wildcard can be proved by the DNS only");
        assert_eq!(unusable[3].0, DnsPersist01);
        let (usable, _) = choose("*.a.example", &[DnsPersist01], &[DnsPersist01], nothing);
        assert_eq!(usable, [DnsPersist01]);
    }
}

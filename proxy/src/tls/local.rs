//! Certificates of the local authority, kept on disk so that a restart shows visitors the same one.
//!
//! ```text
//! <state>/certs/local/<canonical name>/chain.pem
//! <state>/certs/local/<canonical name>/key.pem      0600
//! ```
//!
//! Unlike the authority itself, what lies here is replaced whenever it does not fit: other names,
//! less than 30 days left, another root, or damage.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::authority::Authority;
use super::certificate::{Certificate, Source};
use super::disk;
use super::error::TlsError;
use super::names::address;

/// The certificate for a site's names: the kept one if it still fits, else a new one. `source` says
/// whether it is the site's own, or stands in for another.
pub(super) fn certificate(
    site_names: &[String],
    source: Source,
    authority: &Authority,
    state: &Path,
    now: SystemTime,
) -> Result<Certificate, TlsError> {
    let names = leaf_names(site_names);
    let folder = state
        .join("certs/local")
        .join(folder_name(site_names.first().map_or("", String::as_str)));
    let (chain, key) = (folder.join(CHAIN), folder.join(KEY));

    let kept = match Certificate::read(&chain, &key, source.clone()) {
        Ok(kept) => Some(kept),
        // Files that are there but cannot be read, such as another user's, are for the operator.
        Err(TlsError::Read { path, source }) if source.kind() != io::ErrorKind::NotFound => {
            return Err(TlsError::Read { path, source });
        }
        Err(_) => None,
    };
    if let Some(kept) = kept.filter(|kept| still_fits(kept, &names, authority, now)) {
        return Ok(kept);
    }

    let (chain_pem, key_pem) = authority.sign(&names, now)?;
    disk::make_private_folder(&folder)?;
    // Cut off between the two, the next start finds a key that does not match and signs anew.
    disk::write_private(&folder, KEY, key_pem.as_bytes())?;
    disk::write_private(&folder, CHAIN, chain_pem.as_bytes())?;
    Certificate::read(&chain, &key, source)
}

/// Whether it is time for a new certificate.
pub(super) fn renew_due(not_after: SystemTime, now: SystemTime) -> bool {
    not_after < now + RENEW_BEFORE
}

fn still_fits(
    kept: &Certificate,
    names: &[String],
    authority: &Authority,
    now: SystemTime,
) -> bool {
    names_fit(kept, names, now) && authority.has_signed(kept.leaf(), now)
}

/// Whether a certificate of the local authority is for these names of a site, and lasts.
pub(super) fn names_fit(kept: &Certificate, site_names: &[String], now: SystemTime) -> bool {
    let wanted = leaf_names(site_names);
    let wanted: BTreeSet<&String> = wanted.iter().collect();
    kept.info.names.iter().collect::<BTreeSet<_>>() == wanted
        && !renew_due(kept.info.not_after, now)
}

/// The names to sign. No certificate can name every host, so the site of all hosts gets the names
/// of the machine itself, beside those it has.
fn leaf_names(site_names: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in site_names {
        let expanded: &[&str] = match name.as_str() {
            "*" => &["localhost", "127.0.0.1", "::1"],
            name => &[name],
        };
        for name in expanded {
            let name = match address(name) {
                Some(ip) => ip.to_string(),
                None => name.to_ascii_lowercase(),
            };
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// A folder for a site: its canonical name, with `_` for what has no place in a path.
fn folder_name(canonical: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    let name: String = canonical
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    match name.as_str() {
        "" | "." | ".." => "_".into(),
        _ => name,
    }
}

const CHAIN: &str = "chain.pem";
const KEY: &str = "key.pem";

/// A third of the lifetime: weeks of room for a proxy that was off.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_site_of_all_hosts_is_signed_for_the_machine_itself() {
        let names = |names: &[&str]| {
            leaf_names(
                &names
                    .iter()
                    .map(|name| name.to_string())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(names(&["*"]), ["localhost", "127.0.0.1", "::1"]);
        assert_eq!(
            names(&[
                "A.example",
                "*",
                "localhost",
                "::ffff:127.0.0.1",
                "a.example"
            ]),
            ["a.example", "localhost", "127.0.0.1", "::1"]
        );
    }

    #[test]
    fn a_folder_name_stays_inside_its_folder() {
        for (canonical, folder) in [
            ("www.example.org", "www.example.org"),
            ("2001:db8::1", "2001:db8::1"),
            ("*", "_"),
            ("*.example.org", "_.example.org"),
            ("..", "_"),
            ("../../etc", ".._.._etc"),
            ("", "_"),
        ] {
            assert_eq!(folder_name(canonical), folder);
        }
    }
}

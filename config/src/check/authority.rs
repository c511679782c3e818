//! `[[acme]]`: the authorities that certify names.

use std::collections::HashMap;

use http::Uri;

use super::Check;
use crate::model;
use crate::problem::{Key, quoted};
use crate::raw;

/// Where certificates come from when nobody names an authority.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// What a dry run asks there.
const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

impl Check<'_, '_> {
    /// The authorities; where none is named, the public one, whose terms wait to be agreed to.
    pub(super) fn authorities(&mut self, raw: &raw::File) -> Vec<model::Ca> {
        let key = Key::root().key("acme");
        let Some(list) = raw.acme.as_ref() else {
            return vec![public()];
        };
        if list.is_empty() && !self.problems.is_incomplete(&key) {
            let hint = "without the key, it is Let's Encrypt";
            self.problems
                .add_with_hint(&key, "an empty list", "at least one [[acme]]", hint);
        }
        let mut first: HashMap<&str, Key> = HashMap::new();
        for (index, ca) in list.iter().enumerate() {
            let key = key.item(index).key("directory");
            let Some(directory) = ca.directory.as_deref() else {
                continue;
            };
            if let Some(earlier) = first.get(directory) {
                let hint = format!("it is first named in line {}", self.problems.line(earlier));
                let found = format!("{} a second time", quoted(directory));
                self.problems
                    .add_with_hint(&key, found, "each authority once", hint);
            }
            first.entry(directory).or_insert(key);
        }
        let each = list.iter().enumerate();
        each.map(|(index, ca)| self.authority(&key.item(index), ca))
            .collect()
    }

    fn authority(&mut self, key: &Key, raw: &raw::Ca) -> model::Ca {
        let directory = raw.directory.as_deref().unwrap_or_default();
        if raw.directory.is_some() {
            self.https(&key.key("directory"), directory);
        }
        if let Some(staging) = raw.staging.as_deref() {
            self.https(&key.key("staging"), staging);
        }
        let known = (directory == LETS_ENCRYPT).then_some(LETS_ENCRYPT_STAGING);
        model::Ca {
            directory: directory.to_owned(),
            roots: self.pem(&key.key("roots"), raw.roots.as_deref(), "CERTIFICATE"),
            staging: raw.staging.as_deref().or(known).map(str::to_owned),
            profile: self.profile(&key.key("profile"), raw.profile.as_deref()),
            eab: raw
                .eab
                .as_ref()
                .and_then(|eab| self.eab(&key.key("eab"), eab)),
            agreed: true,
        }
    }

    /// The URL of a directory. Plain http would let anybody on the way play the authority.
    fn https(&mut self, key: &Key, text: &str) {
        let wanted = "a URL such as https://ca.example/directory";
        let hint = match text.parse::<Uri>() {
            Ok(uri) if uri.scheme_str() == Some("https") && !text.contains(['@', '#']) => return,
            Ok(uri) if uri.scheme_str() == Some("http") => "an authority is asked over https only",
            Ok(uri) if uri.scheme().is_none() => "begin with https://",
            _ => "a user name, a password and a # have no place here",
        };
        self.problems.add_with_hint(key, quoted(text), wanted, hint);
    }

    /// A word of the authority's own.
    pub(super) fn profile(&mut self, key: &Key, text: Option<&str>) -> Option<String> {
        let text = text?;
        let word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if text.is_empty() || text.len() > 64 || !text.chars().all(word) {
            let wanted = "the name of a profile, such as shortlived";
            let hint = "the authority's documentation names its profiles";
            self.problems.add_with_hint(key, quoted(text), wanted, hint);
        }
        Some(text.to_owned())
    }

    fn eab(&mut self, key: &Key, raw: &raw::Eab) -> Option<model::Eab> {
        let kid = raw.kid.as_deref();
        if let Some(text) = kid.filter(|kid| !(1..=256).contains(&kid.len())) {
            self.problems.add(
                &key.key("kid"),
                quoted(text),
                "the id of the account, of at most 256 bytes",
            );
        }
        let base64url = |text: &str| {
            let text = text.trim_end_matches('=');
            let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            !text.is_empty() && text.bytes().all(known)
        };
        let path = self.secret(
            &key.key("key"),
            raw.key.as_deref(),
            "a MAC key in base64url",
            base64url,
        );
        Some(model::Eab {
            kid: kid?.to_owned(),
            key: path?,
        })
    }
}

/// The authority of those who name none, which nobody has agreed to yet.
fn public() -> model::Ca {
    model::Ca {
        directory: LETS_ENCRYPT.to_owned(),
        roots: None,
        staging: Some(LETS_ENCRYPT_STAGING.to_owned()),
        profile: None,
        eab: None,
        agreed: false,
    }
}

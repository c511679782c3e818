//! Header fields that may be set and removed. Fields that frame a message or belong to one
//! connection are the proxy's own: changing them would break the protocol.

use http::{HeaderName, HeaderValue};

use super::{Check, each};
use crate::model::HeaderChanges;
use crate::problem::{Key, quoted};
use crate::raw;

/// The direction that changes apply to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Response,
}

impl Check<'_, '_> {
    /// The changes of one table.
    pub(super) fn headers(
        &mut self,
        key: &Key,
        raw: Option<&raw::HeaderChanges>,
        direction: Direction,
    ) -> HeaderChanges {
        let Some(raw) = raw else {
            return HeaderChanges::default();
        };
        let mut changes = HeaderChanges::default();
        for (name, text) in raw.set.iter().flatten() {
            let key = key.key("set").key(name);
            let field = self.field(&key, name, Some(direction));
            let value = self.field_value(&key, &text.0, direction);
            if let (Some(field), Some(value)) = (field, value) {
                if changes.set.iter().any(|(other, _)| *other == field) {
                    self.problems.add(
                        &key,
                        "a field that is set twice",
                        "each field once, in capitals or not",
                    );
                }
                changes.set.push((field, value));
            }
        }
        for (key, name) in each(raw.remove.as_ref(), &key.key("remove")) {
            changes
                .remove
                .extend(self.field(&key, name, Some(direction)));
        }
        changes
    }

    /// The name of a field, and with a direction one that may be changed in it.
    pub(super) fn field(
        &mut self,
        key: &Key,
        name: &str,
        direction: Option<Direction>,
    ) -> Option<HeaderName> {
        let Ok(field) = HeaderName::from_bytes(name.as_bytes()) else {
            self.problems
                .add(key, quoted(name), "the name of a header field");
            return None;
        };
        let own = match direction {
            Some(Direction::Request) => REQUEST,
            Some(Direction::Response) => RESPONSE,
            None => return Some(field),
        };
        let refused = BOTH
            .iter()
            .chain(own)
            .find(|(name, _)| *name == field.as_str());
        match refused {
            Some((_, hint)) => {
                self.problems.add_with_hint(
                    key,
                    format!("the field {field}"),
                    "a field that is not the proxy's own",
                    *hint,
                );
                None
            }
            None => Some(field),
        }
    }

    /// A field's value. Values may be secrets: they are not shown, and those of requests are marked.
    fn field_value(&mut self, key: &Key, text: &str, direction: Direction) -> Option<HeaderValue> {
        match HeaderValue::from_str(text) {
            Ok(mut value) => {
                value.set_sensitive(direction == Direction::Request);
                Some(value)
            }
            Err(_) => {
                self.problems.add(
                    key,
                    "a value with a line break or control character",
                    "one line of text",
                );
                None
            }
        }
    }
}

impl HeaderChanges {
    /// These changes with `other` under them: what is said here about a field wins.
    pub(super) fn over(&self, other: &Self) -> Self {
        let said = |name: &HeaderName| {
            self.remove.contains(name) || self.set.iter().any(|(own, _)| own == name)
        };
        let mut all = self.clone();
        all.set
            .extend(other.set.iter().filter(|(name, _)| !said(name)).cloned());
        all.remove
            .extend(other.remove.iter().filter(|name| !said(name)).cloned());
        all
    }
}

const CONNECTION: &str = "it belongs to one connection, which the proxy manages";
const FRAMING: &str = "it says where a message ends, which the proxy knows best";
const WRITTEN: &str = "the proxy writes it itself";
const PEERS: &str = "the proxy writes it itself; trusted names the peers whose fields are believed";

const BOTH: &[(&str, &str)] = &[
    ("connection", CONNECTION),
    ("keep-alive", CONNECTION),
    ("proxy-authenticate", CONNECTION),
    ("proxy-authorization", CONNECTION),
    ("proxy-connection", CONNECTION),
    ("te", CONNECTION),
    ("upgrade", CONNECTION),
    ("content-length", FRAMING),
    ("trailer", FRAMING),
    ("transfer-encoding", FRAMING),
    ("via", WRITTEN),
];

const REQUEST: &[(&str, &str)] = &[
    ("forwarded", PEERS),
    ("x-forwarded-for", PEERS),
    ("x-forwarded-host", PEERS),
    ("x-forwarded-proto", PEERS),
    ("x-real-ip", PEERS),
];

const RESPONSE: &[(&str, &str)] = &[
    ("host", "it belongs in requests"),
    ("age", WRITTEN),
    ("alt-svc", WRITTEN),
    ("cache-status", WRITTEN),
    (
        "strict-transport-security",
        "the key hsts of the [[site]] sets it",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_site_says_about_a_field_wins() {
        let changes =
            |set: &[(&'static str, &'static str)], remove: &[&'static str]| HeaderChanges {
                set: set
                    .iter()
                    .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
                    .collect(),
                remove: remove.iter().map(|n| HeaderName::from_static(n)).collect(),
            };
        let site = changes(&[("x-a", "site")], &["x-b"]);
        let preset = changes(
            &[("x-a", "preset"), ("x-b", "preset"), ("x-c", "preset")],
            &["x-a", "x-d"],
        );
        assert_eq!(
            site.over(&preset),
            changes(&[("x-a", "site"), ("x-c", "preset")], &["x-b", "x-d"])
        );
    }
}

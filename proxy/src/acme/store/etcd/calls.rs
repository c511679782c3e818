//! What we ask of an etcd, each as one call of its v3 API.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::gateway::{Gateway, Trouble, decode, encode};

/// A key as it stands in etcd.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// The revision of its last change.
    pub(super) revision: i64,
    /// The lease it goes with; empty where it stays.
    pub(super) lease: String,
}

/// Without the value: it may hold a private key.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &String::from_utf8_lossy(&self.key))
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// Some of the keys below a prefix.
#[derive(Debug)]
pub(super) struct Page {
    /// Which etcd it is.
    pub(super) cluster: String,
    /// The revision of the whole.
    pub(super) revision: i64,
    /// In the order of their last changes, without values.
    pub(super) entries: Vec<Entry>,
    /// There are more.
    pub(super) more: bool,
}

/// What became of a write that depended on what was there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It is done; the revision.
    Done(i64),
    /// Something else is there, or nothing.
    Differs(Option<Entry>),
}

/// Keys below `prefix` that were changed at the revision `since` or later, at most `most`.
pub(super) async fn changes(
    gateway: &Gateway,
    prefix: &str,
    since: i64,
    most: u32,
) -> Result<Page, Trouble> {
    let body = json!({
        "key": encode(prefix),
        "range_end": encode(end_of(prefix)),
        "keys_only": true,
        "sort_target": "MOD",
        "sort_order": "ASCEND",
        "min_mod_revision": since.to_string(),
        "limit": most.to_string(),
    });
    let range: Range = gateway.call("/v3/kv/range", &body).await?;
    Ok(Page {
        cluster: range.header.cluster_id,
        revision: range.header.revision,
        entries: range.kvs.into_iter().filter_map(Pair::entry).collect(),
        more: range.more,
    })
}

/// One key; `None`: it is not there.
pub(super) async fn get(gateway: &Gateway, key: &str) -> Result<Option<Entry>, Trouble> {
    let range: Range = gateway
        .call("/v3/kv/range", &json!({ "key": encode(key) }))
        .await?;
    Ok(range.first())
}

/// Writes a key where its last change was at `revision`, 0 for a key that is not there.
pub(super) async fn put_over(
    gateway: &Gateway,
    key: &str,
    value: &[u8],
    revision: i64,
) -> Result<Put, Trouble> {
    let compare = json!({ "target": "MOD", "mod_revision": revision.to_string() });
    compared(gateway, key, compare, json!({ "value": encode(value) })).await
}

/// Makes a key that goes with a lease, where it is not there.
pub(super) async fn create(
    gateway: &Gateway,
    key: &str,
    value: &[u8],
    lease: &str,
) -> Result<Put, Trouble> {
    let compare = json!({ "target": "CREATE", "create_revision": "0" });
    let put = json!({ "value": encode(value), "lease": lease });
    compared(gateway, key, compare, put).await
}

async fn compared(
    gateway: &Gateway,
    key: &str,
    mut compare: Value,
    mut put: Value,
) -> Result<Put, Trouble> {
    let key = encode(key);
    compare["key"] = key.clone().into();
    compare["result"] = "EQUAL".into();
    put["key"] = key.clone().into();
    let body = json!({
        "compare": [compare],
        "success": [{ "request_put": put }],
        "failure": [{ "request_range": { "key": key } }],
    });
    let done: Txn = gateway.call("/v3/kv/txn", &body).await?;
    if done.succeeded {
        return Ok(Put::Done(done.header.revision));
    }
    let there = done
        .responses
        .into_iter()
        .find_map(|one| one.response_range);
    Ok(Put::Differs(there.and_then(Range::first)))
}

/// Writes a key that goes with a lease, whatever was there.
pub(super) async fn put(
    gateway: &Gateway,
    key: &str,
    value: &[u8],
    lease: &str,
) -> Result<(), Trouble> {
    let body = json!({ "key": encode(key), "value": encode(value), "lease": lease });
    let _: Value = gateway.call("/v3/kv/put", &body).await?;
    Ok(())
}

/// Removes a key; nothing happens where there is none.
pub(super) async fn delete(gateway: &Gateway, key: &str) -> Result<(), Trouble> {
    let body = json!({ "key": encode(key) });
    let _: Value = gateway.call("/v3/kv/deleterange", &body).await?;
    Ok(())
}

/// A lease: what goes with it is gone when `ttl` has passed without [`keep_alive`].
pub(super) async fn grant(gateway: &Gateway, ttl: Duration) -> Result<String, Trouble> {
    let body = json!({ "TTL": ttl.as_secs().max(1).to_string() });
    let lease: Lease = gateway.call("/v3/lease/grant", &body).await?;
    Ok(lease.id)
}

/// False: the lease is gone.
pub(super) async fn keep_alive(gateway: &Gateway, lease: &str) -> Result<bool, Trouble> {
    let body = json!({ "ID": lease });
    let answer: Streamed<Lease> = gateway.call("/v3/lease/keepalive", &body).await?;
    Ok(answer.result.ttl > 0)
}

/// Ends a lease and what goes with it.
pub(super) async fn revoke(gateway: &Gateway, lease: &str) -> Result<(), Trouble> {
    let _: Value = gateway
        .call("/v3/lease/revoke", &json!({ "ID": lease }))
        .await?;
    Ok(())
}

/// The first key that does not begin with `prefix` any more. A prefix is text: its last byte is no 0xff.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Header {
    cluster_id: String,
    #[serde(deserialize_with = "number")]
    revision: i64,
}

// What has a value in it shows nothing of itself: the value may hold a private key.
#[derive(Deserialize)]
struct Range {
    header: Header,
    #[serde(default)]
    kvs: Vec<Pair>,
    #[serde(default)]
    more: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Pair {
    key: String,
    value: String,
    #[serde(deserialize_with = "number")]
    mod_revision: i64,
    lease: String,
}

#[derive(Deserialize)]
struct Txn {
    header: Header,
    #[serde(default)]
    succeeded: bool,
    #[serde(default)]
    responses: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    response_range: Option<Range>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Lease {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "TTL", deserialize_with = "number")]
    ttl: i64,
}

#[derive(Debug, Deserialize)]
struct Streamed<T> {
    result: T,
}

impl Range {
    fn first(self) -> Option<Entry> {
        self.kvs.into_iter().next().and_then(Pair::entry)
    }
}

impl Pair {
    fn entry(self) -> Option<Entry> {
        Some(Entry {
            key: decode(&self.key)?,
            value: decode(&self.value)?,
            revision: self.mod_revision,
            lease: self.lease,
        })
    }
}

/// The gateway writes 64-bit numbers as text.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Number(i64),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(end_of("/s/certs/"), b"/s/certs0");
    }

    #[test]
    fn a_value_is_never_shown() {
        let entry = Entry {
            key: b"/s/a".into(),
            value: b"secret".into(),
            revision: 2,
            lease: String::new(),
        };
        let shown = format!("{:?}", Put::Differs(Some(entry)));
        assert!(
            shown.contains("/s/a") && !shown.contains("secret"),
            "{shown}"
        );
        // Bytes are shown as numbers.
        assert!(!shown.contains("115"), "{shown}");
    }

    /// As etcd 3.4 writes it: numbers as text, nothing where a value is empty or false.
    #[test]
    fn what_etcd_writes() {
        let text = r#"{"header":{"cluster_id":"13455796455940752355","member_id":"4","revision":"3","raft_term":"2"},
            "kvs":[{"key":"L3MvYQ==","create_revision":"2","mod_revision":"2","version":"1","value":"aGk="}],"more":true,"count":"2"}"#;
        let range: Range = serde_json::from_str(text).expect("parses");
        assert!(range.more && range.header.revision == 3);
        assert_eq!(
            range.first(),
            Some(Entry {
                key: b"/s/a".into(),
                value: b"hi".into(),
                revision: 2,
                lease: String::new(),
            })
        );
        let text = r#"{"header":{"revision":"4"},"responses":[{"response_range":{"header":{"revision":"4"},"count":"0"}}]}"#;
        let txn: Txn = serde_json::from_str(text).expect("parses");
        assert!(!txn.succeeded && txn.header.revision == 4);
        let text = r#"{"result":{"header":{"revision":"5"},"ID":"4390624829794658313"}}"#;
        let gone: Streamed<Lease> = serde_json::from_str(text).expect("parses");
        assert_eq!(gone.result.ttl, 0, "a lease that is gone has no TTL");
    }
}

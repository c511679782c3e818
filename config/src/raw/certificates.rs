//! The keys that concern certificates from authorities: `[[acme]]`, `[certificates]`, and a site's own.

use schemars::JsonSchema;
use serde::Deserialize;

use super::OneOrMany;

/// A certificate authority that speaks ACME. To name one is to agree to its terms of service.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ca {
    /// The URL of its directory.
    #[schemars(required, title = "a URL such as https://ca.example/directory")]
    pub(crate) directory: Option<String>,
    /// A PEM file of what the authority's own server is trusted by. Default: what the system trusts.
    #[schemars(title = "the path of a PEM file")]
    pub(crate) roots: Option<String>,
    /// The directory that a dry run asks. Default: that of Let's Encrypt for Let's Encrypt, none for others.
    #[schemars(title = "a URL such as https://staging.ca.example/directory")]
    pub(crate) staging: Option<String>,
    /// The profile of its certificates, such as "shortlived", where a site names no other. Default: the authority's own choice.
    pub(crate) profile: Option<String>,
    /// The account at the authority that ours is bound to. Default: none.
    pub(crate) eab: Option<Eab>,
}

/// An external account, as the authority gives it out.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "{ kid = \"ID\", key = \"FILE\" }")]
pub(crate) struct Eab {
    /// Its id.
    #[schemars(required, title = "the id of the account")]
    pub(crate) kid: Option<String>,
    /// The file of its MAC key in base64url, which only its owner or group reads.
    #[schemars(required, title = "the path of a file")]
    pub(crate) key: Option<String>,
}

/// What all certificates from authorities have in common.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificates {
    /// Orders under way at once. Default: 4.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) orders: Option<u32>,
    /// The resolver that is asked where names lead. Default: the system's.
    #[schemars(title = "an address such as 192.0.2.53:53")]
    pub(crate) resolver: Option<String>,
    /// How a record is put into the DNS: by updates (RFC 2136), or by a program. Default: none is, and no name is proved by DNS.
    pub(crate) dns: Option<Dns>,
    /// Where proxies under one name share certificates and challenges. Who reads what lies there reads the private keys. Default: nothing is shared.
    pub(crate) shared: Option<Etcd>,
    /// Where a site shows what happens to certificates. Default: only the admin API does.
    pub(crate) feed: Option<Feed>,
}

/// How a record is put into the DNS: `server`, `key_name` and `key` for signed updates, or `hook`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = "{ server = \"ns1.example.org\", key_name = \"NAME\", key = \"FILE\" } or { hook = [\"/path/program\"] }"
)]
pub(crate) struct Dns {
    /// The primary server of the zone, with or without its port. Default of the port: 53.
    #[schemars(title = "a server such as ns1.example.org or 192.0.2.53:53")]
    pub(crate) server: Option<String>,
    /// The zone. Default: found by asking the server for its SOA record.
    #[schemars(title = "a zone such as example.org")]
    pub(crate) zone: Option<String>,
    /// The name of the key that signs updates.
    #[schemars(title = "the name of a key")]
    pub(crate) key_name: Option<String>,
    /// How it signs. Default: "hmac-sha256".
    pub(crate) algorithm: Option<TsigAlgorithm>,
    /// The file of the key in base64, which only its owner or group reads.
    #[schemars(title = "the path of a file")]
    pub(crate) key: Option<String>,
    /// A program and its arguments; `present` or `remove`, the record's name and its value are added to them.
    #[schemars(title = "a list such as [\"/usr/local/bin/dns-record\"]")]
    pub(crate) hook: Option<Vec<String>>,
}

/// How a DNS update is signed.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
pub(crate) enum TsigAlgorithm {
    /// HMAC-SHA256.
    #[serde(rename = "hmac-sha256")]
    Sha256,
    /// HMAC-SHA384.
    #[serde(rename = "hmac-sha384")]
    Sha384,
    /// HMAC-SHA512.
    #[serde(rename = "hmac-sha512")]
    Sha512,
}

/// A store that several proxies share.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "{ etcd = [\"https://10.0.0.1:2379\"] }")]
pub(crate) struct Etcd {
    /// The members of the etcd cluster; plain http only on this host.
    #[schemars(required, title = "a URL such as https://10.0.0.1:2379")]
    pub(crate) etcd: Option<OneOrMany<String>>,
    /// What all keys begin with. Default: "/sovereign".
    #[schemars(title = "a prefix such as /sovereign")]
    pub(crate) prefix: Option<String>,
    /// A PEM file of what the members are trusted by. Default: what the system trusts.
    #[schemars(title = "the path of a PEM file")]
    pub(crate) roots: Option<String>,
    /// The certificate that the proxy shows, in PEM. Default: none.
    #[schemars(title = "the path of a PEM file")]
    pub(crate) cert: Option<String>,
    /// Its private key in PEM, readable by its owner or group only.
    #[schemars(title = "the path of a PEM file")]
    pub(crate) key: Option<String>,
    /// The user that the proxy logs in as. Default: none.
    pub(crate) user: Option<String>,
    /// The file of the user's password, which only its owner or group reads.
    #[schemars(title = "the path of a file")]
    pub(crate) password: Option<String>,
}

/// Where a site shows what happens to certificates: PATH/SECRET/certificates.atom and PATH/SECRET/certificates.ics.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "{ site = \"NAME\", path = \"/PATH\", secret = \"FILE\" }")]
pub(crate) struct Feed {
    /// The first name of a site with TLS.
    #[schemars(required, title = "the first name of a site")]
    pub(crate) site: Option<String>,
    /// Where it begins.
    #[schemars(required, title = "a path such as /news")]
    pub(crate) path: Option<String>,
    /// The file of the secret, 16 to 128 letters, digits, `-` and `_`, which only its owner or group reads.
    #[schemars(required, title = "the path of a file")]
    pub(crate) secret: Option<String>,
}

/// A site's certificates from an authority.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SiteCertificates {
    /// One for each name, in place of one for all. Default: false.
    pub(crate) each: Option<bool>,
    /// The kind of key: ECDSA on P-256, or RSA with 2048 bits. Default: "ecdsa".
    pub(crate) key: Option<KeyKind>,
    /// The key stays over renewals. Default: false.
    pub(crate) pin_key: Option<bool>,
    /// The challenges that may be used, the best first. Default: all that can work, but dns-persist-01.
    pub(crate) challenges: Option<OneOrMany<Challenge>>,
    /// The authority's profile. Default: that of `[[acme]]`.
    pub(crate) profile: Option<String>,
    /// What is served until the first certificate is there: HTTPS with one of the local authority, or plain HTTP without a redirect. Default: "local".
    pub(crate) until: Option<Until>,
}

/// A kind of key.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KeyKind {
    /// ECDSA on P-256.
    Ecdsa,
    /// RSA with 2048 bits.
    Rsa,
}

/// A way to prove control of a name.
#[derive(Clone, Copy, PartialEq, Deserialize, JsonSchema)]
pub(crate) enum Challenge {
    /// A file over plain HTTP.
    #[serde(rename = "http-01")]
    Http01,
    /// A certificate in a TLS handshake.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// A record in the DNS.
    #[serde(rename = "dns-01")]
    Dns01,
    /// A record in the DNS that stays.
    #[serde(rename = "dns-persist-01")]
    DnsPersist01,
}

/// What is served until the first certificate is there.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Until {
    /// HTTPS with a certificate of the local authority.
    Local,
    /// Plain HTTP.
    Http,
}

/// Which versions of TLS are spoken.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TlsPolicy {
    /// TLS 1.3, and 1.2 with forward secrecy and authenticated encryption.
    Intermediate,
    /// TLS 1.3 only.
    Modern,
}

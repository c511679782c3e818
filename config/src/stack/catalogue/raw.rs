//! `service.toml` as it is typed. The schema is made from these types, as that of `proxy.toml` is from its own.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::raw as proxy;

/// A kind of service.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "service.toml")]
pub(crate) struct Service {
    /// What it is, in a few words.
    #[schemars(required, title = "a few words")]
    pub(crate) about: Option<String>,
    /// The preset of the proxy that knows it. Default: none.
    #[schemars(title = "the name of a preset")]
    pub(crate) preset: Option<String>,
    /// The port in its container that visitors are sent to. Default: nobody visits it.
    #[schemars(range(min = 1, max = 65_535))]
    pub(crate) port: Option<u16>,
    /// Where it is asked over HTTP whether it is healthy. Default: "/".
    #[schemars(title = "a path such as /health")]
    pub(crate) path: Option<String>,
    /// Two of it may run at once on the same data. Default: false.
    pub(crate) two: Option<bool>,
    /// How long it may take until it is healthy, 1s to 1d. Default: "5m".
    pub(crate) patience: Option<proxy::Duration>,
    /// Kinds of service that it needs on the same host. Default: none.
    #[schemars(title = "the name of a kind of service")]
    pub(crate) needs: Option<proxy::OneOrMany<String>>,
    /// The path of its page for administrators. Default: none.
    #[schemars(title = "a path such as /admin/")]
    pub(crate) open: Option<String>,
    /// What an operator may choose.
    pub(crate) options: Option<BTreeMap<String, Choice>>,
    /// Secrets of its own, made when they are first needed.
    pub(crate) secrets: Option<BTreeMap<String, Secret>>,
    /// The images it runs, by tag, under the names that its template calls them.
    pub(crate) images: Option<BTreeMap<String, Image>>,
    /// Ports of its host that are reached from outside, past the proxy. Default: none.
    #[schemars(title = "tables such as [[public]]")]
    pub(crate) public: Option<Vec<Public>>,
    /// What is archived of it.
    #[schemars(title = "tables such as [[archive]]")]
    pub(crate) archive: Option<Vec<Archive>>,
    /// How a secret is changed in what keeps it by itself. Default: a new version takes the new one.
    #[schemars(title = "tables such as [[rotate]]")]
    pub(crate) rotate: Option<Vec<Rotate>>,
    /// What is laid under its site's table of `proxy.toml`.
    #[schemars(with = "Option<Proxy>")]
    pub(crate) proxy: Option<serde_json::Map<String, serde_json::Value>>,
    /// What it may take of its host.
    pub(crate) limits: Option<Resources>,
}

/// What an operator may choose.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Choice {
    /// What it is for.
    #[schemars(required, title = "a few words")]
    pub(crate) about: Option<String>,
    /// What is written.
    #[serde(rename = "type")]
    #[schemars(required)]
    pub(crate) kind: Option<Kind>,
    /// Of a choice: what there is to choose from.
    #[schemars(title = "text")]
    pub(crate) values: Option<Vec<String>>,
    /// Of a number: the least. Default: 0.
    pub(crate) min: Option<i64>,
    /// Of a number: the most. Default: no bound.
    pub(crate) max: Option<i64>,
    /// What holds where nothing is written. Default: something has to be written.
    pub(crate) default: Option<Written>,
}

/// What is written as an option.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Any text, or one that the secrets file holds.
    Text,
    /// A text that only the secrets file holds.
    Secret,
    /// A whole number.
    Number,
    /// On or off.
    Switch,
    /// One of several words.
    Choice,
    /// Several texts.
    List,
}

/// A value of an option.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Written {
    /// On or off.
    Switch(bool),
    /// A whole number.
    Number(i64),
    /// Words.
    Text(String),
    /// Several texts.
    List(Vec<String>),
}

/// A secret that is made when it is first needed.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Secret {
    /// How many letters and digits it has. Default: 32.
    #[schemars(range(min = 16, max = 256))]
    pub(crate) length: Option<u16>,
}

/// An image.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Image {
    /// By tag.
    Always(ImageName),
    /// By tag, where it is needed.
    Table(ImageTable),
}

/// An image by tag.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(title = "an image such as ghost:5-alpine")]
pub(crate) struct ImageName(pub(crate) String);

/// An image that is not always needed.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "{ image = \"NAME:TAG\", when = \"EXPRESSION\" }")]
pub(crate) struct ImageTable {
    /// By tag.
    #[schemars(required)]
    pub(crate) image: Option<ImageName>,
    /// The expression over the options under which it is needed. Default: always.
    #[schemars(title = "an expression such as database == 'mariadb'")]
    pub(crate) when: Option<String>,
}

/// A TCP port of its host that is reached from outside, past the proxy.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Public {
    /// The expression over the options that is its number.
    #[schemars(required, title = "an expression such as 9735 or ssh_port")]
    pub(crate) port: Option<String>,
    /// The expression over the options under which it is open. Default: always.
    #[schemars(title = "an expression such as public")]
    pub(crate) when: Option<String>,
}

/// Something that is archived.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Archive {
    /// How.
    #[schemars(required)]
    pub(crate) kind: Option<ArchiveKind>,
    /// Of a volume: its name in the template.
    #[schemars(title = "the name of a volume")]
    pub(crate) what: Option<String>,
    /// Of a dump: the service of the template whose container the command runs in.
    #[schemars(title = "the name of a service of compose.yaml")]
    pub(crate) service: Option<String>,
    /// Of a dump: what writes it to its output.
    #[schemars(title = "text")]
    pub(crate) command: Option<Vec<String>>,
    /// The expression over the options under which it is there. Default: always.
    #[schemars(title = "an expression such as database == 'mariadb'")]
    pub(crate) when: Option<String>,
}

/// How something is archived.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ArchiveKind {
    /// A volume, as it lies on the disk.
    Volume,
    /// What a command in a container writes.
    Dump,
}

/// How a secret is changed in what keeps it by itself, such as a database.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotate {
    /// Which one.
    #[schemars(required, title = "the name of a secret in [secrets]")]
    pub(crate) secret: Option<String>,
    /// The service of the template whose container the command runs in.
    #[schemars(required, title = "the name of a service of compose.yaml")]
    pub(crate) service: Option<String>,
    /// What changes it: it reads the new one as a line of its input, and may run again after it has done so.
    #[schemars(required, title = "a command and its arguments")]
    pub(crate) command: Option<Vec<String>>,
    /// The expression over the options under which it is needed. Default: always.
    #[schemars(title = "an expression such as database == 'mariadb'")]
    pub(crate) when: Option<String>,
}

/// What is laid under a site's table of `proxy.toml`: the keys of a preset, and the limits of the whole proxy.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proxy {
    /// As in proxy.toml; the widest of all services of a host holds.
    pub(crate) limits: Option<proxy::Limits>,
    /// As in a site.
    pub(crate) timeouts: Option<proxy::Timeouts>,
    /// As in a site.
    pub(crate) hold: Option<proxy::Duration>,
    /// As in a site.
    pub(crate) restarting: Option<Vec<proxy::Restarting>>,
    /// As in a site.
    pub(crate) cache: Option<proxy::CacheRules>,
    /// As in a site.
    pub(crate) request_headers: Option<proxy::HeaderChanges>,
    /// As in a site.
    pub(crate) response_headers: Option<proxy::HeaderChanges>,
    /// As in a site.
    #[schemars(title = "tables such as [[proxy.route]]")]
    pub(crate) route: Option<Vec<proxy::Route>>,
}

/// What a service may take of its host.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Resources {
    /// Memory, as Compose writes it. Default: no bound.
    #[schemars(title = "an amount such as 1g")]
    pub(crate) memory: Option<String>,
    /// Processors. Default: no bound.
    #[schemars(title = "a number in quotes such as \"2\" or \"0.5\"")]
    pub(crate) cpus: Option<String>,
}

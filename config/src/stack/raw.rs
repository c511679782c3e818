//! `stack.toml` as it is typed. The one source of its keys; those of `proxy.toml` are taken over from there, and
//! the options of each kind of service from the catalogue (`schema`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::raw as proxy;
use crate::shape::Refused;

/// A table of `proxy.toml` as it was written.
pub(crate) type Table = serde_json::Map<String, serde_json::Value>;

/// What a stack is deployed from.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "stack.toml")]
pub(crate) struct File {
    /// The stack as a whole.
    pub(crate) stack: Option<Stack>,
    /// The places where hosts stand. At least one, and exactly one of them the primary.
    #[schemars(required, title = "at least one [[datacentre]]")]
    pub(crate) datacentre: Option<Vec<Datacentre>>,
    /// The machines. At least one.
    #[schemars(required, title = "at least one [[host]]")]
    pub(crate) host: Option<Vec<Host>>,
    /// The sites. Default: none.
    #[schemars(title = "tables such as [[site]]")]
    pub(crate) site: Option<Vec<Site>>,
    /// Services that belong to no site. Default: none.
    #[schemars(title = "tables such as [[service]]")]
    pub(crate) service: Option<Vec<Service>>,
}

/// The stack as a whole.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stack {
    /// What it is called: small letters, digits and hyphens. Default: "sovereign".
    #[schemars(title = "a name such as example")]
    pub(crate) name: Option<String>,
    /// The file of secrets, encrypted. A relative path counts from the folder of this file. Default: "secrets.age".
    #[schemars(title = "the path of a file")]
    pub(crate) secrets: Option<String>,
    /// Who may read the secrets: age recipients. Required where a service has secrets.
    #[schemars(title = "a recipient such as age1...")]
    pub(crate) recipients: Option<proxy::OneOrMany<String>>,
    /// How images come to the hosts. Default: "registry".
    pub(crate) images: Option<Images>,
    /// Laid under every host's `proxy.toml`: its keys but `state`, `admin` and its sites.
    #[schemars(with = "Option<proxy::File>")]
    pub(crate) proxy: Option<Table>,
}

/// How images come to the hosts.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Images {
    /// A host pulls them from their registries, by digest.
    Registry,
    /// They are sent over SSH from the engine of this machine.
    Local,
}

/// A place where hosts stand.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Datacentre {
    /// What it is called: small letters, digits and hyphens.
    #[schemars(required, title = "a name such as home")]
    pub(crate) name: Option<String>,
    /// What it is for.
    #[schemars(required)]
    pub(crate) role: Option<Role>,
}

/// What a data centre is for.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// The sites and their services run here.
    Primary,
    /// Its proxies serve the primary's sites from their caches.
    Mirror,
}

/// A machine.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Host {
    /// What it is called: small letters, digits and hyphens.
    #[schemars(required, title = "a name such as h1")]
    pub(crate) name: Option<String>,
    /// The name of its data centre.
    #[schemars(required, title = "the name of a [[datacentre]]")]
    pub(crate) datacentre: Option<String>,
    /// Where OpenSSH finds it: `[user@]host[:port]`, or an alias of ~/.ssh/config.
    #[schemars(required, title = "a destination such as root@192.0.2.1")]
    pub(crate) ssh: Option<String>,
    /// Where other hosts reach its proxy: a host name or an address. Default: the host of `ssh`.
    #[schemars(title = "a host name or an address")]
    pub(crate) address: Option<String>,
    /// What runs its services. Default: "docker".
    pub(crate) engine: Option<Engine>,
    /// How its proxy is run. Default: "systemd".
    pub(crate) proxy: Option<ProxyAs>,
}

/// What runs services.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    /// Docker Engine with Compose, on this host alone.
    Docker,
    /// A Docker Swarm that the host is a member of.
    Swarm,
}

/// How a proxy is run.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProxyAs {
    /// A unit of systemd.
    Systemd,
    /// A container with the host's network.
    Container,
}

/// A site: names, and what is served under them.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "StackSite")]
pub(crate) struct Site {
    /// Its host names, as in proxy.toml; the first is canonical.
    #[schemars(required, title = "host names such as www.example.org")]
    pub(crate) names: Option<proxy::OneOrMany<String>>,
    /// The name of its data centre. Default: the primary.
    #[schemars(title = "the name of a [[datacentre]]")]
    pub(crate) datacentre: Option<String>,
    /// What is added to its table of proxy.toml: its keys but `names`, `upstream` and `preset`.
    #[schemars(with = "Option<proxy::Site>")]
    pub(crate) proxy: Option<Table>,
    /// What is served. At least one, unless routes of `proxy` take every path.
    #[schemars(title = "tables such as [[site.service]]")]
    pub(crate) service: Option<Vec<Service>>,
}

/// A service.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    /// What it is: a kind of the catalogue, or "custom" with a Compose file of the operator's own.
    #[serde(rename = "use")]
    #[schemars(required)]
    pub(crate) kind: Option<String>,
    /// What it is called: small letters, digits and hyphens, once in a stack. Default: the value of `use`.
    #[schemars(title = "a name such as blog")]
    pub(crate) name: Option<String>,
    /// The host that it runs on. Default: the first of its data centre.
    #[schemars(title = "the name of a [[host]]")]
    pub(crate) host: Option<String>,
    /// Where under its site it is. Default: "/".
    #[schemars(title = "a path such as /blog/")]
    pub(crate) path: Option<String>,
    /// The Compose file of a "custom" one. A relative path counts from the folder of this file.
    #[schemars(title = "the path of a Compose file")]
    pub(crate) compose: Option<String>,
    /// The options of its kind.
    pub(crate) options: Option<BTreeMap<String, OptionValue>>,
}

/// The value of an option.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum OptionValue {
    /// Several texts. First: one alone would be read as the fields of a reference.
    List(Vec<String>),
    /// A text that stands in the secrets file.
    Secret(Reference),
    /// On or off.
    Switch(bool),
    /// A whole number.
    Number(i64),
    /// Words.
    Text(String),
}

/// A text that stands in the secrets file.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "{ secret = \"NAME\" }")]
pub(crate) struct Reference {
    /// Its name there.
    #[schemars(required, title = "the name of a secret")]
    pub(crate) secret: Option<String>,
}

/// Keys that `proxy.toml` has, and that a deployment sets, or a later version will know.
pub(crate) const REFUSED: &[Refused] = &[
    set(
        "stack.proxy.state",
        "it is always /var/lib/sovereign/proxy/state",
    ),
    set(
        "stack.proxy.admin",
        "it is always a socket in /var/lib/sovereign/proxy/run",
    ),
    set(
        "stack.proxy.site",
        "write a [[site]], and [site.proxy] for what is added to it",
    ),
    set("site[].proxy.names", "write `names` in the [[site]] itself"),
    set(
        "site[].proxy.upstream",
        "it leads to the services of the site: [[site.service]]",
    ),
    set(
        "site[].proxy.preset",
        "it is that of the kind of service: `use` of [[site.service]]",
    ),
    Refused {
        way: "service[].path",
        found: "the path of a service without a site",
        wanted: "it in a [[site.service]] only",
        hint: "remove the key, or put the service into a [[site]]",
    },
    Refused::later("stack.proxy.tor", "remove the table"),
    Refused::later("site[].proxy.onion", "remove the key"),
];

const fn set(way: &'static str, hint: &'static str) -> Refused {
    Refused {
        way,
        found: "a key that a deployment sets itself",
        wanted: "a table without it",
        hint,
    }
}

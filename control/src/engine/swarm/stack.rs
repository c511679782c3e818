//! A Compose file as a stack of a Swarm: what Compose's own reading of it says, in the words that `docker stack deploy`
//! knows. Pure; stands alone because the two formats have grown apart.
//!
//! What only the order of starting needs (`depends_on`) is left out: what cannot start yet is started again. So is
//! `security_opt`, which this format does not know: in a Swarm it is the engine's own `no-new-privileges`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// The newest format that every Docker with Compose v2 takes.
const VERSION: &str = "3.8";
/// Keys of a service that a Swarm takes as they are.
const SAME: [&str; 31] = [
    "cap_add",
    "cap_drop",
    "command",
    "configs",
    "deploy",
    "dns",
    "dns_search",
    "entrypoint",
    "environment",
    "expose",
    "extra_hosts",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "isolation",
    "labels",
    "logging",
    "networks",
    "ports",
    "read_only",
    "secrets",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "user",
    "volumes",
];
/// Keys that say something which a Swarm cannot do; what they protect or need would silently be missing.
const UNFIT: [&str; 7] = [
    "privileged",
    "devices",
    "pid",
    "ipc",
    "build",
    "userns_mode",
    "volumes_from",
];

/// Where a stack belongs.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'a> {
    /// What it is called.
    pub project: &'a str,
    /// What its secrets and configurations are called by: in a Swarm they never change.
    pub revision: &'a str,
    /// The id of the node that runs all of it, for there its volumes and files lie.
    pub node: &'a str,
    /// The ids of images, by their names in the Compose file.
    pub images: &'a BTreeMap<String, String>,
}

/// What `docker compose config --format json` prints.
pub fn read(printed: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(printed).map_err(|error| error.to_string())
}

/// The images that a Compose file names.
pub fn images(compose: &Value) -> BTreeSet<String> {
    let images = object(compose, "services").filter_map(|(_, service)| service.get("image"));
    images
        .filter_map(|image| Some(image.as_str()?.to_owned()))
        .collect()
}

/// The stack, as JSON, which is YAML.
pub fn of(compose: &Value, placed: &Placed<'_>) -> Result<Vec<u8>, String> {
    let mut services = Map::new();
    for (name, service) in object(compose, "services") {
        services.insert(name.clone(), self::service(name, service, placed)?);
    }
    let volumes: Map<String, Value> = object(compose, "volumes")
        .map(|(name, volume)| (name.clone(), volume.clone()))
        .collect();
    let stack = json!({
        "version": VERSION,
        "services": services,
        "networks": networks(compose),
        "volumes": volumes,
        "secrets": files(compose, "secrets", placed),
        "configs": files(compose, "configs", placed),
    });
    serde_json::to_vec(&stack).map_err(|error| error.to_string())
}

fn object<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value
        .get(key)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

fn service(name: &str, compose: &Value, placed: &Placed<'_>) -> Result<Value, String> {
    let set = |key: &str| {
        compose
            .get(key)
            .is_some_and(|value| !value.is_null() && *value != json!(false) && *value != json!([]))
    };
    if let Some(key) = UNFIT.iter().find(|key| set(key)) {
        return Err(format!("its service `{name}` has `{key}`"));
    }
    let same = SAME
        .iter()
        .filter(|key| set(key))
        .filter_map(|key| Some(((*key).to_owned(), compose.get(*key)?.clone())));
    let mut service: Map<String, Value> = same.collect();
    if let Some(ports) = compose.get("ports").and_then(Value::as_array) {
        service.insert("ports".to_owned(), ports.iter().map(port).collect());
    }
    let image = compose.get("image").and_then(Value::as_str);
    if let Some(id) = image.and_then(|image| placed.images.get(image)) {
        service.insert("image".to_owned(), json!(id));
    }
    if let Some(volumes) = service.get_mut("volumes").and_then(Value::as_array_mut) {
        volumes.iter_mut().for_each(mount);
    }
    let deploy = deploy(compose, service.remove("deploy"), placed.node);
    service.insert("deploy".to_owned(), deploy);
    Ok(Value::Object(service))
}

/// Only what is published by the host that runs it can be reached where there is no routing mesh. A Swarm cannot bind
/// it to one address: the host's firewall keeps it from the outside.
fn port(port: &Value) -> Value {
    let number = |key: &str| match port.get(key) {
        Some(Value::String(text)) => text.parse::<u16>().map_or(Value::Null, Value::from),
        Some(value) => value.clone(),
        None => Value::Null,
    };
    let protocol = port.get("protocol").cloned().unwrap_or(json!("tcp"));
    json!({ "target": number("target"), "published": number("published"), "protocol": protocol, "mode": "host" })
}

/// What Compose adds to a mount and a stack does not know.
fn mount(mount: &mut Value) {
    if let Some(mount) = mount.as_object_mut() {
        if let Some(bind) = mount.get_mut("bind").and_then(Value::as_object_mut) {
            bind.retain(|key, _| key == "propagation");
        }
        mount.retain(|key, value| {
            key == "type" || !matches!(value, Value::Object(inner) if inner.is_empty())
        });
    }
}

/// How it is run: on one node, answering by its own address, changed only to what gets healthy, and changed back
/// otherwise. Both cannot run at once: they have the same port and the same data.
fn deploy(compose: &Value, written: Option<Value>, node: &str) -> Value {
    let mut deploy = match written {
        Some(Value::Object(written)) => written,
        _ => Map::new(),
    };
    let restart = match compose.get("restart").and_then(Value::as_str) {
        Some("no") => "none",
        Some(text) if text.starts_with("on-failure") => "on-failure",
        _ => "any",
    };
    let change = json!({ "order": "stop-first", "failure_action": "rollback", "monitor": "5s" });
    deploy.extend([
        ("endpoint_mode".to_owned(), json!("dnsrr")),
        ("replicas".to_owned(), json!(1)),
        (
            "placement".to_owned(),
            json!({ "constraints": [format!("node.id == {node}")] }),
        ),
        ("update_config".to_owned(), change),
        (
            "rollback_config".to_owned(),
            json!({ "order": "stop-first" }),
        ),
        (
            "restart_policy".to_owned(),
            json!({ "condition": restart, "delay": "2s" }),
        ),
    ]);
    // Compose takes them as numbers too, and a stack does not.
    if let Some(limits) = deploy.get_mut("resources").and_then(Value::as_object_mut) {
        let limits = limits.values_mut().filter_map(Value::as_object_mut);
        for limit in limits.flat_map(|limits| limits.values_mut()) {
            if let Value::Number(number) = limit {
                *limit = json!(number.to_string());
            }
        }
    }
    Value::Object(deploy)
}

/// Networks of containers, under the names that they have with Compose: another service may know them by these.
fn networks(compose: &Value) -> Value {
    let networks = object(compose, "networks").map(|(name, network)| {
        let external = network.get("external").and_then(Value::as_bool) == Some(true);
        let network = match network.get("name") {
            _ if external => network.clone(),
            Some(known) => json!({ "driver": "overlay", "name": known }),
            None => json!({ "driver": "overlay" }),
        };
        (name.clone(), network)
    });
    Value::Object(networks.collect())
}

fn files(compose: &Value, kind: &str, placed: &Placed<'_>) -> Value {
    let Placed {
        project, revision, ..
    } = placed;
    let named = object(compose, kind).map(|(name, file)| {
        let mut file = file.clone();
        if let Some(file) = file
            .as_object_mut()
            .filter(|file| file.contains_key("file"))
        {
            file.insert(
                "name".to_owned(),
                json!(format!("{project}-{name}-{revision}")),
            );
        }
        (name.clone(), file)
    });
    Value::Object(named.collect())
}

#[cfg(test)]
mod tests;

//! A Compose file as a stack of a Swarm: what Compose's own reading of it says, in the words that `docker stack deploy`
//! knows. Pure; stands alone because the two formats have grown apart.

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

/// The stack, as JSON, which is YAML.
///
/// `compose` is what `docker compose config --format json` prints. Secrets and configurations of a Swarm never change,
/// so the names of those that come from files get the revision.
pub fn of(compose: &[u8], project: &str, revision: &str) -> Result<Vec<u8>, String> {
    let compose: Value = serde_json::from_slice(compose).map_err(|error| error.to_string())?;
    let mut stack = Map::new();
    stack.insert("version".to_owned(), json!(VERSION));
    let mut services = Map::new();
    for (name, service) in object(&compose, "services") {
        services.insert(name.clone(), self::service(name, service)?);
    }
    if services.values().any(on_host_network) {
        stack.insert("networks".to_owned(), networks(&compose, true));
    } else {
        stack.insert("networks".to_owned(), networks(&compose, false));
    }
    stack.insert("services".to_owned(), Value::Object(services));
    let volumes = object(&compose, "volumes").map(|(name, volume)| (name.clone(), volume.clone()));
    stack.insert("volumes".to_owned(), Value::Object(volumes.collect()));
    for kind in ["secrets", "configs"] {
        stack.insert(kind.to_owned(), files(&compose, kind, project, revision));
    }
    serde_json::to_vec(&Value::Object(stack)).map_err(|error| error.to_string())
}

fn object<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value
        .get(key)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

fn service(name: &str, compose: &Value) -> Result<Value, String> {
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
    if compose.get("network_mode").and_then(Value::as_str) == Some("host") {
        service.insert("networks".to_owned(), json!({ HOST: null }));
        service.remove("hostname");
    }
    if let Some(volumes) = service.get_mut("volumes").and_then(Value::as_array_mut) {
        volumes.iter_mut().for_each(mount);
    }
    let deploy = deploy(compose, service.remove("deploy"));
    service.insert("deploy".to_owned(), deploy);
    Ok(Value::Object(service))
}

/// The name under which the host's own network is known in a stack.
const HOST: &str = "host-network";

fn on_host_network(service: &Value) -> bool {
    service.pointer(&format!("/networks/{HOST}")).is_some()
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

/// How it is run: one that answers by its own address, changed only to what gets healthy, and changed back otherwise.
fn deploy(compose: &Value, written: Option<Value>) -> Value {
    let mut deploy = match written {
        Some(Value::Object(written)) => written,
        _ => Map::new(),
    };
    deploy.insert("endpoint_mode".to_owned(), json!("dnsrr"));
    let change = json!({ "order": "stop-first", "failure_action": "rollback", "monitor": "10s" });
    deploy.entry("update_config").or_insert(change);
    deploy
        .entry("rollback_config")
        .or_insert(json!({ "order": "stop-first" }));
    let restart = match compose.get("restart").and_then(Value::as_str) {
        Some("no") => "none",
        Some(text) if text.starts_with("on-failure") => "on-failure",
        _ => "any",
    };
    deploy
        .entry("restart_policy")
        .or_insert(json!({ "condition": restart, "delay": "2s" }));
    if let Some(limits) = limits(compose) {
        deploy
            .entry("resources")
            .or_insert(json!({ "limits": limits }));
    }
    Value::Object(deploy)
}

fn limits(compose: &Value) -> Option<Value> {
    let text = |key: &str| match compose.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let mut limits = Map::new();
    limits.extend(text("mem_limit").map(|memory| ("memory".to_owned(), json!(memory))));
    limits.extend(text("cpus").map(|cpus| ("cpus".to_owned(), json!(cpus))));
    limits.extend(
        compose
            .get("pids_limit")
            .map(|pids| ("pids".to_owned(), pids.clone())),
    );
    (!limits.is_empty()).then_some(Value::Object(limits))
}

/// Networks over all hosts of the Swarm, under their own names.
fn networks(compose: &Value, host: bool) -> Value {
    let mut networks: Map<String, Value> = object(compose, "networks")
        .map(
            |(name, network)| match network.get("external").and_then(Value::as_bool) {
                Some(true) => (name.clone(), network.clone()),
                _ => (name.clone(), json!({ "driver": "overlay" })),
            },
        )
        .collect();
    if host {
        networks.insert(HOST.to_owned(), json!({ "external": true, "name": "host" }));
    }
    Value::Object(networks)
}

fn files(compose: &Value, kind: &str, project: &str, revision: &str) -> Value {
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

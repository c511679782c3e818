use super::*;

fn stack(compose: Value) -> Result<Value, String> {
    let text = serde_json::to_vec(&compose).map_err(|error| error.to_string())?;
    of(&text, "sovereign-blog", "0123456789ab")
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()))
}

/// What Compose 2.26 prints for a service with a database.
fn blog() -> Value {
    json!({
        "name": "sovereign-blog",
        "networks": { "default": { "name": "sovereign-blog_default", "ipam": {} } },
        "secrets": { "password": { "name": "sovereign-blog_password", "file": "/var/lib/sovereign/services/blog/0123456789ab/secrets/password" } },
        "services": {
            "app": {
                "command": null, "entrypoint": null, "image": "ghost@sha256:aaaa", "container_name": "x",
                "depends_on": { "db": { "condition": "service_healthy", "required": true } },
                "environment": { "url": "https://example.org" }, "labels": { "sovereign.service": "blog" },
                "healthcheck": { "test": ["CMD", "true"], "interval": "5s" },
                "mem_limit": "1073741824", "cpus": 2, "restart": "unless-stopped", "networks": { "default": null },
                "ports": [{ "mode": "ingress", "host_ip": "127.0.0.1", "target": 2368, "published": "20000", "protocol": "tcp" }],
                "volumes": [{ "type": "volume", "source": "content", "target": "/data", "volume": {} },
                            { "type": "bind", "source": "/etc/x", "target": "/x", "read_only": true, "bind": { "create_host_path": true } }]
            }
        },
        "volumes": { "content": { "name": "sovereign-blog-content" } }
    })
}

#[test]
fn a_compose_file_as_a_stack() {
    let stack = stack(blog()).expect("it fits");
    assert_eq!(stack.get("name"), None);
    let app = &stack["services"]["app"];
    for gone in [
        "depends_on",
        "container_name",
        "command",
        "entrypoint",
        "mem_limit",
        "cpus",
        "restart",
    ] {
        assert_eq!(app.get(gone), None, "{gone}");
    }
    assert_eq!(
        app["ports"],
        json!([{ "target": 2368, "published": 20000, "protocol": "tcp", "mode": "host" }])
    );
    assert_eq!(app["deploy"]["endpoint_mode"], "dnsrr");
    assert_eq!(app["deploy"]["update_config"]["failure_action"], "rollback");
    assert_eq!(app["deploy"]["restart_policy"]["condition"], "any");
    assert_eq!(
        app["deploy"]["resources"]["limits"],
        json!({ "memory": "1073741824", "cpus": "2" })
    );
    assert_eq!(
        app["volumes"][1],
        json!({ "type": "bind", "source": "/etc/x", "target": "/x", "read_only": true })
    );
    assert_eq!(
        stack["networks"],
        json!({ "default": { "driver": "overlay" } })
    );
    assert_eq!(
        stack["secrets"]["password"]["name"],
        "sovereign-blog-password-0123456789ab"
    );
    assert_eq!(
        stack["volumes"]["content"]["name"],
        "sovereign-blog-content"
    );
}

#[test]
fn the_hosts_own_network_stays_that() {
    let mut compose = blog();
    compose["services"]["app"]["network_mode"] = json!("host");
    let stack = stack(compose).expect("it fits");
    assert_eq!(
        stack["services"]["app"]["networks"],
        json!({ "host-network": null })
    );
    assert_eq!(
        stack["networks"]["host-network"],
        json!({ "external": true, "name": "host" })
    );
}

#[test]
fn what_a_swarm_cannot_do_is_said() {
    let mut compose = blog();
    compose["services"]["app"]["privileged"] = json!(true);
    assert_eq!(
        stack(compose),
        Err("its service `app` has `privileged`".to_owned())
    );
}

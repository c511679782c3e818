use super::*;

fn stack(compose: &Value) -> Result<Value, String> {
    let images = [("ghost@sha256:aaaa".to_owned(), "sha256:bbbb".to_owned())].into();
    let placed = Placed {
        project: "sovereign-blog",
        revision: "0123456789ab",
        node: "zm0fucj5",
        images: &images,
    };
    of(compose, &placed)
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
                "deploy": { "resources": { "limits": { "cpus": 2, "memory": "1073741824" } }, "placement": {} },
                "security_opt": ["no-new-privileges:true"], "restart": "unless-stopped", "networks": { "default": null },
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
    let stack = stack(&blog()).expect("it fits");
    assert_eq!(stack.get("name"), None);
    let app = &stack["services"]["app"];
    for gone in [
        "depends_on",
        "container_name",
        "command",
        "entrypoint",
        "security_opt",
        "restart",
    ] {
        assert_eq!(app.get(gone), None, "{gone}");
    }
    assert_eq!(
        app["ports"],
        json!([{ "target": 2368, "published": 20000, "protocol": "tcp", "mode": "host" }])
    );
    assert_eq!(app["image"], "sha256:bbbb");
    assert_eq!(app["deploy"]["endpoint_mode"], "dnsrr");
    assert_eq!(app["deploy"]["replicas"], 1);
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
        json!({ "default": { "driver": "overlay", "name": "sovereign-blog_default" } })
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
fn every_part_runs_on_the_node_of_the_host_that_it_was_placed_on() {
    let mut compose = blog();
    compose["services"]["db"] = json!({ "image": "mariadb@sha256:cccc" });
    let stack = stack(&compose).expect("it fits");
    for part in ["app", "db"] {
        assert_eq!(
            stack["services"][part]["deploy"]["placement"],
            json!({ "constraints": ["node.id == zm0fucj5"] }),
            "{part}"
        );
    }
    // One whose id is not known is asked for by its name.
    assert_eq!(stack["services"]["db"]["image"], "mariadb@sha256:cccc");
    let named = ["ghost@sha256:aaaa", "mariadb@sha256:cccc"].map(str::to_owned);
    assert_eq!(images(&compose), BTreeSet::from(named));
}

/// A node has a network under a name of its own, and what needs the node joins it by that name.
#[test]
fn a_network_is_found_under_the_name_that_others_know() {
    let mut node = blog();
    node["networks"] = json!({ "default": { "name": "sovereign-bitcoin", "ipam": {} } });
    let mut wallet = blog();
    wallet["networks"] = json!({
        "default": { "name": "sovereign-lightning", "ipam": {} },
        "bitcoin": { "name": "sovereign-bitcoin", "ipam": {}, "external": true },
    });
    let (node, wallet) = (stack(&node), stack(&wallet));
    assert_eq!(
        node.expect("it fits")["networks"],
        json!({ "default": { "driver": "overlay", "name": "sovereign-bitcoin" } })
    );
    assert_eq!(
        wallet.expect("it fits")["networks"],
        json!({
            "default": { "driver": "overlay", "name": "sovereign-lightning" },
            "bitcoin": { "name": "sovereign-bitcoin", "ipam": {}, "external": true },
        })
    );
}

#[test]
fn what_a_swarm_cannot_do_is_said() {
    let mut compose = blog();
    compose["services"]["app"]["privileged"] = json!(true);
    assert_eq!(
        stack(&compose),
        Err("its service `app` has `privileged`".to_owned())
    );
}

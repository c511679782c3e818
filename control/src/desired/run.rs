//! How a proxy is run: a unit of systemd with its sockets, or a container with the host's network. Stands alone
//! because it is what the host's own manager reads, not the proxy.
//!
//! Both start the program and read the configuration by names that stay while what they lead to changes: the links
//! `bin/sovereign-proxy` (to a program beside it) and `live` (to the folder of a revision), in [`FOLDER`]. A new
//! configuration is in force after `live` has been moved and the proxy has been told to reload; a new program
//! after the link has been moved and the running one has been told to upgrade.

use sovereign_config::stack::model::ProxyAs;
use toml::{Table, Value};

use super::{File, Files};

/// Where on a host everything of its proxy lies.
pub const FOLDER: &str = "/var/lib/sovereign/proxy";
/// The image in which it runs where it is a container; the program comes from the host.
pub const IMAGE: &str = "debian:12-slim";
/// The name of its unit, and of its Compose project.
pub const NAME: &str = "sovereign-proxy";

/// The folder that systemd makes for it while it runs.
const RUNTIME: &str = "/run/sovereign-proxy";

/// Where a running proxy is found on its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its state folder, as it sees it.
    pub state: &'static str,
    /// Its admin socket, for root on the host and for itself.
    pub admin: &'static str,
    /// The configuration it reads, as it sees it.
    pub config: &'static str,
    /// The folder of programs, as it sees it.
    pub programs: &'static str,
}

/// Where a proxy is found that is run in this way.
pub fn place(runs: ProxyAs) -> Place {
    match runs {
        ProxyAs::Systemd => Place {
            state: "/var/lib/sovereign-proxy",
            admin: "/run/sovereign-proxy/admin.sock",
            config: "/run/sovereign-proxy/proxy.toml",
            programs: "/opt/sovereign-proxy",
        },
        ProxyAs::Container => Place {
            state: "/var/lib/sovereign/proxy/state",
            admin: "/var/lib/sovereign/proxy/run/admin.sock",
            config: "/var/lib/sovereign/proxy/live/proxy.toml",
            programs: "/var/lib/sovereign/proxy/bin",
        },
    }
}

/// The addresses that a configuration listens at: plain HTTP, and HTTPS.
pub(super) fn addresses(configuration: &Table) -> (Vec<String>, Vec<String>) {
    let listen = configuration.get("listen");
    let named = |key: &str, default: &str| match listen.and_then(|listen| listen.get(key)) {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(list)) => {
            let list = list.iter().filter_map(Value::as_str);
            list.map(str::to_owned).collect()
        }
        _ => vec![default.to_owned()],
    };
    let sites = configuration.get("site").and_then(Value::as_array);
    let off = |site: &Value| site.get("tls").and_then(Value::as_str) == Some("off");
    let all_off = sites.is_some_and(|sites| sites.iter().all(off));
    let https = if all_off {
        Vec::new()
    } else {
        named("https", "[::]:443")
    };
    (named("http", "[::]:80"), https)
}

/// What root runs so that a proxy run by systemd may read its configuration and the files that it names, whoever it
/// is there: copies for it alone, in its own folder. `folder` is [`FOLDER`], as root sees it.
pub fn takes(folder: &str) -> [Vec<String>; 2] {
    let copy = ["cp", "-r", "--remove-destination", "--"].map(str::to_owned);
    let copy = copy
        .into_iter()
        .chain([format!("{folder}/live/."), RUNTIME.to_owned()]);
    let own = format!("--reference={RUNTIME}");
    let own = ["chown", "-R", &own, "--", RUNTIME].map(str::to_owned);
    [copy.collect(), own.into()]
}

/// The unit and its sockets. The unit's user is made up by systemd and may read nothing of the folder above, so root
/// hands it the configuration, and programs are shown to it in another place.
pub(super) fn unit(http: &[String], https: &[String]) -> Files {
    let place = place(ProxyAs::Systemd);
    let (program, take) = (
        format!("{}/{NAME}", place.programs),
        takes(FOLDER).map(|argv| format!("+/usr/bin/{}", argv.join(" "))),
    );
    let take = |when: &str| {
        take.iter()
            .map(|line| format!("{when}={line}\n"))
            .collect::<String>()
    };
    let service = format!(
        "# Written by sovereign from stack.toml; the next deployment writes it anew.\n\
         [Unit]\n\
         Description=The proxy of Sovereign Stack\n\
         Wants=network-online.target\n\
         After=network-online.target {NAME}.socket\n\
         Requires={NAME}.socket\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         Type=notify\n\
         NotifyAccess=all\n\
         {before}\
         ExecStart={program} run --config {config}\n\
         {again}\
         ExecReload={program} reload --admin {admin}\n\
         Restart=always\n\
         RestartSec=1s\n\
         TimeoutStartSec=2m\n\
         TimeoutStopSec=90s\n\
         LimitNOFILE=65536\n\
         {SANDBOX}\
         BindReadOnlyPaths={FOLDER}/bin:{programs}\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        before = take("ExecStartPre"),
        again = take("ExecReload"),
        config = place.config,
        admin = place.admin,
        programs = place.programs,
    );
    Files::from([
        (format!("{NAME}.service"), File::plain(service)),
        (format!("{NAME}.socket"), File::plain(sockets(http, https))),
    ])
}

const SANDBOX: &str = "\
DynamicUser=yes
StateDirectory=sovereign-proxy
StateDirectoryMode=0700
RuntimeDirectory=sovereign-proxy
RuntimeDirectoryMode=0700
UMask=0077
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
";

/// Sockets that stay open while the proxy starts anew: who connects then waits, and is not refused.
fn sockets(http: &[String], https: &[String]) -> String {
    let listen: String = http
        .iter()
        .chain(https)
        .map(|address| format!("ListenStream={address}\n"))
        .collect();
    format!(
        "# Written by sovereign from stack.toml; the next deployment writes it anew.\n\
         [Unit]\n\
         Description=Sockets of the proxy of Sovereign Stack\n\
         \n\
         [Socket]\n\
         {listen}\
         BindIPv6Only=both\n\
         Backlog=4096\n\
         NoDelay=yes\n\
         \n\
         [Install]\n\
         WantedBy=sockets.target\n"
    )
}

/// The Compose file. The program is the container's first process: an upgrade replaces it from within.
pub(super) fn container(image: &str) -> Files {
    let place = place(ProxyAs::Container);
    let text = |text: &str| serde_json::Value::from(text.replace('$', "$$")).to_string();
    let program = format!("{}/{NAME}", place.programs);
    let compose = format!(
        "# Written by sovereign from stack.toml; the next deployment writes it anew.\n\
         services:\n  \
           proxy:\n    \
             image: {image}\n    \
             command: [{program}, \"run\", \"--config\", {config}]\n    \
             network_mode: host\n    \
             restart: always\n    \
             stop_grace_period: 90s\n    \
             read_only: true\n    \
             cap_drop: [ALL]\n    \
             cap_add: [NET_BIND_SERVICE]\n    \
             security_opt: [\"no-new-privileges:true\"]\n    \
             tmpfs: [/tmp]\n    \
             volumes:\n      \
               - {FOLDER}:{FOLDER}:ro\n      \
               - {FOLDER}/state:{FOLDER}/state\n      \
               - {FOLDER}/run:{FOLDER}/run\n      \
               - /etc/ssl/certs:/etc/ssl/certs:ro\n    \
             healthcheck:\n      \
               test: [\"CMD\", {program}, \"status\", \"--admin\", {admin}]\n      \
               interval: 10s\n      \
               timeout: 5s\n      \
               retries: 3\n      \
               start_period: 60s\n    \
             logging:\n      \
               driver: json-file\n      \
               options: {{ max-size: 50m, max-file: \"5\" }}\n",
        image = text(image),
        program = text(&program),
        config = text(place.config),
        admin = text(place.admin),
    );
    Files::from([("compose.yaml".to_owned(), File::plain(compose))])
}

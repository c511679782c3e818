//! What the applications document: the variables that their images take, and the keys of their files. A name that a
//! template has and an application does not would be ignored in silence, so every one stands here, with where it is
//! documented.

use super::Rendered;

/// Variables, by the image that takes them.
const VARIABLES: [(&str, &[&str]); 11] = [
    // ghost.org/docs/config: keys with two underscores between them; core/shared/config/defaults.json.
    (
        "ghost",
        &[
            "url",
            "database__client",
            "database__connection__host",
            "database__connection__user",
            "database__connection__password",
            "database__connection__database",
            "privacy__useUpdateCheck",
            "privacy__useGravatar",
            "privacy__useRpcPing",
            "explore__update_url",
            "mail__transport",
            "security__staffDeviceVerification",
        ],
    ),
    // mariadb.com/kb: "MariaDB Server Docker Official Image Environment Variables".
    (
        "mariadb",
        &[
            "MARIADB_DATABASE",
            "MARIADB_USER",
            "MARIADB_PASSWORD_FILE",
            "MARIADB_ROOT_PASSWORD_FILE",
            "MARIADB_AUTO_UPGRADE",
        ],
    ),
    // hub.docker.com/_/mysql, "Environment Variables" and "Docker Secrets".
    (
        "mysql",
        &[
            "MYSQL_DATABASE",
            "MYSQL_USER",
            "MYSQL_PASSWORD_FILE",
            "MYSQL_ROOT_PASSWORD_FILE",
        ],
    ),
    // hub.docker.com/_/postgres, the same sections.
    (
        "postgres",
        &["POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD_FILE"],
    ),
    // docs.gitea.com: "Config Cheat Sheet"; GITEA__section__KEY and __FILE: "Installation with Docker".
    ("gitea/gitea", FORGE),
    // forgejo.org/docs: the same, as FORGEJO__section__KEY.
    ("codeberg.org/forgejo/forgejo", FORGE),
    // github.com/nextcloud/docker, "Auto configuration via environment variables" and what follows it.
    (
        "nextcloud",
        &[
            "POSTGRES_HOST",
            "POSTGRES_DB",
            "POSTGRES_USER",
            "POSTGRES_PASSWORD_FILE",
            "MYSQL_HOST",
            "MYSQL_DATABASE",
            "MYSQL_USER",
            "MYSQL_PASSWORD_FILE",
            "REDIS_HOST",
            "NEXTCLOUD_ADMIN_USER",
            "NEXTCLOUD_ADMIN_PASSWORD_FILE",
            "NEXTCLOUD_TRUSTED_DOMAINS",
            "TRUSTED_PROXIES",
            "APACHE_DISABLE_REWRITE_IP",
            "OVERWRITEPROTOCOL",
            "OVERWRITECLIURL",
            "APACHE_BODY_LIMIT",
            "PHP_UPLOAD_LIMIT",
            "PHP_MEMORY_LIMIT",
        ],
    ),
    // BTCPayServer/Configuration/DefaultConfiguration.cs: options with BTCPAY_ before them.
    ("btcpayserver/btcpayserver", BTCPAY),
    ("btcpay.example/server", BTCPAY),
    // NBXplorer/Configuration/DefaultConfiguration.cs: options with NBXPLORER_ before them.
    (
        "nicolasdorier/nbxplorer",
        &[
            "NBXPLORER_NETWORK",
            "NBXPLORER_BIND",
            "NBXPLORER_DATADIR",
            "NBXPLORER_SIGNALFILESDIR",
            "NBXPLORER_TRIMEVENTS",
            "NBXPLORER_CHAINS",
            "NBXPLORER_BTCRPCURL",
            "NBXPLORER_BTCRPCUSER",
            "NBXPLORER_BTCRPCPASSWORD",
            "NBXPLORER_BTCNODEENDPOINT",
            "NBXPLORER_POSTGRES",
        ],
    ),
    // The Dockerfile of github.com/ElementsProject/lightning.
    ("elementsproject/lightningd", &["LIGHTNINGD_NETWORK"]),
];

const BTCPAY: &[&str] = &[
    "BTCPAY_NETWORK",
    "BTCPAY_BIND",
    "BTCPAY_ROOTPATH",
    "BTCPAY_DATADIR",
    "BTCPAY_CHAINS",
    "BTCPAY_BTCEXPLORERURL",
    "BTCPAY_BTCLIGHTNING",
    "BTCPAY_DOCKERDEPLOYMENT",
    "BTCPAY_POSTGRES",
    "BTCPAY_EXPLORERPOSTGRES",
];

/// Of both forges, without the name that stands before them.
const FORGE: &[&str] = &[
    "USER_UID",
    "USER_GID",
    "DEFAULT__APP_NAME",
    "server__DOMAIN",
    "server__ROOT_URL",
    "server__HTTP_PORT",
    "server__SSH_DOMAIN",
    "server__SSH_PORT",
    "server__DISABLE_SSH",
    "database__DB_TYPE",
    "database__HOST",
    "database__NAME",
    "database__USER",
    "database__PASSWD__FILE",
    "database__PATH",
    "security__INSTALL_LOCK",
    "security__SECRET_KEY__FILE",
    "security__REVERSE_PROXY_LIMIT",
    "security__REVERSE_PROXY_TRUSTED_PROXIES",
    "service__DISABLE_REGISTRATION",
    "picture__DISABLE_GRAVATAR",
    "picture__ENABLE_FEDERATED_AVATAR",
    "mailer__ENABLED",
    // `cron.update_checker`: a dot in the name of a section is _0X2E_.
    "cron_0X2E_update_checker__ENABLED",
];

/// Keys of files, by the kind of service and the file.
const KEYS: [(&str, &str, &[&str]); 4] = [
    // bitcoind -help, of 29; a section is the name of a chain as `chain` takes it (doc/bitcoin-conf.md).
    (
        "bitcoin",
        "bitcoin.conf",
        &[
            "chain",
            "server",
            "printtoconsole",
            "rpcauth",
            "prune",
            "txindex",
            "dbcache",
            "listenonion",
            "fallbackfee",
            "[main]",
            "[testnet4]",
            "[signet]",
            "[regtest]",
            "rpcbind",
            "rpcport",
            "rpcallowip",
            "bind",
        ],
    ),
    // docs.corelightning.org: lightningd-config(5).
    (
        "lightning",
        "secrets/config",
        &[
            "bitcoin-rpcconnect",
            "bitcoin-rpcport",
            "bitcoin-rpcuser",
            "bitcoin-rpcpassword",
            "bind-addr",
            "announce-addr",
            "alias",
            "database-upgrade",
            "log-level",
        ],
    ),
    // radicale.org: "Configuration".
    (
        "radicale",
        "config",
        &[
            "[server]",
            "hosts",
            "max_connections",
            "timeout",
            "[auth]",
            "type",
            "htpasswd_filename",
            "htpasswd_encryption",
            "delay",
            "[storage]",
            "filesystem_folder",
            "[rights]",
            "[web]",
            "[logging]",
            "level",
        ],
    ),
    // strfry.conf of github.com/hoytech/strfry.
    (
        "nostr",
        "strfry.conf",
        &[
            "db",
            "relay",
            "bind",
            "port",
            "nofiles",
            "realIpHeader",
            "info",
            "name",
            "description",
            "pubkey",
            "contact",
            "autoPingSeconds",
            "writePolicy",
            "plugin",
            "logging",
            "dbScanPerf",
            "invalidEvents",
            "events",
            "maxEventSize",
            "rejectEventsNewerThanSeconds",
        ],
    ),
];

/// Every variable and every key is one that the application knows.
pub(super) fn settings_are_those_of_the_application(one: &Rendered) {
    for (name, part) in one.parts() {
        let image = part["image"].as_str().unwrap_or_default();
        let image = image.split('@').next().unwrap_or_default();
        let known = VARIABLES.iter().find(|(of, _)| *of == image);
        let variables = part["environment"].as_object().into_iter().flatten();
        for (variable, _) in variables {
            let bare = variable
                .strip_prefix("FORGEJO__")
                .or_else(|| variable.strip_prefix("GITEA__"))
                .unwrap_or(variable);
            let is_known = known.is_some_and(|(_, names)| names.contains(&bare));
            assert!(
                is_known,
                "{}: {image} ({name}) documents no {variable}",
                one.what
            );
        }
    }
    let of_kind = KEYS.iter().filter(|(kind, ..)| *kind == one.service.kind);
    for (_, path, known) in of_kind {
        let file = &one.service.files[*path];
        let text = String::from_utf8_lossy(&file.content);
        let found: Vec<String> = text.lines().filter_map(key).collect();
        assert!(!found.is_empty(), "{}: nothing in {path}", one.what);
        for key in found {
            assert!(
                known.contains(&&*key),
                "{}: no documented {key:?} in {path}",
                one.what
            );
        }
    }
}

/// The key of a line, or the section that begins with it.
fn key(line: &str) -> Option<String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', '}']) {
        return None;
    }
    if line.starts_with('[') {
        return Some(line.to_owned());
    }
    let end = line.find(['=', '{', ' ']).unwrap_or(line.len());
    Some(line[..end].to_owned())
}

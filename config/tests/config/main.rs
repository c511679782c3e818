//! The areas of the tests: every example, the template and the presets are sound (`examples`),
//! every bad file has its message checked in (`bad`), written values arrive in the model
//! (`model`), those about certificates from authorities too (`certificates`); `stack` is the same for the other file.

#![allow(missing_docs)]

mod bad;
mod certificates;
mod examples;
mod model;
mod stack;

use std::path::{Path, PathBuf};

use sovereign_config::{Report, model::Proxy};

/// The folder of this package.
pub(crate) fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Parses text as `proxy.toml` in an empty folder.
pub(crate) fn parse(text: &str) -> Result<Proxy, Report> {
    sovereign_config::parse("proxy.toml", text, Path::new("/nonexistent"))
}

/// Every `.toml` file of a folder, in order.
pub(crate) fn toml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder is part of the repository")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    files
}

/// Puts a certificate and its key, as far as the checks look at them, into a folder.
pub(crate) fn write_certificate(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let write = |name: &str, label: &str, mode| {
        let path = folder.join(name);
        let text = format!("-----BEGIN {label}-----\nAA==\n-----END {label}-----\n");
        std::fs::write(&path, text).expect("writable");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("ours");
    };
    write("chain.pem", "CERTIFICATE", 0o644);
    write("key.pem", "PRIVATE KEY", 0o600);
    write("open-key.pem", "PRIVATE KEY", 0o644);
    // A sequence of nothing: as far as anybody looks here, that is a certificate.
    std::fs::write(
        folder.join("clients.pem"),
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    )
    .expect("writable");
    for (name, secret) in [
        (
            "eab.key",
            "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n",
        ),
        ("tsig.key", "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3I=\n"),
        ("feed-secret", "Ieph4aeshie9ohTh\n"),
        ("etcd-password", "correct horse\n"),
        ("short-secret", "no\n"),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, secret).expect("writable");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("ours");
    }
    let open = folder.join("open-secret");
    std::fs::write(&open, "Ieph4aeshie9ohTh\n").expect("writable");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).expect("ours");
}

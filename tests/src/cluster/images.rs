//! Images of containers that `tests/run` prepares, under whatever name a stack knows them by, and small
//! variations of them: a new version is the same layers with another configuration.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::machine::Machine;
use crate::lab::{component, system_program};

/// An image: what stands in for a real one of that kind.
#[derive(Debug, Clone)]
pub struct Image {
    /// Which it is, as long as it is no variation.
    kind: Option<String>,
    config: Value,
    layers: Vec<String>,
}

impl Image {
    /// A folder of `components/images`: `debian`, `busybox`, `ghost`, `mariadb` ...
    pub fn of(kind: &str) -> Self {
        let folder = component("images").join(kind);
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("no image {}: {error}", path.display()))
        };
        Self {
            kind: Some(kind.to_owned()),
            config: serde_json::from_str(&read("config.json")).expect("the component writes JSON"),
            layers: read("layers").lines().map(str::to_owned).collect(),
        }
    }

    /// The same with a label: another image, with an id of its own.
    pub fn labelled(mut self, name: &str, value: &str) -> Self {
        self.kind = None;
        self.config["config"]["Labels"][name] = json!(value);
        self
    }

    /// The same that runs something else.
    pub fn running(mut self, command: &[&str]) -> Self {
        self.kind = None;
        self.config["config"]["Entrypoint"] = Value::Null;
        self.config["config"]["Cmd"] = json!(command);
        self
    }

    /// Gives it to the engine of `machine` as `name`, over no network; says its id there.
    pub async fn load(&self, machine: &Machine, name: &str) -> String {
        if !self.is_in_stock(machine, name).await {
            self.send(machine, name).await;
        }
        let format = ["docker", "image", "inspect", "--format", "{{.Id}}", name];
        machine.run(&format).await.expect(0).stdout.trim().into()
    }

    /// Whether the machine has it from the start; then it is called `name` as well.
    async fn is_in_stock(&self, machine: &Machine, name: &str) -> bool {
        let Some(kind) = &self.kind else { return false };
        let tag = ["docker", "tag", &format!("stand-in/{kind}"), name];
        machine.run(&tag).await.code == 0
    }

    async fn send(&self, machine: &Machine, name: &str) {
        let archive = self.archive(name);
        let mut command = machine.command(&["docker", "load", "--quiet"]);
        command.stdin(Stdio::piped());
        let tar = move || {
            let mut tar = Command::new(system_program("tar"));
            tar.args(&archive.arguments);
            let mut tar = tar
                .stdout(Stdio::piped())
                .spawn()
                .unwrap_or_else(|error| panic!("tar does not start: {error}"));
            let packed = tar.stdout.take().expect("it is a pipe");
            let loaded = command
                .stdin(packed)
                .output()
                .unwrap_or_else(|error| panic!("nsenter does not start: {error}"));
            let status = tar.wait().expect("a child can be waited for");
            assert!(
                loaded.status.success() && status.success(),
                "docker load: {}",
                String::from_utf8_lossy(&loaded.stderr)
            );
            drop(archive);
        };
        tokio::task::spawn_blocking(tar)
            .await
            .expect("the image is loaded");
    }

    /// The arguments with which tar writes what `docker load` reads.
    fn archive(&self, name: &str) -> Archive {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let files: Vec<_> = self
            .layers
            .iter()
            .map(|layer| format!("{layer}.tar"))
            .collect();
        let manifest = json!([{ "Config": "config.json", "RepoTags": [name], "Layers": files }]);
        let write = |file: &str, json: &Value| {
            fs::write(folder.path().join(file), json.to_string()).expect("the folder is ours");
        };
        write("manifest.json", &manifest);
        write("config.json", &self.config);
        let mut arguments: Vec<PathBuf> = ["--create", "--file=-", "--directory"]
            .map(PathBuf::from)
            .to_vec();
        arguments.push(folder.path().to_owned());
        arguments.extend(["manifest.json", "config.json", "--directory"].map(PathBuf::from));
        arguments.push(component("images/layers"));
        arguments.extend(files.iter().map(PathBuf::from));
        Archive {
            arguments,
            _folder: folder,
        }
    }
}

struct Archive {
    arguments: Vec<PathBuf>,
    _folder: tempfile::TempDir,
}

//! An operator's desk: machines, an identity, images on the managing machine, and a `stack.toml` to write.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use sovereign_tests::client::Answer;
use sovereign_tests::cluster::{Make, Outcome};
use sovereign_tests::wait::within;
use sovereign_tests::{Client, Cluster, Image, Lab, Target};

/// Longer than any answer takes, held back or not.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a session of a deployment begins with.
#[derive(Debug)]
pub struct Stage {
    /// The machines.
    pub cluster: Cluster,
    /// Who may read the secrets.
    recipient: String,
    /// Whether the machines have images from the start.
    stocked: bool,
}

impl Stage {
    /// `count` machines, and an operator who has an identity.
    pub async fn open(lab: &Lab, count: u8) -> Self {
        Self::at(Cluster::start(lab, count).await).await
    }

    /// The same, and the machines have the images already: for sessions that do not want to see them sent.
    pub async fn stocked(lab: &Lab, count: u8) -> Self {
        let cluster = Cluster::of(lab, &vec![Make::Stocked; usize::from(count)]).await;
        Self {
            stocked: true,
            ..Self::at(cluster).await
        }
    }

    /// The same at machines that are there.
    pub async fn at(cluster: Cluster) -> Self {
        let init = [
            "init",
            "--yes",
            "--ssh",
            "root@10.77.0.11",
            "--use",
            "ghost",
        ];
        cluster.sovereign(&init).await.expect(0);
        let written = std::fs::read_to_string(cluster.home().join("stack/stack.toml"))
            .expect("`init` has written it");
        let recipient = written
            .split('"')
            .find(|word| word.starts_with("age1"))
            .unwrap_or_else(|| panic!("no recipient in {written}"));
        Self {
            recipient: recipient.to_owned(),
            stocked: false,
            cluster,
        }
    }

    /// Gives images to the engine of the managing machine: what stands in for what, under its real name.
    pub async fn images(&self, images: &[(&str, &str)]) {
        for (kind, name) in images {
            let id = Image::of(kind).load(self.cluster.management(), name).await;
            if self.stocked {
                self.have(kind, name, &id).await;
            }
        }
    }

    /// Calls an image of the machines as one is called that was sent to them.
    async fn have(&self, kind: &str, name: &str, id: &str) {
        let (plain, _) = name.rsplit_once(':').expect("a name and a tag");
        let id = &id["sha256:".len()..][..12];
        let sent = format!("sovereign.local/{plain}:{id}");
        for machine in self.cluster.machines() {
            Image::of(kind).load(machine, &sent).await;
        }
    }

    /// Writes `stack.toml`: what every stack has, then `rest`.
    pub fn write(&self, rest: &str) {
        let recipient = &self.recipient;
        let head = format!(
            "[stack]\nname = \"lab\"\nrecipients = [\"{recipient}\"]\nimages = \"local\"\n"
        );
        self.cluster.write("stack/stack.toml", head + rest);
    }

    /// Runs `sovereign` to its end, which has to be a good one; gives both of its outputs.
    pub async fn sovereign(&self, arguments: &[&str]) -> String {
        let outcome = self.cluster.sovereign(arguments).await;
        if outcome.code != 0 {
            self.show_hosts().await;
        }
        said(&outcome.expect(0))
    }

    /// The TLS address of a host's proxy, asked for `site`; the authority of that proxy is trusted, and nobody else.
    pub fn https(&self, host: &str, site: &str) -> Target {
        let address = SocketAddr::from((self.cluster.machine(host).address(), 443));
        Target::tls(address, site, &self.root_ca(host))
    }

    /// The certificate of the local authority of a host's proxy.
    pub fn root_ca(&self, host: &str) -> PathBuf {
        let machine = self.cluster.machine(host);
        // As a unit, or in a container.
        let places = [
            "/var/lib/private/sovereign-proxy/ca/root.pem",
            "/var/lib/sovereign/proxy/state/ca/root.pem",
        ];
        let mut places = places.iter().map(|place| machine.inside(place));
        let found = places.find(|place| place.is_file());
        found.unwrap_or_else(|| panic!("the proxy of {host} has no authority"))
    }

    /// A page of a site as a host's proxy gives it, asked for from the hosts' network.
    pub async fn page(&self, host: &str, site: &str, path: &str) -> Answer {
        self.page_with(host, site, path, &[]).await
    }

    /// The same with fields.
    pub async fn page_with(
        &self,
        host: &str,
        site: &str,
        path: &str,
        fields: &'static [(&'static str, &'static str)],
    ) -> Answer {
        let client = Client::h2(&self.https(host, site));
        let (what, path) = (format!("{site}{path} at {host}"), path.to_owned());
        let get = async move { client.get_with(&path, fields).await };
        within(&what, PATIENCE, self.cluster.inside().run(get)).await
    }

    /// What the containers and the proxies are at: for a session that has failed.
    async fn show_hosts(&self) {
        for machine in self.cluster.machines() {
            let look = "docker ps -a; for id in $(docker ps -aq); do
                    echo \"--- $(docker inspect --format '{{.Name}} {{json .State.Health}}' $id)\"; docker logs --tail 15 $id 2>&1
                done; journalctl -u sovereign-proxy --no-pager --lines 30";
            let seen = machine.run(&["sh", "-c", look]).await;
            eprintln!("=== {}\n{}", machine.name(), said(&seen));
        }
    }
}

/// Both outputs of a command.
pub fn said(outcome: &Outcome) -> String {
    format!("{}{}", outcome.stdout, outcome.stderr)
}

/// Fails where a text lacks one of these.
#[track_caller]
pub fn assert_says(text: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(text.contains(wanted), "not said: {wanted}\n{text}");
    }
}

//! What the admin API can do to the daemon.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sovereign_config::model::Proxy;

use super::{App, Stop, load_set};
use crate::admin::fetch::Wish;
use crate::admin::{self, Control, Purge, Purged, UpgradeRequest};
use crate::certs::{Form, Overview, Trial};
use crate::handover::{self, Handover, News, Sockets, announce};
use crate::internal::{self, Fetched};
use crate::listener::{Listener, name, wanted};
use crate::shared::Live;
use crate::status::{SiteStatus, Status};

/// How long a new program may take until it is ready.
const UPGRADE: Duration = Duration::from_secs(30);

/// The daemon, as the admin API sees it.
struct Handle(Arc<App>);

impl App {
    /// Answers the admin API until the daemon ends, or another one has taken the socket over.
    pub(super) fn serve_admin(self: &Arc<Self>) {
        let mut stop = self.admin_stop.subscribe();
        let stopped = async move {
            let _ = stop.wait_for(|stopped| *stopped).await;
        };
        let listener = match std::os::fd::AsFd::as_fd(&*self.admin).try_clone_to_owned() {
            Ok(socket) => std::os::unix::net::UnixListener::from(socket),
            Err(error) => return tracing::error!(%error, "the admin API cannot be served"),
        };
        match tokio::net::UnixListener::from_std(listener) {
            Ok(listener) => {
                let control = Arc::new(Handle(self.clone()));
                let task = tokio::spawn(admin::serve(listener, control, stopped));
                *self.admin_task.lock() = Some(task);
            }
            Err(error) => tracing::error!(%error, "the admin API cannot be served"),
        }
    }

    /// Reads the configuration again and takes it, if nothing is wrong with it.
    pub(super) async fn reload(self: &Arc<Self>) -> Result<String, String> {
        announce(News::Reloading);
        let outcome = self.take_configuration().await;
        announce(News::Ready);
        match &outcome {
            Ok(_) => self.shared.metrics.reloads.inc(),
            Err(_) => self.shared.metrics.reloads_refused.inc(),
        }
        self.note_reload(&outcome);
        outcome
    }

    async fn take_configuration(self: &Arc<Self>) -> Result<String, String> {
        let Some(path) = self.config_path.clone() else {
            return Err("this daemon was started without a configuration file".to_owned());
        };
        // Before the file is read: of two reloads at once the later one takes what was read later.
        let _turn = self.shared.certificates.turn().await;
        let config = tokio::task::spawn_blocking(move || sovereign_config::load(&path))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|report| report.to_string())?;
        let (certificates, unwritten) = (
            self.shared.certificates.clone(),
            self.shared.acme.unwritten(),
        );
        let load = move |sites: &[_], state: &_| certificates.load(sites, state, &unwritten);
        let set = load_set(&config, load)
            .await
            .map_err(|error| format!("{error:#}"))?;
        let feed = super::published(&config)
            .await
            .map_err(|error| format!("{error:#}"))?;
        let before = self.shared.live();
        let later = unchangeable(&before.config, &config);
        // Everything that can fail comes before anything that changes.
        let opened = self.open_new_listeners(&config)?;
        self.shared
            .access_log
            .reopen(&config.log)
            .map_err(|error| format!("opening the access log: {error}"))?;
        let demo = super::demonstration::socket(&before.config.state);
        let mut live = Live::new(config, Some(&before), &self.shared.metrics, &demo);
        live.feed = feed;
        let sites = live.router.sites().len();
        self.shared.certificates.swap(set);
        self.shared.take(live);
        self.shared.acme.take(&self.shared.live().config);
        self.tell_of_terms();
        self.change_listeners(opened);
        let mut done = format!("reloaded: {sites} {}", plural(sites, "site", "sites"));
        if !later.is_empty() {
            done.push_str(&format!(
                "; {} as before until the next start",
                later.join(", ")
            ));
        }
        Ok(done)
    }

    fn open_new_listeners(&self, config: &Proxy) -> Result<Vec<Listener>, String> {
        let known: Vec<_> = self
            .listeners
            .lock()
            .iter()
            .map(|l| l.name.clone())
            .collect();
        wanted(&config.listen)
            .into_iter()
            .filter(|(role, address)| !known.contains(&name(*role, *address)))
            .map(|(role, address)| {
                Listener::open(role, address, &mut Handover::default())
                    .map_err(|error| format!("{:#}", anyhow::Error::from(error)))
            })
            .collect()
    }

    fn change_listeners(self: &Arc<Self>, opened: Vec<Listener>) {
        let wanted: Vec<_> = wanted(&self.shared.live().config.listen)
            .into_iter()
            .map(|(role, address)| name(role, address))
            .collect();
        let mut listeners = self.listeners.lock();
        listeners.retain(|listener| {
            let stays = wanted.contains(&listener.name);
            if !stays {
                listener.stop();
            }
            stays
        });
        for listener in &opened {
            listener.accept(&self.shared);
        }
        listeners.extend(opened);
    }

    async fn replace(&self, what: UpgradeRequest) -> Result<String, String> {
        if self.stop.borrow().is_some() {
            return Err("this daemon is stopping already".to_owned());
        }
        let args = self.args_reading(what.config)?;
        let program = match what.program {
            Some(program) => program,
            None => handover::program()
                .map_err(|error| format!("finding the program to start: {error}"))?,
        };
        let sockets = self
            .sockets()
            .map_err(|error| format!("duplicating the listening sockets: {error}"))?;
        // From here on what is stored belongs to the new process; this one still reads it.
        self.shared.cache.pause().await;
        // What it orders, it answers for.
        self.shared.acme.pause().await;
        let offered = handover::offer(&program, &args, sockets, UPGRADE).await;
        let pid = offered.map_err(|error| {
            self.shared.acme.resume();
            self.shared.cache.resume();
            format!("{:#}", anyhow::Error::from(error))
        })?;
        // The socket belongs to the new process from here on; a daemon that only drains still answers.
        self.admin_stop.send_replace(true);
        self.stop.send_replace(Some(Stop {
            deadline: self.shared.live().config.drain,
            replaced: true,
        }));
        Ok(format!(
            "upgraded: process {pid} serves, process {} drains",
            std::process::id()
        ))
    }

    /// The arguments of a successor, which reads our configuration unless another one is named.
    fn args_reading(&self, config: Option<PathBuf>) -> Result<Vec<OsString>, String> {
        let Some(config) = config else {
            return Ok(self.args.clone());
        };
        if self.demonstration.is_some() {
            return Err("the demonstration writes its configuration itself".to_owned());
        }
        Ok(vec!["run".into(), "--config".into(), config.into()])
    }

    fn sockets(&self) -> std::io::Result<Sockets> {
        let mut sockets = Sockets::new();
        for listener in &*self.listeners.lock() {
            sockets.add(listener.name.clone(), listener)?;
        }
        sockets.add(self.lock.name.clone(), &self.lock)?;
        let admin = self.shared.live().config.admin.display().to_string();
        sockets.add(format!("admin {admin}"), &*self.admin)?;
        if let Some(demonstration) = &self.demonstration {
            for (path, socket) in &demonstration.sockets {
                sockets.add(format!("demo {}", path.display()), &**socket)?;
            }
        }
        Ok(sockets)
    }
}

#[async_trait]
impl Control for Handle {
    fn status(&self) -> Status {
        self.0.report()
    }

    fn sites(&self) -> Vec<SiteStatus> {
        self.0.sites()
    }

    async fn reload(&self) -> Result<String, String> {
        self.0.reload().await
    }

    async fn upgrade(&self, what: UpgradeRequest) -> Result<String, String> {
        self.0.replace(what).await
    }

    async fn drain(&self, deadline: Option<Duration>) -> Result<String, String> {
        let deadline = deadline.unwrap_or(self.0.shared.live().config.drain);
        self.0.stop.send_replace(Some(Stop {
            deadline,
            replaced: false,
        }));
        let open = self.0.shared.metrics.connections.get();
        let connections = plural(open as usize, "connection", "connections");
        Ok(format!(
            "draining {open} {connections}, for {deadline:?} at the most"
        ))
    }

    async fn purge(&self, what: Purge) -> Result<Purged, String> {
        let cache = self.0.shared.cache.clone();
        let purged = tokio::task::spawn_blocking(move || {
            let concerned = cache.purge_counted(&what.scopes, &what.pages, what.hard);
            let purged = Purged::new(concerned, what.hard);
            // In force already; on disk it outlives a power cut as well.
            match cache.purges().flush() {
                Ok(()) => purged,
                Err(error) => purged.until_restart(&error),
            }
        });
        let purged = purged.await.map_err(|error| error.to_string())?;
        self.0.shared.metrics.purges.inc();
        tracing::info!("{}", purged.message);
        Ok(purged)
    }

    async fn fetch(&self, wish: &Wish) -> Result<Fetched, String> {
        let (scheme, host, target) = wish.parts()?;
        let asking = internal::asking(wish.encoding.as_deref());
        internal::fetch(&self.0.shared, scheme, host, target, asking, wish.bound()).await
    }

    fn certs(&self) -> Overview {
        self.0.shared.certs().overview()
    }

    async fn renew(&self, names: &[String]) -> Result<String, String> {
        self.0.shared.acme.renew_now(names).await
    }

    async fn dry_run(&self, names: &[String]) -> Result<Vec<Trial>, String> {
        let runs = self.0.shared.acme.dry_run(names).await?;
        Ok(runs.into_iter().map(Trial::from).collect())
    }

    async fn agree(&self, directory: &str) -> Result<String, String> {
        self.0.shared.acme.agree(directory).await
    }

    fn feed(&self, form: Form) -> String {
        // Of the admin socket there is no URL.
        let url = format!("urn:sovereign-proxy:{}", form.file());
        self.0.shared.certs().feed(form, &url)
    }

    fn metrics(&self) -> String {
        self.0.shared.metrics_text()
    }
}

/// The keys whose new value only a new process can take.
fn unchangeable(before: &Proxy, now: &Proxy) -> Vec<&'static str> {
    let mut keys = Vec::new();
    for (key, changed) in [
        ("state", before.state != now.state),
        ("admin", before.admin != now.admin),
        ("[cache]", before.cache != now.cache),
        (
            "certificates.shared",
            before.certificates.shared != now.certificates.shared,
        ),
        ("log.level", before.log.level != now.log.level),
    ] {
        if changed {
            keys.push(key);
        }
    }
    keys
}

fn plural(count: usize, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

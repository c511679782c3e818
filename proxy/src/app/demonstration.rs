//! The demonstration site's place in the daemon: two sockets in the state folder, one for its
//! origin and one for the switch that turns that origin off.

use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use sovereign_config::model::{Action, Proxy, Upstream, UpstreamAddress};
use tokio::net::UnixListener;

use super::App;
use crate::demo::{Switch, serve, serve_switch};
use crate::handover::Handover;

/// The sockets, until they are served; they are kept for the next process.
pub struct Demonstration {
    /// By the path each is bound to.
    pub sockets: [(PathBuf, Arc<UnixListener>); 2],
}

/// The socket of the demonstration's origin.
pub fn socket(state: &Path) -> PathBuf {
    state.join("demo.sock")
}

/// Opens the sockets, where the configuration sends anything to the demonstration.
pub fn open(config: &Proxy, handover: &mut Handover) -> anyhow::Result<Option<Demonstration>> {
    if !is_used(config) {
        return Ok(None);
    }
    let origin = socket(&config.state);
    let switch = config.state.join("demo-switch.sock");
    Ok(Some(Demonstration {
        sockets: [
            (origin.clone(), Arc::new(listen(&origin, handover)?)),
            (switch.clone(), Arc::new(listen(&switch, handover)?)),
        ],
    }))
}

fn is_used(config: &Proxy) -> bool {
    let demo = |upstream: &Upstream| upstream.address == UpstreamAddress::Demo;
    config.sites.iter().any(|site| {
        site.upstream.iter().any(demo)
            || site.routes.iter().any(|route| {
                matches!(&route.action, Action::Forward(upstreams) if upstreams.iter().any(demo))
            })
    })
}

fn listen(path: &Path, handover: &mut Handover) -> anyhow::Result<UnixListener> {
    let opening = || format!("opening the demonstration's socket {}", path.display());
    let socket = match handover.take(&format!("demo {}", path.display())) {
        Some(inherited) => std::os::unix::net::UnixListener::from(inherited),
        None => crate::admin::bind(path).with_context(opening)?,
    };
    socket.set_nonblocking(true).with_context(opening)?;
    UnixListener::from_std(socket).with_context(opening)
}

impl App {
    /// Starts the demonstration, where there is one. It serves to the very end: requests that are
    /// drained still need it.
    pub(super) fn serve_demonstration(&self) {
        let Some(demonstration) = &self.demonstration else {
            return;
        };
        let [(_, origin), (_, switch)] = &demonstration.sockets;
        let state = Switch::new();
        tokio::spawn(serve(Arc::clone(origin), state.clone(), pending()));
        tokio::spawn(serve_switch(switch.clone(), state, pending()));
    }
}

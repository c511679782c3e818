//! Looking: all hosts at once, each with a deadline, so that one that is cut off costs seconds and not the others.
//! Stands alone so that what is observed stays a plain value.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sovereign_config::stack::model;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{EngineState, Observed, ObservedHost, ObservedProxy, ObservedService, Unseen};
use crate::engine::{self, Engine, Found};
use crate::failure::chain;
use crate::host::{Host, Layout, Lying, Whose};
use crate::ssh::{self, CONNECT, Connect, Input, Remote};

/// How long looking at a host may take, after it is connected.
const WHOLE: Duration = Duration::from_secs(20);
/// How long the proxy may take to say how it is.
const PROXY: Duration = Duration::from_secs(5);

/// Looks at all hosts at once.
pub async fn observe(hosts: &[model::Host], connect: Arc<dyn Connect>) -> Observed {
    let mut looks = JoinSet::new();
    for (place, host) in hosts.iter().cloned().enumerate() {
        let connect = Arc::clone(&connect);
        looks.spawn(async move { (place, reach(&host, connect.as_ref()).await) });
    }
    let mut seen: BTreeMap<usize, Result<ObservedHost, Unseen>> = BTreeMap::new();
    while let Some(look) = looks.join_next().await {
        seen.extend(look.ok());
    }
    let broken = || {
        Err(Unseen {
            why: "looking at it ended early".to_owned(),
            hint: None,
        })
    };
    let hosts = hosts.iter().enumerate().map(|(place, host)| {
        (
            host.name.clone(),
            seen.remove(&place).unwrap_or_else(broken),
        )
    });
    Observed {
        hosts: hosts.collect(),
    }
}

async fn reach(host: &model::Host, connect: &dyn Connect) -> Result<ObservedHost, Unseen> {
    let late = |after: Duration| Unseen {
        why: format!(
            "{}: it was not looked at within {}",
            host.name,
            ssh::seconds(&after)
        ),
        hint: Some("the host answers, and slowly: look at its load and its disk".to_owned()),
    };
    // The connection says by itself what is wrong, within its own deadline; this one is for what goes wrong there.
    let remote = timeout(CONNECT * 2, connect.connect(host))
        .await
        .map_err(|_| late(CONNECT * 2))?
        .map_err(unseen)?;
    let looked = timeout(WHOLE, look(remote, host.engine))
        .await
        .map_err(|_| late(WHOLE))?;
    looked.map_err(unseen_engine)
}

/// Looks at a host over a connection.
pub async fn look(
    remote: Arc<dyn Remote>,
    engine: model::Engine,
) -> Result<ObservedHost, engine::Error> {
    let host = Host::new(Arc::clone(&remote));
    let engine = engine::of(engine, Arc::clone(&remote));
    let (placed, (engine, compose, found, images), disk) =
        tokio::try_join!(placed(&host), runs(engine.as_ref()), async {
            Ok(host.disk().await?)
        })?;
    let (lying, locked_by, status) = placed;
    Ok(ObservedHost {
        engine,
        compose,
        services: services(&lying, found),
        proxy: proxy(&lying, status),
        images,
        programs: lying.programs,
        disk,
        deployments: lying.deployments,
        locked_by,
    })
}

/// What lies there, who holds the lock, and what the proxy says.
async fn placed(
    host: &Host,
) -> Result<(Lying, Option<String>, Result<serde_json::Value, String>), engine::Error> {
    let lying = host.read().await?;
    let locked_by = match lying.lockable {
        true => host.holder().await?,
        false => None,
    };
    let status = status(host, &lying).await;
    Ok((lying, locked_by, status))
}

type Runs = (
    EngineState,
    Option<String>,
    Vec<Found>,
    std::collections::BTreeSet<String>,
);

/// What runs; nothing where the engine does not answer.
async fn runs(engine: &dyn Engine) -> Result<Runs, engine::Error> {
    let (state, compose) = engine.version().await?;
    if !matches!(state, EngineState::Up(_)) {
        return Ok((state, compose, Vec::new(), Default::default()));
    }
    let (found, images) = tokio::try_join!(engine.containers(), engine.images())?;
    Ok((state, compose, found, images))
}

/// What the proxy says over its admin socket, asked with its own program.
async fn status(host: &Host, lying: &Lying) -> Result<serde_json::Value, String> {
    let Some(current) = &lying.proxy else {
        return Err("none was placed".to_owned());
    };
    let layout: &Layout = host.layout();
    let program = layout.program(&current.program);
    let config = format!(
        "{}/proxy.toml",
        layout.revision(&Whose::Proxy, &current.revision)
    );
    let argv = [program.as_str(), "status", "--json", "--config", &config];
    let output = host
        .remote()
        .run(&argv, Input::nothing(), PROXY)
        .await
        .map_err(|error| chain(&error))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("its status cannot be read: {error}"))
}

fn proxy(lying: &Lying, status: Result<serde_json::Value, String>) -> Option<ObservedProxy> {
    let current = lying.proxy.clone()?;
    let files = lying.proxy_files.clone();
    Some(ObservedProxy {
        revision: current.revision,
        program: current.program,
        files,
        status,
    })
}

/// Services that were placed, and those that only run.
fn services(lying: &Lying, found: Vec<Found>) -> BTreeMap<String, ObservedService> {
    let placed = lying.services.iter().map(|(name, service)| {
        let observed = ObservedService {
            current: service.current.clone(),
            files: service.files.clone(),
            revisions: service.revisions.clone(),
            running: BTreeMap::new(),
        };
        (name.clone(), observed)
    });
    let mut services: BTreeMap<String, ObservedService> = placed.collect();
    for Found {
        service,
        slot,
        container,
        ..
    } in found
    {
        let Some(name) = service else { continue };
        let running = &mut services.entry(name).or_default().running;
        running.entry(slot).or_default().push(container);
    }
    services
}

fn unseen(error: ssh::Error) -> Unseen {
    Unseen {
        why: chain(&error),
        hint: error.hint(),
    }
}

fn unseen_engine(error: engine::Error) -> Unseen {
    Unseen {
        why: chain(&error),
        hint: error.hint(),
    }
}

#[cfg(test)]
mod tests;

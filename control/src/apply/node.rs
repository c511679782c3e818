//! Waiting for a Bitcoin node before what needs it is started. Stands alone because this is the one step that may end
//! without having failed: a node on its first days takes longer than anybody waits, and the next run goes on with it.

use std::future::pending;
use std::time::Duration;

use super::{Ground, StepError, Tools};
use crate::bitcoin::{self, Seen, Waited};
use crate::engine::Project;
use crate::status::words::about;

/// Waits until a node has the whole chain.
pub(super) async fn wait(
    ground: &Ground,
    node: &str,
    project: &Project,
    patience: Duration,
    tools: &Tools,
) -> Result<(), StepError> {
    let host = ground.host.remote().name();
    let mut last = "it was not asked yet".to_owned();
    let mut each = |seen: &Seen, left: Option<Duration>| {
        let left = left.map(|left| format!("{} left", about(left.as_secs())));
        let (blocks, at) = match seen {
            Seen::Answers(node) => (Some((node.blocks, node.headers)), node.percent()),
            Seen::Starting { said } => (None, format!("it starts: {said}")),
        };
        let at = [Some(at), left].into_iter().flatten();
        let at = at.collect::<Vec<_>>().join(", ");
        tools.watch.waits(host, blocks, &at);
        last = match blocks {
            Some((done, of)) => format!("it is at block {done} of {of}, {at}"),
            None => at,
        };
    };
    let waited = tokio::select! {
        waited = bitcoin::wait(ground.engine.as_ref(), project, patience, &mut each) => waited?,
        () = stopped(tools) => Waited::Behind,
    };
    match waited {
        Waited::Synced => Ok(()),
        Waited::Behind => Err(StepError::Behind {
            node: node.to_owned(),
            at: last,
        }),
    }
}

/// The operator wants it to end.
async fn stopped(tools: &Tools) {
    let mut stop = tools.stop.clone();
    if stop.wait_for(|stop| *stop).await.is_err() {
        pending().await
    }
}

//! Bytes as they are: for requests that no client library would send.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::client::{Target, Wire};
use crate::wait::within;

/// What came back.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Everything that was received.
    pub bytes: Vec<u8>,
    /// Whether the server closed the connection.
    pub closed: bool,
}

impl Exchange {
    /// The status of the first final answer; `None` where there was none.
    pub fn status(&self) -> Option<u16> {
        self.statuses().into_iter().find(|status| *status >= 200)
    }

    /// The status of every answer, interim ones included.
    pub fn statuses(&self) -> Vec<u16> {
        self.text()
            .split("HTTP/1.")
            .skip(1)
            .filter_map(|rest| rest.get(2..5)?.parse().ok())
            .collect()
    }

    /// What came back, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Sends `bytes` on a new connection and receives until the server closes it or, with an answer
/// there, says nothing for a while.
pub async fn raw(target: &Target, bytes: &[u8]) -> Exchange {
    let mut wire = open(target).await;
    // A server that has seen enough may close while there is still something to send.
    let _ = timeout(Duration::from_secs(10), async {
        wire.write_all(bytes).await?;
        wire.flush().await
    })
    .await;
    receive(
        &mut wire,
        Duration::from_millis(400),
        Duration::from_secs(8),
    )
    .await
}

/// Sends `bytes`, says that no more will come, and receives until the server closes.
pub async fn raw_then_close(target: &Target, bytes: &[u8]) -> Exchange {
    let mut wire = open(target).await;
    let _ = wire.write_all(bytes).await;
    let _ = wire.shutdown().await;
    receive(
        &mut wire,
        Duration::from_millis(400),
        Duration::from_secs(8),
    )
    .await
}

/// A connection to do anything with; HTTP/1.1 is agreed on where there is TLS.
pub async fn open(target: &Target) -> Box<dyn Wire> {
    let connecting = target.connect("http/1.1");
    match within("a raw connection", Duration::from_secs(10), connecting).await {
        Ok(wire) => wire,
        Err(error) => panic!("no connection to {target:?}: {error}"),
    }
}

/// Receives until the server closes, or an answer has come and nothing follows it for `quiet`, or
/// nothing at all has come for `patience`.
pub async fn receive(wire: &mut Box<dyn Wire>, quiet: Duration, patience: Duration) -> Exchange {
    let mut exchange = Exchange {
        bytes: Vec::new(),
        closed: false,
    };
    let mut buffer = vec![0; 64 << 10];
    loop {
        let wait = match exchange.status() {
            Some(_) => quiet,
            None => patience,
        };
        match timeout(wait, wire.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => exchange.closed = true,
            Ok(Ok(count)) => {
                exchange.bytes.extend_from_slice(&buffer[..count]);
                continue;
            }
            Err(_) => {}
        }
        return exchange;
    }
}

/// Receives until `wanted` has come; a failed test where it does not.
pub async fn receive_until(wire: &mut Box<dyn Wire>, wanted: &str) -> String {
    let mut got = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    let what = format!("{wanted:?} from the server");
    within(&what, Duration::from_secs(10), async {
        loop {
            let count = wire.read(&mut buffer).await.unwrap_or(0);
            got.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&got).into_owned();
            if text.contains(wanted) {
                return text;
            }
            assert!(count > 0, "closed before {wanted:?} came: {text:?}");
        }
    })
    .await
}

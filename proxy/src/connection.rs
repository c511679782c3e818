//! The seam between listeners and protocols: any stream with its facts goes in here and is served
//! by the protocol that its handshake chose.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::app::App;
use crate::downstream::Connection;
use crate::http1::{Bounds, Http1, Next};
use crate::tls::Alpn;
use crate::{http2, request};

use stream::Guarded;

pub(crate) mod stream;

/// Serves a connection until it ends. `stream` may be anything that carries bytes both ways: a TCP
/// or TLS stream today, an onion stream later.
pub async fn serve<S>(stream: S, facts: Connection, app: Arc<App>)
where
    S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
{
    let stream = Guarded::new(stream, app.limits().idle_timeout);
    let connection = Arc::new(facts);
    match connection.tls.as_ref().map(|tls| tls.alpn) {
        Some(Alpn::H2) => http2::serve(stream, connection, app).await,
        _ => http1(stream, connection, app).await,
    }
}

async fn http1<S>(stream: S, connection: Arc<Connection>, app: Arc<App>)
where
    S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
{
    let limits = app.limits();
    let bounds = Bounds {
        header_bytes: limits.header_bytes,
        header_count: limits.header_count,
        header_timeout: limits.header_timeout,
        idle_timeout: limits.idle_timeout,
    };
    let mut client = Http1::new(stream, bounds, app.drain_signal());
    loop {
        let head = match client.next().await {
            Next::Request(head) => head,
            Next::Closed => return,
            Next::Refused(refusal) => {
                app.metrics.request_refused(refusal.reason);
                app.log_refused(&connection, refusal.status, refusal.reason);
                return client.refuse(refusal).await;
            }
        };
        if !request::hit(&app, &connection, &head, &mut client).await {
            match Box::pin(request::serve(&app, &connection, head, client)).await {
                Some(back) => client = back,
                None => return,
            }
        }
        if !client.is_reusable() {
            return client.close().await;
        }
    }
}

//! The seam between listeners and protocols: any stream with its facts goes in here and is served
//! by the protocol that its handshake chose.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::downstream::Connection;
use crate::http1::{Bounds, Http1, Next};
use crate::shared::Shared;
use crate::tls::Alpn;
use crate::{http2, request, route};

use stream::Guarded;

mod stream;

/// Serves a connection until it ends. `stream` may be anything that carries bytes both ways: a TCP
/// or TLS stream today, an onion stream later.
pub async fn serve<S>(stream: S, facts: Connection, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
{
    let stream = Guarded::new(stream, shared.limits().idle_timeout);
    let connection = Arc::new(facts);
    match connection.tls.as_ref().map(|tls| tls.alpn) {
        Some(Alpn::H2) => http2::serve(stream, connection, shared).await,
        _ => http1(stream, connection, shared).await,
    }
}

async fn http1<S>(stream: S, connection: Arc<Connection>, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
{
    let limits = shared.limits();
    let bounds = Bounds {
        header_bytes: limits.header_bytes,
        header_count: limits.header_count,
        header_timeout: limits.header_timeout,
        idle_timeout: limits.idle_timeout,
    };
    let mut client = Http1::new(stream, bounds, shared.drain_signal());
    loop {
        let mut head = match client.next().await {
            Next::Request(head) => head,
            Next::Closed => return,
            Next::Refused(refusal) => {
                shared.metrics.request_refused(refusal.reason);
                shared.log_refused(&connection, refusal.status, refusal.reason);
                return client.refuse(refusal).await;
            }
        };
        if let Some(tls) = &connection.tls {
            route::introduce(&mut head.headers, tls.client.as_deref());
        }
        if !request::hit(&shared, &connection, &head, &mut client).await {
            match Box::pin(request::serve(&shared, &connection, head, client)).await {
                Some(back) => client = back,
                None => return,
            }
        }
        if !client.is_reusable() {
            return client.close().await;
        }
    }
}

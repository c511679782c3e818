//! The demonstration site: an origin server that lives inside the daemon.
//!
//! The proxy fronts it over a Unix socket like any other upstream, so that a new operator sees what the product does
//! before there is a site of their own. It stands alone: nothing here knows the proxy, and the proxy learns of it only
//! as an address.
//!
//! Its origin can be switched off. Then it behaves as a stopped server does: every connection, kept ones too, is
//! closed without an answer. The switch itself is served on a socket of its own ([`serve_switch`]), which the proxy
//! has to route `/switch` to, past its cache.

use std::future::Future;
use std::sync::Arc;

pub use connections::Listener;
pub use switch::Switch;

// In the order in which a request meets them.
/// The answers: content types, cache rules, `ETag`s, bodies that are made as they are sent.
mod answer;
/// The clock over a WebSocket.
mod clock;
/// Accepting, closing when the switch says so, draining.
mod connections;
/// The feed and the site map.
mod feeds;
/// Pages from templates, and the files embedded from `proxy/demo`.
mod pages;
/// Which answer a request gets.
mod site;
/// The switch, and the little server that works it.
mod switch;

#[cfg(test)]
mod tests;

/// Serves the site on `listener` until `shutdown` comes, then lets the open answers finish, for a few seconds at most.
///
/// Dropping the future ends everything at once.
pub async fn serve(listener: impl Listener, switch: Switch, shutdown: impl Future<Output = ()>) {
    let site = Arc::new(site::Site::new(switch.clone()));
    connections::run(listener, Some(switch), shutdown, move |request, tasks| {
        let site = Arc::clone(&site);
        async move { site.answer(request, tasks).await }
    })
    .await;
}

/// Serves `/switch`, `/switch/on` and `/switch/off` on `listener` until `shutdown` comes. Always answers, whatever the
/// switch says.
pub async fn serve_switch(
    listener: impl Listener,
    switch: Switch,
    shutdown: impl Future<Output = ()>,
) {
    connections::run(listener, None, shutdown, move |request, _| {
        let answer = switch.answer(&request);
        async move { answer }
    })
    .await;
}

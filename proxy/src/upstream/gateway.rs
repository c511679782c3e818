//! Pingora's phases, one short function each. They hold no state of their own: everything they
//! decide stands in the exchange's [`Course`].

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::protocols::{ALPN, Digest};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use super::course::Course;
use crate::response::Failure;

/// The implementation of Pingora's proxy.
pub struct Gateway;

/// What a phase knows: the course, once the request has brought it in.
pub type Context = Option<Arc<Course>>;

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Context;

    fn new_ctx(&self) -> Self::CTX {
        None
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        *ctx = session
            .req_header()
            .extensions
            .get::<Arc<Course>>()
            .cloned();
        Ok(())
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Context,
    ) -> Result<Box<HttpPeer>> {
        let course = known(ctx)?;
        let ready = async {
            if !course.has_turn().await {
                return Err(Error::explain(ErrorType::ConnectError, "too many at once").into_up());
            }
            let (pause, member) = course.begin_try();
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            Ok(member)
        };
        // A client that leaves while it is held is not asked for any more.
        let ready = tokio::select! {
            biased;
            ready = ready => ready,
            Err(error) = session.downstream_session.read_body_or_idle(true) => Err(error),
        };
        let member = ready.map_err(|error| judged(course, error, false, false))?;
        course.at_member(Some(member));
        match course.pool.members()[member]
            .peer(course.pool.timeouts())
            .await
        {
            Ok(mut peer) => {
                if session.is_upgrade_req() && peer.is_tls() {
                    // Only HTTP/1.1 can change its protocol.
                    peer.options.alpn = ALPN::H1;
                }
                Ok(Box::new(peer))
            }
            Err(reason) => {
                let error = Error::explain(ErrorType::ConnectError, reason).into_up();
                Err(judged(course, error, false, false))
            }
        }
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        ctx: &mut Context,
        error: Box<Error>,
    ) -> Box<Error> {
        match ctx {
            Some(course) => judged(course, error.into_up(), false, false),
            None => error,
        }
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        _: bool,
        _: &HttpPeer,
        _: std::os::unix::io::RawFd,
        _: Option<&Digest>,
        ctx: &mut Context,
    ) -> Result<()> {
        known(ctx)?.connected();
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let course = known(ctx)?;
        if response.status.is_informational() && response.status.as_u16() != 101 {
            return Ok(());
        }
        let restarting = course.site.config.restarting.iter().any(|sign| {
            sign.status == response.status
                && sign
                    .without
                    .as_ref()
                    .is_none_or(|field| !response.headers.contains_key(field))
        });
        if restarting && course.safe {
            course.restarting();
            return Err(
                Error::explain(ErrorType::ConnectError, "the upstream is restarting").into_up(),
            );
        }
        course.answered(response.status);
        Ok(())
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        _: &mut Session,
        error: Box<Error>,
        ctx: &mut Context,
        reused: bool,
    ) -> Box<Error> {
        match ctx {
            Some(course) => judged(course, error, true, reused),
            None => error,
        }
    }

    async fn fail_to_proxy(
        &self,
        _: &mut Session,
        error: &Error,
        ctx: &mut Context,
    ) -> FailToProxy {
        // The answer is given by the request layer, which knows the site's page and what the cache has.
        let failure = ctx.as_ref().and_then(|course| {
            if course.failure().is_none() {
                course.fail(Failure::Internal);
                tracing::error!(error = %error, "the proxy failed");
            }
            course.failure()
        });
        FailToProxy {
            error_code: failure.unwrap_or(Failure::Internal).status().as_u16(),
            can_reuse_downstream: true,
        }
    }

    fn suppress_error_log(&self, _: &Session, _: &Context, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Context,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

fn known(ctx: &Context) -> Result<&Arc<Course>> {
    ctx.as_ref()
        .ok_or_else(|| Error::new_in(ErrorType::InternalError))
}

fn judged(course: &Course, mut error: Box<Error>, sent: bool, reused: bool) -> Box<Error> {
    let again = course.failed(&error, sent, reused);
    error.set_retry(again);
    error
}

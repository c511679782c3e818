//! Nonces that an authority refuses, which it may at any time (RFC 8555 section 6.5).

/// Calls again where the authority refused the nonce more often than instant-acme tries: an authority may
/// refuse any nonce at any time, and what was asked has not been looked at then.
macro_rules! despite_nonces {
    ($call:expr) => {{
        let mut left = $crate::acme::nonces::MOST;
        loop {
            match $call.await {
                Err(instant_acme::Error::Api(problem))
                    if left > 0 && $crate::acme::failure::kind(&problem) == Some("badNonce") =>
                {
                    left -= 1;
                }
                other => break other,
            }
        }
    }};
}

/// Each of these is three tries of instant-acme's.
pub(super) const MOST: u32 = 12;

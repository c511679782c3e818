//! How a stored response's head is written to disk and read back. Stands alone because what is
//! read may be damaged or come from another version: every length is checked, and what does not
//! add up is no head.
//!
//! Little-endian numbers, and texts with their length before them. The disk tier guards the whole
//! with a checksum; [`VERSION`] changes with the layout.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::coding::{self, Coding};
use super::freshness::{Freshness, Source};
use super::vary::{Vary, variant_key};
use crate::downstream::ResponseHead;

/// The layout that is written here. A head of another one is not read.
const VERSION: u8 = 1;
/// What stands for "none" where a duration may be absent.
const ABSENT: u64 = u64::MAX;
const SOURCES: [Source; 6] = [
    Source::SMaxage,
    Source::MaxAge,
    Source::Expires,
    Source::Operator,
    Source::Heuristic,
    Source::None,
];

/// What is kept of a stored response beside its body.
#[derive(Debug, Clone)]
pub struct Meta {
    /// Status and fields.
    pub head: ResponseHead,
    /// How long it may be used.
    pub freshness: Freshness,
    /// The request fields it depends on.
    pub names: Box<[HeaderName]>,
    /// Their values in the request that fetched it.
    pub variant: Box<str>,
    /// It may be compressed.
    pub compress: bool,
    /// Bytes of the identity body, then of the coded ones in the order of [`Coding::ALL`]; 0 for one
    /// that was not made.
    pub lengths: [u64; 1 + Coding::ALL.len()],
}

impl Meta {
    /// What is kept of a response whose fields are ready to be stored, with a body of `length` bytes.
    pub fn new(
        head: ResponseHead,
        freshness: Freshness,
        request: &HeaderMap,
        compress: bool,
        length: u64,
    ) -> Self {
        let names = match Vary::of(&head.headers) {
            Vary::By(names) => names,
            // Such a response is not storable in the first place.
            Vary::Star => Box::default(),
        };
        let mut lengths = [0; 1 + Coding::ALL.len()];
        lengths[0] = length;
        Self {
            compress: compress && coding::is_worth_it(head.status, &head.headers, length),
            variant: variant_key(&names, request),
            names,
            head,
            freshness,
            lengths,
        }
    }

    /// Writes it.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(512);
        out.put_u8(VERSION);
        out.put_u8(u8::from(self.compress));
        out.put_u16_le(self.head.status.as_u16());
        encode_freshness(&mut out, &self.freshness);
        for length in self.lengths {
            out.put_u64_le(length);
        }
        put(&mut out, self.variant.as_bytes());
        out.put_u16_le(self.names.len() as u16);
        for name in &self.names {
            put(&mut out, name.as_str().as_bytes());
        }
        out.put_u16_le(self.head.headers.len() as u16);
        for (name, value) in &self.head.headers {
            put(&mut out, name.as_str().as_bytes());
            put(&mut out, value.as_bytes());
        }
        out.freeze()
    }

    /// Reads it; `None` where it is damaged, or of another version. Values are slices of `bytes`.
    pub fn decode(mut bytes: Bytes) -> Option<Self> {
        let input = &mut bytes;
        if input.try_get_u8().ok()? != VERSION {
            return None;
        }
        let compress = input.try_get_u8().ok()? != 0;
        let status = StatusCode::from_u16(input.try_get_u16_le().ok()?).ok()?;
        let freshness = decode_freshness(input)?;
        let mut lengths = [0; 1 + Coding::ALL.len()];
        for length in &mut lengths {
            *length = input.try_get_u64_le().ok()?;
        }
        let variant = str::from_utf8(&take(input)?).ok()?.into();
        let count = input.try_get_u16_le().ok()?;
        let names = (0..count)
            .map(|_| HeaderName::from_bytes(&take(input)?).ok())
            .collect::<Option<_>>()?;
        let count = input.try_get_u16_le().ok()?;
        let mut headers = HeaderMap::try_with_capacity(count.into()).ok()?;
        for _ in 0..count {
            let name = HeaderName::from_bytes(&take(input)?).ok()?;
            let value = HeaderValue::from_maybe_shared(take(input)?).ok()?;
            headers.try_append(name, value).ok()?;
        }
        input.is_empty().then_some(Self {
            head: ResponseHead { status, headers },
            freshness,
            names,
            variant,
            compress,
            lengths,
        })
    }
}

fn encode_freshness(out: &mut BytesMut, freshness: &Freshness) {
    let source = SOURCES.iter().position(|one| *one == freshness.source);
    out.put_u8(source.unwrap_or(SOURCES.len() - 1) as u8);
    let flags = [freshness.no_cache, freshness.no_stale, freshness.immutable];
    out.put_u8(
        (0..)
            .zip(flags)
            .map(|(bit, set)| u8::from(set) << bit)
            .sum(),
    );
    let received = freshness.received.duration_since(UNIX_EPOCH);
    for duration in [
        freshness.lifetime,
        freshness.initial_age,
        received.unwrap_or_default(),
        freshness.stale_while_revalidate,
    ] {
        out.put_u64_le(millis(duration));
    }
    for window in [freshness.stale_if_error, freshness.operator_stale_if_error] {
        out.put_u64_le(window.map_or(ABSENT, millis));
    }
}

fn decode_freshness(input: &mut Bytes) -> Option<Freshness> {
    let source = *SOURCES.get(usize::from(input.try_get_u8().ok()?))?;
    let flags = input.try_get_u8().ok()?;
    let mut next = || input.try_get_u64_le().ok();
    let duration = |millis: u64| Duration::from_millis(millis.min(FARTHEST));
    Some(Freshness {
        source,
        lifetime: duration(next()?),
        initial_age: duration(next()?),
        received: received(duration(next()?)),
        stale_while_revalidate: duration(next()?),
        stale_if_error: Some(next()?).filter(|ms| *ms != ABSENT).map(duration),
        operator_stale_if_error: Some(next()?).filter(|ms| *ms != ABSENT).map(duration),
        no_cache: flags & 1 != 0,
        no_stale: flags & 2 != 0,
        immutable: flags & 4 != 0,
    })
}

fn received(since: Duration) -> SystemTime {
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(FARTHEST)
}

fn put(out: &mut BytesMut, text: &[u8]) {
    // A head is bounded far below this by what an upstream may send.
    out.put_u32_le(text.len() as u32);
    out.put_slice(text);
}

fn take(input: &mut Bytes) -> Option<Bytes> {
    let length = input.try_get_u32_le().ok()? as usize;
    (length <= input.len()).then(|| input.split_to(length))
}

/// Some ten thousand years: no sum of these overflows.
const FARTHEST: u64 = 1 << 48;

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("etag", "\"a\""),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers.insert("x-odd", HeaderValue::from_bytes(b"\xe9").expect("a value"));
        Meta {
            head: ResponseHead {
                status: StatusCode::NOT_FOUND,
                headers,
            },
            freshness: Freshness {
                source: Source::Heuristic,
                lifetime: Duration::from_secs(1 << 31),
                initial_age: Duration::from_millis(1),
                received: UNIX_EPOCH + Duration::from_millis(1_234_567_890_123),
                stale_while_revalidate: Duration::ZERO,
                stale_if_error: None,
                operator_stale_if_error: Some(Duration::from_secs(86_400)),
                no_cache: true,
                no_stale: false,
                immutable: true,
            },
            names: Box::new([http::header::ACCEPT_LANGUAGE]),
            variant: "accept-language~de;1000\n".into(),
            compress: true,
            lengths: [1, 2, 0, 4],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let (before, after) = (meta(), Meta::decode(meta().encode()).expect("it is whole"));
        assert_eq!(after.head.status, before.head.status);
        assert_eq!(after.head.headers, before.head.headers);
        assert_eq!(after.freshness, before.freshness);
        assert_eq!(after.names, before.names);
        assert_eq!(after.variant, before.variant);
        assert_eq!(
            (after.compress, after.lengths),
            (before.compress, before.lengths)
        );
    }

    #[test]
    fn what_is_damaged_is_no_head_and_no_panic() {
        let whole = meta().encode();
        for length in 0..whole.len() {
            assert!(Meta::decode(whole.slice(..length)).is_none(), "{length}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 127, 128, 255] {
                let mut damaged = BytesMut::from(&whole[..]);
                damaged[at] = value;
                // The checksum over it is the disk tier's; here only no panic counts.
                let _ = Meta::decode(damaged.freeze());
            }
        }
        let mut other = BytesMut::from(&whole[..]);
        other[0] = VERSION + 1;
        assert!(Meta::decode(other.freeze()).is_none());
    }
}

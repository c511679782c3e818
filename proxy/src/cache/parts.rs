//! Parts of one representation that an origin sent on their own (206): kept together under one strong
//! validator, used for requests that they cover, and put together when nothing is missing any more
//! (RFC 9111, 3.3 and 3.4).
//!
//! A value that never changes, as an entry is: a further part makes a new one round the same bytes.
//! Only parts of a known complete length are kept, so that every range of a request can be resolved.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderMap, Method};

use super::conditional::Validators;
use super::range::{self, ByteRange, Part, Ranges};
use super::update;

/// Parts of one representation.
#[derive(Debug, Clone)]
pub struct Parts {
    fields: HeaderMap,
    validators: Validators,
    length: u64,
    /// Sorted, disjoint, none empty.
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone)]
struct Piece {
    first: u64,
    body: Bytes,
}

/// What parts can say to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These ranges, all of them here: 206 with [`Parts::slice`] of each.
    Ranges(Vec<ByteRange>),
    /// No byte of what is asked for exists: 416 (RFC 9110, 15.5.17).
    Unsatisfiable,
    /// All of it is asked for, or an `If-Range` does not hold, or not all ranges are here: ask the upstream.
    Missing,
}

/// Pieces kept of one representation: a reader of a film asks for hundreds, one after another, which join.
const MOST_PIECES: usize = 64;
/// What parts cost beside their bytes and fields.
const OVERHEAD: usize = 512;

impl Parts {
    /// The first part of a representation. `fields` are those to be stored of the 206, `validators` theirs,
    /// `part` what [`storable_part`](range::storable_part) made of them and `body` the message's whole body.
    /// `None` where the complete length is unknown, the body is no such part, or there is no strong validator.
    pub fn new(
        mut fields: HeaderMap,
        validators: Validators,
        part: &Part,
        body: Bytes,
    ) -> Option<Self> {
        let length = part.length?;
        let strong =
            validators.strong_etag().is_some() || validators.strong_last_modified().is_some();
        if !strong || !fits(part, &body) {
            return None;
        }
        fields.remove(CONTENT_RANGE);
        fields.remove(CONTENT_LENGTH);
        Some(Self {
            fields,
            validators,
            length,
            pieces: vec![Piece {
                first: part.range.first,
                body,
            }],
        })
    }

    /// The same with a further part, its fields merged into those of the earlier ones (RFC 9111, 3.4).
    /// `None` where it is a part of another representation, or no such part at all, or one piece too many: then the
    /// part may be kept [on its own](Self::new), in place of these.
    pub fn with(
        &self,
        fields: &HeaderMap,
        validators: &Validators,
        part: &Part,
        body: Bytes,
    ) -> Option<Self> {
        if part.length != Some(self.length) || !fits(part, &body) || !self.same(validators) {
            return None;
        }
        let mut merged = self.fields.clone();
        update::merge(&mut merged, fields);
        let mut pieces = self.pieces.clone();
        insert(&mut pieces, part.range, body);
        if pieces.len() > MOST_PIECES {
            pieces = joined(pieces);
        }
        (pieces.len() <= MOST_PIECES).then(|| Self {
            fields: merged,
            // A later response may lack one of them.
            validators: Validators {
                etag: self.validators.etag.clone(),
                last_modified: self.validators.last_modified,
                date: validators.date,
            },
            length: self.length,
            pieces,
        })
    }

    /// Whether these validators are those of the same representation: they share a strong one, and no tag differs
    /// (RFC 9111, 3.4).
    fn same(&self, validators: &Validators) -> bool {
        match (&self.validators.etag, &validators.etag) {
            (Some(_), Some(_)) => {
                self.validators.strong_etag().is_some()
                    && self.validators.strong_etag() == validators.strong_etag()
            }
            _ => {
                let own = self.validators.strong_last_modified();
                own.is_some() && own == validators.strong_last_modified()
            }
        }
    }

    /// The fields to serve and to judge freshness by, without `Content-Range` and `Content-Length`.
    pub fn fields(&self) -> &HeaderMap {
        &self.fields
    }

    /// The complete length of the representation in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What can be said to a request (RFC 9110, 14.2; RFC 9111, 3.3). Its other conditions are not looked at.
    pub fn answer(&self, method: &Method, request: &HeaderMap) -> Answer {
        let ranges = match range::resolve(method, request, self.length, &self.validators) {
            Ranges::Whole => return Answer::Missing,
            Ranges::Unsatisfiable => return Answer::Unsatisfiable,
            Ranges::Single(one) => vec![one],
            Ranges::Multi(several) => several,
        };
        if ranges.iter().all(|range| self.covers(range)) {
            Answer::Ranges(ranges)
        } else {
            Answer::Missing
        }
    }

    /// Whether every byte of a range is here.
    pub fn covers(&self, range: &ByteRange) -> bool {
        let mut next = range.first;
        for piece in &self.pieces {
            if piece.first <= next && next <= piece.last() {
                if range.last <= piece.last() {
                    return true;
                }
                next = piece.last() + 1;
            }
        }
        false
    }

    /// The bytes of a range, in order, as references to what is held; `None` where not all of them are here.
    pub fn slice(&self, range: &ByteRange) -> Option<Vec<Bytes>> {
        if !self.covers(range) {
            return None;
        }
        let within = |piece: &Piece| {
            let first = piece.first.max(range.first);
            let last = piece.last().min(range.last);
            // Both lie inside the piece, whose length is a usize.
            (first <= last).then(|| {
                let (from, to) = (first - piece.first, last - piece.first);
                piece.body.slice(from as usize..=to as usize)
            })
        };
        Some(self.pieces.iter().filter_map(within).collect())
    }

    /// The first bytes that are not here; `None` where nothing is missing.
    pub fn missing(&self) -> Option<ByteRange> {
        let mut next = 0;
        for piece in &self.pieces {
            if piece.first > next {
                let last = piece.first - 1;
                return Some(ByteRange { first: next, last });
            }
            next = piece.last() + 1;
        }
        (next < self.length).then(|| ByteRange {
            first: next,
            last: self.length - 1,
        })
    }

    /// The whole representation, where nothing is missing: the fields of a 200, and its body, which may be copied.
    pub fn whole(&self) -> Option<(HeaderMap, Bytes)> {
        if self.missing().is_some() {
            return None;
        }
        let mut fields = self.fields.clone();
        fields.insert(CONTENT_LENGTH, self.length.into());
        let body = joined(self.pieces.clone())
            .into_iter()
            .next()
            .map(|piece| piece.body);
        Some((fields, body.unwrap_or_default()))
    }

    /// Bytes of memory they take, nearly.
    pub fn weight(&self) -> usize {
        let fields: usize = self
            .fields
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 64)
            .sum();
        let bodies: usize = self.pieces.iter().map(|piece| piece.body.len() + 64).sum();
        OVERHEAD + fields + bodies
    }
}

impl Piece {
    /// Its last byte. A piece is never empty.
    fn last(&self) -> u64 {
        self.first + (self.body.len() as u64).saturating_sub(1)
    }
}

/// Whether a body is what its `Content-Range` says.
fn fits(part: &Part, body: &Bytes) -> bool {
    body.len() as u64 == part.range.len()
        && part.length.is_none_or(|length| part.range.last < length)
}

/// Puts a new piece among others; where it overlaps them it takes their place, since it is newer.
fn insert(pieces: &mut Vec<Piece>, range: ByteRange, body: Bytes) {
    let mut sorted = Vec::with_capacity(pieces.len() + 2);
    for piece in pieces.drain(..) {
        let last = piece.last();
        if piece.first < range.first {
            let keep = last.min(range.first - 1) - piece.first;
            sorted.push(Piece {
                first: piece.first,
                body: piece.body.slice(..=keep as usize),
            });
        }
        if last > range.last {
            let first = piece.first.max(range.last + 1);
            sorted.push(Piece {
                first,
                body: piece.body.slice((first - piece.first) as usize..),
            });
        }
    }
    let first = range.first;
    let at = sorted.partition_point(|piece| piece.first < first);
    sorted.insert(at, Piece { first, body });
    *pieces = sorted;
}

/// The same bytes in as few pieces as can be.
fn joined(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut runs: Vec<Vec<Piece>> = Vec::new();
    for piece in pieces {
        match runs.last_mut() {
            Some(run)
                if run
                    .last()
                    .is_some_and(|before| before.last() + 1 == piece.first) =>
            {
                run.push(piece);
            }
            _ => runs.push(vec![piece]),
        }
    }
    runs.into_iter()
        .filter_map(|run| {
            let first = run.first()?.first;
            let body = if let [one] = run.as_slice() {
                one.body.clone()
            } else {
                let length = run.iter().map(|piece| piece.body.len()).sum();
                let mut body = BytesMut::with_capacity(length);
                run.iter()
                    .for_each(|piece| body.extend_from_slice(&piece.body));
                body.freeze()
            };
            Some(Piece { first, body })
        })
        .collect()
}

#[cfg(test)]
mod tests;

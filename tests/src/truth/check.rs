//! Whether an answer is what it should be, to the last byte.

use http::{HeaderMap, StatusCode};

use super::asked::Asked;
use super::matter::Matter;
use super::{SUM, VARIANT, VERSION};
use crate::client::Answer;

/// The version that an answer is of, where its status is 200 and every byte of it belongs to that
/// version of `path` as asked for without a varying field; else what is wrong with it.
pub fn check(path: &str, answer: &Answer) -> Result<u64, String> {
    check_variant(path, "", answer)
}

/// The same for a request whose varying field had this value.
pub fn check_variant(path: &str, variant: &str, answer: &Answer) -> Result<u64, String> {
    if answer.status != 200 {
        return Err(format!("{path}: answered {}", answer.status));
    }
    let (version, size) = claimed(path, variant, answer)?;
    let expected = Matter::new(path, variant, version, size);
    if answer.body.len() != size {
        let length = answer.body.len();
        return Err(format!("{path}: {length} bytes of {size}"));
    }
    expected.compare(0, &answer.body)?;
    if answer.header(SUM) != expected.sum() {
        return Err(format!("{path}: the sum of another body"));
    }
    Ok(version)
}

/// The same for a 206 of one range, by its first and last byte.
pub fn check_part(path: &str, first: usize, last: usize, answer: &Answer) -> Result<u64, String> {
    if answer.status != 206 {
        return Err(format!("{path}: answered {}", answer.status));
    }
    let (version, size) = claimed(path, "", answer)?;
    let wanted = format!("bytes {first}-{last}/{size}");
    if answer.header("content-range") != wanted {
        let found = answer.header("content-range");
        return Err(format!("{path}: {found:?} instead of {wanted:?}"));
    }
    if answer.body.len() != last + 1 - first {
        return Err(format!("{path}: {} bytes of a part", answer.body.len()));
    }
    Matter::new(path, "", version, size).compare(first, &answer.body)?;
    Ok(version)
}

/// A body that is checked as it comes, and not kept.
#[derive(Debug)]
pub struct Reading {
    path: String,
    /// What our own member of `Cache-Status` said, for whoever has to find out why it failed.
    cache: String,
    matter: Matter,
    at: usize,
}

impl Reading {
    /// Begins with the head of an answer to a GET of `path`; fails the test where that is wrong.
    pub fn begin(path: &str, status: StatusCode, head: &HeaderMap) -> Self {
        assert_eq!(status, 200, "{path}: {head:?}");
        let version = head
            .get(VERSION)
            .and_then(|text| text.to_str().ok()?.parse().ok());
        let version = version.unwrap_or_else(|| panic!("{path}: no version: {head:?}"));
        let cache = head.get("cache-status");
        Self {
            path: path.to_owned(),
            cache: cache.map_or(String::new(), |value| format!("{value:?}")),
            matter: Matter::new(path, "", version, Asked::of(path).size),
            at: 0,
        }
    }

    /// The next bytes; fails the test where they are wrong.
    pub fn feed(&mut self, bytes: &[u8]) {
        let wrong = self.matter.compare(self.at, bytes);
        wrong.unwrap_or_else(|wrong| panic!("{} ({}): {wrong}", self.path, self.cache));
        self.at += bytes.len();
    }

    /// How much has come.
    pub fn length(&self) -> usize {
        self.at
    }

    /// The body has ended; fails the test where something is missing.
    pub fn end(self) {
        let (at, size) = (self.at, self.matter.size);
        assert_eq!(at, size, "{} ({}): cut off", self.path, self.cache);
    }
}

/// Whether our own member of `Cache-Status` says that it is a hit.
pub fn is_hit(answer: &Answer) -> bool {
    says(answer, "hit")
}

/// Whether it says that it has been stored, which it is not for sure before its last byte.
pub fn is_stored(answer: &Answer) -> bool {
    says(answer, "stored")
}

fn says(answer: &Answer, word: &str) -> bool {
    let status = answer.header("cache-status");
    let ours = status.rsplit(',').next().unwrap_or_default();
    ours.split(';').skip(1).any(|part| part.trim() == word)
}

fn claimed(path: &str, variant: &str, answer: &Answer) -> Result<(u64, usize), String> {
    let version = answer.header(VERSION);
    let Ok(number) = version.parse() else {
        return Err(format!("{path}: version {version:?}"));
    };
    if answer.header(VARIANT) != variant {
        let found = answer.header(VARIANT);
        return Err(format!(
            "{path}: variant {found:?}, asked for was {variant:?}"
        ));
    }
    let size = Asked::of(path).size;
    Ok((number, size))
}

//! What a client accepts (RFC 9110, 12.5.3). Apart from the rest because it reads what anyone may send.

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

use super::Coding;
use crate::cache::vary::{members, weight};

/// The weights, in thousandths, that `Accept-Encoding` gives to the codings that can be made here. Without the field, or with an empty
/// one, nothing is accepted but the identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accepted {
    coded: [Option<u16>; Coding::ALL.len()],
    identity: Option<u16>,
    /// `*`: all that are not named.
    others: Option<u16>,
}

impl Accepted {
    /// Reads the field, over all its lines, in one pass and without allocating. A coding that is named twice has the lower weight, and
    /// one whose weight cannot be read has none: what was refused anywhere is not sent.
    pub fn of(request: &HeaderMap) -> Self {
        let mut accepted = Self::default();
        for member in members(request, &ACCEPT_ENCODING) {
            let (weight, name) = weight(member).unwrap_or_else(|| {
                let name = member.split(|b| *b == b';').next().unwrap_or(member);
                (0, name.trim_ascii_end())
            });
            if let Some(slot) = accepted.slot(name) {
                *slot = Some(slot.map_or(weight, |other| other.min(weight)));
            }
        }
        accepted
    }

    /// The weight of a coding in thousandths; zero where it is not accepted.
    pub fn weight(&self, coding: Coding) -> u16 {
        let named = self.coded.get(coding.index()).copied().flatten();
        named.or(self.others).unwrap_or(0)
    }

    /// The coding of the greatest weight, among equals the first of [`Coding::ALL`]. None where there is none, or where the client says
    /// that it likes the identity better.
    pub fn best(&self) -> Option<Coding> {
        let least = self.identity.unwrap_or(0).max(1);
        let mut best = None;
        for coding in Coding::ALL {
            let weight = self.weight(coding);
            if weight >= least && best.is_none_or(|(_, other)| weight > other) {
                best = Some((coding, weight));
            }
        }
        best.map(|(coding, _)| coding)
    }

    fn slot(&mut self, name: &[u8]) -> Option<&mut Option<u16>> {
        let is = |text: &str| name.eq_ignore_ascii_case(text.as_bytes());
        if is("identity") {
            return Some(&mut self.identity);
        }
        if is("*") {
            return Some(&mut self.others);
        }
        // RFC 9110, 8.4.1.3: the old name means the same.
        let coding = if is("x-gzip") {
            Coding::Gzip
        } else {
            Coding::ALL.into_iter().find(|coding| is(coding.token()))?
        };
        self.coded.get_mut(coding.index())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::HeaderValue;

    use super::Coding::*;
    use super::*;

    fn accepted(lines: &[&[u8]]) -> Accepted {
        let mut request = HeaderMap::new();
        for line in lines {
            request.append(ACCEPT_ENCODING, HeaderValue::from_bytes(line).unwrap());
        }
        Accepted::of(&request)
    }

    #[test]
    #[rustfmt::skip]
    fn what_a_client_likes_best() {
        for (lines, wanted, checks) in [
            (&[][..], None, "absent: the identity is safest"),
            (&[""], None, "empty: the identity only"),
            (&["gzip, deflate, br, zstd"], Some(Brotli), "a browser, over TLS"),
            (&["gzip, deflate"], Some(Gzip), "a browser, in the clear"),
            (&["gzip, zstd"], Some(Zstd), "our order among equals"),
            (&["gzip;q=1.0, br;q=0.9, zstd;q=0.95"], Some(Gzip), "weights come first"),
            (&["br;q=0.001"], Some(Brotli), "the least weight is one"),
            (&["br;q=0"], None, "refused"),
            (&["br;q=0.000, gzip;q=0.5"], Some(Gzip), "refused, another accepted"),
            (&["GZIP ; Q=0.5"], Some(Gzip), "case and white space"),
            (&["x-gzip"], Some(Gzip), "8.4.1.3"),
            (&["gzip", "br"], Some(Brotli), "several lines"),
            (&[" , ,gzip,, "], Some(Gzip), "empty members"),
            (&["*"], Some(Brotli), "anything"),
            (&["*;q=0"], None, "nothing"),
            (&["br;q=0, *"], Some(Zstd), "anything but one"),
            (&["gzip;q=0.5, *;q=0.4"], Some(Gzip), "a named one before the others"),
            (&["gzip;q=0.4, *;q=0.5"], Some(Brotli), "the others before a named one"),
            (&["gzip, *;q=0"], Some(Gzip), "only one"),
            (&["identity, gzip;q=0.5"], None, "the identity is liked better"),
            (&["identity;q=0.5, gzip;q=0.5"], Some(Gzip), "the identity is liked as well"),
            (&["identity;q=0, gzip"], Some(Gzip), "the identity is refused"),
            (&["identity;q=0"], None, "the identity is refused, and all others"),
            (&["identity"], None, "a browser, with Range"),
            (&["deflate, compress, dcb, dcz, foo"], None, "none that can be made"),
            (&["gzipp, brr, b"], None, "not the beginning of a name"),
            (&["gzip;q=2"], None, "no weight"),
            (&["gzip;q=0.1234"], None, "too many digits"),
            (&["gzip;q=-1"], None, "no weight"),
            (&["gzip;q="], None, "no weight"),
            (&["gzip;"], None, "no weight"),
            (&["gzip;level=9"], None, "no such parameter"),
            (&["gzip br"], None, "no list"),
            (&["br;q=x, *"], Some(Zstd), "an unreadable weight does not accept"),
            (&["br, br;q=0"], None, "the lower of two"),
            (&["br;q=0", "br"], None, "the lower of two, over lines"),
            (&["*, *;q=0"], None, "the lower of two"),
        ] {
            let lines: Vec<&[u8]> = lines.iter().map(|l: &&str| l.as_bytes()).collect();
            assert_eq!(accepted(&lines).best(), wanted, "{checks}: {lines:?}");
        }
    }

    /// Whatever comes, a coding is sent only if its name, or `*`, was in it; and never one with a weight of zero.
    #[test]
    fn whatever_may_be_sent() {
        const PIECES: [&str; 16] = [
            "br", "zstd", "gzip", "x-gzip", "identity", "*", ",", ", ", ";", ";q=", "q=0", "0.5",
            "1", "\t", "\"", "\u{fc}",
        ];
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize
        };
        let (mut chosen, mut refused) = (0, 0);
        for round in 0..20_000 {
            let mut lines = Vec::new();
            for _ in 0..random() % 3 {
                let mut line = Vec::new();
                for _ in 0..random() % 12 {
                    if round % 2 == 0 {
                        line.extend_from_slice(PIECES[random() % PIECES.len()].as_bytes());
                    } else {
                        line.push(random() as u8);
                    }
                }
                line.retain(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f));
                lines.push(line);
            }
            let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
            let accepted = accepted(&lines);
            let Some(best) = accepted.best() else {
                refused += 1;
                continue;
            };
            chosen += 1;
            let weight = accepted.weight(best);
            assert!((1..=1000).contains(&weight), "{lines:?}");
            assert!(
                Coding::ALL.iter().all(|c| accepted.weight(*c) <= weight),
                "{lines:?}"
            );
            let named = lines.iter().any(|line| {
                let line = line.to_ascii_lowercase();
                let has = |name: &[u8]| line.windows(name.len()).any(|w| w == name);
                has(best.token().as_bytes()) || has(b"*")
            });
            assert!(named, "{lines:?}");
        }
        assert!(chosen > 100 && refused > 100, "{chosen} {refused}");
    }

    #[test]
    fn a_long_field_is_read_to_its_end() {
        let long = "deflate;q=0.1,".repeat(100_000) + "gzip";
        assert_eq!(accepted(&[long.as_bytes()]).best(), Some(Gzip));
    }
}

//! Which of a site's languages a client understands best: `Accept-Language` (RFC 9110 section 12.5.4) by
//! lookup (RFC 4647 section 3.4). Pure, so that every preference is a row of a table.

use http::{HeaderMap, header};

/// More than anybody speaks; what comes after them does not count.
const MOST: usize = 50;

/// Where a client with these fields is sent. `languages` are tags in lower case with their targets, `*` among them
/// standing for all others; `None` where nothing fits.
pub(super) fn lookup<'l>(languages: &'l [(String, String)], fields: &HeaderMap) -> Option<&'l str> {
    let of = |tag: &str| {
        let found = languages.iter().find(|(known, _)| known == tag);
        found.map(|(_, to)| to.as_str())
    };
    let (wanted, refused) = ranges(fields);
    for range in &wanted {
        if range == "*" {
            break;
        }
        let best =
            prefixes(range).find(|tag| !refused.iter().any(|no| no == tag) && of(tag).is_some());
        if let Some(tag) = best {
            return of(tag);
        }
    }
    of("*")
}

/// The ranges of the fields in lower case: those that are wanted, the best first, and those that are refused.
fn ranges(fields: &HeaderMap) -> (Vec<String>, Vec<String>) {
    let lines = fields.get_all(header::ACCEPT_LANGUAGE).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let mut wanted: Vec<(u16, String)> = Vec::new();
    let mut refused = Vec::new();
    for member in lines.flat_map(|line| line.split(',')).take(MOST) {
        let (range, weight) = member.split_once(';').unwrap_or((member, "q=1"));
        let range = range.trim().to_ascii_lowercase();
        match weigh(weight.trim()) {
            _ if range.is_empty() => {}
            Some(0) => refused.push(range),
            Some(weight) => wanted.push((weight, range)),
            None => {}
        }
    }
    // Stable: of equal weight, what is named first is preferred.
    wanted.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    (
        wanted.into_iter().map(|(_, range)| range).collect(),
        refused,
    )
}

/// A weight in thousandths (RFC 9110 section 12.4.2).
fn weigh(text: &str) -> Option<u16> {
    let (name, value) = text.split_once('=')?;
    if !name.trim_end().eq_ignore_ascii_case("q") {
        return None;
    }
    let value = value.trim_start();
    let (whole, part) = value.split_once('.').unwrap_or((value, ""));
    if part.len() > 3 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: u16 = format!("{part:0<3}").parse().ok()?;
    match whole {
        "0" => Some(part),
        "1" if part == 0 => Some(1000),
        _ => None,
    }
}

/// A range, then the same with less and less of its end. A single letter says what follows it, and goes with it.
fn prefixes(range: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(range), |range| {
        let shorter = range.rsplit_once('-')?.0;
        match shorter.rsplit_once('-') {
            Some((before, last)) if last.len() == 1 => Some(before),
            _ => Some(shorter),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(languages: &[(&str, &str)], accept: &[&str]) -> Option<String> {
        let own = |text: &str| text.to_owned();
        let languages: Vec<_> = languages.iter().map(|(a, b)| (own(a), own(b))).collect();
        let mut fields = HeaderMap::new();
        for line in accept {
            let line = line.parse().expect("a field's value");
            fields.append(header::ACCEPT_LANGUAGE, line);
        }
        lookup(&languages, &fields).map(str::to_owned)
    }

    #[test]
    fn the_best_language_of_both() {
        let all = [
            ("*", "/en/"),
            ("de", "/de/"),
            ("en", "/en/"),
            ("pt-br", "/br/"),
            ("zh-hant", "/zh/"),
        ];
        let table: &[(&[&str], &str)] = &[
            (&[], "/en/"),
            (&[""], "/en/"),
            (&["de"], "/de/"),
            (&["DE-at"], "/de/"),
            (&["fr, de;q=0.5"], "/de/"),
            (&["de;q=0.5, en;q=0.9"], "/en/"),
            (&["en;q=0.5", "de;q=0.501"], "/de/"),
            (&["en;q=0.8,de;q=0.8"], "/en/"),
            (&["de;q=0, fr"], "/en/"),
            (&["de-AT, de;q=0"], "/en/"),
            // Less than what is there is no match (RFC 4647 section 3.4).
            (&["pt"], "/en/"),
            (&["pt-BR"], "/br/"),
            (&["zh-Hant-x-a-b"], "/zh/"),
            // Anything will do.
            (&["*, de;q=0.9"], "/en/"),
            (&["de;q=2, de;q=1.5, de;q=x, de;p=1, de;q=0.1234"], "/en/"),
            (&["de; Q = 1.0"], "/de/"),
        ];
        for (accept, want) in table {
            assert_eq!(sent(&all, accept).as_deref(), Some(*want), "{accept:?}");
        }
    }

    #[test]
    fn without_a_word_for_the_others_they_stay() {
        assert_eq!(sent(&[("de", "/de/")], &["en"]), None);
        assert_eq!(sent(&[("de", "/de/")], &["*"]), None);
        assert_eq!(sent(&[("de", "/de/")], &[]), None);
    }

    #[test]
    fn more_than_anybody_speaks_is_not_read() {
        let many = format!("{}de", "fr,".repeat(MOST));
        assert_eq!(sent(&[("de", "/de/")], &[&many]), None);
    }
}

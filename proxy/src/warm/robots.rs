//! `robots.txt` (RFC 9309): what a site asks robots to leave alone, and where its sitemaps are.

use super::place::escaped;

/// What a `robots.txt` says to us.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Robots {
    /// The URLs of its `Sitemap` lines, as written; at most [`SITEMAPS`].
    pub sitemaps: Vec<String>,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    allows: bool,
    /// Literal parts, with anything between them.
    parts: Vec<String>,
    /// The path ends with the last part.
    to_the_end: bool,
    /// How long the pattern is as written, in bytes: the longest one decides.
    length: usize,
}

impl Robots {
    /// Reads a `robots.txt`. The rules are those for [`AGENT`] where it is named, else those for `*`.
    /// At most [`TEXT`] bytes and [`RULES`] rules are read.
    pub fn read(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&text[..text.len().min(TEXT)]);
        let (mut ours, mut everyones) = (Vec::new(), Vec::new());
        let (mut named, mut for_us, mut for_all) = (false, false, false);
        let mut sitemaps = Vec::new();
        let mut heading = false;
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.split('#').next().unwrap_or_default();
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
            match key.as_str() {
                "user-agent" => {
                    if !std::mem::replace(&mut heading, true) {
                        (for_us, for_all) = (false, false);
                    }
                    for_us |= value.eq_ignore_ascii_case(AGENT);
                    for_all |= value == "*";
                    named |= for_us;
                }
                "allow" | "disallow" => {
                    heading = false;
                    let rule = Rule::new(key == "allow", value);
                    for (_, rules) in [(for_us, &mut ours), (for_all, &mut everyones)]
                        .into_iter()
                        .filter(|(wanted, rules)| *wanted && rules.len() < RULES)
                    {
                        rules.extend(rule.clone());
                    }
                }
                "sitemap" if sitemaps.len() < SITEMAPS => sitemaps.push(value.to_owned()),
                _ => {}
            }
        }
        Self {
            sitemaps,
            rules: if named { ours } else { everyones },
        }
    }

    /// Whether a path with its query may be fetched (RFC 9309 section 2.2.2).
    pub fn allows(&self, path_and_query: &str) -> bool {
        self.rules
            .iter()
            .filter(|rule| rule.matches(path_and_query))
            .max_by_key(|rule| (rule.length, rule.allows))
            .is_none_or(|rule| rule.allows)
    }
}

impl Rule {
    /// `None` for a rule that says nothing.
    fn new(allows: bool, pattern: &str) -> Option<Self> {
        if pattern.is_empty() || pattern.len() > PATTERN {
            return None;
        }
        let (literal, to_the_end) = match pattern.strip_suffix('$') {
            Some(literal) => (literal, true),
            None => (pattern, false),
        };
        Some(Self {
            allows,
            parts: literal.split('*').map(escaped).collect(),
            to_the_end,
            length: pattern.len(),
        })
    }

    fn matches(&self, path: &str) -> bool {
        let [first, rest @ ..] = self.parts.as_slice() else {
            return false;
        };
        let Some(mut left) = path.strip_prefix(first.as_str()) else {
            return false;
        };
        let Some((last, between)) = rest.split_last() else {
            return !self.to_the_end || left.is_empty();
        };
        for part in between {
            match left.find(part.as_str()) {
                Some(at) => left = &left[at + part.len()..],
                None => return false,
            }
        }
        if self.to_the_end {
            left.ends_with(last.as_str())
        } else {
            left.contains(last.as_str())
        }
    }
}

/// The name by which a `robots.txt` may speak to us.
pub const AGENT: &str = "sovereign-proxy";
/// How much of a `robots.txt` is read, in bytes (RFC 9309 section 2.5).
const TEXT: usize = 500 * 1024;
const RULES: usize = 1000;
const PATTERN: usize = 2048;
/// How many `Sitemap` lines are read.
const SITEMAPS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn rules() {
        let table: &[(&str, &[&str], &[&str])] = &[
            // text, what it allows, what it does not
            ("", &["/", "/a"], &[]),
            ("User-agent: *\nDisallow:", &["/", "/a"], &[]),
            ("User-agent: *\nDisallow: /", &[], &["/", "/a?b"]),
            ("user-AGENT : *  # all\nDISALLOW : /a # x", &["/", "/b"], &["/a", "/ab", "/a/b", "/a?x"]),
            ("User-agent: *\nDisallow: /a\nAllow: /a/b", &["/a/b", "/a/bc"], &["/a", "/a/c"]),
            ("User-agent: *\nAllow: /a\nDisallow: /a", &["/a"], &[]),
            ("User-agent: *\nDisallow: /*.gif$", &["/a.gif?x", "/gif"], &["/a.gif", "/b/.gif"]),
            ("User-agent: *\nDisallow: /a*b*c", &["/acb", "/ab"], &["/abc", "/axbxcx"]),
            ("User-agent: *\nDisallow: /a$", &["/ab", "/a/"], &["/a"]),
            ("User-agent: *\nDisallow: /\u{e9}", &["/e"], &["/%C3%A9", "/%C3%A9/x"]),
            ("User-agent: other\nDisallow: /", &["/"], &[]),
            ("User-agent: other\nUser-agent: *\nDisallow: /a\n\nUser-agent: third\nDisallow: /b", &["/b"], &["/a"]),
            ("User-agent: *\nDisallow: /\nUser-agent: Sovereign-Proxy\nDisallow: /x", &["/", "/a"], &["/x"]),
            ("User-agent: *\nDisallow: /a\nUser-agent: other\nDisallow: /b\nUser-agent: *\nDisallow: /c", &["/b"], &["/a", "/c"]),
            ("Disallow: /", &["/"], &[]),
            ("\u{feff}User-agent: *\r\nDisallow: /a\r\n", &["/b"], &["/a"]),
        ];
        for (text, allowed, forbidden) in table {
            let robots = Robots::read(text.as_bytes());
            for path in *allowed {
                assert!(robots.allows(path), "{text}: {path}");
            }
            for path in *forbidden {
                assert!(!robots.allows(path), "{text}: {path}");
            }
        }
    }

    #[test]
    fn sitemaps_stand_outside_groups() {
        let text =
            "Sitemap: https://a.example/1.xml\nUser-agent: other\nsitemap:/2.xml\nDisallow: /";
        let robots = Robots::read(text.as_bytes());
        assert_eq!(robots.sitemaps, ["https://a.example/1.xml", "/2.xml"]);
    }

    #[test]
    fn nothing_is_unbounded() {
        let text = "User-agent: *\n".to_owned() + &"Disallow: /a\nSitemap: x\n".repeat(100_000);
        let robots = Robots::read(text.as_bytes());
        assert_eq!(robots.rules.len(), RULES);
        assert_eq!(robots.sitemaps.len(), SITEMAPS);
        let text = format!("User-agent: *\nDisallow: /{}", "*a".repeat(PATTERN));
        assert!(Robots::read(text.as_bytes()).rules.is_empty());
    }
}

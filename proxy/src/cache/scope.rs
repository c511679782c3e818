//! What a stored response can be purged by: its site, its URL, the folders of its path, and the tags that its application gave it.
//!
//! Each of these is a scope, a number of 64 bits. It is what a purge names and what a stored response carries, in memory and on
//! disk, so it must stay the same for the same thing from one program to the next. Two things may share a number by chance or by
//! intent, as the hash is not a secret: then a purge concerns more than was meant, never less.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use twox_hash::XxHash3_64;

use super::key::Key;

// Cache-Groups and Cache-Group-Invalidation.
mod groups;

/// The kinds of scopes, each with its number. A number depends on nothing but what is given, and no kind's text can pass for another's.
pub enum Scope {}

impl Scope {
    /// All of a site, by the first of its names.
    pub fn site(canonical_name: &str) -> u64 {
        hash(SITE, canonical_name.as_bytes())
    }

    /// All that is stored for one URL, by the text of its [`Key`].
    pub fn url(key: &str) -> u64 {
        hash(URL, key.as_bytes())
    }

    /// All whose URL without its query begins with this one: origin and path, ending in `/`. At most [`MOST_FOLDERS`] deep.
    pub fn prefix(origin_and_path_ending_in_slash: &str) -> u64 {
        hash(PREFIX, origin_and_path_ending_in_slash.as_bytes())
    }

    /// All of a site, by the first of its names, that has a tag. Tags compare byte for byte.
    pub fn tag(site: &str, tag: &[u8]) -> u64 {
        hash(hash(TAG, site.as_bytes()), tag)
    }

    /// All of an origin, `scheme://host[:port]`, that is in a group (RFC 9875, 2.1).
    pub fn group(origin: &str, group: &str) -> u64 {
        hash(hash(GROUP, origin.as_bytes()), group.as_bytes())
    }
}

/// All scopes of one response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scopes {
    /// Each once: the site, the URL, the folders from the origin down, then tags and groups.
    pub list: Box<[u64]>,
    /// More tags than [`MOST_TAGS`], or one longer than [`TAG_BYTES`]: not to be stored, as it could not be purged by those that
    /// are missing in `list`.
    pub too_many: bool,
}

/// The scopes of a response to `key` of the site whose first name is `site`. A member of `Cache-Groups` is a group of the origin
/// and a tag of the site as well.
pub fn scopes_of(site: &str, key: &Key, response: &HeaderMap) -> Scopes {
    let mut list = vec![Scope::site(site), Scope::url(key.as_str())];
    list.extend(folders(key).map(Scope::prefix));
    let (mut found, mut too_many) = (Vec::new(), false);
    for tag in tags(response) {
        let scope = Scope::tag(site, &tag);
        if found.contains(&scope) {
            continue;
        }
        too_many = found.len() == MOST_TAGS || tag.len() > TAG_BYTES;
        if too_many {
            break;
        }
        found.push(scope);
    }
    list.append(&mut found);
    if !too_many {
        for group in groups::members(response, &CACHE_GROUPS) {
            let scope = Scope::group(key.origin(), &group);
            if !list.contains(&scope) {
                list.push(scope);
            }
        }
    }
    Scopes {
        list: list.into(),
        too_many,
    }
}

/// The scopes that a page, by the text of its [`Key`], has for itself: its URL, and the folder that it is the front page of.
/// They can be told from the key again, and so need not be kept with every page.
pub fn of_page(key: &str) -> [Option<u64>; 2] {
    let is_front_page = key.ends_with('/') && !key.contains('?');
    [
        Some(Scope::url(key)),
        is_front_page.then(|| Scope::prefix(key)),
    ]
}

/// The tags of a response, in no order, perhaps some more than once: the members of `Cache-Groups` (RFC 9875), unless it cannot be
/// read, of `Cache-Tag` (between commas), `Surrogate-Key` (between spaces) and `xkey` (between either).
pub fn tags(response: &HeaderMap) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let groups = groups::members(response, &CACHE_GROUPS);
    let groups = groups
        .into_iter()
        .map(|group| Cow::Owned(group.into_bytes()));
    let others = SEPARATED.into_iter().flat_map(|(name, separates)| {
        let lines = response.get_all(name).into_iter();
        lines
            .flat_map(move |line| line.as_bytes().split(separates))
            .map(<[u8]>::trim_ascii)
            .filter(|tag| !tag.is_empty())
            .map(Cow::Borrowed)
    });
    groups.chain(others)
}

/// The groups of its own origin that a response invalidates, each once and at most [`MOST_INVALIDATED`]. Only a response to an
/// unsafe method may (RFC 9875, 3); the caller knows the method.
pub fn invalidated_groups(response: &HeaderMap) -> Vec<String> {
    let mut found = groups::members(response, &CACHE_GROUP_INVALIDATION);
    found.sort_unstable();
    found.dedup();
    found.truncate(MOST_INVALIDATED);
    found
}

/// The folders of a URL, from the origin's own down: `https://a.example/`, `https://a.example/b/`.
fn folders(key: &Key) -> impl Iterator<Item = &str> {
    let (text, origin) = (key.as_str(), key.origin().len());
    let path = key.path_and_query().split('?').next().unwrap_or_default();
    path.match_indices('/')
        .filter_map(move |(slash, _)| text.get(..=origin + slash))
        .take(MOST_FOLDERS)
}

fn hash(kind: u64, text: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(kind, text)
}

fn is_comma(byte: &u8) -> bool {
    *byte == b','
}

fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn is_either(byte: &u8) -> bool {
    is_comma(byte) || is_space(byte)
}

/// How many folders of a path are scopes; a purge by a deeper one would find nothing, and must be refused.
pub const MOST_FOLDERS: usize = 16;
/// How many different tags a stored response may have.
pub const MOST_TAGS: usize = 64;
/// How long a tag may be.
pub const TAG_BYTES: usize = 1024;
/// How many groups one response may invalidate.
pub const MOST_INVALIDATED: usize = 128;
const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
const XKEY: HeaderName = HeaderName::from_static("xkey");

type IsSeparator = fn(&u8) -> bool;

/// Fields with tags, and what stands between two of them.
const SEPARATED: [(HeaderName, IsSeparator); 3] = [
    (CACHE_TAG, is_comma),
    (SURROGATE_KEY, is_space),
    (XKEY, is_either),
];

/// Seeds of the kinds. They are in every stored record: a change makes every disk cache unpurgeable.
const SITE: u64 = 1;
const URL: u64 = 2;
const PREFIX: u64 = 3;
const TAG: u64 = 4;
const GROUP: u64 = 5;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use http::HeaderValue;

    use super::*;

    fn fields(lines: &[&str]) -> HeaderMap {
        let line = |line: &&str| {
            let (name, value) = line.split_once(": ").unwrap();
            (
                name.parse::<HeaderName>().unwrap(),
                value.parse::<HeaderValue>().unwrap(),
            )
        };
        lines.iter().map(line).collect()
    }

    fn key(path: &str) -> Key {
        Key::new("https", "a.example", path).unwrap()
    }

    /// They stand in files: other numbers would be other scopes.
    #[test]
    #[rustfmt::skip]
    fn numbers_never_change() {
        assert_eq!(Scope::site("a.example"), 0x03c0_c504_666c_9788);
        assert_eq!(Scope::url("https://a.example/"), 0xe22f_6b4d_8b69_dcf8);
        assert_eq!(Scope::prefix("https://a.example/"), 0x463c_f239_fe1e_5ff8);
        assert_eq!(Scope::tag("a.example", b"b"), 0x557a_b97f_0cb2_b8ea);
        assert_eq!(Scope::group("https://a.example", "b"), 0xef04_965e_7657_da8b);
    }

    #[test]
    fn kinds_and_borders_make_a_difference() {
        let all = [
            Scope::site("ab"),
            Scope::url("ab"),
            Scope::prefix("ab"),
            Scope::tag("", b"ab"),
            Scope::tag("a", b"b"),
            Scope::tag("ab", b""),
            Scope::tag("A", b"b"),
            Scope::tag("a", b"B"),
            Scope::group("", "ab"),
            Scope::group("a", "b"),
            Scope::group("ab", ""),
        ];
        assert_eq!(BTreeSet::from(all).len(), all.len());
    }

    #[test]
    #[rustfmt::skip]
    fn which_tags() {
        for (lines, wanted, checks) in [
            (&[][..], &[][..], "none"),
            (&["cache-tag: a, b c ,,d,"], &["a", "b c", "d"], "between commas"),
            (&["surrogate-key: a  b,c\td "], &["a", "b,c", "d"], "between spaces"),
            (&["xkey: a b,c , d"], &["a", "b", "c", "d"], "between either"),
            (&["xkey: a", "xkey: b", "xkey: a"], &["a", "b", "a"], "several lines"),
            (&["cache-groups: \"a b\", \"c\\\"d\""], &["a b", "c\"d"], "RFC 9875"),
            (&["cache-groups: \"a\", b", "xkey: c"], &["c"], "ignored whole"),
            (&["cache-groups: \"a\"", "cache-groups: \"b\""], &["a", "b"], "one list over two lines"),
            (&["cache-groups: \"a\"", "xkey: x", "surrogate-key: s", "cache-tag: t"], &["a", "t", "s", "x"], "all of them"),
            (&["xkey: \u{e9} \"q\""], &["\u{e9}", "\"q\""], "any byte, quotes as they are"),
        ] {
            let found: Vec<_> = tags(&fields(lines)).map(Cow::into_owned).collect();
            let wanted: Vec<_> = wanted.iter().map(|tag| tag.as_bytes()).collect();
            assert_eq!(found, wanted, "{checks}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn all_scopes() {
        let deep: String = (0..40).map(|n| format!("/{n}")).collect();
        let sixteen: Vec<String> = (0..16)
            .map(|n| (0..n).fold("https://a.example/".to_owned(), |path, n| format!("{path}{n}/")))
            .collect();
        let sixteen: Vec<&str> = sixteen.iter().map(String::as_str).collect();
        for (path, folders, checks) in [
            ("/", &["https://a.example/"][..], "the origin"),
            ("/b", &["https://a.example/"], "a page is no folder"),
            ("/b/", &["https://a.example/", "https://a.example/b/"], "a folder is in itself"),
            ("/b/c/d?e/f/", &["https://a.example/", "https://a.example/b/", "https://a.example/b/c/"], "no query"),
            ("//b", &["https://a.example/", "https://a.example//"], "as received"),
            ("/\u{e9}/b", &["https://a.example/", "https://a.example/\u{e9}/"], "as received"),
            (&deep, &sixteen, "sixteen at the most"),
        ] {
            let key = key(path);
            let found = scopes_of("a.example", &key, &HeaderMap::new());
            let mut wanted = vec![Scope::site("a.example"), Scope::url(key.as_str())];
            wanted.extend(folders.iter().copied().map(Scope::prefix));
            assert_eq!(*found.list, wanted, "{checks}");
            assert!(!found.too_many);
        }
        let tagged = fields(&["xkey: a b a", "cache-groups: \"a\", \"g\", \"g\""]);
        let found = scopes_of("www", &key("/"), &tagged);
        let wanted = [
            Scope::site("www"), Scope::url("https://a.example/"), Scope::prefix("https://a.example/"),
            Scope::tag("www", b"a"), Scope::tag("www", b"g"), Scope::tag("www", b"b"),
            Scope::group("https://a.example", "a"), Scope::group("https://a.example", "g"),
        ];
        assert_eq!(*found.list, wanted);
        let other = scopes_of("other", &key("/"), &tagged);
        assert!(other.list.iter().filter(|scope| wanted.contains(scope)).count() == 4, "URL, folder, two groups");
    }

    #[test]
    fn too_many_tags() {
        let list = |count: usize| {
            (0..count)
                .map(|n| n.to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        for (field, too_many) in [
            (format!("xkey: {}", list(64)), false),
            (format!("xkey: {} {}", list(64), list(64)), false),
            (format!("xkey: {}", list(65)), true),
            (format!("xkey: {}", "a".repeat(1024)), false),
            (format!("xkey: {}", "a".repeat(1025)), true),
        ] {
            let found = scopes_of("a", &key("/"), &fields(&[&field]));
            assert_eq!(found.too_many, too_many, "{field}");
            assert!(found.list.len() <= 3 + MOST_TAGS);
        }
        // Over two fields as well.
        let found = scopes_of(
            "a",
            &key("/"),
            &fields(&[&format!("xkey: {}", list(64)), "cache-tag: more"]),
        );
        assert!(found.too_many);
    }

    #[test]
    fn what_a_response_invalidates() {
        let of = |lines: &[&str]| invalidated_groups(&fields(lines));
        assert_eq!(
            of(&["cache-group-invalidation: \"b\", \"a\";x, \"b\""]),
            ["a", "b"]
        );
        assert!(of(&["cache-group-invalidation: a"]).is_empty());
        assert!(of(&["cache-groups: \"a\""]).is_empty());
        let many: Vec<_> = (0..200).map(|n| format!("\"{n}\"")).collect();
        let field = format!("cache-group-invalidation: {}", many.join(","));
        assert_eq!(of(&[&field]).len(), MOST_INVALIDATED);
    }
}

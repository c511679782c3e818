//! What a path of the origin's asks for.

use std::time::Duration;

/// What a path asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// Bytes of the body.
    pub size: usize,
    query: &'a str,
}

impl<'a> Asked<'a> {
    /// What this path asks for.
    pub fn of(path: &'a str) -> Self {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let size = path
            .strip_prefix("/truth/")
            .and_then(|rest| rest.split('/').next()?.parse().ok())
            .unwrap_or(0);
        Self { size, query }
    }

    /// Whether an option is there.
    pub fn has(&self, name: &str) -> bool {
        self.query.split('&').any(|option| option == name)
    }

    /// The value of an option.
    pub fn value(&self, name: &str) -> Option<&'a str> {
        self.query
            .split('&')
            .find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }

    /// The same, where it is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.parse().ok()
    }

    /// The same as a time; none where it is not there.
    pub fn milliseconds(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name).unwrap_or(0))
    }

    /// The field of each list of tags, and its value as that field is written.
    pub fn tags(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.query.split('&').filter_map(|option| {
            let (name, tags) = option.split_once(':')?;
            let (name, before, between) = TAG_FIELDS.iter().find(|(known, ..)| *known == name)?;
            let tags: Vec<_> = tags
                .split('+')
                .map(|tag| format!("{before}{tag}{before}"))
                .collect();
            Some((*name, tags.join(between)))
        })
    }
}

/// The fields that name tags: what stands round a tag, and between two.
const TAG_FIELDS: [(&str, &str, &str); 4] = [
    ("surrogate-key", "", " "),
    ("cache-tag", "", ", "),
    ("xkey", "", " "),
    ("cache-groups", "\"", ", "),
];

//! Durations, sizes, addresses and files: the kinds of values that several keys share.

use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Check, On};
use crate::problem::{Key, quoted};
use crate::raw;

impl Check<'_, '_> {
    /// A duration within bounds.
    pub(crate) fn duration(
        &mut self,
        key: &Key,
        raw: Option<&raw::Duration>,
        least: Duration,
        most: Duration,
    ) -> Option<Duration> {
        let text = &raw?.0;
        let Some(duration) = parse_duration(text) else {
            let hint = "a whole number and one of ms, s, m, h, d";
            self.problems
                .add_with_hint(key, quoted(text), "a duration such as 30s", hint);
            return None;
        };
        if (least..=most).contains(&duration) {
            return Some(duration);
        }
        let wanted = format!(
            "a duration from {} to {}",
            show_duration(least),
            show_duration(most)
        );
        self.problems.add(key, quoted(text), wanted);
        None
    }

    /// A size in bytes within bounds.
    pub(super) fn size(
        &mut self,
        key: &Key,
        raw: Option<&raw::Size>,
        least: u64,
        most: u64,
    ) -> Option<u64> {
        let text = &raw?.0;
        let Some(size) = parse_size(text) else {
            let hint = "a whole number and one of B, KB, KiB, MB, MiB, GB, GiB, TB, TiB";
            self.problems
                .add_with_hint(key, quoted(text), "a size such as 256MiB", hint);
            return None;
        };
        if (least..=most).contains(&size) {
            return Some(size);
        }
        let wanted = format!("a size from {} to {}", show_size(least), show_size(most));
        self.problems.add(key, quoted(text), wanted);
        None
    }

    /// The same, where zero turns something off.
    pub(super) fn size_or_zero(
        &mut self,
        key: &Key,
        raw: Option<&raw::Size>,
        least: u64,
        most: u64,
    ) -> Option<u64> {
        match raw.and_then(|raw| parse_size(&raw.0)) {
            Some(0) => Some(0),
            _ => self.size(key, raw, least, most),
        }
    }

    /// An address to listen at.
    pub(super) fn address(&mut self, key: &Key, text: &str) -> Option<SocketAddr> {
        if let Ok(address) = text.parse() {
            return Some(address);
        }
        let hint = match text.rsplit_once(':') {
            Some(("" | "*", port)) if port.parse::<u16>().is_ok() => {
                format!("every address is written [::]:{port}")
            }
            _ if text.parse::<std::net::IpAddr>().is_ok() => "the port is missing".to_owned(),
            _ => "an IP address, IPv6 in brackets, then a colon and the port".to_owned(),
        };
        self.problems
            .add_with_hint(key, quoted(text), "an address such as 127.0.0.1:8080", hint);
        None
    }

    /// The kernel keeps socket paths in 108 bytes, the last of which is zero.
    pub(super) fn socket_fits(&mut self, key: &Key, path: &Path) {
        const MOST: usize = 107;
        let length = path.as_os_str().as_bytes().len();
        if length > MOST {
            let wanted = format!("one of at most {MOST} bytes");
            self.problems
                .add(key, format!("a socket path of {length} bytes"), wanted);
        }
    }

    /// The content of a file that the configuration names.
    pub(crate) fn content(
        &mut self,
        key: &Key,
        name: &str,
        most: u64,
    ) -> Option<(PathBuf, Vec<u8>)> {
        let path = self.base.join(name);
        if let Some(content) = self.given(&path) {
            return Some((path, content.clone()));
        }
        let found = match read(&path, most) {
            Ok(Some(content)) => return Some((path, content)),
            Ok(None) => {
                let wanted = format!("a file of at most {}", show_size(most));
                self.problems
                    .add(key, format!("{}, which is larger", quoted(name)), wanted);
                return None;
            }
            Err(error) => match error.kind() {
                std::io::ErrorKind::NotFound => "which does not exist",
                std::io::ErrorKind::PermissionDenied => "which may not be read",
                std::io::ErrorKind::IsADirectory => "which is a folder",
                _ => "which cannot be read",
            },
        };
        let found = format!("{}, {found}", quoted(name));
        if Path::new(name).is_relative() {
            let hint = "a relative path counts from the folder of this file";
            self.problems
                .add_with_hint(key, found, "a readable file", hint);
        } else {
            self.problems.add(key, found, "a readable file");
        }
        None
    }

    /// What a file holds that is not read here.
    pub(super) fn given(&self, path: &Path) -> Option<&Vec<u8>> {
        match self.on {
            On::Here => None,
            On::Elsewhere(files) => files.get(path),
        }
    }

    /// The same for files that must be text.
    pub(super) fn text_file(&mut self, key: &Key, name: &str, most: u64) -> Option<String> {
        let (_, content) = self.content(key, name, most)?;
        let text = String::from_utf8(content).ok();
        if text.is_none() {
            self.problems.add(
                key,
                format!("{}, which is not UTF-8", quoted(name)),
                "a text file",
            );
        }
        text
    }
}

/// Everything in a file, or nothing where it is larger than `most`.
fn read(path: &Path, most: u64) -> std::io::Result<Option<Vec<u8>>> {
    // Opening a pipe or a device could block for ever.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    let mut content = Vec::new();
    std::fs::File::open(path)?
        .take(most + 1)
        .read_to_end(&mut content)?;
    let fits = content.len() as u64 <= most;
    Ok(fits.then_some(content))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let (_, millis) = DURATIONS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*millis).map(Duration::from_millis)
}

fn parse_size(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (number, unit) = split(text)?;
    let (_, bytes) = SIZES.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*bytes)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

pub(super) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let whole = DURATIONS
        .iter()
        .rev()
        .find(|(_, unit)| millis.is_multiple_of(u128::from(*unit)));
    whole.map_or_else(String::new, |(name, unit)| {
        format!("{}{name}", millis / u128::from(*unit))
    })
}

fn show_size(size: u64) -> String {
    let whole = SIZES.iter().rev().find(|(name, unit)| {
        size != 0 && size.is_multiple_of(*unit) && (name.contains('i') || *name == "B")
    });
    whole.map_or_else(
        || size.to_string(),
        |(name, unit)| format!("{}{name}", size / unit),
    )
}

/// Units of time in milliseconds, ascending.
const DURATIONS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Units of size in bytes, ascending.
const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_and_show_alike() {
        for text in ["500ms", "30s", "5m", "2h", "1d", "90s"] {
            let duration = parse_duration(text).expect("one of ours");
            assert_eq!(show_duration(duration), text);
        }
        for text in ["1B", "64KiB", "256MiB", "10GiB", "1TiB"] {
            let size = parse_size(text).expect("one of ours");
            assert_eq!(show_size(size), text);
        }
        assert_eq!(parse_size("10GB"), Some(10_000_000_000));
        for text in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "5 weeks",
            "99999999999999999999s",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for text in ["", "5", "MiB", "-1B", "18446744073709551615KB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}

//! A wall clock that is wrong, by libfaketime, from Debian.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::lab::Lab;
use crate::proxy::Launch;

/// How a program is started whose wall clock is off by what a file says; its steady clock is not.
pub fn launch(lab: &Lab) -> (Launch, PathBuf) {
    let offset = lab.file("offset", "+0");
    let launch = Launch {
        environment: vec![
            ("LD_PRELOAD", library()),
            ("FAKETIME_TIMESTAMP_FILE", offset.clone().into()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ],
        ..Launch::default()
    };
    (launch, offset)
}

/// Sets the clock off by this much, such as `-1h`. Replaced as a whole: it is read while it is written.
pub fn set(offset: &Path, text: &str) {
    let new = offset.with_extension("new");
    fs::write(&new, text).expect("the folder is ours");
    fs::rename(&new, offset).expect("the folder is ours");
}

/// The variables of a program whose clock is off by this much for good. (The program `faketime` does
/// the same, and now and then refuses where several are started at once.)
pub fn environment(off: &str) -> [(&'static str, OsString); 2] {
    [("LD_PRELOAD", library()), ("FAKETIME", off.into())]
}

fn library() -> OsString {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut paths = folders.map(|entry| entry.path().join("faketime/libfaketime.so.1"));
    let found = paths.find(|path| path.exists());
    found
        .expect("libfaketime is missing: run `tests/run --prepare`")
        .into()
}

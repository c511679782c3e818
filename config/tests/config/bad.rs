//! Every bad file has its message checked in: `bad/NAME.toml` and `bad/NAME.txt`. With
//! `UPDATE_EXPECTED=1` in the environment the messages are written anew, to be read in the diff.

use std::path::Path;

use crate::{package, parse, toml_files, write_certificate};

#[test]
fn every_bad_file_says_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_certificate(folder.path());
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut different = Vec::new();
    for file in toml_files(&package().join("tests/config/bad")) {
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .expect("plain names");
        let text = std::fs::read_to_string(&file).expect("readable");
        let report = match sovereign_config::parse(name, &text, folder.path()) {
            Ok(_) => panic!("{name} is not bad"),
            Err(report) => report
                .to_string()
                .replace(&folder.path().display().to_string(), "FOLDER"),
        };
        let expected = file.with_extension("txt");
        if update {
            std::fs::write(&expected, format!("{report}\n")).expect("writable");
        } else if std::fs::read_to_string(&expected)
            .unwrap_or_default()
            .trim_end()
            != report
        {
            different.push(report);
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n\n"));
}

#[test]
fn many_mistakes_are_told_in_one_run_and_in_order() {
    let path = package().join("tests/config/bad/many.toml");
    let text = std::fs::read_to_string(path).expect("there");
    let report = parse(&text).expect_err("bad");
    assert!(report.problems.len() >= 20, "{report}");
    let lines: Vec<_> = report.problems.iter().map(|problem| problem.line).collect();
    assert!(lines.is_sorted());
    // Every line that says it is wrong is reported, and no other.
    let marked: Vec<_> = (1..)
        .zip(text.lines())
        .filter(|(_, line)| line.contains("# wrong"))
        .collect();
    for (number, line) in &marked {
        assert!(lines.contains(&Some(*number)), "{number}: {line}");
    }
    for line in lines.into_iter().flatten() {
        assert!(
            marked.iter().any(|(number, _)| *number == line),
            "line {line}\n{report}"
        );
    }
}

#[test]
fn report_is_json_for_programs() {
    let report =
        parse("[[site]]\nnames = \"a.example\"\nupstream = \"ftp://a\"\n").expect_err("bad");
    let json = serde_json::to_value(&report).expect("plain data");
    assert_eq!(
        json["problems"][0],
        serde_json::json!({
            "file": "proxy.toml", "line": 3, "column": 12, "key": "site[0].upstream",
            "found": "\"ftp://a\"", "wanted": "a URL such as http://127.0.0.1:2368",
            "hint": "the schemes are http, https, h2c, http+unix",
        })
    );
}

#[test]
fn secrets_are_not_shown() {
    let text = r#"
        [[site]]
        names = "a.example"
        upstream = ["http://user:hunter2@a.example", "https://hunter2@b.example/x"]
        [site.request_headers]
        set = { Authorization = "hunter2\n", X-Key = ["hunter2"], "hunter2 " = "hunter2\u0001", Via = "hunter2" }
        [[site.route]]
        path = "/"
        redirect = "https://user:hunter2@c.example"
        [[site.route]]
        path = "/a"
        request_headers = { set = { X-Key = 73557 } }
    "#;
    let report = parse(text).expect_err("bad");
    // A key is a name, not a secret: it is the one place where the word may stand.
    let json = serde_json::to_string(&report)
        .expect("plain data")
        .replace("\\\"hunter2 \\\"", "");
    assert!(
        !json.contains("hunter2") && !json.contains("73557"),
        "{json}"
    );
    assert!(report.problems.len() >= 8, "{report}");
}

#[test]
fn broken_text_never_panics() {
    let full = std::fs::read_to_string(package().join("examples/full.toml")).expect("there");
    for end in (0..full.len())
        .filter(|end| full.is_char_boundary(*end))
        .step_by(7)
    {
        // Cut off, and with a piece missing in the middle.
        for text in [
            full[..end].to_owned(),
            format!("{}{}", &full[..end], &full[(end + 5).min(full.len())..]),
        ] {
            if let Err(report) =
                sovereign_config::parse("cut.toml", &text, Path::new("/nonexistent"))
            {
                assert!(!report.problems.is_empty());
            }
        }
    }
}

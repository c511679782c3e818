//! How warming went, for a person and for a program.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::status::printable;

/// How warming went.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The site.
    pub site: String,
    /// Pages that were found and may be fetched.
    pub pages: u64,
    /// Pages that were fetched from the site.
    pub fetched: u64,
    /// Pages that were stored before.
    pub already: u64,
    /// Pages that did not come.
    pub failed: u64,
    /// How many of the fetched ones the cache did not store, by its reason.
    pub not_stored: BTreeMap<String, u64>,
    /// URLs of other sites, which were left out.
    pub elsewhere: u64,
    /// Pages that were left out because `robots.txt` asks for it.
    pub forbidden: u64,
    /// How long it took.
    pub seconds: f64,
    /// Why it ended early, where it did.
    pub stopped: Option<String>,
    /// What else the operator should know.
    pub notes: Vec<String>,
    /// Every page that did not come.
    pub failures: Vec<Failure>,
    /// What would be fetched; only of a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
}

/// A page that did not come.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// Its URL.
    pub url: String,
    /// Why.
    pub why: String,
}

impl Report {
    /// Whether the command has done what it is for: something is there now, and nothing stopped it.
    pub fn is_success(&self) -> bool {
        self.urls.is_some() || (self.stopped.is_none() && self.fetched + self.already > 0)
    }

    /// The report for a person: one line, and more only where there is something to say.
    pub fn render(&self) -> String {
        let mut text = match &self.urls {
            Some(urls) => urls.iter().map(|url| format!("{url}\n")).collect(),
            None => self.summary(),
        };
        let (elsewhere, forbidden) = (self.elsewhere, self.forbidden);
        if self.urls.is_some() {
            return text;
        }
        match (elsewhere, forbidden) {
            (0, 0) => {}
            (_, 0) => text.push_str(&format!("left out: {elsewhere} of other sites\n")),
            (0, _) => text.push_str(&format!("left out: {forbidden} forbidden by robots.txt\n")),
            _ => text.push_str(&format!(
                "left out: {elsewhere} of other sites, {forbidden} forbidden by robots.txt\n"
            )),
        }
        for note in &self.notes {
            text.push_str(&format!("note: {note}\n"));
        }
        for Failure { url, why } in self.failures.iter().take(LISTED) {
            text.push_str(&format!("failed: {url}: {why}\n"));
        }
        if self.failures.len() > LISTED {
            let more = self.failures.len() - LISTED;
            text.push_str(&format!("failed: {more} more, which --json lists\n"));
        }
        if let Some(stopped) = &self.stopped {
            text.push_str(&format!("stopped: {stopped}\n"));
        }
        printable(&text)
    }

    fn summary(&self) -> String {
        let pages = if self.pages == 1 { "page" } else { "pages" };
        let were = if self.already == 1 { "was" } else { "were" };
        let mut text = format!(
            "{}: {} {pages}: {} fetched, {} {were} there already, {} failed; {:.1} s\n",
            self.site, self.pages, self.fetched, self.already, self.failed, self.seconds,
        );
        let not_stored: u64 = self.not_stored.values().sum();
        if not_stored > 0 {
            let reasons: Vec<_> = self
                .not_stored
                .iter()
                .map(|(reason, count)| format!("{reason}: {count}"))
                .collect();
            let reasons = reasons.join(", ");
            text.push_str(&format!(
                "not stored: {not_stored} of those fetched ({reasons})\n"
            ));
        }
        text
    }
}

/// How many failures a person is shown.
const LISTED: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_where_all_is_well() {
        let mut report = Report {
            site: "www.example.org".to_owned(),
            pages: 120,
            fetched: 100,
            already: 18,
            failed: 2,
            seconds: 3.12,
            ..Report::default()
        };
        let line =
            "www.example.org: 120 pages: 100 fetched, 18 were there already, 2 failed; 3.1 s\n";
        assert_eq!(report.render(), line);
        assert!(report.is_success());
        report.stopped = Some("the site is down".to_owned());
        assert!(!report.is_success());
        assert!(!Report::default().is_success());
    }

    #[test]
    fn all_else_has_lines_of_its_own() {
        let report = Report {
            site: "a.example".to_owned(),
            pages: 1,
            fetched: 3,
            already: 1,
            failed: 12,
            not_stored: [("private".to_owned(), 2), ("uncacheable".to_owned(), 1)].into(),
            elsewhere: 4,
            forbidden: 5,
            notes: vec!["a note".to_owned()],
            failures: (0..12)
                .map(|n| Failure {
                    url: format!("https://a.example/{n}"),
                    why: "404 \x1b[31mNot Found".to_owned(),
                })
                .collect(),
            stopped: Some("20 failures in a row".to_owned()),
            ..Report::default()
        };
        let mut want = "\
a.example: 1 page: 3 fetched, 1 was there already, 12 failed; 0.0 s
not stored: 3 of those fetched (private: 2, uncacheable: 1)
left out: 4 of other sites, 5 forbidden by robots.txt
note: a note
"
        .to_owned();
        for n in 0..10 {
            want += &format!("failed: https://a.example/{n}: 404  [31mNot Found\n");
        }
        want += "failed: 2 more, which --json lists\nstopped: 20 failures in a row\n";
        assert_eq!(report.render(), want);
    }

    #[test]
    fn a_dry_run_lists_urls_and_nothing_else() {
        let report = Report {
            urls: Some(vec![
                "https://a.example/".to_owned(),
                "https://a.example/b".to_owned(),
            ]),
            elsewhere: 3,
            ..Report::default()
        };
        assert_eq!(report.render(), "https://a.example/\nhttps://a.example/b\n");
        assert!(report.is_success());
    }
}

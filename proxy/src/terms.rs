//! The terms of an authority that nobody named in the configuration: the question that `run` asks
//! once, and `certs agree`. Certificates are asked for once they are agreed to; until then sites are
//! served with temporary ones.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use sovereign_config::model::{Ca, Proxy, Tls};
use sovereign_proxy::acme::terms;
use sovereign_proxy::certs::host;
use sovereign_proxy::status::AuthorityStatus;

use crate::args::Daemon;
use crate::{ask, demonstration, eprint, say};

/// Before a start: asks on a terminal, where there is something to agree to. Whatever the answer, the
/// start goes on.
pub(crate) fn ask_once(config: &Proxy) {
    // Nobody sits in front of a successor, even where its terminal is the old one's.
    if demonstration::is_successor() || !is_conversation() {
        return;
    }
    for ca in unagreed(config) {
        eprint(&format!(
            "{} a certificate from {} once its terms of service are agreed to:\n  {}\n\
             No e-mail address is needed or sent.",
            wish(config),
            host(&ca.directory),
            place(&ca.directory, None)
        ));
        if !agreed("Do you agree? [y/N] ") {
            eprint(
                "Then sites are served with certificates of this machine's own authority for now, which \
                 browsers warn of. `sovereign-proxy certs agree` asks again.",
            );
            continue;
        }
        if let Err(error) = terms::agree(&config.state, &ca.directory) {
            eprint(&format!(
                "error: keeping that answer: {:#}",
                anyhow::Error::new(error)
            ));
        }
    }
}

/// `certs agree`.
pub(crate) fn agree(daemon: &Daemon, yes: bool) -> anyhow::Result<()> {
    let overview = ask(daemon, async |client| client.certs().await)?;
    let waiting: Vec<_> = (overview.acme.authorities.iter())
        .filter(|authority| !authority.agreed)
        .collect();
    if waiting.is_empty() {
        return say("nothing to agree to: no authority waits for it");
    }
    for AuthorityStatus {
        directory,
        name,
        terms,
        ..
    } in waiting
    {
        if !yes {
            let place = place(directory, terms.as_deref());
            eprint(&format!("The terms of service of {name}: {place}"));
            anyhow::ensure!(
                is_conversation(),
                "nobody can be asked here, without a terminal: --yes agrees to the terms of {name}"
            );
            anyhow::ensure!(
                agreed("Do you agree? [y/N] "),
                "the terms of {name} were not agreed to"
            );
        }
        let directory = directory.clone();
        say(&ask(daemon, async |client| client.agree(directory).await)?)?;
    }
    Ok(())
}

/// The authorities that sites want certificates of, and whose terms wait for a word.
fn unagreed(config: &Proxy) -> impl Iterator<Item = &Ca> {
    let is_any_wanted = config.sites.iter().any(|site| site.tls == Tls::Acme);
    let waits = move |ca: &&Ca| {
        is_any_wanted && !ca.agreed && !terms::is_agreed(&config.state, &ca.directory)
    };
    config.acme.iter().filter(waits)
}

/// Who wants certificates.
fn wish(config: &Proxy) -> String {
    let mut sites = config.sites.iter().filter(|site| site.tls == Tls::Acme);
    let first = sites.next().map_or("a site", |site| site.canonical());
    match sites.count() {
        0 => format!("{first} gets"),
        1 => format!("{first} and another site get"),
        more => format!("{first} and {more} other sites get"),
    }
}

/// Where the terms can be read; before the authority has been asked only those of one are known.
fn place<'a>(directory: &'a str, terms: Option<&'a str>) -> &'a str {
    let known = directory.starts_with(LETS_ENCRYPT).then_some(REPOSITORY);
    terms.or(known).unwrap_or(directory)
}

fn is_conversation() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks; whatever is not a yes is a no.
fn agreed(question: &str) -> bool {
    eprint_part(question);
    let mut answer = String::new();
    let read = io::stdin().lock().take(LONGEST).read_line(&mut answer);
    if !answer.ends_with('\n') {
        eprint("");
    }
    let answer = answer.trim().to_ascii_lowercase();
    read.is_ok() && matches!(answer.as_str(), "y" | "yes")
}

fn eprint_part(text: &str) {
    use io::Write as _;
    let mut stderr = io::stderr();
    let _ = stderr
        .write_all(text.as_bytes())
        .and_then(|()| stderr.flush());
}

const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/";
/// Its legal documents, with the terms in force.
const REPOSITORY: &str = "https://letsencrypt.org/repository/";
/// No answer is longer.
const LONGEST: u64 = 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(state: &std::path::Path, sites: &[(&str, Tls)]) -> Proxy {
        let text: String = (sites.iter())
            .map(|(name, _)| {
                format!("[[site]]\nnames = \"{name}\"\ntls = \"local\"\nupstream = \"http://127.0.0.1:1\"\n")
            })
            .collect();
        let mut config = sovereign_config::parse("t", &text, state).unwrap();
        config.state = state.to_owned();
        for (site, (_, tls)) in config.sites.iter_mut().zip(sites) {
            site.tls = tls.clone();
        }
        config
    }

    #[test]
    fn what_is_asked_for_waits_for_a_word_and_only_until_it_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let local = config(folder.path(), &[("a.example.org", Tls::Local)]);
        assert_eq!(unagreed(&local).count(), 0);
        let public = config(folder.path(), &[("a.example.org", Tls::Acme)]);
        let directories: Vec<_> = unagreed(&public).map(|ca| &*ca.directory).collect();
        assert_eq!(directories, [format!("{LETS_ENCRYPT}directory")]);
        terms::agree(folder.path(), directories[0]).unwrap();
        assert_eq!(unagreed(&public).count(), 0);
    }

    #[test]
    fn the_question_names_who_wants_what_and_where_to_read() {
        let state = std::path::Path::new("/nowhere");
        let site = |name| (name, Tls::Acme);
        let names = ["a.example.org", "b.example.org", "c.example.org"].map(site);
        assert_eq!(wish(&config(state, &names[..1])), "a.example.org gets");
        assert_eq!(
            wish(&config(state, &names[..2])),
            "a.example.org and another site get"
        );
        assert_eq!(
            wish(&config(state, &names)),
            "a.example.org and 2 other sites get"
        );
        let directory = format!("{LETS_ENCRYPT}directory");
        assert_eq!(place(&directory, None), REPOSITORY);
        assert_eq!(
            place(&directory, Some("https://x.example/t")),
            "https://x.example/t"
        );
        assert_eq!(place("https://ca.example/d", None), "https://ca.example/d");
    }
}

//! How a set is loaded: what each site gets, from where.
//!
//! A site of `tls = "acme"` gets what is kept of its certificates. Names that these do not cover,
//! because nothing was ordered yet or because the site was given more names, get another kept
//! certificate that covers them, or one of the local authority.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use sovereign_config::model::{Site, Tls, Until};

use super::authority::Authority;
use super::certificate::{Certificate, Source};
use super::error::TlsError;
use super::files::Stamp;
use super::kept::Kept;
use super::set::{Secured, Set};
use super::{kept, local, wanted};

/// Certificates of authorities that were read, by id, and what their files looked like before.
#[derive(Debug, Default)]
pub(super) struct Kepts(HashMap<Box<str>, (Stamp, Arc<Certificate>)>);

/// Certificates of authorities that could not be written yet, by id.
pub type Unwritten = [(Box<str>, Kept)];

pub(super) struct Loader<'a> {
    state: &'a Path,
    now: SystemTime,
    before: Option<&'a Set>,
    hold: bool,
    authority: Option<Authority>,
    /// In place of what lies on disk.
    unwritten: HashMap<Box<str>, Arc<Certificate>>,
    /// Every kept certificate, where a name has needed them all.
    all: Option<Vec<Arc<Certificate>>>,
    set: Set,
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        state: &'a Path,
        now: SystemTime,
        before: Option<&'a Set>,
        hold: bool,
    ) -> Self {
        Self {
            state,
            now,
            before,
            hold,
            authority: None,
            unwritten: HashMap::new(),
            all: None,
            set: Set::default(),
        }
    }

    /// What goes before what lies on disk.
    pub(super) fn take(&mut self, unwritten: &Unwritten) {
        // They were judged: what cannot be served is not among them.
        let served = |(id, kept): &(Box<str>, Kept)| {
            let certificate = Certificate::of_kept(kept).ok()?;
            Some((id.clone(), Arc::new(certificate)))
        };
        self.unwritten.extend(unwritten.iter().filter_map(served));
    }

    pub(super) fn load(mut self, sites: &[Site]) -> Result<Set, TlsError> {
        let mut secured = Vec::with_capacity(sites.len());
        for site in sites {
            match &site.tls {
                Tls::Off => {}
                Tls::Files { cert, key } => secured.push(self.of_files(site, cert, key)?),
                Tls::Local => secured.push(self.of_local(site, site.names.clone())?),
                Tls::Acme => self.of_authorities(site, &mut secured)?,
            }
        }
        self.set.fill(&secured)?;
        Ok(self.set)
    }

    fn of_files<'s>(
        &mut self,
        site: &'s Site,
        cert: &Path,
        key: &Path,
    ) -> Result<Secured<'s>, TlsError> {
        let before = self.before.filter(|_| self.hold).map(|set| &set.files);
        let Set {
            files, warnings, ..
        } = &mut self.set;
        let certificate = files.read((cert, key), &site.names, before, self.now, warnings)?;
        Ok(Secured {
            site,
            names: site.names.clone(),
            certificate,
        })
    }

    /// A certificate of the local authority for a site; `names` are served with it.
    fn of_local<'s>(
        &mut self,
        site: &'s Site,
        names: Vec<String>,
    ) -> Result<Secured<'s>, TlsError> {
        let source = match site.tls {
            Tls::Acme => Source::Temporary,
            _ => Source::Local,
        };
        let (state, now) = (self.state, self.now);
        let known = self.known_local(site, &source);
        let authority = self.authority()?;
        let certificate = match known {
            Some(known) => known,
            // For all names of the site: so it stays the same while one after the other gets its own.
            None => Arc::new(local::certificate(
                &site.names,
                source,
                authority,
                state,
                now,
            )?),
        };
        let canonical = site.names.first().map_or("", String::as_str);
        let known = Arc::clone(&certificate);
        self.set.locals.insert(canonical.into(), known);
        Ok(Secured {
            site,
            names,
            certificate,
        })
    }

    /// What the set in force has of the local authority for a site. Only while the daemon serves: an
    /// operator who reloads may have put another authority there.
    fn known_local(&self, site: &Site, source: &Source) -> Option<Arc<Certificate>> {
        let before = self.before.filter(|_| self.hold)?;
        let known = before.locals.get(site.names.first()?.as_str())?;
        let good = known.info.source == *source && local::names_fit(known, &site.names, self.now);
        good.then(|| Arc::clone(known))
    }

    fn authority(&mut self) -> Result<&Authority, TlsError> {
        let opened = match self.authority.take() {
            Some(authority) => authority,
            None => {
                let opened = Authority::open(self.state, self.now)?;
                self.set.warnings.extend(opened.warnings(self.now));
                opened
            }
        };
        Ok(self.authority.insert(opened))
    }

    fn of_authorities<'s>(
        &mut self,
        site: &'s Site,
        secured: &mut Vec<Secured<'s>>,
    ) -> Result<(), TlsError> {
        let mut without = Vec::new();
        for wanted in wanted::of_site(site) {
            let kept = self.kept(&wanted.id)?;
            let covers = |name: &String| kept.as_ref().is_some_and(|kept| kept.covers(name));
            let (names, uncovered): (Vec<_>, Vec<_>) = wanted.names.into_iter().partition(covers);
            without.extend(uncovered);
            if let Some(certificate) = kept.filter(|_| !names.is_empty()) {
                secured.push(Secured {
                    site,
                    names,
                    certificate,
                });
            }
        }
        let mut temporary = Vec::new();
        for name in without {
            match self.another(&name) {
                Some(certificate) => secured.push(Secured {
                    site,
                    names: vec![name],
                    certificate,
                }),
                None => temporary.push(name),
            }
        }
        if temporary.is_empty() {
            return Ok(());
        }
        if site.certificates.until == Until::Http {
            let hosts = temporary.iter().map(|name| name.as_str().into());
            self.set.provisional.extend(hosts);
        }
        secured.push(self.of_local(site, temporary)?);
        Ok(())
    }

    /// What is kept under an id. What cannot be used is set aside.
    fn kept(&mut self, id: &str) -> Result<Option<Arc<Certificate>>, TlsError> {
        let known = self.set.kepts.0.get(id).map(|(_, known)| known);
        if let Some(known) = self.unwritten.get(id).or(known) {
            return Ok(Some(Arc::clone(known)));
        }
        // Before it is read: what is replaced while it is read is found changed the next time.
        let Some(stamp) = Stamp::of(&self.state.join(kept::name(id))) else {
            return Ok(None);
        };
        let certificate = match self.unchanged(id, stamp) {
            Some(certificate) => certificate,
            None => match self.read_kept(id)? {
                Some(certificate) => Arc::new(certificate),
                None => return Ok(None),
            },
        };
        let known = (stamp, Arc::clone(&certificate));
        self.set.kepts.0.insert(id.into(), known);
        Ok(Some(certificate))
    }

    fn unchanged(&self, id: &str, stamp: Stamp) -> Option<Arc<Certificate>> {
        let (before, certificate) = self.before?.kepts.0.get(id)?;
        (*before == stamp).then(|| Arc::clone(certificate))
    }

    fn read_kept(&self, id: &str) -> Result<Option<Certificate>, TlsError> {
        let Some(kept) = kept::read(self.state, id)? else {
            return Ok(None);
        };
        match Certificate::of_kept(&kept) {
            Ok(certificate) => Ok(Some(certificate)),
            Err(why) => {
                kept::set_aside(self.state, id, &why);
                Ok(None)
            }
        }
    }

    /// A kept certificate of whatever id that covers a name and has not lapsed: of two, the one that
    /// lapses later. A site may have changed its names, or have gone from one certificate to many.
    fn another(&mut self, name: &str) -> Option<Arc<Certificate>> {
        let all = match self.all.take() {
            Some(all) => all,
            None => self.all_kept(),
        };
        let now = self.now;
        let good = all
            .iter()
            .filter(|kept| kept.covers(name) && kept.info.not_after > now);
        let best = good.max_by_key(|kept| kept.info.not_after).cloned();
        self.all = Some(all);
        best
    }

    /// All that is kept and can be used; a file that cannot be read here is no error, since nothing
    /// has asked for it by name.
    fn all_kept(&mut self) -> Vec<Arc<Certificate>> {
        let folder = self.state.join(kept::FOLDER);
        let Ok(entries) = fs::read_dir(folder) else {
            return Vec::new();
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let mut ids: Vec<String> = paths.filter_map(id_of).take(MOST_KEPT).collect();
        ids.sort_unstable();
        let kept = ids.iter().filter_map(|id| self.kept(id).ok().flatten());
        kept.collect()
    }
}

fn id_of(path: PathBuf) -> Option<String> {
    let id = path.file_name()?.to_str()?.strip_suffix(".pem")?;
    (!id.starts_with('.')).then(|| id.to_owned())
}

/// Certificates that are looked at for a name that has none of its own.
const MOST_KEPT: usize = 4096;

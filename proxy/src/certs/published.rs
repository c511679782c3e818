//! The feed on a site: `PATH/SECRET/certificates.atom` and `.ics`. The secret is all that keeps
//! strangers out, so that it is compared in constant time, and no log shows it.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use memchr::memmem;
use sovereign_config::model;
use subtle::ConstantTimeEq as _;

use super::Form;

/// Where the feed is, and what its secret is.
pub struct Published {
    site: Box<str>,
    path: Box<str>,
    secret: Box<str>,
    /// Finds it anywhere: built once, used for each line of the log.
    finder: memmem::Finder<'static>,
}

impl Published {
    /// Reads the secret, off the runtime's threads. `None`: no feed is wanted.
    pub async fn read(config: &model::Proxy) -> io::Result<Option<Arc<Self>>> {
        let Some(feed) = config.certificates.feed.clone() else {
            return Ok(None);
        };
        let reading = tokio::task::spawn_blocking(move || {
            let secret = std::fs::read_to_string(&feed.secret)?;
            Self::new(&feed.site, &feed.path, secret.trim())
        });
        reading.await.map_err(io::Error::other)?.map(Some)
    }

    fn new(site: &str, path: &str, secret: &str) -> io::Result<Arc<Self>> {
        // The configuration's check has seen to it; the file may have changed since.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if !(16..=128).contains(&secret.len()) || !secret.bytes().all(plain) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the secret must be 16 to 128 letters, digits, - and _",
            ));
        }
        Ok(Arc::new(Self {
            site: site.into(),
            path: path.trim_end_matches('/').into(),
            secret: secret.into(),
            finder: memmem::Finder::new(secret).into_owned(),
        }))
    }

    /// Whether a path on a site, by its canonical name, is the feed, and in which form.
    pub fn form(&self, site: &str, path: &str) -> Option<Form> {
        let (_, secret, form) = self.parts(path).filter(|_| *self.site == *site)?;
        let right = secret.as_bytes().ct_eq(self.secret.as_bytes());
        bool::from(right).then_some(form)
    }

    /// A request's target as a log may show it. A secret that is almost right is hidden as well.
    pub fn hide<'a>(&self, target: &'a str) -> Cow<'a, str> {
        let path = target.split('?').next().unwrap_or(target);
        let mut shown = Cow::Borrowed(target);
        if let Some((at, secret, _)) = self.parts(path) {
            let (before, rest) = target.split_at(at);
            shown = Cow::Owned(format!("{before}{HIDDEN}{}", &rest[secret.len()..]));
        }
        if self.finder.find(shown.as_bytes()).is_some() {
            shown = Cow::Owned(shown.replace(&*self.secret, HIDDEN));
        }
        shown
    }

    /// Where the secret begins in a path that has the feed's form, what stands there, and the form.
    fn parts<'a>(&self, path: &'a str) -> Option<(usize, &'a str, Form)> {
        let rest = path.strip_prefix(&*self.path)?.strip_prefix('/')?;
        let (secret, file) = rest.split_once('/')?;
        let form = Form::ALL.into_iter().find(|form| form.file() == file)?;
        Some((self.path.len() + 1, secret, form))
    }
}

/// Stands for the secret in a log.
const HIDDEN: &str = "[secret]";

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef_-";

    #[test]
    fn the_secret_opens_the_feed_of_its_site_and_nothing_else_does() {
        let feed = Published::new("a.example", "/certs", SECRET).unwrap();
        let atom = format!("/certs/{SECRET}/certificates.atom");
        assert_eq!(feed.form("a.example", &atom), Some(Form::Atom));
        let calendar = atom.replace("atom", "ics");
        assert_eq!(feed.form("a.example", &calendar), Some(Form::Calendar));
        assert_eq!(feed.form("b.example", &atom), None);
        for path in [
            "/certs/0123456789abcdef_/certificates.atom",
            "/certs/0123456789abcdef_-x/certificates.atom",
            "/certs/0123456789abcdef_x/certificates.atom",
            "/certs//certificates.atom",
            "/certs/certificates.atom",
            "/certs/0123456789abcdef_-/certificates.atom/",
            "/certs/0123456789abcdef_-/",
            "/cert/0123456789abcdef_-/certificates.atom",
            "/0123456789abcdef_-/certificates.atom",
        ] {
            assert_eq!(feed.form("a.example", path), None, "{path}");
        }
        let top = Published::new("a.example", "", SECRET).unwrap();
        let path = format!("/{SECRET}/certificates.ics");
        assert_eq!(top.form("a.example", &path), Some(Form::Calendar));
    }

    #[test]
    fn a_log_shows_no_secret_nor_what_is_almost_one() {
        let feed = Published::new("a.example", "/certs", SECRET).unwrap();
        #[rustfmt::skip]
        let table = [
            ("/certs/0123456789abcdef_-/certificates.atom",     "/certs/[secret]/certificates.atom"),
            ("/certs/0123456789abcdef_/certificates.ics?a=b/c", "/certs/[secret]/certificates.ics?a=b/c"),
            ("/certs/%30123456789abcdef_-/certificates.ics",    "/certs/[secret]/certificates.ics"),
            ("/other?next=/certs/0123456789abcdef_-/x",         "/other?next=/certs/[secret]/x"),
            ("/certs/0123456789abcdef_-",                       "/certs/[secret]"),
            ("/certs/some/page",                                "/certs/some/page"),
            ("/",                                               "/"),
        ];
        for (target, shown) in table {
            assert_eq!(feed.hide(target), shown, "{target}");
        }
    }

    #[test]
    fn a_secret_that_could_be_guessed_is_refused() {
        for secret in ["", "0123456789abcde", "0123456789abcdef/", &"x".repeat(129)] {
            assert!(Published::new("a.example", "/certs", secret).is_err());
        }
    }

    #[tokio::test]
    async fn the_secret_is_the_text_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
        let text =
            "[[site]]\nnames = \"a.example\"\ntls = \"off\"\nupstream = \"http://127.0.0.1:1\"\n";
        let mut config = sovereign_config::parse("t", text, folder.path()).unwrap();
        assert!(Published::read(&config).await.unwrap().is_none());
        config.certificates.feed = Some(model::Feed {
            site: "a.example".to_owned(),
            path: "/x".to_owned(),
            secret: secret.clone(),
        });
        let feed = Published::read(&config).await.unwrap().unwrap();
        let path = format!("/x/{SECRET}/certificates.ics");
        assert_eq!(feed.form("a.example", &path), Some(Form::Calendar));
        std::fs::remove_file(secret).unwrap();
        assert!(Published::read(&config).await.is_err());
    }
}

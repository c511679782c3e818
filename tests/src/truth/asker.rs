//! Who asks the origin through a proxy, and what came of it.

use http::{HeaderName, HeaderValue, Request};

use super::check::{check, is_hit, is_stored};
use crate::client::{Answer, H1, Sent, Target, empty};

/// One connection that may break: the answer, or in a line why there is none.
#[derive(Debug)]
pub struct Asker {
    target: Target,
    open: Option<H1>,
}

impl Asker {
    /// It connects with the first request, and again after each failure.
    pub fn new(target: &Target) -> Self {
        Self {
            target: target.clone(),
            open: None,
        }
    }

    /// The answer to a GET.
    pub async fn get(&mut self, path: &str) -> Result<Answer, String> {
        self.get_with(path, &[]).await
    }

    /// The answer to a GET with fields.
    pub async fn get_with(
        &mut self,
        path: &str,
        fields: &[(&'static str, &str)],
    ) -> Result<Answer, String> {
        let open = match self.open.take() {
            Some(open) => open.if_open().await,
            None => None,
        };
        let mut connection = match open {
            Some(open) => open,
            None => H1::connect(&self.target)
                .await
                .map_err(|failure| failure.to_string())?,
        };
        let mut request = Request::new(empty());
        *request.uri_mut() = path
            .parse()
            .unwrap_or_else(|error| panic!("{path} is no path: {error}"));
        let headers = request.headers_mut();
        headers.insert("host", self.target.host.parse().expect("a host name"));
        for (name, value) in fields {
            let value = HeaderValue::from_str(value).expect("a field's value");
            headers.append(HeaderName::from_static(name), value);
        }
        let answer = match connection.send(request).await {
            Sent::Answered(response) => Answer::read(response)
                .await
                .map_err(|error| format!("cut off: {}", crate::client::chain(&error)))?,
            Sent::Untouched(word) | Sent::Failed(word) => return Err(word),
        };
        self.open = Some(connection);
        Ok(answer)
    }
}

/// What came of reading a number of paths, each of which was answered as it should be.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many were hits.
    pub hits: usize,
    /// Those that were not.
    pub missed: Vec<String>,
    /// Those of them that were not stored either: there was no room for them just then.
    pub refused: Vec<String>,
    /// The oldest version among the answers.
    pub oldest: Option<u64>,
}

impl Tally {
    /// Fails the test where one was not a hit.
    #[track_caller]
    pub fn assert_all_hits(&self) {
        let (missed, all) = (self.missed.len(), self.missed.len() + self.hits);
        let first = &self.missed[..missed.min(5)];
        assert_eq!(
            missed, 0,
            "{missed} of {all} are not hits, such as {first:?}"
        );
    }

    /// Fails the test where one was a hit.
    #[track_caller]
    pub fn assert_no_hits(&self) {
        let all = self.missed.len() + self.hits;
        assert_eq!(self.hits, 0, "of {all}, so many are hits");
    }
}

/// Reads every path once, over a few connections; fails the test where one is not answered or one
/// byte of an answer is wrong.
pub async fn read_all(target: &Target, paths: &[String]) -> Tally {
    let lanes = 8.min(paths.len());
    let mut readers = tokio::task::JoinSet::new();
    for lane in 0..lanes {
        let target = target.clone();
        let mine: Vec<_> = paths.iter().skip(lane).step_by(lanes).cloned().collect();
        readers.spawn(async move {
            let (mut asker, mut tally) = (Asker::new(&target), Tally::default());
            for path in mine {
                let answer = asker
                    .get(&path)
                    .await
                    .unwrap_or_else(|error| panic!("{path}: {error}"));
                let version =
                    check(&path, &answer).unwrap_or_else(|wrong| panic!("{wrong}\n{answer}"));
                tally.oldest = Some(tally.oldest.map_or(version, |old| old.min(version)));
                match is_hit(&answer) {
                    true => tally.hits += 1,
                    false => {
                        if !is_stored(&answer) {
                            tally.refused.push(path.clone());
                        }
                        tally.missed.push(path);
                    }
                }
            }
            tally
        });
    }
    let mut all = Tally::default();
    while let Some(tally) = readers.join_next().await {
        let tally = tally.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        all.hits += tally.hits;
        all.missed.extend(tally.missed);
        all.refused.extend(tally.refused);
        all.oldest = all.oldest.into_iter().chain(tally.oldest).min();
    }
    all
}

/// Reads every path until each of them has been stored: a small cache has no room for many bodies on
/// their way at one moment, and passes on what it has no room for.
pub async fn store_all(target: &Target, paths: &[String]) -> Tally {
    let first = read_all(target, paths).await;
    let mut left = first.refused.clone();
    for _ in 0..20 {
        if left.is_empty() {
            return first;
        }
        left = read_all(target, &left).await.refused;
    }
    panic!("{} are never stored, such as {}", left.len(), left[0]);
}

//! What can be tried for each name of a certificate, looked at before an authority is asked: an order that
//! cannot succeed is none that the authority counts.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use sovereign_config::model::Challenge;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::challenge::{Options, Prover};
use super::failure::{Failure, Outcome};
use super::history::challenge_name;
use crate::tls::wanted::Wanted;

/// What can be tried for each name, looked at once for authorities that see names alike.
#[derive(Default)]
pub(super) struct Ways(HashMap<bool, HashMap<String, Options>>);

impl Ways {
    pub async fn of(
        &mut self,
        prover: &Arc<Prover>,
        wanted: &Wanted,
        public: bool,
    ) -> &HashMap<String, Options> {
        match self.0.entry(public) {
            Entry::Occupied(seen) => seen.into_mut(),
            Entry::Vacant(none) => none.insert(ways(prover, wanted, public).await),
        }
    }
}

async fn ways(prover: &Arc<Prover>, wanted: &Wanted, public: bool) -> HashMap<String, Options> {
    let at_once = Arc::new(Semaphore::new(LOOKED_AT_ONCE));
    let mut tasks = JoinSet::new();
    for name in wanted.names.clone() {
        let (prover, wanted, at_once) = (prover.clone(), wanted.clone(), at_once.clone());
        tasks.spawn(async move {
            let _turn = at_once.acquire().await;
            let options = prover
                .options(&name, &wanted, &Challenge::ALL, public)
                .await;
            (name, options)
        });
    }
    let mut ways = HashMap::new();
    while let Some(way) = tasks.join_next().await {
        ways.extend(way.ok());
    }
    ways
}

/// Why no authority needs to be asked: for a name no challenge can work.
pub(super) fn blocked(ways: &HashMap<String, Options>) -> Option<Failure> {
    let hopeless = ways.iter().filter(|(_, options)| options.usable.is_empty());
    let mut texts: Vec<String> = hopeless.map(|(name, options)| why(name, options)).collect();
    texts.sort();
    texts.dedup();
    let text = texts.join("; ");
    (!texts.is_empty()).then(|| Failure::new(Outcome::Blocked, text))
}

/// Why nothing can prove control of a name; challenges that the same thing stands in the way of together,
/// those by our own listeners first.
fn why(name: &str, options: &Options) -> String {
    let mut whys: Vec<(Vec<&str>, &str)> = Vec::new();
    let mut unusable: Vec<_> = options.unusable.iter().collect();
    unusable.sort();
    for (challenge, why) in unusable {
        let way = challenge_name(*challenge);
        match whys.iter_mut().find(|(_, known)| known == why) {
            Some((ways, _)) => ways.push(way),
            None => whys.push((vec![way], why)),
        }
    }
    if whys.is_empty() {
        return format!("no challenge can prove control of {name}");
    }
    let one = |(ways, why): &(Vec<&str>, &str)| format!("{}: {why}", ways.join(" and "));
    whys.iter().map(one).collect::<Vec<_>>().join("; ")
}

const LOOKED_AT_ONCE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_way_is_said_once() {
        use Challenge::{Dns01, DnsPersist01, Http01, TlsAlpn01};
        let options = |usable: &[Challenge], unusable: &[(Challenge, &str)]| Options {
            usable: usable.to_vec(),
            unusable: unusable
                .iter()
                .map(|(way, why)| (*way, (*why).to_owned()))
                .collect(),
        };
        let lost = options(
            &[],
            &[
                (DnsPersist01, "no DNS"),
                (Dns01, "no DNS"),
                (TlsAlpn01, "leads nowhere"),
                (Http01, "leads nowhere"),
            ],
        );
        let fine = options(&[Http01], &[(Dns01, "no DNS")]);
        let ways = |list: &[(&str, &Options)]| {
            let pairs = list
                .iter()
                .map(|(name, options)| ((*name).to_owned(), (*options).clone()));
            blocked(&pairs.collect()).map(|failure| failure.text)
        };
        assert_eq!(ways(&[("a.example", &fine)]), None);
        assert_eq!(
            ways(&[
                ("a.example", &fine),
                ("b.example", &lost),
                ("c.example", &lost)
            ])
            .as_deref(),
            Some("http-01 and tls-alpn-01: leads nowhere; dns-01 and dns-persist-01: no DNS")
        );
        assert_eq!(
            ways(&[("d.example", &options(&[], &[]))]).as_deref(),
            Some("no challenge can prove control of d.example")
        );
    }
}

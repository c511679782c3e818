#![allow(clippy::unwrap_used)]

use async_trait::async_trait;

use super::*;
use crate::acme::answers::{Answer, Answers, PATH};
use crate::acme::store::{Lease, Referee, StoreError};
use crate::tls::Challenger as _;

/// A store that several proxies share, in memory; it counts questions.
#[derive(Debug, Default)]
struct Together {
    lent: Mutex<HashMap<String, Vec<u8>>>,
    asked: Mutex<usize>,
}

#[async_trait]
impl Store for Together {
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        *self.asked.lock() += 1;
        Ok(self.lent.lock().get(name).cloned())
    }
    async fn write(&self, _: &str, _: &[u8]) -> Result<(), StoreError> {
        Err(StoreError::Shared("nothing is written".to_owned()))
    }
    async fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.lent.lock().remove(name);
        Ok(())
    }
    async fn lend(&self, name: &str, content: &[u8], _: Duration) -> Result<(), StoreError> {
        self.lent.lock().insert(name.to_owned(), content.to_vec());
        Ok(())
    }
    async fn lease(&self, _: &str) -> Result<Option<Lease>, StoreError> {
        Ok(None)
    }
    async fn catch_up(&self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }
    async fn changed(&self) {}
    fn trouble(&self) -> Option<String> {
        None
    }
    fn is_shared(&self) -> bool {
        true
    }
    fn judged_by(&self, _: Arc<dyn Referee>) {}
}

fn http(token: &str) -> Answer {
    Answer::Http {
        token: token.to_owned(),
        key_authorization: format!("{token}.x"),
    }
}

#[tokio::test]
async fn another_proxy_answers_what_was_put_in_here() {
    let store = Arc::new(Together::default());
    let (here, there) = (Answers::new(store.clone()), Answers::new(store.clone()));
    let put = here.put(http("t")).await.unwrap();
    assert_eq!(there.token(&format!("{PATH}t")), Some("t"));
    assert_eq!(there.http("t").await.as_deref(), Some("t.x"));
    let name = "A.example".to_owned();
    let other = here
        .put(Answer::Alpn {
            name,
            digest: [9; 32],
        })
        .await
        .unwrap();
    assert!(there.certificate("a.example").await.is_some());

    put.remove().await;
    other.remove().await;
    assert!(store.lent.lock().is_empty());
    assert_eq!(there.http("t").await, None);
}

#[tokio::test]
async fn what_is_not_there_is_not_asked_for_again_at_once() {
    let store = Arc::new(Together::default());
    let answers = Answers::new(store.clone());
    for _ in 0..100 {
        assert_eq!(answers.http("nobody-gave-this-out").await, None);
    }
    assert_eq!(*store.asked.lock(), 1);
    assert_eq!(answers.http("a/b").await, None);
    assert_eq!(*store.asked.lock(), 1, "no token, no question");
}

#[tokio::test]
async fn what_is_put_in_anew_is_not_taken_back() {
    let store = Arc::new(Together::default());
    let answers = Answers::new(store.clone());
    let before = answers.put(http("t")).await.unwrap();
    let after = answers.put(http("t")).await.unwrap();
    before.remove().await;
    assert!(store.lent.lock().contains_key("challenge/http/t"));
    after.remove().await;
    assert!(store.lent.lock().is_empty());
}

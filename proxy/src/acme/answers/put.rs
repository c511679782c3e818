//! What lasts as long as it is held: an answer, or a record in the DNS.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::Answers;

/// Something that proves control of a name for as long as this is kept. Dropping it takes it back
/// in the background; [`remove`](Self::remove) waits until it is gone.
#[must_use = "what is put in is taken out again when this is dropped"]
pub struct Put {
    undo: Option<Undo>,
}

/// Takes back at once what can be, and says what is left to wait for.
type Undo = Box<dyn FnOnce() -> Option<Pending> + Send + Sync>;

/// What is left to wait for.
pub(in crate::acme) type Pending = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Put {
    pub(in crate::acme) fn new(
        undo: impl FnOnce() -> Option<Pending> + Send + Sync + 'static,
    ) -> Self {
        Self {
            undo: Some(Box::new(undo)),
        }
    }

    /// Nothing is to be taken back.
    pub(in crate::acme) fn nothing() -> Self {
        Self { undo: None }
    }

    /// Takes it back, and returns when it is gone, or cannot be taken back in reasonable time.
    pub async fn remove(mut self) {
        if let Some(pending) = self.undo.take().and_then(|undo| undo()) {
            // Whoever takes back says itself what went wrong.
            let _ = tokio::time::timeout(LONGEST, pending).await;
        }
    }
}

impl Drop for Put {
    fn drop(&mut self) {
        let Some(pending) = self.undo.take().and_then(|undo| undo()) else {
            return;
        };
        // Without a runtime the process is about to end; what was lent ends by its time.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(LONGEST, pending));
        }
    }
}

impl fmt::Debug for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Put")
    }
}

/// An answer under its name in the store.
pub(super) fn of_answer(answers: &Arc<Answers>, name: String, number: u64) -> Put {
    let answers = Arc::clone(answers);
    Put::new(move || {
        answers.forget(&name, number);
        if !answers.elsewhere.is_shared() {
            return None;
        }
        Some(Box::pin(async move {
            let is_held = |name: &str| answers.is_held(name);
            answers.elsewhere.take_back(&name, is_held).await;
        }))
    })
}

/// How long taking back may last.
const LONGEST: Duration = Duration::from_secs(70);

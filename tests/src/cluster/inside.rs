//! A test's own clients inside the cluster's network: a runtime whose threads have all entered the network
//! namespace of the managing machine, so that what runs on it connects from there.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::{Builder, Runtime};

use crate::load::{Load, Running};

/// The place of clients.
#[derive(Debug)]
pub struct Inside {
    runtime: Option<Runtime>,
}

impl Inside {
    pub(super) fn of(namespace: &Path) -> Self {
        let file = File::open(namespace)
            .unwrap_or_else(|error| panic!("{}: {error}", namespace.display()));
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("inside")
            .on_thread_start(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter a network namespace");
            })
            .enable_all()
            .build()
            .expect("threads can be started");
        Self {
            runtime: Some(runtime),
        }
    }

    /// Runs something there, and gives what came of it.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        match self.runtime().spawn(work).await {
            Ok(value) => value,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Starts a load there.
    pub fn start(&self, load: Load) -> Running {
        let _there = self.runtime().enter();
        load.start()
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it goes only with its guard")
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime must not wait for its threads on a thread of another.
            runtime.shutdown_background();
        }
    }
}

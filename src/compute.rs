//! The one bridge from tokio to rayon.
//!
//! Heavy work runs on rayon's threads and answers through a one-shot channel. Reading checkpoints has threads of its own
//! ([`read`]), so that it never waits behind an analysis ([`run`]). A panic there becomes an error value
//! (a bare `rayon::spawn` would abort the process), and dropping the future raises the work's cancel flag.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::engine::Cancel;

/// Why a piece of heavy work gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ComputeError {
    /// The work panicked: a bug in doodl3, with the panic's own words.
    #[error("a computation failed by a bug in doodl3: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The system gives no threads.
    #[error("no threads can be started: {reason}")]
    NoThreads {
        /// What the system says.
        reason: String,
    },
}

/// Runs `work` on rayon's threads and waits for its answer without blocking the caller's thread.
///
/// `work` gets a [`Cancel`] that is raised when `cancel` is, or when the returned future is dropped.
///
/// # Errors
/// [`ComputeError::Panicked`] when `work` panics.
pub async fn run<T, F>(cancel: &Cancel, work: F) -> Result<T, ComputeError>
where
    T: Send + 'static,
    F: FnOnce(&Cancel) -> T + Send + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "this is the bridge that catches the panic")]
    bridge(cancel, work, rayon::spawn).await
}

/// As [`run`], on the threads that read checkpoints.
///
/// # Errors
/// [`ComputeError::Panicked`] when `work` panics, [`ComputeError::NoThreads`] when the system has no threads left.
pub async fn read<T, F>(cancel: &Cancel, work: F) -> Result<T, ComputeError>
where
    T: Send + 'static,
    F: FnOnce(&Cancel) -> T + Send + 'static,
{
    static READERS: OnceLock<Result<ThreadPool, String>> = OnceLock::new();
    let readers = READERS.get_or_init(|| {
        let builder = ThreadPoolBuilder::new().thread_name(|index| format!("reader-{index}"));
        builder.build().map_err(|error| error.to_string())
    });
    match readers {
        Ok(readers) => bridge(cancel, work, |job| readers.spawn(job)).await,
        Err(reason) => Err(ComputeError::NoThreads { reason: reason.clone() }),
    }
}

async fn bridge<T, F>(
    cancel: &Cancel,
    work: F,
    spawn: impl FnOnce(Box<dyn FnOnce() + Send>),
) -> Result<T, ComputeError>
where
    T: Send + 'static,
    F: FnOnce(&Cancel) -> T + Send + 'static,
{
    let child = cancel.child();
    let guard = RaiseOnDrop(child.clone());
    let (answer, receiver) = tokio::sync::oneshot::channel();
    spawn(Box::new(move || {
        let result = catch_unwind(AssertUnwindSafe(|| work(&child)));
        // The receiver is gone only when nobody waits any more.
        drop(answer.send(result));
    }));
    let result = receiver.await;
    drop(guard);
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(panic)) => Err(ComputeError::Panicked { message: panic_message(panic.as_ref()) }),
        Err(_closed) => Err(ComputeError::Panicked { message: "the worker thread ended early".into() }),
    }
}

struct RaiseOnDrop(Cancel);

impl Drop for RaiseOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_and_panics_come_back() {
        let cancel = Cancel::new();
        assert_eq!(run(&cancel, |_| 6 * 7).await.unwrap(), 42);
        let error = run(&cancel, |_| -> u8 { panic!("seven") }).await.unwrap_err();
        assert_eq!(error.to_string(), "a computation failed by a bug in doodl3: seven");
    }

    #[tokio::test]
    async fn dropping_the_future_cancels_the_work() {
        let cancel = Cancel::new();
        let (ended, wait) = std::sync::mpsc::channel();
        let work = run(&cancel, move |cancel| {
            while !cancel.is_raised() {
                std::thread::yield_now();
            }
            ended.send(()).unwrap();
        });
        tokio::select! {
            biased;
            _ = work => unreachable!("the work waits to be cancelled"),
            () = tokio::task::yield_now() => {}
        }
        tokio::task::spawn_blocking(move || wait.recv().unwrap()).await.unwrap();
        assert!(!cancel.is_raised(), "only this piece of work was cancelled");
    }
}

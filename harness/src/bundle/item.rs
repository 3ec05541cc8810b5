//! One thing that was to be collected: it, or why it could not be.

use std::fmt::Display;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::oneshot;

use crate::patience::scaled;

/// How long one thing may take to collect.
const LIMIT: Duration = Duration::from_secs(5);

/// What was collected, or the reason why it is not there: a bundle never fails as a whole.
/// Serialised as `{"value": …}` or `{"error": "…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Item<T> {
    /// It.
    Value(T),
    /// Why it is not there.
    Error(String),
}

impl<T> Item<T> {
    /// What a collector returns, within the time that one thing may take.
    pub(super) async fn collect<E: Display>(future: impl Future<Output = Result<T, E>>) -> Self {
        Self::collect_within(LIMIT, future).await
    }

    /// [`collect`](Self::collect) for what may take longer, or less long, than others.
    pub(super) async fn collect_within<E: Display>(
        limit: Duration,
        future: impl Future<Output = Result<T, E>>,
    ) -> Self {
        let limit = scaled(limit).unwrap_or(limit);
        match tokio::time::timeout(limit, future).await {
            Ok(Ok(value)) => Self::Value(value),
            Ok(Err(error)) => Self::Error(error.to_string()),
            Err(_) => Self::Error(format!("not collected within {limit:?}")),
        }
    }

    /// [`collect`](Self::collect) for what blocks: on a thread of its own, which is left behind
    /// when it hangs.
    pub(super) async fn on_thread<E: Display>(
        work: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Self
    where
        T: Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let thread = std::thread::Builder::new().name("podlab-evidence".to_owned());
        let started = thread.spawn(move || {
            // Nobody waits for it any more once the time is up.
            done.send(work().map_err(|error| error.to_string())).ok();
        });
        if let Err(error) = started {
            return Self::Error(error.to_string());
        }
        let result = async {
            result
                .await
                .unwrap_or_else(|_| Err("it panicked".to_owned()))
        };
        Self::collect(result).await
    }

    /// It, if it is there.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Error(_) => None,
        }
    }
}

impl<T> From<Result<T, String>> for Item<T> {
    fn from(result: Result<T, String>) -> Self {
        result.map_or_else(Self::Error, Self::Value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_hangs_or_fails_is_told_and_nothing_else_is_lost() {
        let hangs = Item::<()>::collect(std::future::pending::<Result<(), String>>()).await;
        let Item::Error(error) = hangs else {
            panic!("{hangs:?}");
        };
        assert!(error.starts_with("not collected within "), "{error}");
        let fails = Item::<()>::collect(async { Err("no such thing") }).await;
        assert_eq!(fails, Item::Error("no such thing".to_owned()));
    }

    #[tokio::test]
    async fn what_blocks_runs_beside_and_may_panic() {
        let panics = Item::<()>::on_thread(|| -> Result<(), String> {
            std::panic::resume_unwind(Box::new("quietly"))
        });
        assert_eq!(panics.await, Item::Error("it panicked".to_owned()));
        let works = Item::on_thread(|| Ok::<_, String>(7)).await;
        assert_eq!(serde_json::to_string(&works).unwrap(), r#"{"value":7}"#);
    }
}

//! What a program prints.

use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;

use super::ProcessError;

/// How a program ended and what it printed.
#[derive(Debug, Clone)]
pub struct Output {
    pub(super) machine: String,
    pub(super) program: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Turns an exit status other than zero into an error that keeps standard error.
    ///
    /// # Errors
    /// [`ProcessError::Failed`].
    pub fn success(self) -> Result<Self, ProcessError> {
        if self.status.success() {
            return Ok(self);
        }
        Err(ProcessError::Failed {
            machine: self.machine,
            program: self.program,
            status: self.status,
            stderr: self.stderr,
        })
    }
}

/// The lines of one stream, collected by a task until the stream ends.
#[derive(Debug)]
pub(super) struct Lines {
    text: Arc<Mutex<String>>,
    /// Bytes collected so far; the channel closes when the stream ends.
    length: watch::Receiver<usize>,
}

impl Lines {
    pub(super) fn collect(stream: Option<impl AsyncRead + Unpin + Send + 'static>) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let (progress, length) = watch::channel(0);
        if let Some(stream) = stream {
            let text = Arc::clone(&text);
            tokio::spawn(async move {
                let mut reader = BufReader::new(stream);
                let mut line = Vec::new();
                while matches!(reader.read_until(b'\n', &mut line).await, Ok(read) if read > 0) {
                    let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
                    text.push_str(&String::from_utf8_lossy(&line));
                    progress.send_replace(text.len());
                    line.clear();
                }
            });
        }
        Self { text, length }
    }

    pub(super) fn text(&self) -> String {
        self.text
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The first line that satisfies `wanted`, also one that came before the call.
    pub(super) async fn wait_for(
        &mut self,
        wanted: impl Fn(&str) -> bool,
        timeout: Duration,
    ) -> Option<String> {
        let search = async {
            let mut seen = 0;
            loop {
                // Marks the value as seen before looking, so that no change is missed.
                let length = *self.length.borrow_and_update();
                let text = self.text();
                let found = text[seen..length].lines().find(|line| wanted(line));
                if let Some(line) = found {
                    return Some(line.to_owned());
                }
                seen = length;
                if self.length.changed().await.is_err() {
                    let text = self.text();
                    return text[seen..]
                        .lines()
                        .find(|line| wanted(line))
                        .map(str::to_owned);
                }
            }
        };
        tokio::time::timeout(timeout, search).await.ok().flatten()
    }

    /// Waits until the stream has ended.
    pub(super) async fn end(&mut self) {
        while self.length.changed().await.is_ok() {}
    }
}

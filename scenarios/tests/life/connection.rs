//! A TCP connection that has to go on, whatever happens to the agents.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use podlab::Pod;
use podlab::process::{Process, Program};

/// One TCP connection from one pod to another, by which numbers go there and back all the time.
pub(crate) struct Connection {
    pair: String,
    beat: Process,
    _echo: Process,
}

impl Connection {
    /// Begins; the first number has come back when this returns.
    pub(crate) async fn start(from: &Pod, to: &Pod) -> Result<Self> {
        const PORT: &str = "5301";
        let pair = format!("connection from {} to {}", from.name(), to.name());
        let traffic = |words: &[&str]| Program::new(env!("CARGO_BIN_EXE_traffic")).args(words);
        let mut echo = to.spawn(traffic(&["tcp-echo", PORT]))?;
        echo.wait_for_line(|line| line == "listening", crate::restart::SOON)
            .await?;
        let mut beat = from.spawn(traffic(&["tcp-beat", &to.address().to_string(), PORT]))?;
        beat.wait_for_line(|line| line.contains(" at "), crate::restart::SOON)
            .await
            .context(pair.clone())?;
        Ok(Self {
            pair,
            beat,
            _echo: echo,
        })
    }

    /// Waits until something has come back that arrived after this was called: it is still the
    /// same connection. What was lost is sent again, later each time.
    pub(crate) async fn goes_on(&mut self) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let later = |line: &str| {
            let at = line.split_once(" at ").and_then(|(_, at)| at.parse().ok());
            at.is_some_and(|at: f64| at > now)
        };
        let line = self.beat.wait_for_line(later, crate::restart::SOON).await;
        line.with_context(|| format!("{} does not go on", self.pair))?;
        Ok(())
    }
}

//! These tests, when they are interrupted themselves.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::run::Run;
use super::{CROWD, LATE};
use crate::footprint::{Footprint, Host};

const TEST: &str = "kills::interrupted::a_run_ends_with_the_test_that_wants_to_kill_it";
/// In the environment of the process that is interrupted.
const INTERRUPTED: &str = "PODLAB_TEST_INTERRUPTED";
/// What that process says before the marker of its run.
const READY: &str = "interrupt me: ";

/// Proves that nothing stays of a run when the test that wants to kill it is killed first: runs have
/// a process group of their own, which Ctrl-C does not reach. The test that is killed is this one in
/// another process.
#[podlab::test]
async fn a_run_ends_with_the_test_that_wants_to_kill_it() -> Result<()> {
    let host = Host::before()?;
    if std::env::var_os(INTERRUPTED).is_some() {
        return be_interrupted(&host);
    }
    // The one place where a run may leave something; the test has no time to remove its folders.
    let temporary = host.home().join("target");
    std::fs::create_dir(&temporary)?;
    let mut test = Command::new(std::env::current_exe()?)
        .args(["--exact", "--nocapture", TEST])
        .env(INTERRUPTED, "yes")
        .env("TMPDIR", temporary)
        .stdout(Stdio::piped())
        .spawn()
        .context("start the test that is interrupted")?;
    let output = BufReader::new(test.stdout.take().context("no standard output")?);
    let mut lines = output.lines().map_while(Result::ok);
    let marker = lines.find_map(|line| Some(line.split_once(READY)?.1.to_owned()));
    let run = marker.as_deref().map(Footprint::of);
    let held = run.as_ref().map(|run| run.hold(&host));
    test.kill()?;
    test.wait()?;
    let (run, held) = run.zip(held).context("the test has not started a run")?;
    host.until_clean(&run, &held, LATE).await?;
    Ok(())
}

/// Starts a run, says so, and lets it live.
fn be_interrupted(host: &Host) -> Result<()> {
    let mut run = Run::start(host, CROWD.as_ref(), &[])?;
    run.taps()?;
    println!("{READY}{}", run.marker());
    loop {
        std::thread::park();
    }
}

//! The host before and after: this test program stays outside of the sandbox and watches others
//! enter it.
#![cfg(feature = "netns")]

mod footprint;
mod tour;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;

use anyhow::{Context, Result};
use footprint::Host;
use rstest::rstest;
use tour::{Tour, as_nobody};

/// Proves that a run leaves nothing on the host, however it ends: no namespace (by inode), no
/// process, no link, no mount, no file.
#[rstest]
#[case::passed("pass", Some(0))]
#[case::failed("fail", Some(1))]
#[case::panicked("panic", Some(101))]
#[tokio::test]
async fn nothing_stays_after_a_run(#[case] end: &str, #[case] code: Option<i32>) -> Result<()> {
    let host = Host::before()?;
    let tour = Tour::start(&host, &["--pause", "--end", end])?;
    let footprint = tour.footprint()?;
    // Supervisor, init, worker and three agents; fabric, three nodes, four pods, the sandbox.
    assert!(footprint.processes.len() >= 6, "{footprint:?}");
    assert!(footprint.namespaces.len() >= 9, "{footprint:?}");
    let status = tour.finish()?;
    assert_eq!(status.code(), code);
    host.assert_clean(&footprint).await
}

/// Proves that not even SIGKILL leaves anything: nothing of ours has to run for the clean-up.
#[tokio::test]
async fn nothing_stays_after_sigkill() -> Result<()> {
    let host = Host::before()?;
    let tour = Tour::start(&host, &["--pause"])?;
    let footprint = tour.footprint()?;
    let (status, _pipe) = tour.kill()?;
    assert_eq!(status.signal(), Some(9));
    host.assert_clean(&footprint).await
}

/// Proves that two processes run the same cluster at the same time without noticing each other.
#[tokio::test]
async fn two_processes_do_not_notice_each_other() -> Result<()> {
    let host = Host::before()?;
    let one = Tour::start(&host, &["--pause"])?;
    let two = Tour::start(&host, &["--pause"])?;
    let (seen_one, seen_two) = (one.footprint()?, two.footprint()?);
    assert!(
        seen_one
            .own_namespaces(&host)
            .is_disjoint(&seen_two.own_namespaces(&host))
    );
    assert!(one.finish()?.success());
    assert!(two.finish()?.success());
    host.assert_clean(&seen_one).await?;
    host.assert_clean(&seen_two).await
}

/// If this fails, a user without root is told nothing, or half a cluster is made.
#[tokio::test]
async fn without_privileges_the_harness_says_what_to_do() -> Result<()> {
    let output = as_nobody(&Host::before()?, "seed-tour", &[])?;
    let error = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("user id 65534 may not make namespaces"),
        "{error}"
    );
    assert!(last_line(&error).starts_with("hint: "), "{error}");
    Ok(())
}

/// If this fails, an agent without its privileges looks like a network that does not work.
#[tokio::test]
async fn without_privileges_the_agent_says_what_to_do() -> Result<()> {
    let host = Host::before()?;
    let store = tempfile::Builder::new()
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir()?;
    std::fs::create_dir(store.path().join("nodes"))?;
    let node = r#"{"address":"10.12.22.2/16","blocks":[]}"#;
    std::fs::write(store.path().join("nodes/a.json"), node)?;
    let path = store.path().to_str().context("a path in UTF-8")?;
    let output = as_nobody(
        &host,
        "podlab-agent",
        &["run", "--datastore", path, "--node", "a"],
    )?;
    let error = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(
        error.starts_with("podlab-agent: ") && error.contains("not permitted"),
        "{error}"
    );
    assert!(last_line(&error).starts_with("hint: "), "{error}");
    Ok(())
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().last().unwrap_or_default()
}

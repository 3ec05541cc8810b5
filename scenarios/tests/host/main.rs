//! The host before and after: this test program stays outside of the sandbox and watches others
//! enter it.
#![cfg(feature = "netns")]

mod footprint;
mod kills;
mod leaks;
mod proc;
mod program;
mod rootless;
mod tour;

use std::os::unix::process::ExitStatusExt;

use anyhow::Result;
use footprint::Host;
use rstest::rstest;
use tour::Tour;

podlab::suite!(outside);

/// Proves that a run leaves nothing on the host, however it ends: no namespace (by inode), no
/// process, no link, no mount, no file.
#[rstest]
#[case::passed("pass", Some(0))]
#[case::failed("fail", Some(1))]
#[case::panicked("panic", Some(101))]
#[podlab::test]
async fn nothing_stays_after_a_run(#[case] end: &str, #[case] code: Option<i32>) -> Result<()> {
    let host = Host::before()?;
    let tour = Tour::start(&host, &["--pause", "--end", end])?;
    let footprint = tour.footprint();
    // Supervisor, init, worker and three agents; fabric, three nodes, four pods, the sandbox.
    assert!(footprint.processes.len() >= 6, "{footprint:?}");
    assert!(footprint.namespaces.len() >= 9, "{footprint:?}");
    let status = tour.finish()?;
    assert_eq!(status.code(), code);
    host.assert_clean(&footprint).await
}

/// Proves that not even SIGKILL leaves anything: nothing of ours has to run for the clean-up.
#[podlab::test]
async fn nothing_stays_after_sigkill() -> Result<()> {
    let host = Host::before()?;
    let tour = Tour::start(&host, &["--pause"])?;
    let footprint = tour.footprint();
    let (status, _pipe) = tour.kill()?;
    assert_eq!(status.signal(), Some(9));
    host.assert_clean(&footprint).await
}

/// Proves that two processes run the same cluster at the same time without noticing each other.
#[podlab::test]
async fn two_processes_do_not_notice_each_other() -> Result<()> {
    let host = Host::before()?;
    let one = Tour::start(&host, &["--pause"])?;
    let two = Tour::start(&host, &["--pause"])?;
    let (seen_one, seen_two) = (one.footprint(), two.footprint());
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

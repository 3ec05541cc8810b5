//! `PODLAB_KEEP=1`: a failed test that waits for a visitor.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use super::failing::Failing;

/// What a machine says of itself to whoever enters it by the printed command.
const QUESTIONS: &str = "hostname; cat /proc/sys/net/ipv4/ip_forward; cat /proc/net/fib_trie; \
                         tr '\\0' ' ' </proc/1/cmdline";

/// Who wants to look at a failure by hand must get into every machine from another shell, by the
/// very lines that are printed, and the run must go on when they have seen enough.
#[podlab::test]
async fn a_failed_test_waits_and_its_machines_can_be_entered() -> Result<()> {
    let failing = Failing::new()?;
    let mut run = failing.command("fails_by_an_error");
    let mut run = run
        .env("PODLAB_KEEP", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(run.stderr.take().context("no stderr")?).lines();
    let mut commands = Vec::new();
    let mut name = String::new();
    let end = loop {
        let line = timeout(Duration::from_secs(60), lines.next_line()).await??;
        let line = line.context("it ended and did not wait")?;
        if let Some(machine) = line.strip_prefix("# ") {
            machine.clone_into(&mut name);
        } else if line.starts_with("nsenter ") {
            commands.push((name.clone(), line));
        } else if let Some(end) = line.strip_prefix("to go on: ") {
            break end.to_owned();
        }
    };
    let names: Vec<&str> = commands.iter().map(|(name, _)| name.as_str()).collect();
    ensure!(
        names == ["fabric", "n1", "n2", "n3", "a", "b", "c"],
        "{names:?}"
    );
    for (name, command) in &commands {
        // As a shell of the user would run it; then the machine answers, not the host.
        let line = format!("{command} sh -c {QUESTIONS:?}");
        let output = Command::new("sh").args(["-c", &line]).output().await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{line}: {output:?}");
        let mut words = said.lines();
        ensure!(words.next() == Some(name), "{name}: {said}");
        let forwards = if name.len() == 1 { "0" } else { "1" };
        ensure!(words.next() == Some(forwards), "{name}: {said}");
        if name == "n2" {
            ensure!(
                said.contains("10.0.0.3") && said.contains("192.168.2.0"),
                "{said}"
            );
        }
    }
    // The evidence is there while it waits, and it does wait.
    ensure!(
        failing
            .folder("fails_by_an_error", 1)
            .join("report.html")
            .is_file()
    );
    ensure!(run.try_wait()?.is_none(), "it did not wait");
    ensure!(end.starts_with("rm "), "{end}");
    ensure!(
        Command::new("sh")
            .args(["-c", &end])
            .status()
            .await?
            .success()
    );
    let status = timeout(Duration::from_secs(60), run.wait()).await??;
    ensure!(status.code() == Some(101), "{status}");
    Ok(())
}

//! The leak detector: runs that leave something on the host on purpose.
//!
//! Where that is a link or a mount, the host is not the real one but a user, network and mount
//! namespace in its place.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result};
use rstest::rstest;

const IN_SANDBOX: &str = env!("CARGO_BIN_EXE_in-sandbox");
/// The exit code of a run that has left something behind and would have passed otherwise.
const LEAKED: Option<i32> = Some(86);

/// Runs a script where it cannot do harm; it finds the program in `$IN_SANDBOX`.
fn on_another_host(script: &str) -> Result<Output> {
    on_another_host_with(&[], script)
}

/// The same with more namespaces of its own.
fn on_another_host_with(namespaces: &[&str], script: &str) -> Result<Output> {
    Command::new("unshare")
        .args(namespaces)
        .args(["--user", "--map-root-user", "--mount", "--net"])
        .args(["sh", "-ec", script])
        .env("IN_SANDBOX", IN_SANDBOX)
        .output()
        .context("start unshare")
}

fn error_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// If this fails, whoever writes a test that reaches out of the sandbox is not told, and the next
/// run meets what the last one has left.
#[rstest]
#[case::link(
    "exec 9</proc/self/ns/net
     \"$IN_SANDBOX\" nsenter --net=/proc/self/fd/9 ip link add cali-left type veth peer name other",
    "link cali-left"
)]
#[case::mount(
    "exec 9</proc/self/ns/mnt
     \"$IN_SANDBOX\" nsenter --mount=/proc/self/fd/9 mount -t tmpfs left /run",
    " /run "
)]
#[case::file(
    "export TMPDIR=$(mktemp -d)
     trap 'rm -r $TMPDIR' EXIT
     \"$IN_SANDBOX\" touch $TMPDIR/podlab-left || exit",
    "/podlab-left"
)]
// No process is left that has it: what keeps it alive is the mount alone, whose name says nothing.
#[case::mounted_namespace(
    "mount -t tmpfs tmpfs /mnt
     touch /mnt/net
     exec 9</proc/self/ns/mnt
     \"$IN_SANDBOX\" sh -c '
       exec 8</proc/self/ns/net
       exec nsenter --mount=/proc/self/fd/9 mount --no-canonicalize --bind /proc/self/fd/8 /mnt/net'",
    " net:["
)]
#[podlab::test]
fn what_a_run_leaves_on_the_host_fails_it(#[case] script: &str, #[case] told: &str) -> Result<()> {
    let output = on_another_host(script)?;
    let error = error_of(&output);
    assert_eq!(output.status.code(), LEAKED, "{error}");
    assert!(
        error.starts_with("podlab: this run has left something behind") && error.contains(told),
        "{error}"
    );
    Ok(())
}

/// The same for a control group. Those of a user and cgroup namespace are the host's own, so the
/// run gets one to itself, in which it is nobody else's leak.
#[podlab::test]
fn a_control_group_that_a_run_leaves_fails_it() -> Result<()> {
    const SCRIPT: &str = r#"
        mount -t cgroup2 cgroup2 /mnt || exit 77
        host=/mnt/another-host-$$
        mkdir $host || exit 77
        trap 'echo 0 >/mnt/cgroup.procs; rmdir $host/podlab-left $host' EXIT
        echo 0 >$host/cgroup.procs || exit 77
        exec 9</proc/self/ns/mnt
        "$IN_SANDBOX" nsenter --mount=/proc/self/fd/9 mkdir $host/podlab-left || exit"#;
    let output = on_another_host_with(&["--cgroup"], SCRIPT)?;
    let error = error_of(&output);
    if output.status.code() == Some(77) {
        podlab::suite::skip("cgroup", error.trim());
    }
    assert_eq!(output.status.code(), LEAKED, "{error}");
    assert!(
        error.contains("control group /mnt/another-host-") && error.contains("/podlab-left"),
        "{error}"
    );
    Ok(())
}

/// If this fails, two runs at the same time, or a run beside other work, fail for nothing.
#[rstest]
#[case::link(
    "exec 9</proc/self/ns/net
     \"$IN_SANDBOX\" nsenter --net=/proc/self/fd/9 ip link add docker0 type veth peer name other"
)]
#[case::mount(
    "exec 9</proc/self/ns/mnt
     \"$IN_SANDBOX\" nsenter --mount=/proc/self/fd/9 mount -t tmpfs other /mnt"
)]
#[case::file(
    "export TMPDIR=$(mktemp -d)
     trap 'rm -r $TMPDIR' EXIT
     \"$IN_SANDBOX\" touch $TMPDIR/other"
)]
#[case::another_run(
    "\"$IN_SANDBOX\" sh -c 'echo $PPID; sleep 60' >$(mktemp) & other=$!
     \"$IN_SANDBOX\" true
     kill $other"
)]
#[podlab::test]
fn what_others_do_on_the_host_is_no_leak(#[case] script: &str) -> Result<()> {
    let output = on_another_host(script)?;
    assert_eq!(error_of(&output), "");
    assert_eq!(output.status.code(), Some(0));
    Ok(())
}

/// A run that waits in its sandbox for a line.
struct Waiting(Child);

impl Waiting {
    fn start() -> Result<Self> {
        let mut child = Command::new(IN_SANDBOX)
            .args(["sh", "-c", "echo started; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.as_mut().context("no standard output")?;
        BufReader::with_capacity(1, stdout).read_line(&mut line)?;
        assert_eq!(line, "started\n");
        Ok(Self(child))
    }

    /// The ids of init and of the worker.
    fn inside(&self) -> Result<[u32; 2]> {
        let child_of = |id: u32| -> Result<u32> {
            let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
            Ok(children.trim().parse()?)
        };
        let init = child_of(self.0.id())?;
        Ok([init, child_of(init)?])
    }

    fn end(mut self) -> Result<Output> {
        let mut stdin = self.0.stdin.take().context("no standard input")?;
        stdin.write_all(b"\n")?;
        Ok(self.0.wait_with_output()?)
    }
}

/// If this fails, a namespace with all its devices may live on behind everybody's back.
#[podlab::test]
fn who_holds_a_namespace_of_a_run_is_named() -> Result<()> {
    let run = Waiting::start()?;
    let [init, _] = run.inside()?;
    let hold = format!("exec 9</proc/{init}/ns/net; exec sleep 60");
    let mut holder = Command::new("sh").args(["-c", &hold]).spawn()?;
    // Until it has become `sleep` it may not hold anything yet.
    let name = format!("/proc/{}/comm", holder.id());
    while std::fs::read_to_string(&name)? != "sleep\n" {
        std::thread::yield_now();
    }
    let output = run.end();
    holder.kill()?;
    holder.wait()?;
    let (output, error) = (output.as_ref(), output.as_ref().map(error_of));
    assert_eq!(output.ok().map(|output| output.status.code()), Some(LEAKED));
    let error = error.unwrap_or_default();
    let named = format!("held by process {} (sleep 60)", holder.id());
    assert!(error.contains(&named), "{error}");
    Ok(())
}

/// If this fails, a process of a run that is still there is taken for somebody else's.
#[podlab::test]
fn a_process_with_the_mark_of_a_run_is_named() -> Result<()> {
    let run = Waiting::start()?;
    let [_, worker] = run.inside()?;
    let environment = std::fs::read_to_string(format!("/proc/{worker}/environ"))?;
    let mark = environment
        .split('\0')
        .find_map(|variable| variable.strip_prefix("PODLAB_RUN="))
        .context("the run has no mark")?;
    let mut left = Command::new("sleep")
        .arg("60")
        .env("PODLAB_RUN", mark)
        .spawn()?;
    let output = run.end();
    left.kill()?;
    left.wait()?;
    let output = output?;
    assert_eq!(output.status.code(), LEAKED);
    let named = format!("process {} (sleep 60)", left.id());
    assert!(error_of(&output).contains(&named), "{}", error_of(&output));
    Ok(())
}

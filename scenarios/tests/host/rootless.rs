//! Without root: what works, and what is said where it cannot.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use anyhow::{Context, Result};
use podlab::suite::Feature;
use rstest::rstest;

use super::program::Programs;

/// Where a system says that ordinary users may not make namespaces: the value that says so, the
/// cause that is told, and the command that allows it.
const SWITCHES: [(&str, &str, &str, &str); 3] = [
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "kernel.unprivileged_userns_clone is 0",
        "`sudo sysctl -w kernel.unprivileged_userns_clone=1`",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor forbids it",
        "`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`",
    ),
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "user.max_user_namespaces is 0",
        "`sudo sysctl -w user.max_user_namespaces=10000`",
    ),
];

/// If this fails, an ordinary user needs sudo, and everything is compiled and left behind as root.
#[podlab::test]
fn an_ordinary_user_boots_the_seeds_cluster() -> Result<()> {
    if let Err(why) = Feature::Userns.probe() {
        // Then the user has to hear what to do, where the system is one of those that are known.
        println!("ordinary users have no namespaces here: {why}");
        let output = Programs::copy()?.as_ordinary_user("seed-tour", &[])?;
        let blocked = SWITCHES.iter().find(|(path, value, ..)| {
            let is = std::fs::read_to_string(path);
            is.is_ok_and(|is| is.trim() == *value)
        });
        let (.., cause, command) = blocked.with_context(|| format!("no switch says so: {why}"))?;
        return assert_blocked(output, cause, command);
    }
    let output = Programs::copy()?.as_ordinary_user("seed-tour", &[])?;
    let text = String::from_utf8(output.stdout)?;
    let error = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(0), "{error}");
    assert!(text.contains("ttl 62 icmp"), "{text}");
    if std::path::Path::new("/sys/module/ipip").exists() {
        assert!(text.contains("kernel (kernel: "), "{text}");
        return Ok(());
    }
    // What was not taken is said with the reason, and that the user can do something about it.
    assert!(text.contains("userspace"), "{text}");
    assert!(text.contains("outside of any user namespace"), "{text}");
    Ok(())
}

/// If this fails, a user whose system forbids namespaces is told nothing that helps, or half a
/// cluster is made.
#[rstest]
#[case::no_user_namespaces(
    "echo 0 > /proc/sys/user/max_user_namespaces
     exec setpriv --bounding-set -sys_admin \"$TOUR\"",
    "user.max_user_namespaces is 0",
    "`sudo sysctl -w user.max_user_namespaces=10000`"
)]
#[case::no_network_namespaces(
    "echo 0 > /proc/sys/user/max_net_namespaces
     exec \"$TOUR\"",
    "user.max_net_namespaces is 0",
    "`sudo sysctl -w user.max_net_namespaces=10000`"
)]
#[case::hidden_parts_of_proc(
    // Of one's own mounts the kernel believes that one may take them away.
    "mount -t tmpfs none /proc/sys; exec unshare --user --map-root-user \"$TOUR\"",
    "parts of /proc or /sys are hidden",
    "systempaths=unconfined"
)]
#[case::chroot(
    "for folder in bin lib lib64 usr proc; do
       if [ -e /$folder ]; then
         mkdir -p \"$FOLDER/root/$folder\"
         mount --rbind /$folder \"$FOLDER/root/$folder\"
       fi
     done
     cp \"$TOUR\" \"$FOLDER/root/tour\"
     exec chroot \"$FOLDER/root\" /tour",
    "the process is in a chroot",
    "run outside of the chroot"
)]
#[podlab::test]
fn whoever_forbids_namespaces_is_named(
    #[case] script: &str,
    #[case] cause: &str,
    #[case] command: &str,
) -> Result<()> {
    assert_blocked(Programs::copy()?.tour_after(script)?, cause, command)
}

/// If this fails, a program that starts threads before it enters the sandbox gets an error of the
/// kernel's that says nothing, or is half inside.
#[podlab::test]
fn a_program_with_threads_is_told_so() -> Result<()> {
    let run = |arguments: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_in-sandbox"));
        program.args(arguments).arg("true").output()
    };
    let output = run(&["--with-thread"])?;
    let error = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with("in-sandbox: "), "{error}");
    assert!(error.contains("thread"), "{error}");
    assert!(last_line(&error).starts_with("hint: "), "{error}");
    assert_eq!(run(&[])?.status.code(), Some(0));
    Ok(())
}

/// The same for a filter of system calls, which containers have.
#[podlab::test]
fn a_seccomp_filter_is_named() -> Result<()> {
    let output = Programs::copy()?.tour_under_a_filter()?;
    assert_blocked(output, "a seccomp filter forbids it", "seccomp=unconfined")
}

fn assert_blocked(output: Output, cause: &str, command: &str) -> Result<()> {
    let error = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!(output.stdout, b"");
    assert!(
        error.contains("may not make namespaces: ") && error.contains(cause),
        "{error}"
    );
    let hint = last_line(&error);
    assert!(
        hint.starts_with("hint: ") && hint.contains(command),
        "{error}"
    );
    assert_eq!(error.matches("hint: ").count(), 1, "{error}");
    Ok(())
}

/// If this fails, an agent without its privileges looks like a network that does not work.
#[podlab::test]
fn without_privileges_the_agent_says_what_to_do() -> Result<()> {
    let store = tempfile::Builder::new()
        .permissions(PermissionsExt::from_mode(0o755))
        .tempdir()?;
    std::fs::create_dir(store.path().join("nodes"))?;
    let node = r#"{"address":"10.12.22.2/16","blocks":[]}"#;
    std::fs::write(store.path().join("nodes/a.json"), node)?;
    let path = store.path().to_str().context("a path in UTF-8")?;
    let arguments = ["run", "--datastore", path, "--node", "a"];
    let output = Programs::copy()?.as_ordinary_user("podlab-agent", &arguments)?;
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

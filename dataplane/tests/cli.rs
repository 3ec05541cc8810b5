//! The binary as a user or a service manager meets it: exit codes, messages, hints.
//!
//! Nothing here needs privileges, but for a `status` that finds a backend: every `run` is to end
//! before the agent touches the kernel. It runs without the privilege to do so, lest an agent that
//! does not end changes the machine that the tests run on.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use nix::libc;
use rstest::rstest;

const NODE: &str = r#"{"address":"10.12.22.2/16","blocks":["192.168.1.0/24"]}"#;
const POOL: &str = r#"{"cidr":"192.168.0.0/16","block_size":24,"encapsulation":"always"}"#;

const AGENT: &str = env!("CARGO_BIN_EXE_podlab-agent");

fn agent(arguments: &[&str]) -> Output {
    output_of(Command::new(AGENT).args(arguments))
}

/// Where there is a backend for it, without which it has nothing to compare: an ordinary user has
/// one only where they are root, in namespaces of their own.
#[cfg(feature = "netns")]
fn agent_with_backend(arguments: &[&str]) -> Output {
    if nix::unistd::Uid::effective().is_root() {
        return agent(arguments);
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", AGENT]);
    output_of(command.args(arguments))
}

fn output_of(command: &mut Command) -> Output {
    command.env_remove("NOTIFY_SOCKET");
    // SAFETY: between fork and exec the closure makes system calls only.
    unsafe { command.pre_exec(give_up_net_admin) };
    command.output().expect("a program that is there")
}

/// After exec not even root can change routes, links or net sysctls (capabilities(7)).
fn give_up_net_admin() -> io::Result<()> {
    const CAP_NET_ADMIN: libc::c_ulong = 12;
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_NET_ADMIN, 0, 0, 0) };
    let error = io::Error::last_os_error();
    // Whoever may not give it up does not have it either.
    if result == 0 || error.raw_os_error() == Some(libc::EPERM) {
        Ok(())
    } else {
        Err(error)
    }
}

fn run(datastore: &Path, node: &str) -> Output {
    agent(&[
        "run",
        "--datastore",
        datastore.to_str().expect("a path in UTF-8"),
        "--node",
        node,
    ])
}

fn datastore(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder made");
        fs::write(path, text).expect("a file written");
    }
    directory
}

/// The form of every failure: `podlab-agent: <what>: <why>`, and a hint as the last line.
#[track_caller]
fn refused(output: &Output, code: i32, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_eq!(output.stdout, b"", "errors go to stderr");
    assert!(text.starts_with("podlab-agent: "), "{text}");
    assert!(
        text.lines()
            .last()
            .unwrap_or_default()
            .starts_with("hint: "),
        "{text}"
    );
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

#[test]
fn an_unknown_node_is_told_which_are_known() {
    let store = datastore(&[("nodes/a.json", NODE), ("pools/p.json", POOL)]);
    refused(
        &run(store.path(), "b"),
        2,
        &["node b: is not in the datastore", "known nodes are: a"],
    );
}

#[test]
fn a_missing_directory_is_named() {
    let store = datastore(&[]);
    let missing = store.path().join("nowhere");
    refused(
        &run(&missing, "a"),
        2,
        &[missing.to_str().unwrap(), "No such file or directory"],
    );
}

#[test]
fn a_file_that_is_cut_in_half_is_named_with_the_place() {
    let half = &NODE[..NODE.len() / 2];
    let store = datastore(&[("nodes/a.json", half), ("pools/p.json", POOL)]);
    refused(
        &run(store.path(), "a"),
        2,
        &["nodes/a.json: ", "at line 1 column"],
    );
}

#[test]
fn an_address_that_is_no_address_is_quoted() {
    let node = NODE.replace("10.12.22.2", "10.12.22.2222");
    let store = datastore(&[("nodes/a.json", &node), ("pools/p.json", POOL)]);
    refused(
        &run(store.path(), "a"),
        2,
        &["nodes/a.json: ", "\"10.12.22.2222/16\" is not"],
    );
}

/// The agent itself goes on with the winner and logs the same.
#[cfg(feature = "netns")]
#[test]
fn a_status_names_files_that_contradict_each_other_and_those_that_are_broken() {
    let other = NODE.replace("192.168.1.0", "192.168.2.0");
    let pod = r#"{"pod":"p","namespace":"n","interface":"cali1","addresses":["192.168.9.9"]}"#;
    let store = datastore(&[
        ("nodes/a.json", NODE),
        ("nodes/b.json", &other),
        ("pools/p.json", POOL),
        ("endpoints/a/x.json", pod),
        ("endpoints/b/y.json", "{"),
    ]);
    let folder = store.path().to_str().expect("a path in UTF-8");
    let status = agent_with_backend(&["status", "--datastore", folder, "--node", "a"]);
    assert_eq!(status.status.code(), Some(1), "{status:?}");
    let text = String::from_utf8_lossy(&status.stdout);
    for fault in [
        "nodes/b.json: address 10.12.22.2 is that of node a as well",
        "endpoints/a/x.json: address 192.168.9.9 of pod n/p is in no node's block",
        "endpoints/b/y.json: EOF while parsing",
    ] {
        let line = format!("! datastore: {fault}");
        assert!(text.contains(&line), "{fault:?} is missing in: {text}");
    }
}

#[rstest]
#[case::flag(&["run", "--nonsense"], "unexpected argument '--nonsense'")]
#[case::nothing(&[], "it names nothing to do")]
#[case::missing_flags(&["run"], "required arguments were not provided: --datastore <DIR> --node <NAME>")]
#[case::backend(&["run", "--datastore", ".", "--node", "a", "--encap", "gre"], "invalid value 'gre' for '--encap")]
#[case::filter(&["run", "--datastore", ".", "--node", "a", "--log", "a=b=c"], "invalid value 'a=b=c' for '--log")]
#[case::place(&["run", "--datastore", ".", "--node", "a", "--serve", "9091"], "neither ADDRESS:PORT")]
#[case::format(&["run", "--datastore", ".", "--node", "a", "--log-format", "xml"], "invalid value 'xml' for '--log-format")]
#[case::cleanup(&["cleanup", "--everything"], "unexpected argument '--everything'")]
#[case::status(&["status"], "required arguments were not provided: --datastore <DIR> --node <NAME>")]
fn a_bad_command_line_says_what_is_bad(#[case] arguments: &[&str], #[case] why: &str) {
    refused(&agent(arguments), 2, &["podlab-agent: command line: ", why]);
}

#[rstest]
#[case(&["--help"], "doctor")]
#[case(&["run", "--help"], "--datastore <DIR>")]
#[case(&["--version"], concat!("podlab-agent ", env!("CARGO_PKG_VERSION")))]
fn help_and_version_are_no_failures(#[case] arguments: &[&str], #[case] expected: &str) {
    let output = agent(arguments);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(expected), "{text}");
}

#[test]
fn a_place_that_is_taken_is_named_before_anything_is_done() {
    let store = datastore(&[("nodes/a.json", NODE), ("pools/p.json", POOL)]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let tcp = taken.local_addr().expect("its address").to_string();
    let file = store.path().join("file");
    fs::write(&file, "data").expect("a file written");
    let unix = format!("unix:{}", file.display());
    for (place, why) in [
        (tcp.as_str(), "Address already in use"),
        ("192.0.2.1:9091", "Cannot assign requested address"),
        (unix.as_str(), "there is a file that is no socket"),
        ("unix:/nowhere/sock", "No such file or directory"),
    ] {
        let folder = store.path().to_str().expect("a path in UTF-8");
        let output = agent(&[
            "run",
            "--datastore",
            folder,
            "--node",
            "a",
            "--serve",
            place,
        ]);
        refused(&output, 2, &["cannot listen on ", why]);
    }
}

/// A program that reads the log need not know a second format for how it ends.
#[test]
fn a_json_log_ends_with_the_failure_as_json() {
    let store = datastore(&[]);
    let folder = store.path().to_str().expect("a path in UTF-8");
    let output = agent(&[
        "run",
        "--datastore",
        folder,
        "--node",
        "b",
        "--log-format",
        "json",
    ]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    let last: serde_json::Value =
        serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["level"], "ERROR");
    let message = last["message"].as_str().expect("a message");
    assert!(
        message.starts_with("node b: is not in the datastore"),
        "{message}"
    );
}

#[test]
fn a_status_without_a_node_or_a_datastore_is_bad_input() {
    let store = datastore(&[("nodes/a.json", NODE), ("pools/p.json", POOL)]);
    let folder = store.path().to_str().expect("a path in UTF-8");
    let unknown = agent(&["status", "--datastore", folder, "--node", "b"]);
    refused(&unknown, 2, &["node b: is not in the datastore"]);
    let nowhere = agent(&["status", "--datastore", "/nowhere", "--node", "a"]);
    refused(&nowhere, 2, &["/nowhere", "No such file or directory"]);
}

/// This machine is no node of the datastore: nobody has its address.
#[cfg(feature = "netns")]
#[test]
fn a_status_that_differs_says_so_by_its_exit_code() {
    let node = NODE.replace("10.12.22.2", "192.0.2.1");
    let store = datastore(&[("nodes/a.json", &node), ("pools/p.json", POOL)]);
    let folder = store.path().to_str().expect("a path in UTF-8");
    let plain = agent_with_backend(&["status", "--datastore", folder, "--node", "a"]);
    let text = String::from_utf8_lossy(&plain.stdout);
    assert_eq!(plain.status.code(), Some(1), "{plain:?}");
    assert!(text.starts_with("node a: "), "{text}");
    assert!(
        text.contains("! no interface has the node's address 192.0.2.1"),
        "{text}"
    );
    let json = agent_with_backend(&["status", "--datastore", folder, "--node", "a", "--json"]);
    assert_eq!(json.status.code(), Some(1));
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(
        (&value["node"], &value["equal"]),
        (&"a".into(), &false.into())
    );
}

/// Whoever may not change the network is told so, not that there was nothing to do.
#[test]
fn a_cleanup_without_privilege_is_refused() {
    for arguments in [&["cleanup", "--dry-run"][..], &["cleanup"]] {
        refused(
            &agent(arguments),
            3,
            &["nftables", "Operation not permitted"],
        );
    }
}

#[test]
fn the_doctor_answers_every_question_and_leaves_no_interface_behind() {
    let output = agent(&["doctor"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
    let questions = [
        "CAP_NET_ADMIN",
        "IPv4 sysctls writable",
        "backend kernel",
        "backend ebpf",
        "nftables",
        "inotify",
    ];
    for question in questions {
        let line = text.lines().find_map(|line| line.strip_prefix(question));
        let answer = line.unwrap_or_else(|| panic!("no line on {question}: {text}"));
        let given = answer.starts_with(": yes (") || answer.starts_with(": no (");
        assert!(
            given && answer.len() > ": yes ()".len(),
            "{question}{answer}"
        );
    }
    assert!(
        text.lines()
            .last()
            .unwrap()
            .starts_with("--encap auto takes "),
        "{text}"
    );
    assert!(!Path::new("/sys/class/net/podlab-probe").exists());
}

/// A resync of no time would leave none for anything else.
#[rstest]
#[case("--resync", "0", "0.1")]
#[case("--resync", "soon", "like 90 or 0.5")]
#[case("--route-grace", "-1", "from 0 to 86400")]
#[case("--route-grace", "1e9", "from 0 to 86400")]
fn seconds_that_cannot_be_are_refused(#[case] flag: &str, #[case] value: &str, #[case] why: &str) {
    let flag = format!("{flag}={value}");
    let output = agent(&["run", "--datastore", "/", "--node", "a", &flag]);
    refused(&output, 2, &[value, why]);
}

//! The program `nft`, which knows how to put rules into the kernel's own language.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use crate::platform::KernelError;

/// Where it is; system tools are not in every PATH.
const PROGRAMS: [&str; 3] = ["nft", "/usr/sbin/nft", "/sbin/nft"];

/// Applies a script as one transaction.
pub(crate) fn load(script: &str) -> Result<(), KernelError> {
    run("apply nft script", &["-f", "-"], script).map(drop)
}

/// The table `name` of family ip, without counters and handles, protocols as numbers; `None` when
/// there is none.
pub(crate) fn list(name: &str) -> Result<Option<String>, KernelError> {
    match run(
        "list nft table",
        &["-s", "-p", "list", "table", "ip", name],
        "",
    ) {
        Ok(text) => Ok(Some(text)),
        // What `nft` says of a table that is not there.
        Err(error) if error.message.contains("No such file or directory") => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the program calls itself.
pub(crate) fn version() -> Result<String, KernelError> {
    Ok(run("run", &["--version"], "")?.trim().to_owned())
}

/// Runs it to its end with `input`; returns what it printed. Its complaints are in the error,
/// whose source is `NotFound` only when there is no such program.
fn run(operation: &'static str, arguments: &[&str], input: &str) -> Result<String, KernelError> {
    let failed = |message: String, source| KernelError {
        operation,
        object: "nft".to_owned(),
        message,
        source,
    };
    let output = start(arguments, input).map_err(|error| failed(String::new(), error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(
        complaint,
        io::Error::other(output.status.to_string()),
    ))
}

fn start(arguments: &[&str], input: &str) -> io::Result<Output> {
    let mut missing = io::ErrorKind::NotFound.into();
    for program in PROGRAMS {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                missing = error;
                continue;
            }
            Err(error) => return Err(error),
        };
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends before it has read all says why on its standard error.
            stdin.write_all(input.as_bytes()).ok();
        }
        return child.wait_with_output();
    }
    Err(missing)
}

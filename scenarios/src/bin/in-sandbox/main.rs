//! `in-sandbox COMMAND…` runs a command in a sandbox of its own and ends with its exit code, as
//! every test program does: by it the sandbox itself is tested and measured.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut words = env::args_os().skip(1);
    let Some(program) = words.next() else {
        eprintln!("usage: in-sandbox COMMAND…");
        return ExitCode::from(2);
    };
    if let Err(error) = podlab::sandbox::enter() {
        eprintln!("in-sandbox: {error}");
        return ExitCode::FAILURE;
    }
    let error = Command::new(&program).args(words).exec();
    eprintln!("in-sandbox: {}: {error}", program.display());
    ExitCode::FAILURE
}

//! `in-sandbox COMMAND…` runs a command in a sandbox of its own and ends with its exit code, as
//! every test program does: by it the sandbox itself is tested and measured. With `--outside`
//! there is no sandbox, for comparison; with `--with-thread` there is a thread before it is
//! entered, which no sandbox takes.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::thread;

fn main() -> ExitCode {
    let mut words = env::args_os().skip(1).peekable();
    let outside = words.next_if(|word| word == "--outside").is_some();
    if words.next_if(|word| word == "--with-thread").is_some() {
        thread::spawn(thread::park);
    }
    let Some(program) = words.next() else {
        eprintln!("usage: in-sandbox [--outside] [--with-thread] COMMAND…");
        return ExitCode::from(2);
    };
    if !outside && let Err(error) = podlab::sandbox::enter() {
        eprintln!("in-sandbox: {error}");
        return ExitCode::FAILURE;
    }
    let error = Command::new(&program).args(words).exec();
    eprintln!("in-sandbox: {}: {error}", program.display());
    ExitCode::FAILURE
}

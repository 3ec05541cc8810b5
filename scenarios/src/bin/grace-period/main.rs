//! Measures the kernel's grace period (RCU), over and over, until standard input ends; then prints
//! the mean in microseconds. Says `ready` first.
//!
//! A grace period is what the kernel waits for before it frees what a processor may still be using,
//! a packet socket for instance: closing an idle one takes that long, and nothing else.

use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("grace-period: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    podlab::sandbox::enter()?;
    println!("ready");
    let input = io::stdin();
    let (begin, mut count) = (Instant::now(), 0);
    loop {
        let idle = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        drop(idle);
        count += 1;
        let mut ended = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ended, PollTimeout::ZERO)? > 0 {
            break;
        }
    }
    println!("{}", (begin.elapsed() / count).as_micros());
    Ok(())
}

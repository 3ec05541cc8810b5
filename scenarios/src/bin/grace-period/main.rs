//! Measures the kernel's grace period (RCU), over and over, until standard input ends; then prints
//! in microseconds how long one is that is met at a random instant. Says `ready` first.
//!
//! A grace period is what the kernel waits for before it frees what a processor may still be using,
//! a packet socket for instance: closing an idle one takes that long, and nothing else.
//!
//! While anybody on the machine holds the lock of network devices, the kernel hurries, and a grace
//! period takes less than a millisecond instead of ten and more. There are so many of the short ones
//! that a mean of all would tell little of the time in which nobody hurries: each counts for as much
//! as it lasts.

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
    let (mut sum, mut sum_of_squares) = (0.0, 0.0);
    loop {
        let begin = Instant::now();
        let idle = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        drop(idle);
        let took = begin.elapsed().as_secs_f64();
        sum += took;
        sum_of_squares += took * took;
        let mut ended = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ended, PollTimeout::ZERO)? > 0 {
            break;
        }
    }
    println!("{:.0}", sum_of_squares / sum * 1e6);
    Ok(())
}

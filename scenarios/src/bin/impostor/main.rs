//! Stands in for an agent behind `tunl0`, and encapsulates wrongly; see the library's module.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;

use clap::Parser;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recvfrom,
    sendto, socket,
};
use podlab_scenarios::impostor::Arguments;
use podlab_scenarios::seed::TUNNEL;

/// The largest packet with its link header.
const LARGEST: usize = 1 << 17;
/// Length of an Ethernet header.
const ETHERNET: usize = 14;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("impostor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<std::convert::Infallible> {
    let peer = if_nametoindex(format!("{TUNNEL}-x").as_str())? as usize;
    let open = |family, protocol| -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC;
        Ok(socket(family, SockType::Raw, flags, protocol)?)
    };
    // Not bound: packets of every device, told apart by where they came in.
    let tap = open(AddressFamily::Packet, SockProtocol::EthIp)?;
    let out = open(AddressFamily::Inet, SockProtocol::Raw)?;
    println!("ready");
    io::stdout().flush()?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let (length, address) = recvfrom::<LinkAddr>(tap.as_raw_fd(), &mut buffer)?;
        let Some(address) = address else {
            continue;
        };
        let outgoing = address.pkttype() == libc::PACKET_OUTGOING;
        if outgoing || address.ifindex() != peer {
            continue;
        }
        if let Some(inner) = buffer.get(ETHERNET..length) {
            let packet = arguments.encapsulate(inner);
            let [a, b, c, d] = arguments.peer.octets();
            let to = SockaddrIn::new(a, b, c, d, 0);
            // What does not fit is lost, as behind any tunnel.
            sendto(out.as_raw_fd(), &packet, &to, MsgFlags::empty()).ok();
        }
    }
}

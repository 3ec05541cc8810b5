//! A program that takes an agent's place behind `tunl0` and encapsulates wrongly.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use podlab::process::Program;

/// What it does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// Two outer headers.
    Doubled,
    /// An outer header with somebody else's source address.
    WrongSource,
}

/// Its command line.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// What it does wrong.
    pub fault: Fault,
    /// The address of its node.
    pub node: Ipv4Addr,
    /// The node to which everything is sent.
    pub peer: Ipv4Addr,
    /// The address to lie with.
    pub stranger: Ipv4Addr,
}

/// How to start it.
///
/// # Errors
/// When it was not built beside this program.
pub(crate) fn program(
    fault: Fault,
    node: Ipv4Addr,
    peer: Ipv4Addr,
    stranger: &str,
) -> Result<Program> {
    let fault = fault
        .to_possible_value()
        .context("every fault has a name")?;
    Ok(Program::new(beside()?).arg(fault.get_name()).args([
        node.to_string(),
        peer.to_string(),
        stranger.to_owned(),
    ]))
}

/// Cargo puts test programs into `target/PROFILE/deps` and programs one folder above.
fn beside() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    let folder = own.parent().context("a program lies in a folder")?;
    let folder = match folder.ends_with("deps") {
        true => folder.parent().unwrap_or(folder),
        false => folder,
    };
    let path = folder.join("impostor");
    anyhow::ensure!(
        path.is_file(),
        "{} is not there\nhint: build it: cargo build -p podlab-scenarios --bins",
        path.display()
    );
    Ok(path)
}

impl Arguments {
    /// The packet that it makes of an inner one.
    pub fn encapsulate(&self, inner: &[u8]) -> Vec<u8> {
        match self.fault {
            Fault::Doubled => {
                let once = wrap(inner, self.node, self.peer);
                wrap(&once, self.node, self.peer)
            }
            Fault::WrongSource => wrap(inner, self.stranger, self.peer),
        }
    }
}

/// Bytes of an IPv4 header without options.
const HEADER: usize = 20;

/// One outer header, as the kernel's `ipip` would make it: ttl and DF from inside.
fn wrap(inner: &[u8], source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    const IPIP: u8 = 4;
    let length = u16::try_from(inner.len() + HEADER).unwrap_or(u16::MAX);
    let (ttl, flags) = match inner {
        [_, _, _, _, _, _, flags, _, ttl, ..] => (*ttl, flags & 0x40),
        _ => (64, 0),
    };
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, flags, 0, ttl, IPIP, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(inner);
    packet
}

/// RFC 1071, over a header.
fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks_exact(2);
    let sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use podlab::packet::{LinkType, Packet};

    use super::*;

    #[test]
    fn the_headers_are_right_but_for_the_fault() {
        let (node, peer) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let stranger = Ipv4Addr::new(10, 0, 0, 9);
        let inner = wrap(&[], Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(2, 2, 2, 2));
        for (fault, depth, source) in [(Fault::Doubled, 2, node), (Fault::WrongSource, 1, stranger)]
        {
            let arguments = Arguments {
                fault,
                node,
                peer,
                stranger,
            };
            let packet = Packet::decode(LinkType::Ip, arguments.encapsulate(&inner));
            // The innermost one is empty, and of protocol 4 itself.
            let headers: Vec<_> = packet.ipv4_headers().collect();
            assert_eq!(headers.len(), depth + 1);
            assert_eq!((headers[0].source, headers[0].destination), (source, peer));
            assert!(headers.iter().all(|header| header.checksum_correct));
        }
    }
}

//! What the kernel offers beyond routes and links.

use std::io;

use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};

/// Asks nftables for the generation of its rulesets, which is there even when no rule is. It
/// grows by one with every transaction in the network namespace.
///
/// # Errors
/// The kernel's reason why there is no nftables for us.
pub(crate) fn nftables() -> io::Result<u32> {
    // nlmsghdr: length 20, NFT_MSG_GETGEN of subsystem nftables, NLM_F_REQUEST, sequence 1;
    // nfgenmsg: family unspec, version 0, resource 0.
    const SUBSYSTEM: u16 = 10;
    const GET_GENERATION: u16 = 16;
    let mut request = [0u8; 20];
    request[0..4].copy_from_slice(&20u32.to_ne_bytes());
    request[4..6].copy_from_slice(&(SUBSYSTEM << 8 | GET_GENERATION).to_ne_bytes());
    request[6..8].copy_from_slice(&1u16.to_ne_bytes());
    request[8..12].copy_from_slice(&1u32.to_ne_bytes());

    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let word = |at: usize| -> Option<[u8; 4]> { answer.get(at..at + 4)?.try_into().ok() };
    // An error message has type 2 and its code behind the header; the answer itself has the
    // generation, in network byte order, as value of its first attribute (NFTA_GEN_ID).
    match (answer.get(4..6), word(16), word(24)) {
        (Some(kind), Some(code), _) if kind == 2u16.to_ne_bytes() => {
            Err(io::Error::from_raw_os_error(i32::from_ne_bytes(code).abs()))
        }
        (_, _, Some(generation)) => Ok(u32::from_be_bytes(generation)),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

//! The sockets of a machine, as `ss` shows them, from `/proc/net`.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use serde::Serialize;

/// A socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SocketState {
    /// `tcp`, `udp`, `raw` or `packet`.
    pub protocol: &'static str,
    /// Its own address and port (of a raw socket the number of the protocol); of a packet socket
    /// the index of its device and the Ethernet type.
    pub local: String,
    /// The other end's address and port.
    pub remote: String,
    /// The state of a TCP connection in the kernel's words.
    pub state: String,
    /// Bytes that were sent and not acknowledged.
    pub send_queue: u64,
    /// Bytes that nobody has read.
    pub receive_queue: u64,
    /// Packets that were dropped because nobody read them; TCP does not say.
    pub drops: Option<u64>,
    /// What ties it to a process: `/proc/PID/fd/N` leads to `socket:[inode]`.
    pub inode: u64,
}

/// The sockets of the calling thread's network namespace.
pub(super) fn read() -> io::Result<Vec<SocketState>> {
    let mut sockets = Vec::new();
    for protocol in ["tcp", "udp", "raw"] {
        let table = std::fs::read_to_string(format!("/proc/thread-self/net/{protocol}"))?;
        sockets.extend(
            table
                .lines()
                .skip(1)
                .filter_map(|line| inet(protocol, line)),
        );
    }
    let table = std::fs::read_to_string("/proc/thread-self/net/packet")?;
    sockets.extend(table.lines().skip(1).filter_map(packet));
    Ok(sockets)
}

/// `sl local_address rem_address st tx_queue:rx_queue tr:when retrnsmt uid timeout inode ref pointer
/// drops`; see `Documentation/networking/proc_net_tcp.rst`.
fn inet(protocol: &'static str, line: &str) -> Option<SocketState> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (send, receive) = fields.get(4)?.split_once(':')?;
    Some(SocketState {
        protocol,
        local: address(fields.get(1)?)?.to_string(),
        remote: address(fields.get(2)?)?.to_string(),
        state: match protocol {
            "tcp" => tcp_state(fields.get(3)?).to_owned(),
            _ => String::new(),
        },
        send_queue: u64::from_str_radix(send, 16).ok()?,
        receive_queue: u64::from_str_radix(receive, 16).ok()?,
        drops: match protocol {
            "tcp" => None,
            _ => fields.last().and_then(|drops| drops.parse().ok()),
        },
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// `sk RefCnt Type Proto Iface R Rmem User Inode`.
fn packet(line: &str) -> Option<SocketState> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let kind = u16::from_str_radix(fields.get(3)?, 16).ok()?;
    Some(SocketState {
        protocol: "packet",
        local: format!("device {} type 0x{kind:04x}", fields.get(4)?),
        remote: String::new(),
        state: String::new(),
        send_queue: 0,
        receive_queue: fields.get(6)?.parse().ok()?,
        drops: None,
        inode: fields.get(8)?.parse().ok()?,
    })
}

/// `0100007F:1F90` is 127.0.0.1:8080: the address as a number of the machine's own byte order, the
/// port as one that people read.
fn address(text: &str) -> Option<SocketAddrV4> {
    let (address, port) = text.split_once(':')?;
    let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(SocketAddrV4::new(Ipv4Addr::from(address), port))
}

/// `include/net/tcp_states.h`.
fn tcp_state(code: &str) -> &'static str {
    match code {
        "01" => "ESTABLISHED",
        "02" => "SYN_SENT",
        "03" => "SYN_RECV",
        "04" => "FIN_WAIT1",
        "05" => "FIN_WAIT2",
        "06" => "TIME_WAIT",
        "07" => "CLOSE",
        "08" => "CLOSE_WAIT",
        "09" => "LAST_ACK",
        "0A" => "LISTEN",
        "0B" => "CLOSING",
        "0C" => "NEW_SYN_RECV",
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_lines_are_read_as_ss_prints_them() {
        let line = "   0: 00000000:1F90 0601A8C0:C350 01 00000010:00000020 00:00000000 00000000 \
                    0        0 12345 1 0000000000000000 100 0 0 10 0";
        let socket = inet("tcp", line).unwrap();
        assert_eq!(socket.local, "0.0.0.0:8080");
        assert_eq!(socket.remote, "192.168.1.6:50000");
        assert_eq!(socket.state, "ESTABLISHED");
        assert_eq!((socket.send_queue, socket.receive_queue), (16, 32));
        assert_eq!((socket.drops, socket.inode), (None, 12345));

        let line = "  260: 00000000:0004 00000000:0000 07 00000000:00000000 00:00000000 00000000 \
                    0        0 777 2 0000000000000000 5";
        let socket = inet("raw", line).unwrap();
        assert_eq!(socket.local, "0.0.0.0:4");
        assert_eq!((socket.drops, socket.inode), (Some(5), 777));

        let line = "0000000000000000 3      3    0003   2     1 4096   0      888";
        let socket = packet(line).unwrap();
        assert_eq!(socket.local, "device 2 type 0x0003");
        assert_eq!((socket.receive_queue, socket.inode), (4096, 888));
    }

    #[test]
    fn the_own_listening_socket_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().to_string();
        let sockets = read().unwrap();
        let found = sockets.iter().find(|socket| socket.local == own);
        assert_eq!(found.map(|socket| socket.state.as_str()), Some("LISTEN"));
    }
}

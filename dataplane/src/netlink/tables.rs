//! nftables' tables by name: which there are, and their removal.

use std::io;

use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};

use super::failed;
use super::socket::messages;
use crate::platform::KernelError;

/// A table: its family (`NFPROTO_*`) and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    family: u8,
    name: String,
}

/// As `nft list tables` writes it.
impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let family = match self.family {
            1 => "inet",
            2 => "ip",
            3 => "arp",
            5 => "netdev",
            7 => "bridge",
            10 => "ip6",
            _ => "?",
        };
        write!(f, "{family} {}", self.name)
    }
}

const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
/// nlmsghdr and nfgenmsg.
const HEADERS: usize = 20;
const ATTRIBUTE_NAME: u16 = 1;

/// The tables called `name`, of every family. A kernel without nftables has none.
///
/// # Errors
/// When the kernel refuses to list them.
pub(crate) fn named(name: &str) -> Result<Vec<Table>, KernelError> {
    let request = message(GET_TABLE, REQUEST | DUMP, 0, 0, &[]);
    let mut found = Vec::new();
    let answer = exchange(&request, |kind, bytes| {
        if kind == NEW_TABLE && table_name(bytes) == Some(name) {
            let family = bytes[16];
            let name = name.to_owned();
            found.push(Table { family, name });
        }
    });
    match answer {
        Ok(()) => Ok(found),
        Err(error) if is_absence(&error) => Ok(Vec::new()),
        Err(error) => Err(failed("list", "nftables' tables", error)),
    }
}

fn is_absence(error: &io::Error) -> bool {
    use nix::libc::{EINVAL, EOPNOTSUPP, EPROTONOSUPPORT};
    // The last one: no netfilter at all; EINVAL: netfilter without nftables.
    let absences = [EINVAL, EOPNOTSUPP, EPROTONOSUPPORT];
    error
        .raw_os_error()
        .is_some_and(|code| absences.contains(&code))
}

/// Removes a table with everything in it.
///
/// # Errors
/// What the kernel objects to.
pub(crate) fn remove(table: &Table) -> Result<(), KernelError> {
    let mut attribute = Vec::new();
    attribute.extend((4 + table.name.len() as u16 + 1).to_ne_bytes());
    attribute.extend(ATTRIBUTE_NAME.to_ne_bytes());
    attribute.extend(table.name.as_bytes());
    attribute.push(0);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    let batch = [
        message(BATCH_BEGIN, REQUEST, 0, SUBSYSTEM, &[]),
        message(
            DELETE_TABLE,
            REQUEST | ACKNOWLEDGE,
            table.family,
            0,
            &attribute,
        ),
        message(BATCH_END, REQUEST, 0, SUBSYSTEM, &[]),
    ];
    exchange(&batch.concat(), |_, _| {})
        .map_err(|error| failed("remove nftables' table", table.to_string(), error))
}

fn message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADERS];
    let length = (HEADERS + attributes.len()) as u32;
    bytes[0..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes[8] = 1; // sequence number, in one byte at either end
    bytes[16] = family;
    bytes[18..20].copy_from_slice(&resource.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

/// Sends, and gives `take` each message's type and bytes until the kernel says that it is done.
fn exchange(request: &[u8], mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.send_to(request, &SocketAddr::new(0, 0), 0)?;
    loop {
        let (received, _) = socket.recv_from_full()?;
        for bytes in messages(&received) {
            let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
            match kind {
                DONE => return Ok(()),
                ERROR => {
                    let code = bytes.get(16..20).map_or(0, |code| {
                        i32::from_ne_bytes([code[0], code[1], code[2], code[3]])
                    });
                    return match code {
                        0 => Ok(()),
                        code => Err(io::Error::from_raw_os_error(code.abs())),
                    };
                }
                _ => take(kind, bytes),
            }
        }
    }
}

fn table_name(bytes: &[u8]) -> Option<&str> {
    let mut attributes = bytes.get(HEADERS..)?;
    while let [a, b, c, d, ..] = *attributes {
        let length = u16::from_ne_bytes([a, b]) as usize;
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([c, d]) == ATTRIBUTE_NAME {
            return std::str::from_utf8(value).ok()?.strip_suffix('\0');
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

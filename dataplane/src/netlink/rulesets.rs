//! Changes of nftables' rulesets, as they happen.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;

use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{AsyncSocket, SocketAddr, TokioSocket};

use super::events::Event;
use super::socket;

/// NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h, as a bit.
const GROUP: u32 = 1 << (7 - 1);
/// NFNL_SUBSYS_NFTABLES, the upper byte of a message's type.
const SUBSYSTEM: u16 = 10;
/// NFT_MSG_NEWGEN: ends the messages of a transaction.
const NEW_GENERATION: u16 = 15;
/// AF_INET in the first byte behind the header.
const FAMILY_IP: u8 = 2;

/// Subscription to the transactions of the process's network namespace.
pub(super) struct Rulesets {
    socket: TokioSocket,
    buffer: Vec<u8>,
    tables: Tables,
}

impl Rulesets {
    pub(super) fn subscribe() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind(&SocketAddr::new(0, GROUP))?;
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(32 * 1024),
            tables: Tables::default(),
        })
    }

    /// The events of one datagram, often none. Cancel-safe.
    pub(super) async fn receive(&mut self) -> io::Result<Vec<Event>> {
        self.buffer.clear();
        match poll_fn(|context| self.socket.poll_recv(context, &mut self.buffer)).await {
            Ok(()) => Ok(socket::messages(&self.buffer)
                .flat_map(|message| self.tables.take(message))
                .collect()),
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {
                self.tables = Tables::default();
                Ok(vec![Event::Lost])
            }
            Err(error) => Err(error),
        }
    }
}

/// The tables of family ip that the transaction under way has changed.
#[derive(Default)]
struct Tables(BTreeSet<String>);

impl Tables {
    /// The events that a message completes.
    fn take(&mut self, message: &[u8]) -> Vec<Event> {
        let Some((kind, family, attribute)) = parse(message) else {
            return Vec::new();
        };
        if kind == SUBSYSTEM << 8 | NEW_GENERATION {
            let generation = attribute.try_into().map_or(0, u32::from_be_bytes);
            let tables = std::mem::take(&mut self.0).into_iter();
            return tables
                .map(|table| Event::Ruleset { table, generation })
                .collect();
        }
        if kind >> 8 == SUBSYSTEM && family == FAMILY_IP {
            let name = attribute.split(|byte| *byte == 0).next().unwrap_or(b"");
            self.0.insert(String::from_utf8_lossy(name).into_owned());
        }
        Vec::new()
    }
}

/// Type, family and the value of attribute 1, which is the table's name in every message about
/// something in a table (NFTA_TABLE_NAME, NFTA_RULE_TABLE …) and the number of a new generation.
fn parse(message: &[u8]) -> Option<(u16, u8, &[u8])> {
    let kind = socket::kind_of(message)?;
    let family = *message.get(socket::HEADER)?;
    // Behind the header struct nfgenmsg, of four bytes.
    let (_, value) =
        socket::attributes(message.get(socket::HEADER + 4..)?).find(|(kind, _)| *kind == 1)?;
    Some((kind, family, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
        let mut message = vec![0; 20];
        message[..4].copy_from_slice(&(20 + attributes.len() as u32).to_ne_bytes());
        message[4..6].copy_from_slice(&(SUBSYSTEM << 8 | kind).to_ne_bytes());
        message[16] = family;
        message.extend(attributes);
        message
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = 4 + value.len() as u16;
        let mut attribute = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        attribute.extend(value);
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        attribute
    }

    #[test]
    fn a_transaction_is_told_at_its_end_once_for_each_table() {
        let ours = attribute(1, b"podlab\0");
        let behind_another = [attribute(2, &[1]), ours.clone()].concat();
        let end = message(NEW_GENERATION, 0, &attribute(1, &7u32.to_be_bytes()));
        let mut tables = Tables::default();
        for message in [
            message(0, FAMILY_IP, &ours),
            message(6, FAMILY_IP, &behind_another),
            message(0, 1, &attribute(1, b"inet\0")),
            message(0, FAMILY_IP, &ours[..6]),
        ] {
            assert_eq!(tables.take(&message), []);
        }
        let table = "podlab".to_owned();
        let generation = 7;
        assert_eq!(tables.take(&end), [Event::Ruleset { table, generation }]);
        assert_eq!(tables.take(&end), [], "the next transaction is another");
    }
}

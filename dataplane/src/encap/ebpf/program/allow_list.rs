//! The map `peers`: the prefixes that tunnel packets are accepted from and sent to.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};
use ipnet::Ipv4Net;

use super::ProgramError;

/// `max_entries` of the map in `ipip.bpf.c`.
pub(super) const MAX_PEERS: usize = 8192;

/// An address in network byte order, as it stands in a packet.
pub(super) type Octets = [u8; 4];

pub(super) struct AllowList {
    map: LpmTrie<MapData, Octets, u8>,
    /// What the map holds, as far as nobody else writes it.
    present: BTreeSet<Ipv4Net>,
    complete: bool,
}

impl AllowList {
    pub(super) fn new(map: LpmTrie<MapData, Octets, u8>) -> Self {
        Self {
            map,
            present: BTreeSet::new(),
            complete: false,
        }
    }

    /// Whether a [`AllowList::set`] has succeeded yet.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// See [`super::Programs::set_peers`].
    pub(super) fn set(&mut self, peers: &BTreeSet<Ipv4Net>) -> Result<bool, ProgramError> {
        if peers.len() > MAX_PEERS {
            return Err(ProgramError::TooManyPeers { count: peers.len() });
        }
        let changes = changes(&self.present, peers);
        for change in &changes {
            match *change {
                Change::Add(peer) => {
                    self.map
                        .insert(&key(peer), 1, 0)
                        .map_err(|source| failed(format!("adding {peer}"), source))?;
                    self.present.insert(peer);
                }
                Change::Remove(peer) => {
                    self.map
                        .remove(&key(peer))
                        .map_err(|source| failed(format!("removing {peer}"), source))?;
                    self.present.remove(&peer);
                }
            }
        }
        self.complete = true;
        Ok(!changes.is_empty())
    }

    /// See [`super::Programs::read_peers`].
    pub(super) fn read(&mut self) -> Result<(), ProgramError> {
        self.present = entries(&self.map)?;
        Ok(())
    }
}

/// The prefixes in a map of this kind.
pub(super) fn entries(
    map: &LpmTrie<MapData, Octets, u8>,
) -> Result<BTreeSet<Ipv4Net>, ProgramError> {
    let prefix = |key: Key<Octets>| {
        let length = u8::try_from(key.prefix_len()).unwrap_or(32).min(32);
        Ipv4Net::new_assert(Ipv4Addr::from(key.data()), length)
    };
    let keys = map.keys().map(|key| key.map(prefix));
    keys.collect::<Result<_, _>>()
        .map_err(|source| failed("reading".to_owned(), source))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Add(Ipv4Net),
    Remove(Ipv4Net),
}

/// What turns `present` into `wanted`, in an order in which the map never overflows:
/// additions first, as far as old and new fit into it together.
fn changes(present: &BTreeSet<Ipv4Net>, wanted: &BTreeSet<Ipv4Net>) -> Vec<Change> {
    let added: Vec<_> = wanted
        .difference(present)
        .map(|p| Change::Add(*p))
        .collect();
    let removed: Vec<_> = present
        .difference(wanted)
        .map(|p| Change::Remove(*p))
        .collect();
    let overflow = (present.len() + added.len()).saturating_sub(MAX_PEERS);
    let (before, after) = removed.split_at(overflow.min(removed.len()));
    [before, &added, after].concat()
}

fn key(prefix: Ipv4Net) -> Key<Octets> {
    Key::new(u32::from(prefix.prefix_len()), prefix.addr().octets())
}

fn failed(operation: String, source: MapError) -> ProgramError {
    ProgramError::Update {
        map: "peers",
        operation,
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u32) -> Ipv4Net {
        Ipv4Addr::from(number).into()
    }

    fn set(numbers: std::ops::Range<u32>) -> BTreeSet<Ipv4Net> {
        numbers.map(number).collect()
    }

    /// The program compares with the source address as it stands in the packet.
    #[test]
    fn a_key_is_in_network_byte_order() {
        let key = key("10.12.22.0/24".parse().unwrap());
        assert_eq!((key.prefix_len(), key.data()), (24, [10, 12, 22, 0]));
    }

    /// A peer in both sets is never touched, and a new one is let in before an old one goes.
    #[test]
    fn adds_before_it_removes() {
        assert_eq!(
            changes(&set(1..4), &set(2..5)),
            [Change::Add(number(4)), Change::Remove(number(1))]
        );
        assert_eq!(changes(&set(1..4), &set(1..4)), []);
    }

    /// A cluster that is renumbered as a whole still fits.
    #[test]
    fn never_holds_more_than_the_map() {
        let size = u32::try_from(MAX_PEERS).unwrap();
        let mut held = set(0..size);
        let wanted = set(size - 10..2 * size - 10);
        for change in changes(&held, &wanted) {
            match change {
                Change::Add(peer) => assert!(held.insert(peer)),
                Change::Remove(peer) => assert!(held.remove(&peer)),
            }
            assert!(held.len() <= MAX_PEERS);
        }
        assert_eq!(held, wanted);
    }
}

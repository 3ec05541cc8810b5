//! Which connections go through the joiner.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::packet::connection::{Direction, TcpPacket};

/// How long a connection's packets go through the joiner after its last super-packet: far longer
/// than the joiner holds any, so that none is overtaken.
const STAY: Duration = Duration::from_millis(50);
/// More connections than that at a time need not be served so well.
const MOST: usize = 8192;

/// The connections that have lately sent super-packets.
#[derive(Default)]
pub(super) struct Streams(HashMap<Direction, Instant>);

impl Streams {
    /// Whether a packet goes through the joiner: super-packets do, and what follows them.
    pub(super) fn join(&mut self, packet: &TcpPacket, is_super: bool, now: Instant) -> bool {
        if is_super {
            if self.0.len() >= MOST {
                self.0.retain(|_, last| is_recent(*last, now));
            }
            if self.0.len() < MOST {
                self.0.insert(packet.direction, now);
            }
        }
        let last = self.0.get(&packet.direction);
        last.is_some_and(|last| is_recent(*last, now))
    }
}

fn is_recent(last: Instant, now: Instant) -> bool {
    now.saturating_duration_since(last) < STAY
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn packet(connection: u32) -> TcpPacket {
        let [a, b, c, d] = connection.to_be_bytes();
        TcpPacket {
            direction: Direction {
                source: Ipv4Addr::LOCALHOST,
                destination: Ipv4Addr::LOCALHOST,
                ports: [a, b, c, d],
            },
            header_len: 40,
            length: 100,
        }
    }

    #[test]
    fn what_follows_a_super_packet_goes_the_same_way() {
        let (mut streams, now) = (Streams::default(), Instant::now());
        assert!(!streams.join(&packet(1), false, now), "it never sent one");
        assert!(streams.join(&packet(1), true, now));
        assert!(streams.join(&packet(1), false, now + STAY / 2));
        assert!(!streams.join(&packet(2), false, now), "another connection");
        assert!(!streams.join(&packet(1), false, now + STAY), "long after");
    }

    #[test]
    fn a_scan_does_not_fill_the_memory() {
        let (mut streams, now) = (Streams::default(), Instant::now());
        for connection in 0..2 * MOST as u32 {
            streams.join(&packet(connection), true, now);
        }
        assert_eq!(streams.0.len(), MOST);
        assert!(
            !streams.join(&packet(u32::MAX), true, now),
            "it is sent one by one"
        );
        assert!(
            streams.join(&packet(u32::MAX), true, now + STAY),
            "there is room again"
        );
        assert_eq!(streams.0.len(), 1);
    }
}

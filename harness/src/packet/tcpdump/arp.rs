//! ARP, as tcpdump prints it.

use std::fmt;

use super::super::Arp;

pub(super) fn write(f: &mut fmt::Formatter<'_>, arp: &Arp, length: usize) -> fmt::Result {
    let Arp { sender, target, .. } = arp;
    let (sender_mac, target_mac) = (Mac(arp.sender_mac), Mac(arp.target_mac));
    f.write_str("ARP, ")?;
    match arp.operation {
        1 if arp.target_mac == [0; 6] => write!(f, "Request who-has {target} tell {sender}"),
        1 => write!(f, "Request who-has {target} ({target_mac}) tell {sender}"),
        2 => write!(f, "Reply {sender} is-at {sender_mac}"),
        3 => write!(f, "Reverse Request who-is {target_mac} tell {sender_mac}"),
        4 => write!(f, "Reverse Reply {target_mac} at {target}"),
        8 => write!(f, "Inverse Request who-is {target_mac} tell {sender_mac}"),
        9 => write!(f, "Inverse Reply {sender_mac} at {sender}"),
        // tcpdump goes on with a dump of the bytes, on lines of their own.
        10 => return f.write_str("NACK Reply"),
        other => return write!(f, "Unknown ({other})"),
    }?;
    write!(f, ", length {length}")
}

/// A MAC address in the usual notation.
struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

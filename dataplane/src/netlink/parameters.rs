//! What the kernel tells about sysctls: RTM_NEWNETCONF messages.
//!
//! It tells of a few only. Of those that the agent sets these are `ip_forward`, `forwarding` and
//! `proxy_arp`; nothing is told of `route_localnet`, `proxy_delay` and IPv6's `accept_ra` and
//! `disable_ipv6` (net/ipv4/devinet.c, `inet_netconf_notify_devconf`).

use super::events::Event;
use super::socket;

/// RTM_NEWNETCONF and RTM_DELNETCONF of linux/rtnetlink.h.
const NEW: u16 = 80;
const DEL: u16 = 81;
/// Attributes of linux/netconf.h, all of four bytes.
const IFINDEX: u16 = 1;
const FORWARDING: u16 = 2;
const PROXY_ARP: u16 = 5;
/// In the place of an index: `net.ipv4.conf.all`, and the values that new interfaces start with.
const ALL: i32 = -1;
const DEFAULT: i32 = -2;

/// Whether a message, with its header, is of this kind.
pub(super) fn is_about_them(message: &[u8]) -> bool {
    matches!(socket::kind_of(message), Some(NEW | DEL))
}

/// `None` when an interface has gone, or the event is about interfaces to come.
pub(super) fn parse(message: &[u8]) -> Option<Event> {
    if socket::kind_of(message) == Some(DEL) {
        return None;
    }
    let (mut index, mut forwarding, mut proxy_arp) = (DEFAULT, None, None);
    // Behind the header struct netconfmsg: the family, padded to four bytes.
    for (kind, value) in socket::attributes(message.get(socket::HEADER + 4..)?) {
        let Ok(value) = value.try_into().map(i32::from_ne_bytes) else {
            continue;
        };
        match kind {
            IFINDEX => index = value,
            FORWARDING => forwarding = Some(value != 0),
            PROXY_ARP => proxy_arp = Some(value != 0),
            _ => {}
        }
    }
    let interface = match index {
        DEFAULT => return None,
        ALL => None,
        index => Some(index.cast_unsigned()),
    };
    Some(Event::Parameters {
        interface,
        forwarding,
        proxy_arp,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, attributes: &[(u16, i32)]) -> Vec<u8> {
        let length = 20 + 8 * attributes.len() as u32;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0; 10]);
        message.extend([2, 0, 0, 0]);
        for (kind, value) in attributes {
            message.extend(8u16.to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(value.to_ne_bytes());
        }
        message
    }

    #[test]
    fn what_is_told_of_one_interface_and_of_all() {
        let one = message(NEW, &[(IFINDEX, 7), (3, 1), (PROXY_ARP, 0)]);
        assert!(is_about_them(&one));
        let told = Event::Parameters {
            interface: Some(7),
            forwarding: None,
            proxy_arp: Some(false),
        };
        assert_eq!(parse(&one), Some(told));
        let told = Event::Parameters {
            interface: None,
            forwarding: Some(true),
            proxy_arp: None,
        };
        let all = message(NEW, &[(IFINDEX, ALL), (FORWARDING, 1)]);
        assert_eq!(parse(&all), Some(told));
    }

    #[test]
    fn interfaces_to_come_and_gone_and_cut_off_messages_are_nothing() {
        assert_eq!(
            parse(&message(NEW, &[(IFINDEX, DEFAULT), (FORWARDING, 0)])),
            None
        );
        assert_eq!(parse(&message(DEL, &[(IFINDEX, 7)])), None);
        assert_eq!(parse(&message(NEW, &[(IFINDEX, 7)])[..18]), None);
        assert!(!is_about_them(&message(24, &[])));
        assert!(!is_about_them(&[1, 2, 3]));
    }
}

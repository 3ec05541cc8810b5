//! `struct virtio_net_hdr`, which a packet socket with `PACKET_VNET_HDR` puts before a frame
//! and wants there: what is left to do about checksum and segments (linux/virtio_net.h).

/// Its length in bytes.
pub(crate) const LENGTH: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// How a super-packet is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gso {
    Tcp,
    Udp,
}

/// The header's fields. Offsets count from the start of the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vnet {
    /// The checksum at `.1` behind `.0` is to be completed over everything from `.0` on.
    pub checksum: Option<(u16, u16)>,
    /// It is a super-packet, with so many bytes of payload in each segment but the last.
    pub gso: Option<(Gso, u16)>,
    /// Length of all headers, Ethernet's included; a hint.
    pub header_len: u16,
    /// The first segment says "congestion window reduced"; only there may the flag stay.
    pub ecn: bool,
}

/// A kind of super-packet that cannot be cut here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownGso;

impl Vnet {
    /// All fields are in the machine's own byte order, as packet sockets have them.
    pub(crate) fn parse(bytes: [u8; LENGTH]) -> Result<Self, UnknownGso> {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let gso = match bytes[1] & !GSO_ECN {
            GSO_NONE => None,
            GSO_TCPV4 => Some((Gso::Tcp, word(4))),
            GSO_UDP_L4 => Some((Gso::Udp, word(4))),
            _ => return Err(UnknownGso),
        };
        Ok(Self {
            checksum: (bytes[0] & NEEDS_CHECKSUM != 0).then(|| (word(6), word(8))),
            gso,
            header_len: word(2),
            ecn: bytes[1] & GSO_ECN != 0,
        })
    }

    pub(crate) fn bytes(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let mut word = |at: usize, word: u16| {
            bytes[at..at + 2].copy_from_slice(&word.to_ne_bytes());
        };
        word(2, self.header_len);
        if let Some((_, size)) = self.gso {
            word(4, size);
        }
        if let Some((start, offset)) = self.checksum {
            word(6, start);
            word(8, offset);
            bytes[0] = NEEDS_CHECKSUM;
        }
        bytes[1] = match self.gso {
            None => GSO_NONE,
            Some((Gso::Tcp, _)) if self.ecn => GSO_TCPV4 | GSO_ECN,
            Some((Gso::Tcp, _)) => GSO_TCPV4,
            Some((Gso::Udp, _)) => GSO_UDP_L4,
        };
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(bytes: [u8; LENGTH]) {
            if let Ok(vnet) = Vnet::parse(bytes) {
                let again = Vnet::parse(vnet.bytes()).unwrap();
                let ecn = vnet.ecn && matches!(vnet.gso, Some((Gso::Tcp, _)));
                prop_assert_eq!(again, Vnet { ecn, ..vnet });
            }
        }
    }

    #[test]
    fn the_layout_is_the_kernels() {
        let vnet = Vnet {
            checksum: Some((34, 16)),
            gso: Some((Gso::Tcp, 1400)),
            header_len: 54,
            ecn: true,
        };
        let mut expected = vec![1, 0x81];
        for word in [54u16, 1400, 34, 16] {
            expected.extend(word.to_ne_bytes());
        }
        assert_eq!(vnet.bytes()[..], expected);
        assert_eq!(Vnet::default().bytes(), [0; LENGTH]);
        assert_eq!(
            Vnet::parse([0, 3, 0, 0, 0, 0, 0, 0, 0, 0]),
            Err(UnknownGso),
            "UFO"
        );
    }
}

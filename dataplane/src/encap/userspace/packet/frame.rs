//! The frames that go through a packet socket: virtio header, Ethernet header, packet.

use super::ipv4;
use super::vnet::{self, Vnet};
use crate::mac::Mac;

/// Length of the Ethernet header in bytes.
pub(crate) const ETHERNET: usize = 14;
/// Where the packet starts behind both headers.
pub(crate) const PACKET_AT: usize = vnet::LENGTH + ETHERNET;
/// The longest there is: both headers and the longest IPv4 packet.
pub(crate) const LONGEST: usize = PACKET_AT + u16::MAX as usize;

const IPV4: [u8; 2] = [0x08, 0x00];

/// What goes before a packet on its way into a packet socket.
pub(crate) struct FrameHead([u8; PACKET_AT]);

impl FrameHead {
    pub(crate) fn new(vnet: &Vnet, from: Mac, to: Mac) -> Self {
        let mut bytes = [0; PACKET_AT];
        bytes[..vnet::LENGTH].copy_from_slice(&vnet.bytes());
        let ethernet = &mut bytes[vnet::LENGTH..];
        ethernet[..6].copy_from_slice(&to.0);
        ethernet[6..12].copy_from_slice(&from.0);
        ethernet[12..].copy_from_slice(&IPV4);
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Virtio header, Ethernet type and packet of a received frame.
pub(crate) fn parse(frame: &mut [u8]) -> Option<([u8; vnet::LENGTH], &mut [u8])> {
    let vnet = *frame.first_chunk()?;
    let (headers, packet) = frame.split_at_mut_checked(PACKET_AT)?;
    (headers[PACKET_AT - 2..] == IPV4 && packet.len() >= ipv4::HEADER).then_some((vnet, packet))
}

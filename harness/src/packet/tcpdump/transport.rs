//! TCP and UDP, as tcpdump prints them behind addresses and ports.

use std::fmt;

use super::super::{Malformation, Packet, Stop, Tcp, TcpFlags, TcpOption, Udp};

impl Packet {
    pub(super) fn write_tcp(
        &self,
        f: &mut fmt::Formatter<'_>,
        tcp: &Tcp,
        available: usize,
    ) -> fmt::Result {
        let Tcp {
            flags,
            sequence,
            window,
            ..
        } = tcp;
        write!(f, "Flags [{flags}]")?;
        if let Some(Stop::Malformed {
            reason: Malformation::HeaderLength(length),
            ..
        }) = self.stop()
        {
            return write!(f, " [bad hdr length {length} - too long, > {available}]");
        }
        let cut = matches!(self.stop(), Some(Stop::HeaderCut { .. }));
        let length = match self.stop() {
            Some(Stop::HeaderCut { needed, .. }) => available.saturating_sub(*needed),
            _ => self.payload_length(),
        };
        if length > 0 {
            let end = sequence.wrapping_add(u32::try_from(length).unwrap_or(u32::MAX));
            write!(f, ", seq {sequence}:{end}")?;
        } else if flags.intersects(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST) {
            write!(f, ", seq {sequence}")?;
        }
        if flags.contains(TcpFlags::ACK) {
            write!(f, ", ack {}", tcp.acknowledgment)?;
        }
        write!(f, ", win {window}")?;
        if flags.contains(TcpFlags::URG) {
            write!(f, ", urg {}", tcp.urgent)?;
        }
        if cut || !tcp.options.is_empty() {
            f.write_str(", options [")?;
        }
        for (i, option) in tcp.options.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{option}")?;
        }
        match tcp.options.as_slice() {
            [TcpOption::Malformed] => return Ok(()),
            [.., TcpOption::Malformed] => return f.write_str("]"),
            [] if cut => return f.write_str(" [|tcp]"),
            _ if cut => return f.write_str(", [|tcp]"),
            [] => {}
            _ => f.write_str("]")?,
        }
        write!(f, ", length {length}")
    }

    pub(super) fn write_udp(
        &self,
        f: &mut fmt::Formatter<'_>,
        udp: &Udp,
        available: usize,
    ) -> fmt::Result {
        let Udp { length, .. } = udp;
        let available = available.saturating_sub(8);
        match self.stop() {
            Some(Stop::Malformed { .. }) if *length < 8 => {
                write!(f, "truncated-udplength {length}")
            }
            Some(Stop::Malformed { .. }) => {
                write!(f, "UDP, bad length {} > {available}", length - 8)
            }
            // The first fragment: the length of the whole datagram is what tcpdump shows.
            _ => write!(f, "UDP, length {}", length - 8),
        }
    }
}

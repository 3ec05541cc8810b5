//! The text of a packet: what `tcpdump -nn -S -l` prints behind the time stamp, without what it
//! appends for application protocols.
//!
//! It follows tcpdump 4.99. Older ones (4.9) differ in one thing that matters here: they end every
//! IPIP level with ` (ipip-proto-4)`, which [`Packet::matches_tcpdump`] accepts.
//!
//! Exact for ARP, ICMP, TCP and UDP over IPv4 in any number of IPv4 headers, whole or cut. Not
//! exact: headers cut inside the TCP options; TCP options that no Linux sends by itself (MPTCP
//! and the experimental ones); ICMP router advertisements, timestamp and address mask replies;
//! IP protocols that tcpdump dissects (GRE, SCTP, …); everything that is not IPv4 or ARP.

use std::fmt;

use super::{
    Arp, Header, Icmp, IcmpMessage, Ipv4, LinkType, Malformation, Packet, Protocol, Stop, Tcp,
    TcpFlags, TcpOption, Udp,
};

/// What tcpdump before 4.99 prints at the end of each IPIP level.
const OLD_IPIP_SUFFIX: &str = " (ipip-proto-4)";

impl Packet {
    /// Says whether `line`, printed by `tcpdump -nn -S`, shows this packet.
    ///
    /// The line may begin with a time stamp, as without `-t`, with `-tt` and with `-tttt`. Behind
    /// the stamp it must equal this packet's text, so a different address, port, flag, sequence
    /// number, option or length makes the answer false. It may end in what tcpdump says of the
    /// application protocol: behind a TCP payload (`: HTTP: GET / HTTP/1.1`), or in place of `UDP,
    /// length 48` for a UDP port that tcpdump knows (`NTPv4, Client, length 48`). In the latter
    /// case addresses and ports are all that can be compared.
    #[must_use]
    pub fn matches_tcpdump(&self, line: &str) -> bool {
        let mut line = without_time_stamp(line);
        for _ in 0..self.ipip_depth() {
            line = line.strip_suffix(OLD_IPIP_SUFFIX).unwrap_or(line);
        }
        let text = self.to_string();
        let has_payload = self.payload_length() > 0;
        match line.strip_prefix(text.as_str()) {
            Some("") => true,
            Some(trailer) => has_payload && self.tcp().is_some() && trailer.starts_with([':', ' ']),
            None => {
                let own = format!("UDP, length {}", self.payload_length());
                self.udp().is_some()
                    && text
                        .strip_suffix(own.as_str())
                        .and_then(|ports| line.strip_prefix(ports))
                        .is_some_and(|dissected| {
                            !dissected.starts_with("UDP, ") && !dissected.starts_with("Flags [")
                        })
            }
        }
    }
}

/// Cuts `12:34:56.789012 ` or `2026-01-31 12:34:56.789012 ` off the front.
fn without_time_stamp(line: &str) -> &str {
    let mut rest = line.trim_end_matches(['\r', '\n']);
    while let Some((word, tail)) = rest.split_once(' ')
        && word.starts_with(|c: char| c.is_ascii_digit())
        && word
            .chars()
            .all(|c| c.is_ascii_digit() || ":.-".contains(c))
    {
        rest = tail;
    }
    rest
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut declared_end = self.wire_length();
        let mut layers = self.layers().iter().peekable();
        let mut around = None;
        while let Some(layer) = layers.next() {
            let available = declared_end.saturating_sub(layer.range.start);
            match &layer.header {
                Header::Ethernet(_) | Header::Vlan(_) => {}
                Header::Arp(arp) => return write_arp(f, arp, available),
                Header::Ipv4(ipv4) => {
                    let total = usize::from(ipv4.total_length);
                    write_ip(f, available, total)?;
                    declared_end = layer.range.start + total;
                    // TCP and UDP print the addresses together with their ports.
                    if matches!(
                        layers.peek().map(|next| &next.header),
                        Some(Header::Ipv4(_) | Header::Icmp(_))
                    ) {
                        write!(f, "{} > {}: ", ipv4.source, ipv4.destination)?;
                    }
                    around = Some(ipv4);
                }
                Header::Icmp(icmp) => return self.write_icmp(f, icmp, available),
                Header::Tcp(tcp) => {
                    write_ports(f, around, tcp.source_port, tcp.destination_port)?;
                    return self.write_tcp(f, tcp, available);
                }
                Header::Udp(udp) => {
                    write_ports(f, around, udp.source_port, udp.destination_port)?;
                    return self.write_udp(f, udp, available);
                }
            }
        }
        match self.stop() {
            Some(stop) => self.write_stop(f, around, *stop),
            None => Ok(()),
        }
    }
}

fn write_ip(f: &mut fmt::Formatter<'_>, available: usize, total: usize) -> fmt::Result {
    f.write_str("IP ")?;
    match total.checked_sub(available) {
        None | Some(0) => Ok(()),
        Some(missing) => write!(f, "truncated-ip - {missing} bytes missing! "),
    }
}

fn write_ports(
    f: &mut fmt::Formatter<'_>,
    around: Option<&Ipv4>,
    source_port: u16,
    destination_port: u16,
) -> fmt::Result {
    match around {
        Some(Ipv4 {
            source,
            destination,
            ..
        }) => {
            write!(
                f,
                "{source}.{source_port} > {destination}.{destination_port}: "
            )
        }
        None => write!(f, "{source_port} > {destination_port}: "),
    }
}

fn write_arp(f: &mut fmt::Formatter<'_>, arp: &Arp, length: usize) -> fmt::Result {
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

impl Packet {
    fn write_icmp(&self, f: &mut fmt::Formatter<'_>, icmp: &Icmp, length: usize) -> fmt::Result {
        let quoted = Quoted(self.payload());
        match &icmp.message {
            IcmpMessage::EchoReply { id, sequence } => {
                write!(f, "ICMP echo reply, id {id}, seq {sequence}")
            }
            IcmpMessage::EchoRequest { id, sequence } => {
                write!(f, "ICMP echo request, id {id}, seq {sequence}")
            }
            IcmpMessage::Unreachable { .. }
            | IcmpMessage::FragmentationNeeded { .. }
            | IcmpMessage::Redirect { .. }
            | IcmpMessage::TimeExceeded { .. } => match quoted.reason(&icmp.message) {
                Some(reason) => write!(f, "ICMP {reason}"),
                None => return f.write_str(" [|icmp]"),
            },
            IcmpMessage::ParameterProblem { code: 0, pointer } => {
                write!(f, "ICMP parameter problem - octet {pointer}")
            }
            IcmpMessage::ParameterProblem { code, .. } => {
                write!(f, "ICMP parameter problem - code {code}")
            }
            IcmpMessage::Other {
                kind: 13,
                rest: [a, b, c, d],
                ..
            } => {
                let (id, sequence) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
                write!(f, "ICMP time stamp query id {id} seq {sequence}")
            }
            IcmpMessage::Other { kind: 4, .. } => f.write_str("ICMP source quench"),
            IcmpMessage::Other { kind: 10, .. } => f.write_str("ICMP router solicitation"),
            IcmpMessage::Other { kind: 15, .. } => f.write_str("ICMP information request"),
            IcmpMessage::Other { kind: 16, .. } => f.write_str("ICMP information reply"),
            IcmpMessage::Other { kind: 17, .. } => f.write_str("ICMP address mask request"),
            IcmpMessage::Other { kind, .. } => write!(f, "ICMP type-#{kind}"),
        }?;
        write!(f, ", length {length}")
    }

    fn write_tcp(&self, f: &mut fmt::Formatter<'_>, tcp: &Tcp, available: usize) -> fmt::Result {
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

    fn write_udp(&self, f: &mut fmt::Formatter<'_>, udp: &Udp, available: usize) -> fmt::Result {
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

    fn write_stop(
        &self,
        f: &mut fmt::Formatter<'_>,
        around: Option<&Ipv4>,
        stop: Stop,
    ) -> fmt::Result {
        let rest = self.payload();
        let length = self.payload_length();
        match (stop, around) {
            (Stop::LaterFragment, Some(ip)) => {
                write!(
                    f,
                    "{} > {}: ip-proto-{}",
                    ip.source, ip.destination, ip.protocol
                )
            }
            (Stop::UnknownProtocol(number), Some(ip)) => {
                write!(
                    f,
                    "{} > {}:  ip-proto-{number} {length}",
                    ip.source, ip.destination
                )
            }
            (
                Stop::HeaderCut {
                    header: header @ (Protocol::Tcp | Protocol::Udp),
                    ..
                },
                Some(ip),
            ) => match rest {
                &[a, b, c, d, ..] => {
                    let (source, destination) =
                        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                    write_ports(f, around, source, destination)?;
                    match header {
                        Protocol::Udp if length < 8 => write!(f, "truncated-udp {length}"),
                        _ => write!(f, " [|{header}]"),
                    }
                }
                _ => {
                    write!(f, "{} > {}: ", ip.source, ip.destination)?;
                    let space = if header == Protocol::Udp { " " } else { "" };
                    write!(f, "{space}[|{header}]")
                }
            },
            (
                Stop::Malformed {
                    header: Protocol::Tcp,
                    reason: Malformation::HeaderLength(hlen),
                },
                _,
            ) => {
                if let &[a, b, c, d, ..] = rest {
                    let (source, destination) =
                        (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                    write_ports(f, around, source, destination)?;
                }
                let data = length.saturating_sub(hlen);
                write!(f, " tcp {data} [bad hdr length {hlen} - too short, < 20]")
            }
            (stop, around) => {
                if let Some(ip) = around {
                    write!(f, "{} > {}: ", ip.source, ip.destination)?;
                }
                self.write_ip_stop(f, stop, around.is_none())
            }
        }
    }

    /// The end of a text that stops at, or before, an IPv4 header.
    fn write_ip_stop(
        &self,
        f: &mut fmt::Formatter<'_>,
        stop: Stop,
        outermost: bool,
    ) -> fmt::Result {
        let length = self.payload_length();
        match stop {
            Stop::Malformed {
                header: Protocol::Ipv4,
                reason,
            } => match reason {
                Malformation::Version(version) if outermost && self.link_type() == LinkType::Ip => {
                    write!(f, "unknown ip {version}")
                }
                Malformation::Version(6) => {
                    f.write_str("IP6, wrong link-layer encapsulation (invalid)")
                }
                Malformation::Version(version) => write!(f, "IP{version} (invalid)"),
                Malformation::HeaderLength(header) => {
                    write_ip(f, length, self.total_length_field())?;
                    write!(f, "bad-hlen {header}")
                }
                Malformation::Length(total) => {
                    write_ip(f, length, total)?;
                    write!(f, "bad-len {total}")
                }
                Malformation::AddressKind => write!(f, "{stop}"),
            },
            Stop::HeaderCut {
                header: Protocol::Ipv4,
                needed,
                present,
            } if present >= 20 => {
                write_ip(f, length, self.total_length_field())?;
                write!(
                    f,
                    " [remaining caplen({present}) < header length({needed})] [|ip]"
                )
            }
            Stop::HeaderCut {
                header: Protocol::Ipv4,
                present,
                ..
            } if present > 0 => f.write_str("IP  [|ip]"),
            Stop::HeaderCut { header, .. } => write!(f, " [|{header}]"),
            Stop::UnknownEtherType(kind) => {
                write!(
                    f,
                    "ethertype Unknown ({kind:#06x}), length {}",
                    self.wire_length()
                )
            }
            other => write!(f, "{other}"),
        }
    }

    /// The total length in the IPv4 header at which decoding stopped.
    fn total_length_field(&self) -> usize {
        match self.payload() {
            &[_, _, high, low, ..] => u16::from_be_bytes([high, low]).into(),
            _ => 0,
        }
    }
}

/// The packet inside an ICMP error, read as tcpdump reads it: at fixed places, without checks.
struct Quoted<'a>(&'a [u8]);

impl Quoted<'_> {
    /// What an error says; `None` when the quoted packet is too short for it.
    fn reason(&self, message: &IcmpMessage) -> Option<String> {
        let target = {
            let octets: [u8; 4] = self.0.get(16..20)?.try_into().ok()?;
            std::net::Ipv4Addr::from(octets)
        };
        let protocol = *self.0.get(9)?;
        Some(match message {
            IcmpMessage::FragmentationNeeded { mtu: 0 } => {
                format!("{target} unreachable - need to frag")
            }
            IcmpMessage::FragmentationNeeded { mtu } => {
                format!("{target} unreachable - need to frag (mtu {mtu})")
            }
            IcmpMessage::Unreachable { code } => match code {
                0 => format!("net {target} unreachable"),
                1 => format!("host {target} unreachable"),
                2 => format!("{target} protocol {protocol} unreachable"),
                3 => {
                    let port = self.destination_port()?;
                    match protocol {
                        6 => format!("{target} tcp port {port} unreachable"),
                        17 => format!("{target} udp port {port} unreachable"),
                        other => format!("{target} protocol {other} port {port} unreachable"),
                    }
                }
                5 => format!("{target} unreachable - source route failed"),
                6 => format!("net {target} unreachable - unknown"),
                7 => format!("host {target} unreachable - unknown"),
                8 => format!("{target} unreachable - source host isolated"),
                9 => format!("net {target} unreachable - admin prohibited"),
                10 => format!("host {target} unreachable - admin prohibited"),
                11 => format!("net {target} unreachable - tos prohibited"),
                12 => format!("host {target} unreachable - tos prohibited"),
                13 => format!("host {target} unreachable - admin prohibited filter"),
                14 => format!("host {target} unreachable - host precedence violation"),
                15 => format!("host {target} unreachable - precedence cutoff"),
                code => format!("{target} unreachable - #{code}"),
            },
            IcmpMessage::Redirect { code, gateway } => match code {
                0 => format!("redirect {target} to net {gateway}"),
                1 => format!("redirect {target} to host {gateway}"),
                2 => format!("redirect-tos {target} to net {gateway}"),
                3 => format!("redirect-tos {target} to host {gateway}"),
                code => format!("redirect-#{code} {target} to {gateway}"),
            },
            IcmpMessage::TimeExceeded { code: 0 } => "time exceeded in-transit".to_owned(),
            IcmpMessage::TimeExceeded { code: 1 } => "ip reassembly time exceeded".to_owned(),
            IcmpMessage::TimeExceeded { code } => format!("time exceeded-#{code}"),
            _ => return None,
        })
    }

    fn destination_port(&self) -> Option<u16> {
        let header_length = usize::from(self.0.first()? & 0xf) * 4;
        match self.0.get(header_length + 2..header_length + 4)? {
            &[high, low] => Some(u16::from_be_bytes([high, low])),
            _ => None,
        }
    }
}

/// A MAC address in the usual notation.
struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

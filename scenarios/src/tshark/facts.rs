//! What we say of a packet, in tshark's names of the fields.

use std::net::Ipv4Addr;
use std::time::SystemTime;

use podlab::capture::Captured;
use podlab::packet::{
    Arp, ChecksumVerdict, Ethernet, Header, Icmp, IcmpMessage, Ipv4, Packet, Tcp, TcpFlags,
    TcpOption, Udp,
};

use super::dissection::{Dissection, Place};

/// A field of a packet, as we read it.
#[derive(Debug)]
pub(super) struct Fact {
    place: Place,
    field: &'static str,
    ours: Ours,
}

#[derive(Debug, PartialEq, Eq)]
enum Ours {
    Number(u64),
    /// As often as there are values.
    Numbers(Vec<u64>),
    Text(String),
    Bytes(Vec<u8>),
    /// The bytes behind what tshark takes for something else.
    BytesEnd(Vec<u8>),
}

impl Fact {
    /// Fails unless tshark says the same.
    pub(super) fn compare(&self, theirs: &Dissection) -> Result<(), String> {
        let Self { place, field, ours } = self;
        let values = theirs.values(*place, field);
        let numbers = || {
            values
                .iter()
                .map(|value| number(value))
                .collect::<Option<Vec<_>>>()
        };
        let single = match values[..] {
            [one] => Some(one),
            _ => None,
        };
        let same = match ours {
            Ours::Number(ours) => single.and_then(number) == Some(*ours),
            Ours::Numbers(ours) => numbers().as_ref() == Some(ours),
            Ours::Text(ours) => single == Some(ours),
            Ours::Bytes(ours) => single.and_then(bytes).as_ref() == Some(ours),
            Ours::BytesEnd(ours) => {
                let theirs = single.and_then(bytes);
                theirs.is_some_and(|theirs| ours.ends_with(&theirs) && !theirs.is_empty())
            }
        };
        match same {
            true => Ok(()),
            false => {
                let Place {
                    layer,
                    number,
                    quoted,
                } = place;
                let quoted = if *quoted { "quoted " } else { "" };
                let place = format!("{quoted}{layer} {}", number + 1);
                Err(format!(
                    "{place}, {field}: we say {ours:?}, tshark {values:?}"
                ))
            }
        }
    }
}

/// Decimal, or hexadecimal behind `0x`.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `0a:0b:0c`.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let bytes = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok());
    bytes.collect()
}

/// When it was captured, in tshark's form.
pub(super) fn time(captured: &Captured) -> String {
    let since = captured.time.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
}

/// Everything that we read of a packet.
pub(super) fn facts(captured: &Captured) -> Vec<Fact> {
    let packet = &captured.packet;
    let mut facts = Facts::new(packet, false);
    facts.at("frame");
    facts.number("frame.len", packet.wire_length() as u64);
    facts.number("frame.cap_len", packet.bytes().len() as u64);
    facts.headers();
    facts.transport_checksum(captured.transport_checksum());
    let mut all = facts.all;
    if let Some(quoted) = packet.quoted() {
        let mut facts = Facts::new(&quoted, true);
        facts.headers();
        all.extend(facts.all);
    }
    all
}

struct Facts<'p> {
    packet: &'p Packet,
    quoted: bool,
    place: Place,
    all: Vec<Fact>,
}

impl<'p> Facts<'p> {
    fn new(packet: &'p Packet, quoted: bool) -> Self {
        let place = Place {
            layer: "frame",
            number: 0,
            quoted,
        };
        Self {
            packet,
            quoted,
            place,
            all: Vec::new(),
        }
    }

    /// What follows is of the next layer of this name.
    fn at(&mut self, layer: &'static str) {
        let mut before = self.all.iter().map(|fact| fact.place);
        let last = before.rfind(|place| place.layer == layer);
        self.place = Place {
            layer,
            number: last.map_or(0, |place| place.number + 1),
            quoted: self.quoted,
        };
    }

    fn push(&mut self, field: &'static str, ours: Ours) {
        self.all.push(Fact {
            place: self.place,
            field,
            ours,
        });
    }

    fn number(&mut self, field: &'static str, number: impl Into<u64>) {
        self.push(field, Ours::Number(number.into()));
    }

    fn text(&mut self, field: &'static str, text: impl ToString) {
        self.push(field, Ours::Text(text.to_string()));
    }

    fn mac(&mut self, field: &'static str, mac: [u8; 6]) {
        self.push(field, Ours::Bytes(mac.to_vec()));
    }

    fn headers(&mut self) {
        for layer in self.packet.layers() {
            match &layer.header {
                Header::Ethernet(ethernet) => self.ethernet(ethernet),
                Header::Vlan(vlan) => {
                    self.at("vlan");
                    self.number("vlan.id", vlan.id);
                    self.number("vlan.etype", vlan.ether_type);
                }
                Header::Arp(arp) => self.arp(arp),
                Header::Ipv4(ipv4) => self.ipv4(ipv4),
                Header::Icmp(icmp) => self.icmp(icmp),
                Header::Tcp(tcp) => self.tcp(tcp),
                Header::Udp(udp) => self.udp(udp),
            }
        }
    }

    fn ethernet(&mut self, ethernet: &Ethernet) {
        self.at("eth");
        self.mac("eth.src", ethernet.source);
        self.mac("eth.dst", ethernet.destination);
        self.number("eth.type", ethernet.ether_type);
    }

    fn arp(&mut self, arp: &Arp) {
        self.at("arp");
        self.number("arp.opcode", arp.operation);
        self.mac("arp.src.hw_mac", arp.sender_mac);
        self.text("arp.src.proto_ipv4", arp.sender);
        self.mac("arp.dst.hw_mac", arp.target_mac);
        self.text("arp.dst.proto_ipv4", arp.target);
    }

    fn ipv4(&mut self, ip: &Ipv4) {
        self.at("ip");
        let address = |address: Ipv4Addr| Ours::Text(address.to_string());
        self.push("ip.src", address(ip.source));
        self.push("ip.dst", address(ip.destination));
        self.number("ip.proto", ip.protocol);
        self.number("ip.ttl", ip.ttl);
        self.number("ip.dsfield.dscp", ip.dscp);
        self.number("ip.dsfield.ecn", ip.ecn);
        self.number("ip.id", ip.identification);
        self.number("ip.flags.df", ip.dont_fragment);
        self.number("ip.flags.mf", ip.more_fragments);
        // In units of eight bytes there.
        self.number("ip.frag_offset", ip.fragment_offset / 8);
        self.number("ip.len", ip.total_length);
        self.number("ip.hdr_len", ip.header_length() as u64);
        self.number("ip.checksum", ip.checksum);
        self.number("ip.checksum.status", ip.checksum_correct);
    }

    fn icmp(&mut self, icmp: &Icmp) {
        self.at("icmp");
        self.number("icmp.checksum", icmp.checksum);
        let (kind, code) = match icmp.message {
            IcmpMessage::EchoReply { .. } => (0, 0),
            IcmpMessage::EchoRequest { .. } => (8, 0),
            IcmpMessage::Unreachable { code } => (3, code),
            IcmpMessage::FragmentationNeeded { .. } => (3, 4),
            IcmpMessage::Redirect { code, .. } => (5, code),
            IcmpMessage::TimeExceeded { code } => (11, code),
            IcmpMessage::ParameterProblem { code, .. } => (12, code),
            IcmpMessage::Other { kind, code, .. } => (kind, code),
        };
        self.number("icmp.type", kind);
        self.number("icmp.code", code);
        match icmp.message {
            IcmpMessage::EchoReply { id, sequence } | IcmpMessage::EchoRequest { id, sequence } => {
                self.number("icmp.ident", id);
                self.number("icmp.seq", sequence);
                let data = self.packet.payload();
                if !data.is_empty() && !self.quoted {
                    // It may take the beginning for the time at which the packet was sent.
                    self.push("data.data", Ours::BytesEnd(data.to_vec()));
                }
            }
            IcmpMessage::FragmentationNeeded { mtu } => self.number("icmp.mtu", mtu),
            IcmpMessage::Redirect { gateway, .. } => self.text("icmp.redir_gw", gateway),
            _ => {}
        }
    }

    fn tcp(&mut self, tcp: &Tcp) {
        self.at("tcp");
        self.number("tcp.srcport", tcp.source_port);
        self.number("tcp.dstport", tcp.destination_port);
        self.number("tcp.seq", tcp.sequence);
        if self.quoted {
            // Of a quoted header tshark reads the eight bytes that RFC 792 promises.
            return;
        }
        self.number("tcp.ack_raw", tcp.acknowledgment);
        self.number("tcp.window_size_value", tcp.window);
        self.number("tcp.urgent_pointer", tcp.urgent);
        self.number("tcp.checksum", tcp.checksum);
        for (field, flag) in [
            ("tcp.flags.fin", TcpFlags::FIN),
            ("tcp.flags.syn", TcpFlags::SYN),
            ("tcp.flags.reset", TcpFlags::RST),
            ("tcp.flags.push", TcpFlags::PSH),
            ("tcp.flags.ack", TcpFlags::ACK),
            ("tcp.flags.urg", TcpFlags::URG),
            ("tcp.flags.ece", TcpFlags::ECE),
            ("tcp.flags.cwr", TcpFlags::CWR),
        ] {
            self.number(field, tcp.flags.contains(flag));
        }
        self.number("tcp.len", self.packet.payload_length() as u64);
        let payload = self.packet.payload();
        if !payload.is_empty() {
            self.push("tcp.payload", Ours::Bytes(payload.to_vec()));
        }
        self.tcp_options(&tcp.options);
    }

    fn tcp_options(&mut self, options: &[TcpOption]) {
        if options.is_empty() {
            return;
        }
        let encoded: Vec<u8> = options.iter().flat_map(encode).collect();
        self.push("tcp.options", Ours::Bytes(encoded));
        for option in options {
            match option {
                TcpOption::Mss(size) => self.number("tcp.options.mss_val", *size),
                TcpOption::WindowScale(shift) => self.number("tcp.options.wscale.shift", *shift),
                TcpOption::Timestamps { value, echo } => {
                    self.number("tcp.options.timestamp.tsval", *value);
                    self.number("tcp.options.timestamp.tsecr", *echo);
                }
                TcpOption::Sack(blocks) if !blocks.is_empty() => {
                    let edges = |edge: fn(&(u32, u32)) -> u32| {
                        Ours::Numbers(blocks.iter().map(|block| edge(block).into()).collect())
                    };
                    self.push("tcp.options.sack_le", edges(|block| block.0));
                    self.push("tcp.options.sack_re", edges(|block| block.1));
                }
                _ => {}
            }
        }
    }

    fn udp(&mut self, udp: &Udp) {
        self.at("udp");
        self.number("udp.srcport", udp.source_port);
        self.number("udp.dstport", udp.destination_port);
        self.number("udp.length", udp.length);
        self.number("udp.checksum", udp.checksum);
        let payload = self.packet.payload();
        if !payload.is_empty() && !self.quoted {
            self.push("udp.payload", Ours::Bytes(payload.to_vec()));
        }
    }

    /// Of a sum that was left to the hardware tshark says that it is wrong, and of one of which
    /// not all bytes are there it says nothing.
    fn transport_checksum(&mut self, verdict: Option<ChecksumVerdict>) {
        let field = match self.packet.layers().last().map(|layer| &layer.header) {
            Some(Header::Tcp(_)) => "tcp.checksum.status",
            Some(Header::Udp(_)) => "udp.checksum.status",
            Some(Header::Icmp(_)) => "icmp.checksum.status",
            _ => return,
        };
        match verdict {
            Some(ChecksumVerdict::Correct) => self.number(field, 1u8),
            Some(ChecksumVerdict::Wrong { .. }) => self.number(field, 0u8),
            Some(ChecksumVerdict::Absent) => self.number(field, 3u8),
            Some(ChecksumVerdict::NotReady | ChecksumVerdict::Unverifiable) | None => {}
        }
    }
}

/// An option as it was on the wire.
fn encode(option: &TcpOption) -> Vec<u8> {
    let with_length = |kind: u8, data: &[u8]| {
        let length = data.len() as u8 + 2;
        [&[kind, length], data].concat()
    };
    match option {
        TcpOption::EndOfList => vec![0],
        TcpOption::Nop => vec![1],
        TcpOption::Mss(size) => with_length(2, &size.to_be_bytes()),
        TcpOption::WindowScale(shift) => with_length(3, &[*shift]),
        TcpOption::SackPermitted => with_length(4, &[]),
        TcpOption::Sack(blocks) => {
            let words = blocks.iter().flat_map(|(start, end)| [*start, *end]);
            let data: Vec<u8> = words.flat_map(u32::to_be_bytes).collect();
            with_length(5, &data)
        }
        TcpOption::Timestamps { value, echo } => {
            with_length(8, &[value.to_be_bytes(), echo.to_be_bytes()].concat())
        }
        TcpOption::Other { kind, data } => with_length(*kind, data),
        TcpOption::Malformed => Vec::new(),
    }
}

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

mod arp;
mod icmp;
mod stop;
mod transport;

use std::fmt;

use super::{Header, Ipv4, Packet};

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
                Header::Arp(arp) => return arp::write(f, arp, available),
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

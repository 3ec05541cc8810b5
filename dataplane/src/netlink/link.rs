//! Network interfaces over netlink.

use std::io;
use std::time::{Duration, Instant};

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoData, InfoIpTunnel, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
    LinkMessage,
};
use rtnetlink::{LinkIpIp, LinkMessageBuilder, LinkUnspec};

use super::{Kernel, failed, name_of};
use crate::mac::Mac;
use crate::platform::{KernelError, Link, LinkChange, Links, NewLink};

impl Links for Kernel {
    fn links(&mut self) -> Result<Vec<Link>, KernelError> {
        let mut all = LinkMessage::default();
        // Counters of a thousand interfaces are a lot of bytes that nobody reads.
        all.attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        self.socket
            .dump(RouteNetlinkMessage::GetLink(all), |message| match message {
                RouteNetlinkMessage::NewLink(link) => Some(parse(link)),
                _ => None,
            })
            .map_err(|error| failed("list", "links", error))
    }

    fn create(&mut self, link: &NewLink) -> Result<(), KernelError> {
        let (object, message) = match link {
            NewLink::Ipip { name } => {
                // A ttl of 0 is "inherit"; no local and no remote address is "any".
                let message = LinkIpIp::new(name).ttl(0).pmtudisc(false).build();
                (format!("{name} type ipip"), message)
            }
            NewLink::Veth { name, peer, mtu } => {
                // One queue for each direction, which is what a pair uses in any case: to put others
                // out of use the kernel waits for all processors, and the machine's routing with it.
                let end = |builder: LinkMessageBuilder<LinkUnspec>, name: &str| {
                    builder
                        .name(name)
                        .mtu(*mtu)
                        .arp(false)
                        .append_extra_attribute(LinkAttribute::NumTxQueues(1))
                        .append_extra_attribute(LinkAttribute::NumRxQueues(1))
                };
                let peer_end = end(LinkMessageBuilder::<LinkUnspec>::new(), peer).build();
                let near = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth);
                let message = end(near, name)
                    .set_info_data(InfoData::Veth(InfoVeth::Peer(peer_end)))
                    .build();
                (format!("{name} type veth peer {peer}"), message)
            }
        };
        self.socket
            .request(
                RouteNetlinkMessage::NewLink(message),
                NLM_F_CREATE | NLM_F_EXCL,
            )
            .map_err(|refused| error("create link", object, refused))
    }

    fn change(&mut self, index: u32, change: &LinkChange) -> Result<(), KernelError> {
        let mut builder = LinkUnspec::new_with_index(index);
        if let Some(name) = &change.name {
            builder = builder.name(name);
        }
        if let Some(mtu) = change.mtu {
            builder = builder.mtu(mtu);
        }
        if let Some(arp) = change.arp {
            builder = builder.arp(arp);
        }
        builder = match change.up {
            Some(true) => builder.up(),
            Some(false) => builder.down(),
            None => builder,
        };
        self.socket
            .request(RouteNetlinkMessage::SetLink(builder.build()), 0)
            .map_err(|refused| error("change link", name_of(index), refused))
    }

    fn await_carrier(&mut self, index: u32) -> Result<(), KernelError> {
        let give_up = Instant::now() + Duration::from_secs(1);
        loop {
            let mut message = LinkMessage::default();
            message.header.index = index;
            // Since Linux 6.8 the question itself makes the kernel do that background work first
            // (`linkwatch_sync_dev` in rtnl_getlink); before, it does it within a second.
            match self.socket.get(RouteNetlinkMessage::GetLink(message)) {
                Ok(RouteNetlinkMessage::NewLink(link))
                    if !link.header.flags.contains(LinkFlags::Running)
                        && Instant::now() < give_up =>
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(_) => return Ok(()),
                Err(error) => return Err(failed("look at link", name_of(index), error)),
            }
        }
    }

    fn remove(&mut self, index: u32) -> Result<(), KernelError> {
        let message = LinkUnspec::new_with_index(index).build();
        self.socket
            .request(RouteNetlinkMessage::DelLink(message), 0)
            .map_err(|refused| error("remove link", name_of(index), refused))
    }

    fn supports(&mut self, kind: &str) -> Result<(), KernelError> {
        // The kernel first looks for the driver and says that there is none, then checks the
        // driver's attributes; so a request with an attribute that is one byte long where four
        // are due tells whether the driver is there, and makes nothing.
        const NAME: &str = "podlab-probe";
        const ONE_BYTE_OF_ATTRIBUTE_1: [u8; 8] = [5, 0, 1, 0, 0, 0, 0, 0];
        let message =
            LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Other(kind.to_owned()))
                .name(NAME)
                .set_info_data(InfoData::Other(ONE_BYTE_OF_ATTRIBUTE_1.to_vec()))
                .build();
        let answer = self.socket.request(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        );
        match answer {
            Err(refused)
                if refused.0.raw_os_error() == Some(nix::libc::EOPNOTSUPP)
                    || refused.0.kind() == io::ErrorKind::PermissionDenied =>
            {
                Err(error("create link", format!("of type {kind}"), refused))
            }
            Err(_) => Ok(()),
            // A driver that does not mind: what we made goes again.
            Ok(()) => match self.links()?.iter().find(|link| link.name == NAME) {
                Some(link) => self.remove(link.index),
                None => Ok(()),
            },
        }
    }
}

pub(super) fn error(
    operation: &'static str,
    object: String,
    (source, message): (io::Error, String),
) -> KernelError {
    KernelError {
        operation,
        object,
        message,
        source,
    }
}

fn parse(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: String::new(),
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        arp: !flags.contains(LinkFlags::Noarp),
        mac: None,
        peer: None,
        any_to_any: false,
    };
    let (mut elsewhere, mut external) = (false, false);
    let (mut local, mut remote) = (false, false);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Address(bytes) => {
                // Of an IPv4 tunnel it is the local address.
                local = bytes == [0; 4];
                link.mac = Mac::from_slice(&bytes);
            }
            LinkAttribute::Broadcast(bytes) => remote = bytes == [0; 4],
            LinkAttribute::Link(index) => link.peer = Some(index),
            // An index of another namespace says nothing in this one.
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => link.kind = kind.to_string(),
                        // Without addresses, too, but made for whoever sets them per packet.
                        LinkInfo::Data(InfoData::IpTunnel(data)) => {
                            external = data.contains(&InfoIpTunnel::CollectMetadata);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    link.peer = link.peer.filter(|_| !elsewhere);
    link.any_to_any = local && remote && !external;
    link
}

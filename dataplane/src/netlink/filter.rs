//! tc filters at the ingress of an interface.
//!
//! A classic clsact filter rather than a tcx link: it stays in the kernel without a descriptor or
//! a pin in bpffs that holds it, and exists in every kernel that can run the programs. With
//! priority and handle fixed, "create or change" is one request, which cls_bpf applies by an
//! atomic exchange of the program. aya has only "create" and "change", which a second agent could
//! race between.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};

use super::link::error;
use super::{Kernel, failed, name_of, socket};
use crate::platform::{KernelError, TcFilter, TcFilters};

/// Our filter's place among those of an interface. Programs with a lower number come first;
/// protocol 80 is Calico's number among routes, too.
pub(super) const PRIORITY: u16 = 80;
const HANDLE: u32 = 1;
/// Where packets come in.
pub(super) const INGRESS: TcHandle = TcHandle {
    major: TcHandle::CLSACT.major,
    minor: TcHandle::MIN_INGRESS,
};

/// What the names of our programs begin with, lest another's filter in that place is taken for
/// ours.
pub(crate) const NAME_PREFIX: &str = "podlab-";

impl TcFilters for Kernel {
    fn replace_tc_filter(
        &mut self,
        interface: u32,
        program: BorrowedFd<'_>,
        name: &str,
    ) -> Result<(), KernelError> {
        prepare(&mut self.socket, interface)?;
        let mut filter = our_filter(interface);
        filter.attributes.push(TcAttribute::Options(
            [
                TcFilterBpfOption::ProgFd(program.as_raw_fd().cast_unsigned()),
                TcFilterBpfOption::ProgName(name.to_owned()),
                // The program's return value is the verdict.
                TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
            ]
            .map(TcOption::Bpf)
            .to_vec(),
        ));
        let filter = RouteNetlinkMessage::NewTrafficFilter(filter);
        self.socket
            .request(filter, NLM_F_CREATE | NLM_F_REPLACE)
            .map_err(|refused| error("attach a BPF program to", name_of(interface), refused))
    }

    fn tc_filters(&mut self) -> Result<Vec<TcFilter>, KernelError> {
        // Filters are listed interface by interface; few have a place for one.
        let all = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        let places = self.socket.dump(all, |message| match message {
            RouteNetlinkMessage::NewQueueDiscipline(place) if has_ingress(&place) => {
                Some(place.header.index.cast_unsigned())
            }
            _ => None,
        });
        let places = match places {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Vec::new(),
            places => places.map_err(|source| failed("list", "tc filters", source))?,
        };
        let mut found = Vec::new();
        for interface in places {
            found.extend(self.tc_filter(interface)?);
        }
        Ok(found)
    }

    fn tc_filter(&mut self, interface: u32) -> Result<Option<TcFilter>, KernelError> {
        let mut at_ingress = TcMessage::with_index(interface.cast_signed());
        at_ingress.header.parent = INGRESS;
        let at_ingress = RouteNetlinkMessage::GetTrafficFilter(at_ingress);
        let found = self.socket.dump(at_ingress, |message| match message {
            RouteNetlinkMessage::NewTrafficFilter(filter) => parse(&filter),
            _ => None,
        });
        match found {
            Ok(found) => Ok(found.into_iter().next()),
            Err(source) if is_absence(&source) => Ok(None),
            Err(source) => Err(failed("list tc filters of", name_of(interface), source)),
        }
    }

    fn remove_tc_filter(&mut self, interface: u32) -> Result<(), KernelError> {
        let filter = RouteNetlinkMessage::DelTrafficFilter(our_filter(interface));
        match self.socket.request(filter, 0) {
            Err((source, _)) if is_absence(&source) => Ok(()),
            answer => answer
                .map_err(|refused| error("detach a BPF program from", name_of(interface), refused)),
        }
    }
}

/// Makes a place for filters at the ingress of an interface, unless there is one.
pub(super) fn prepare(socket: &mut socket::Socket, interface: u32) -> Result<(), KernelError> {
    let clsact = RouteNetlinkMessage::NewQueueDiscipline(clsact(interface));
    match socket.request(clsact, NLM_F_CREATE | NLM_F_EXCL) {
        // EEXIST: clsact itself, or its older form "ingress"; both hold ingress filters.
        Err((source, _)) if source.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        answer => answer.map_err(|refused| error("prepare tc on", name_of(interface), refused)),
    }
}

/// The interface that a message about a tc filter, or about what may hold one, speaks of;
/// `None` for all other messages.
pub(super) fn interface_of(message: &[u8]) -> Option<u32> {
    // RTM_NEWQDISC, RTM_DELQDISC, RTM_NEWTFILTER, RTM_DELTFILTER of linux/rtnetlink.h.
    let kind = socket::kind_of(message)?;
    if ![36, 37, 44, 45].contains(&kind) {
        return None;
    }
    // struct tcmsg begins with the family, padded to four bytes, and the index.
    let index = message.get(socket::HEADER + 4..socket::HEADER + 8)?;
    Some(u32::from_ne_bytes(index.try_into().ok()?))
}

pub(super) fn is_absence(source: &io::Error) -> bool {
    // EINVAL: no clsact there.
    let absences = [libc::ENOENT, libc::ENODEV, libc::EINVAL];
    source
        .raw_os_error()
        .is_some_and(|code| absences.contains(&code))
}

fn has_ingress(discipline: &TcMessage) -> bool {
    discipline.attributes.iter().any(
        |attribute| matches!(attribute, TcAttribute::Kind(kind) if kind == "clsact" || kind == "ingress"),
    )
}

/// `None` if it is not ours: another's in our place, or one in another place. The kernel lists
/// each filter once without its options, for the place as such.
fn parse(filter: &TcMessage) -> Option<TcFilter> {
    let in_place = filter.header.handle == TcHandle::from(HANDLE)
        && TcHandle::from(filter.header.info).major == PRIORITY;
    if !in_place {
        return None;
    }
    let mut found = TcFilter {
        interface: filter.header.index.cast_unsigned(),
        name: String::new(),
        program: 0,
    };
    for attribute in &filter.attributes {
        let TcAttribute::Options(options) = attribute else {
            continue;
        };
        for option in options {
            match option {
                TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => found.name.clone_from(name),
                TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => found.program = *id,
                _ => {}
            }
        }
    }
    found.name.starts_with(NAME_PREFIX).then_some(found)
}

fn clsact(index: u32) -> TcMessage {
    let mut clsact = TcMessage::with_index(index.cast_signed());
    clsact.header.parent = TcHandle::CLSACT;
    clsact.header.handle = TcHandle {
        major: TcHandle::CLSACT.major,
        minor: 0,
    };
    let kind = TcAttribute::Kind("clsact".to_owned());
    clsact.attributes.push(kind);
    clsact
}

fn our_filter(index: u32) -> TcMessage {
    let mut filter = TcMessage::with_index(index.cast_signed());
    filter.header.parent = INGRESS;
    filter.header.handle = TcHandle::from(HANDLE);
    filter.header.info = u32::from(TcHandle {
        major: PRIORITY,
        minor: (libc::ETH_P_ALL as u16).to_be(),
    });
    let kind = TcAttribute::Kind(TcFilterBpf::KIND.to_owned());
    filter.attributes.push(kind);
    filter
}

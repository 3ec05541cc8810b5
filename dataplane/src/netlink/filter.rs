//! tc filters at the ingress of an interface.
//!
//! A classic clsact filter rather than a tcx link: it stays in the kernel without a descriptor or
//! a pin in bpffs that holds it, and exists in every kernel that can run the programs. With
//! priority and handle fixed, "create or change" is one request, which cls_bpf applies by an
//! atomic exchange of the program. aya has only "create" and "change", which a second agent could
//! race between.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{
    TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
};

use super::link::error;
use super::socket::Socket;
use super::{failed, name_of};
use crate::platform::KernelError;

/// Our filter's place among those of an interface. Programs with a lower number come first;
/// protocol 80 is Calico's number among routes, too.
const PRIORITY: u16 = 80;
const HANDLE: u32 = 1;
/// Where packets come in.
const INGRESS: TcHandle = TcHandle {
    major: TcHandle::CLSACT.major,
    minor: TcHandle::MIN_INGRESS,
};

/// What the names of our programs begin with, lest another's filter in that place is taken for
/// ours.
pub(crate) const NAME_PREFIX: &str = "podlab-";

/// The filters of the network namespace in which the value was made.
pub(crate) struct Filters {
    socket: Socket,
}

impl Filters {
    /// # Errors
    /// When there is no netlink, or no file descriptor left.
    pub(crate) fn open() -> Result<Self, KernelError> {
        Ok(Self {
            socket: Socket::new()?,
        })
    }

    /// Makes `program` our filter at the ingress of interface `index`, in the place of the one
    /// that may be there. `name` is what `tc filter show` calls it.
    ///
    /// # Errors
    /// What the kernel objects to.
    pub(crate) fn replace(
        &mut self,
        index: u32,
        program: BorrowedFd<'_>,
        name: &str,
    ) -> Result<(), KernelError> {
        let clsact = RouteNetlinkMessage::NewQueueDiscipline(clsact(index));
        match self.socket.request(clsact, NLM_F_CREATE | NLM_F_EXCL) {
            // EEXIST: clsact itself, or its older form "ingress"; both hold ingress filters.
            Err((source, _)) if source.raw_os_error() == Some(libc::EEXIST) => {}
            answer => {
                answer.map_err(|refused| error("prepare tc on", name_of(index), refused))?;
            }
        }
        let mut filter = our_filter(index);
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
            .map_err(|refused| error("attach a BPF program to", name_of(index), refused))
    }

    /// The indices of the interfaces that have a filter of ours, of whatever life.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(crate) fn holders(&mut self) -> Result<BTreeSet<u32>, KernelError> {
        let refused = |source| failed("list", "tc filters", source);
        // Filters are listed interface by interface; few have a place for one.
        let all = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        let places = self.socket.dump(all, |message| match message {
            RouteNetlinkMessage::NewQueueDiscipline(place) if has_ingress(&place) => {
                Some(place.header.index)
            }
            _ => None,
        });
        let places = match places {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Vec::new(),
            places => places.map_err(refused)?,
        };
        let mut holders = BTreeSet::new();
        for index in places {
            let mut at_ingress = TcMessage::with_index(index);
            at_ingress.header.parent = INGRESS;
            let ours = self
                .socket
                .dump(
                    RouteNetlinkMessage::GetTrafficFilter(at_ingress),
                    |message| match message {
                        RouteNetlinkMessage::NewTrafficFilter(filter) => {
                            is_ours(&filter).then_some(())
                        }
                        _ => None,
                    },
                )
                .map_err(refused)?;
            if !ours.is_empty() {
                holders.insert(index.cast_unsigned());
            }
        }
        Ok(holders)
    }

    /// Removes our filter from interface `index`; it is no error if there is none, or if the
    /// interface itself is gone.
    ///
    /// # Errors
    /// What the kernel objects to.
    pub(crate) fn remove(&mut self, index: u32) -> Result<(), KernelError> {
        let filter = RouteNetlinkMessage::DelTrafficFilter(our_filter(index));
        match self.socket.request(filter, 0) {
            Err((source, _)) if is_absence(&source) => Ok(()),
            answer => answer
                .map_err(|refused| error("detach a BPF program from", name_of(index), refused)),
        }
    }
}

fn is_absence(source: &io::Error) -> bool {
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

fn is_ours(filter: &TcMessage) -> bool {
    let in_place = filter.header.handle == TcHandle::from(HANDLE)
        && TcHandle::from(filter.header.info).major == PRIORITY;
    let options = filter
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        });
    in_place
        && options.flatten().any(|option| {
            matches!(option, TcOption::Bpf(TcFilterBpfOption::ProgName(name)) if name.starts_with(NAME_PREFIX))
        })
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

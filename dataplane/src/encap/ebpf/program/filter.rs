//! tc filters at the ingress of an interface, by netlink.
//!
//! A classic clsact filter rather than a tcx link: it stays in the kernel without a
//! descriptor or a pin in bpffs that holds it, and exists in every kernel that can run the
//! programs. With priority and handle fixed, "create or change" is one request, which
//! cls_bpf applies by an atomic exchange of the program. aya has only "create" and
//! "change", which a second agent could race between.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use nix::libc;
use rtnetlink::{
    packet_core::{
        ErrorMessage, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
        NetlinkMessage, NetlinkPayload, NlasIterator,
    },
    packet_route::{
        RouteNetlinkMessage,
        tc::{
            TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption,
        },
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use super::{ProgramError, load::Program};

/// Our filter's place among those of an interface. Programs with a lower number come
/// first; protocol 80 is Calico's number among routes, too.
const PRIORITY: u16 = 80;
const HANDLE: u32 = 1;

/// `NLMSGERR_ATTR_MSG` of the kernel's linux/netlink.h: the error in words.
const ATTRIBUTE_MESSAGE: u16 = 1;

/// The filters of the network namespace in which the value was made.
pub(super) struct Filters {
    socket: Socket,
}

impl Filters {
    pub(super) fn open() -> Result<Self, ProgramError> {
        let open = || {
            let socket = Socket::new(NETLINK_ROUTE)?;
            // Words instead of only a number, and not our own request again before them.
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            Ok(socket)
        };
        match open() {
            Ok(socket) => Ok(Self { socket }),
            Err(source) => Err(ProgramError::Filter {
                operation: "opening netlink for",
                interface: "filters".to_owned(),
                message: String::new(),
                source,
            }),
        }
    }

    /// Makes `program` our filter at the ingress of interface `index`, in the place of the
    /// one that may be there. `interface` is the name for error messages.
    pub(super) fn replace(
        &self,
        index: u32,
        interface: &str,
        program: &Program,
    ) -> Result<(), ProgramError> {
        let mut clsact = message(index);
        clsact.header.parent = TcHandle::CLSACT;
        clsact.header.handle = TcHandle {
            major: TcHandle::CLSACT.major,
            minor: 0,
        };
        clsact
            .attributes
            .push(TcAttribute::Kind("clsact".to_owned()));
        match self.request(
            RouteNetlinkMessage::NewQueueDiscipline(clsact),
            NLM_F_CREATE | NLM_F_EXCL,
        ) {
            // EEXIST: clsact itself, or its older form "ingress"; both hold ingress filters.
            Err(Refusal { source, .. }) if source.raw_os_error() == Some(libc::EEXIST) => {}
            other => other.map_err(|refusal| refusal.named("preparing tc on", interface))?,
        }

        let mut filter = our_filter(index);
        let fd = program.as_fd().as_raw_fd();
        filter.attributes.push(TcAttribute::Options(
            [
                TcFilterBpfOption::ProgFd(fd.cast_unsigned()),
                TcFilterBpfOption::ProgName(format!("podlab-{}", program.name)),
                // The program's return value is the verdict.
                TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
            ]
            .map(TcOption::Bpf)
            .to_vec(),
        ));
        self.request(
            RouteNetlinkMessage::NewTrafficFilter(filter),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map_err(|refusal| refusal.named("attaching a BPF program to", interface))
    }

    /// Removes our filter from the interface; it is no error if there is none, or if the
    /// interface itself is gone.
    pub(super) fn remove(&self, index: u32, interface: &str) -> Result<(), ProgramError> {
        let request = RouteNetlinkMessage::DelTrafficFilter(our_filter(index));
        match self.request(request, 0) {
            // EINVAL: no clsact there.
            Err(Refusal { source, .. })
                if [libc::ENOENT, libc::ENODEV, libc::EINVAL]
                    .map(Some)
                    .contains(&source.raw_os_error()) =>
            {
                Ok(())
            }
            other => {
                other.map_err(|refusal| refusal.named("detaching a BPF program from", interface))
            }
        }
    }

    /// Sends one request and waits for its acknowledgement.
    fn request(&self, request: RouteNetlinkMessage, flags: u16) -> Result<(), Refusal> {
        let mut request = NetlinkMessage::from(request);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        request.finalize();
        let mut buffer = vec![0; request.buffer_len()];
        request.serialize(&mut buffer);
        self.socket.send_to(&buffer, &SocketAddr::new(0, 0), 0)?;

        let (reply, _) = self.socket.recv_from_full()?;
        let reply =
            NetlinkMessage::<RouteNetlinkMessage>::deserialize(&reply).map_err(io::Error::other)?;
        match reply.payload {
            NetlinkPayload::Error(error) if error.code.is_none() => Ok(()),
            NetlinkPayload::Error(error) => Err(Refusal {
                message: words(&error),
                source: error.to_io(),
            }),
            other => Err(io::Error::other(format!("unexpected reply {other:?}")).into()),
        }
    }
}

/// An error and what the kernel said about it; the object is added by who knows it.
struct Refusal {
    message: String,
    source: io::Error,
}

impl From<io::Error> for Refusal {
    fn from(source: io::Error) -> Self {
        Self {
            message: String::new(),
            source,
        }
    }
}

impl Refusal {
    fn named(self, operation: &'static str, interface: &str) -> ProgramError {
        ProgramError::Filter {
            operation,
            interface: interface.to_owned(),
            message: self.message,
            source: self.source,
        }
    }
}

fn message(index: u32) -> TcMessage {
    TcMessage::with_index(index.cast_signed())
}

fn our_filter(index: u32) -> TcMessage {
    let mut filter = message(index);
    filter.header.parent = TcHandle {
        major: TcHandle::CLSACT.major,
        minor: TcHandle::MIN_INGRESS,
    };
    filter.header.handle = TcHandle::from(HANDLE);
    filter.header.info = u32::from(TcHandle {
        major: PRIORITY,
        minor: (libc::ETH_P_ALL as u16).to_be(),
    });
    filter
        .attributes
        .push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
    filter
}

/// The kernel's words from an extended acknowledgement, with a leading colon, or nothing.
fn words(error: &ErrorMessage) -> String {
    // With NETLINK_CAP_ACK only the header of our request is repeated before them.
    let attributes = error
        .header
        .get(size_of::<libc::nlmsghdr>()..)
        .unwrap_or_default();
    NlasIterator::new(attributes)
        .flatten()
        .filter(|attribute| attribute.kind() == ATTRIBUTE_MESSAGE)
        .map(|attribute| {
            let text = attribute.value();
            format!(": {}", String::from_utf8_lossy(text).trim_end_matches('\0'))
        })
        .collect()
}

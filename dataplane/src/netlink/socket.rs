//! A netlink socket that sends requests and waits for their answers.

use std::io;

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket as NetlinkSocket, SocketAddr};

use super::failed;
use crate::platform::KernelError;

/// The kernel fills dumps into pieces of at most this size.
const RECEIVE: usize = 32 * 1024;

/// Requests per `send`. If every one of them fails, its errors still fit into the default
/// receive buffer.
const BATCH: usize = 128;

/// How often a table that changes under our hands is read anew.
const DUMPS: usize = 8;

/// The kernel's answer to one request: an error code and its extended acknowledgement.
pub(super) type Answer = Result<(), (io::Error, String)>;

pub(super) struct Socket {
    socket: NetlinkSocket,
    port: u32,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub(super) fn new() -> Result<Self, KernelError> {
        Self::connect().map_err(|error| failed("open", "a netlink socket", error))
    }

    fn connect() -> io::Result<Self> {
        let mut socket = NetlinkSocket::new(NETLINK_ROUTE)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        // Errors need not carry the request back.
        socket.set_cap_ack(true)?;
        Ok(Self {
            socket,
            port,
            sequence: 0,
            buffer: Vec::with_capacity(RECEIVE),
        })
    }

    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// One request, one answer.
    pub(super) fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> Answer {
        let mut answers = self
            .requests(vec![message], flags)
            .map_err(|e| (e, String::new()))?;
        answers.pop().unwrap_or(Ok(()))
    }

    /// Sends all, many at a time. Returns their answers in the same order.
    pub(super) fn requests(
        &mut self,
        messages: Vec<RouteNetlinkMessage>,
        flags: u16,
    ) -> io::Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(messages.len());
        let mut messages = messages.into_iter().peekable();
        while messages.peek().is_some() {
            self.batch(messages.by_ref().take(BATCH).collect(), flags, &mut answers)?;
        }
        Ok(answers)
    }

    fn batch(
        &mut self,
        messages: Vec<RouteNetlinkMessage>,
        flags: u16,
        answers: &mut Vec<Answer>,
    ) -> io::Result<()> {
        let first = self.sequence.wrapping_add(1);
        let count = messages.len();
        let offset = answers.len();
        let mut bytes = Vec::new();
        for (i, message) in messages.into_iter().enumerate() {
            // The kernel reports errors without being asked to and works in order, so one
            // acknowledgement tells that all is done.
            let acknowledge = if i + 1 == count { NLM_F_ACK } else { 0 };
            self.append(message, flags | NLM_F_REQUEST | acknowledge, &mut bytes);
            answers.push(Ok(()));
        }
        self.socket.send(&bytes, 0)?;
        let last = self.sequence;
        self.receive(|message| {
            let position = message.header.sequence_number.wrapping_sub(first) as usize;
            let NetlinkPayload::Error(error) = &message.payload else {
                return false;
            };
            if position >= count {
                return false;
            }
            if error.code.is_some() {
                let text = extended_acknowledgement(message.header.flags, &error.header);
                answers[offset + position] = Err((error.to_io(), text));
            }
            message.header.sequence_number == last
        })
    }

    /// The one object that `message` asks for.
    pub(super) fn get(&mut self, message: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
        let mut bytes = Vec::new();
        self.append(message, NLM_F_REQUEST, &mut bytes);
        self.socket.send(&bytes, 0)?;
        let sequence = self.sequence;
        let mut answer = Err(io::ErrorKind::InvalidData.into());
        self.receive(|message| {
            if message.header.sequence_number != sequence {
                return false;
            }
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => answer = Ok(inner),
                NetlinkPayload::Error(error) => answer = Err(error.to_io()),
                _ => {}
            }
            true
        })?;
        answer
    }

    /// Everything the kernel lists for `message`; `take` keeps what it wants.
    pub(super) fn dump<T>(
        &mut self,
        message: RouteNetlinkMessage,
        mut take: impl FnMut(RouteNetlinkMessage) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..DUMPS {
            let mut bytes = Vec::new();
            self.append(message.clone(), NLM_F_REQUEST | NLM_F_DUMP, &mut bytes);
            self.socket.send(&bytes, 0)?;
            let sequence = self.sequence;
            let mut found = Vec::new();
            let mut interrupted = false;
            let mut failure = None;
            self.receive(|message| {
                if message.header.sequence_number != sequence {
                    return false;
                }
                interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => found.extend(take(inner)),
                    NetlinkPayload::Error(error) => {
                        failure = error.code.map(|_| error.to_io());
                        return true;
                    }
                    NetlinkPayload::Done(_) => return true,
                    _ => {}
                }
                false
            })?;
            if let Some(error) = failure {
                return Err(error);
            }
            if !interrupted {
                return Ok(found);
            }
        }
        Err(io::Error::other("it keeps changing while it is read"))
    }

    fn append(&mut self, message: RouteNetlinkMessage, flags: u16, bytes: &mut Vec<u8>) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + align(message.buffer_len()), 0);
        message.serialize(&mut bytes[start..]);
    }

    /// Receives until `take` says that the answer is complete.
    fn receive(
        &mut self,
        mut take: impl FnMut(NetlinkMessage<RouteNetlinkMessage>) -> bool,
    ) -> io::Result<()> {
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0)?;
            for bytes in messages(&self.buffer) {
                match NetlinkMessage::deserialize(bytes) {
                    Ok(message) => {
                        if take(message) {
                            return Ok(());
                        }
                    }
                    // An object with an attribute that the library reads differently is none
                    // of ours; it must not hide all others.
                    Err(error) => tracing::debug!("netlink: skipping a message: {error}"),
                }
            }
        }
    }
}

/// Length of a message's header.
pub(super) const HEADER: usize = 16;

/// Netlink messages begin at multiples of four bytes.
fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// The messages in what was received, each with its header.
pub(super) fn messages(mut buffer: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = u32_at(buffer, 0)? as usize;
        if length < HEADER {
            return None;
        }
        let message = buffer.get(..length)?;
        buffer = buffer.get(align(length)..).unwrap_or_default();
        Some(message)
    })
}

/// Who caused the event that this message tells of; 0 is the kernel itself.
pub(super) fn port_of(message: &[u8]) -> Option<u32> {
    u32_at(message, 12)
}

/// What a message is about, as in `RTM_NEWROUTE`.
pub(super) fn kind_of(message: &[u8]) -> Option<u16> {
    let kind = message.get(4..6)?;
    Some(u16::from_ne_bytes(kind.try_into().ok()?))
}

/// Attributes as kind and value; the walk ends at the first that is cut off.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d, ..] = *bytes else {
            return None;
        };
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]), value))
    })
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// The text in the attributes behind an error (`NLMSGERR_ATTR_MSG`), empty when there is none.
///
/// `payload` begins with the request: only its header when the kernel left the rest out.
fn extended_acknowledgement(flags: u16, payload: &[u8]) -> String {
    const MESSAGE: u16 = 1;
    let request = match u32_at(payload, 0) {
        Some(length) if flags & NLM_F_CAPPED == 0 => align(length as usize),
        _ => HEADER,
    };
    attributes(payload.get(request..).unwrap_or_default())
        .find(|(kind, _)| *kind == MESSAGE)
        .map(|(_, text)| {
            let text = String::from_utf8_lossy(text);
            text.trim_end_matches('\0').to_owned()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn the_kernels_own_words_are_found_behind_a_capped_and_a_whole_request() {
        // nlmsghdr of the request: length 20, then four bytes that a capped error leaves out.
        let header = [20u8, 0, 0, 0, 24, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let text = [9u8, 0, 1, 0, b'o', b'h', b' ', b'n', 0, 0, 0, 0];
        let offset = [8u8, 0, 2, 0, 7, 0, 0, 0];
        let capped = [&header[..], &offset, &text].concat();
        assert_eq!(extended_acknowledgement(NLM_F_CAPPED, &capped), "oh n");
        let whole = [&header[..], &[0; 4], &text].concat();
        assert_eq!(extended_acknowledgement(0, &whole), "oh n");
        assert_eq!(extended_acknowledgement(0, &header), "", "no attributes");
        assert_eq!(
            extended_acknowledgement(NLM_F_CAPPED, &capped[..18]),
            "",
            "cut off"
        );
    }

    #[test]
    fn cut_off_and_impossible_lengths_end_the_walk() {
        let mut two = vec![0; 40];
        two[0] = 18; // padded to 20
        two[20] = 20;
        let lengths: Vec<_> = messages(&two).map(<[u8]>::len).collect();
        assert_eq!(lengths, [18, 20]);
        two[20] = 24;
        assert_eq!(messages(&two).count(), 1, "longer than what is left");
        two[0] = 3;
        assert_eq!(messages(&two).count(), 0, "shorter than a header");
    }
}

//! Netlink failures with the kernel's own sentence, where it gives one.

use std::io;

use rtnetlink::packet_core::ErrorMessage;

/// A netlink request that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {object}: {source}{}", .explanation.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
pub struct NetlinkError {
    /// What was tried, for example `add route`.
    pub operation: &'static str,
    /// The machine and the thing in it.
    pub object: String,
    /// The error number that the kernel returned.
    pub source: io::Error,
    /// The kernel's extended acknowledgement, for example `Nexthop has invalid gateway`.
    pub explanation: Option<String>,
}

impl NetlinkError {
    pub(crate) fn io(operation: &'static str, object: &str, source: io::Error) -> Self {
        Self {
            operation,
            object: object.to_owned(),
            source,
            explanation: None,
        }
    }

    pub(super) fn from_rtnetlink(
        operation: &'static str,
        object: String,
        error: rtnetlink::Error,
    ) -> Self {
        match error {
            rtnetlink::Error::NetlinkError(message) => Self {
                operation,
                object,
                source: message.to_io(),
                explanation: extended_acknowledgement(&message),
            },
            other => Self {
                operation,
                object,
                source: io::Error::other(other.to_string()),
                explanation: None,
            },
        }
    }
}

/// The text of the attribute `NLMSGERR_ATTR_MSG`.
///
/// An error message carries the whole request that it answers and then attributes
/// (Documentation/userspace-api/netlink/intro.rst of the kernel); the crate hands both on as
/// bytes.
fn extended_acknowledgement(message: &ErrorMessage) -> Option<String> {
    const ATTRIBUTE_MESSAGE: u16 = 1;
    const HEADER: usize = 4;
    let bytes = &message.header;
    let request = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let mut rest = bytes.get(align(request)..)?;
    while rest.len() >= HEADER {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]);
        let value = rest.get(HEADER..length)?;
        if kind == ATTRIBUTE_MESSAGE {
            let text = value.split(|byte| *byte == 0).next().unwrap_or(value);
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = rest.get(align(length)..)?;
    }
    None
}

/// Netlink pads everything to four bytes.
fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_message(attributes: &[u8]) -> ErrorMessage {
        let mut message = ErrorMessage::default();
        let request = 18_u32;
        message.header.extend(request.to_ne_bytes());
        message.header.extend([0; 14 + 2]);
        message.header.extend(attributes);
        message
    }

    #[test]
    fn the_kernels_sentence_is_found_behind_the_request_and_other_attributes() {
        let mut attributes = vec![8, 0, 2, 0, 1, 2, 3, 4];
        attributes.extend([11, 0, 1, 0]);
        attributes.extend(b"No way\0\0");
        let message = error_message(&attributes);
        assert_eq!(
            extended_acknowledgement(&message).as_deref(),
            Some("No way")
        );
    }

    #[test]
    fn a_cut_or_hostile_attribute_is_no_sentence() {
        for attributes in [
            &[][..],
            &[200, 0, 1, 0, b'x'],
            &[0, 0, 1, 0],
            &[3, 0, 9, 0, 1],
        ] {
            assert_eq!(extended_acknowledgement(&error_message(attributes)), None);
        }
    }
}

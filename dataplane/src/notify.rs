//! Tells whoever started the agent how it is: systemd's sd_notify(3) protocol.
//!
//! `NOTIFY_SOCKET` names a unix datagram socket, an abstract one when it begins with `@`.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends the assignments, as in `READY=1`, in one datagram. Without `NOTIFY_SOCKET` nobody
/// waits; when it cannot be sent the log says so and the agent goes on.
pub(crate) fn send(assignments: &[&str]) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send_to(&socket, assignments) {
        tracing::warn!("notify: {}: {error}", socket.display());
    }
}

fn send_to(socket: &OsStr, assignments: &[&str]) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    // Each assignment is a line, so none may have one inside.
    let lines: Vec<String> = assignments
        .iter()
        .map(|text| text.replace('\n', " "))
        .collect();
    let sender = UnixDatagram::unbound()?;
    sender.send_to_addr(lines.join("\n").as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn receive(receiver: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = receiver.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn one_datagram_reaches_a_socket_in_the_file_system() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        send_to(path.as_os_str(), &["READY=1", "STATUS=two\nlines"]).unwrap();
        assert_eq!(receive(&receiver), "READY=1\nSTATUS=two lines");
    }

    #[test]
    fn one_datagram_reaches_an_abstract_socket() {
        let name = format!("podlab-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        send_to(&OsString::from(format!("@{name}")), &["STOPPING=1"]).unwrap();
        assert_eq!(receive(&receiver), "STOPPING=1");
    }
}

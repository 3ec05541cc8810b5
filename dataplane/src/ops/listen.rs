//! Where the endpoint listens: an address, or a unix socket.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::str::FromStr;
use std::{fmt, path::Path};

/// What `--serve` says: `ADDRESS:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// It is neither.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither ADDRESS:PORT, as in 127.0.0.1:9091, nor unix:PATH, as in unix:/run/podlab.sock")]
pub(crate) struct NoSuchPlace;

impl FromStr for Listen {
    type Err = NoSuchPlace;

    fn from_str(text: &str) -> Result<Self, NoSuchPlace> {
        match text.strip_prefix("unix:") {
            Some("") => Err(NoSuchPlace),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| NoSuchPlace),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Nobody could ask there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error(
        "cannot listen on {place}: {source}\nhint: --serve takes an address of this machine with a free port, or unix:PATH in a folder that can be written"
    )]
    Refused { place: Listen, source: io::Error },
    #[error("cannot listen on unix:{}: another process answers there\nhint: stop it, or name another path in --serve", path.display())]
    InUse { path: PathBuf },
    #[error("cannot listen on unix:{}: there is a file that is no socket\nhint: remove it, or name another path in --serve", path.display())]
    NotASocket { path: PathBuf },
}

/// A socket that takes connections already.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listen {
    /// Listens. Of a TCP address with port 0 the returned place has the port that was taken.
    pub(crate) fn bind(self) -> Result<(Listener, Self), ListenError> {
        let bound = match &self {
            Self::Tcp(address) => TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                let place = Self::Tcp(listener.local_addr()?);
                Ok((Listener::Tcp(listener), place))
            }),
            Self::Unix(path) => {
                make_way(path)?;
                UnixListener::bind(path).and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    Ok((Listener::Unix(listener), self.clone()))
                })
            }
        };
        bound.map_err(|source| ListenError::Refused {
            place: self,
            source,
        })
    }
}

/// Removes the socket of a life that was killed. One that is answered stays.
fn make_way(path: &Path) -> Result<(), ListenError> {
    // What cannot be looked at or removed is for `bind` to complain of.
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    let path = path.to_owned();
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NotASocket { path });
    }
    match UnixStream::connect(&path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(&path).ok();
            Ok(())
        }
        _ => Err(ListenError::InUse { path }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("127.0.0.1:9091", Some("http://127.0.0.1:9091"))]
    #[case("[::1]:9091", Some("http://[::1]:9091"))]
    #[case("unix:/run/agent.sock", Some("unix:/run/agent.sock"))]
    #[case("unix:", None)]
    #[case("9091", None)]
    #[case("localhost:9091", None)]
    #[case("/run/agent.sock", None)]
    fn a_place_is_an_address_with_a_port_or_a_path(
        #[case] text: &str,
        #[case] place: Option<&str>,
    ) {
        let parsed = text.parse::<Listen>().ok();
        assert_eq!(parsed.map(|place| place.to_string()).as_deref(), place);
    }

    #[test]
    fn the_socket_of_a_former_life_is_replaced_and_one_that_lives_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let place = Listen::Unix(folder.path().join("sock"));
        let (former, _) = place.clone().bind().unwrap();
        let error = place.clone().bind().unwrap_err();
        assert!(matches!(error, ListenError::InUse { .. }), "{error}");
        drop(former);
        place.bind().unwrap();
    }

    #[test]
    fn a_file_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "data").unwrap();
        let error = Listen::Unix(path.clone()).bind().unwrap_err();
        assert!(matches!(error, ListenError::NotASocket { .. }), "{error}");
        assert_eq!(fs::read_to_string(path).unwrap(), "data");
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let (_taken, place) = "127.0.0.1:0".parse::<Listen>().unwrap().bind().unwrap();
        let error = place.clone().bind().unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot listen on {place}: Address already in use")),
            "{error}"
        );
        assert!(error.contains("\nhint: --serve takes"), "{error}");
    }
}

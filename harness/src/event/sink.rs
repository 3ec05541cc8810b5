//! Sinks: who is told of events while they happen.

use std::env;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::Serialize;

use super::Event;
use crate::suite;

/// Environment variable: where the events of all clusters go while they happen. `terminal` prints
/// them to standard error, `file:PATH` appends them to a file as JSON lines; several are separated
/// by commas.
pub const VARIABLE: &str = "PODLAB_EVENTS";

/// Somebody who is told of every event at once, on the thread where it happens and in the order
/// of the log. To be quick, and not to write to the same log.
pub trait Sink: Send + Sync {
    /// One event of the cluster with this [number](super::EventLog::cluster).
    fn event(&self, cluster: u64, event: &Event);
}

/// The environment asks for a sink that there is not.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Neither `terminal` nor `file:PATH`.
    #[error(
        "{VARIABLE}: there is no sink {name:?}\n\
         hint: write terminal, or file:PATH for JSON lines, or both with a comma between"
    )]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The file cannot be written.
    #[error("{VARIABLE}: cannot open {path}: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// One human line per event on standard error, with the test that runs.
#[derive(Debug, Default)]
pub struct Terminal;

impl Terminal {
    pub(crate) fn write(out: &mut impl Write, cluster: u64, event: &Event) -> io::Result<()> {
        let test = suite::current().unwrap_or_else(|| format!("cluster {cluster}"));
        writeln!(out, "[{test}] {event}")
    }
}

impl Sink for Terminal {
    fn event(&self, cluster: u64, event: &Event) {
        // Whoever has closed standard error does not want to know.
        Self::write(&mut io::stderr().lock(), cluster, event).ok();
    }
}

/// One JSON object per event and line, flushed at once: what is written survives a SIGKILL.
#[derive(Debug)]
pub struct JsonLines {
    file: Mutex<File>,
}

#[derive(Serialize)]
struct Line<'a> {
    /// `null` outside of the runner of suites.
    test: Option<String>,
    cluster: u64,
    #[serde(flatten)]
    event: &'a Event,
}

impl JsonLines {
    /// Appends to the file `path`, which is made if there is none.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn append(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self {
            file: Mutex::new(file),
        })
    }
}

impl Sink for JsonLines {
    fn event(&self, cluster: u64, event: &Event) {
        let line = Line {
            test: suite::current(),
            cluster,
            event,
        };
        let Ok(mut text) = serde_json::to_vec(&line) else {
            return;
        };
        text.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // One write per line, so that processes that share the file do not mix theirs. A full
        // disk must not fail a test that is about a network.
        file.write_all(&text).ok();
    }
}

/// The sinks that the environment asks for, the same for all clusters of the process. One that
/// cannot be had is told once on standard error.
pub(super) fn from_environment() -> Vec<Arc<dyn Sink>> {
    static SINKS: OnceLock<Vec<Arc<dyn Sink>>> = OnceLock::new();
    let sinks = SINKS.get_or_init(|| {
        parse(&env::var(VARIABLE).unwrap_or_default()).unwrap_or_else(|error| {
            eprintln!("podlab: {error}");
            Vec::new()
        })
    });
    sinks.clone()
}

pub(super) fn parse(value: &str) -> Result<Vec<Arc<dyn Sink>>, SinkError> {
    let names = value.split(',').map(str::trim);
    let sinks = names
        .filter(|name| !name.is_empty())
        .map(|name| match name.split_once(':') {
            None if name == "terminal" => Ok(Arc::new(Terminal) as Arc<dyn Sink>),
            Some(("file", path)) => {
                let path = PathBuf::from(path);
                match JsonLines::append(&path) {
                    Ok(lines) => Ok(Arc::new(lines) as Arc<dyn Sink>),
                    Err(source) => Err(SinkError::File { path, source }),
                }
            }
            _ => Err(SinkError::Unknown {
                name: name.to_owned(),
            }),
        });
    sinks.collect()
}

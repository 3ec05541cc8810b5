//! What a failed test leaves: everything that is needed to understand it without running it again.
//!
//! When a [`#[podlab::test]`](crate::test) fails, returns an error or panics, its clusters are
//! still there. The pair on which it failed is asked once more with every device on the way
//! tapped, faults are healed, every node and pod is collected, and only then the clusters are
//! taken down. The result is in `target/podlab/SUITE.TEST/ATTEMPT/`, in a folder of its own for
//! every attempt:
//!
//! - `report.html`, one page without any reference to the outside: what failed and where, the
//!   topology, the packets of the pair as a sequence diagram, the timeline, logs and tables;
//! - `bundle.json`, the same for programs: the types of [`model`];
//! - `capture.pcapng`, the packets of the pair; `captures/`, the files of capture sets that the
//!   test has made.
//!
//! The error message stays what it was; the place and one line of diagnosis are added. A test that
//! passes, or is skipped, leaves nothing. What cannot be collected is told in its place and hides
//! nothing else.
//!
//! # Without the runner of suites
//!
//! [`on_failure`] watches over a future in the same way, and [`Cluster::evidence`] collects
//! whenever it is asked to.
//!
//! ```no_run
//! # async fn example() -> Result<(), podlab::Error> {
//! use podlab::{Cluster, bundle};
//!
//! bundle::on_failure("two_nodes", async {
//!     let cluster = Cluster::builder()
//!         .node("n1", |n| n.address("10.0.0.2/24"))
//!         .node("n2", |n| n.address("10.0.0.3/24"))
//!         .boot()
//!         .await?;
//!     cluster.node("n1")?.ping(&cluster.node("n2")?).await?;
//!     Ok(())
//! })
//! .await
//! # }
//! ```
//!
//! # Look at it while it is alive
//!
//! With [`KEEP_VARIABLE`] set, `PODLAB_KEEP=1`, a failed test pauses when its evidence is written,
//! faults still in force, and prints the commands that enter its machines from another shell.

mod again;
mod bpf;
mod collect;
mod culprit;
mod diagnosis;
mod faults;
mod folder;
mod item;
mod keep;
mod machine;
pub mod model;
mod pair;
mod parameters;
mod reach;
mod report;
pub(crate) mod scope;
mod sockets;

use std::fmt::Debug;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use futures_util::FutureExt;

pub use folder::FOLDER_VARIABLE;
pub(crate) use folder::root;
pub use item::Item;
pub use keep::VARIABLE as KEEP_VARIABLE;

use crate::capture::save_pcapng;
use crate::cluster::Cluster;
use collect::Collected;
use folder::Folder;
use model::{Bundle, VERSION};
use scope::Scope;

/// Evidence that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The folder of this attempt.
    pub folder: PathBuf,
    /// The page to open in a browser.
    pub report: PathBuf,
    /// What is wrong with the network, in one line, where that was found out.
    pub diagnosis: Option<String>,
    /// That this machine was too slow for its packets, where it was, which may be the reason.
    pub slow: Option<String>,
}

/// Evidence could not be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot {operation} {path}: {source}\n\
     hint: {FOLDER_VARIABLE} names another folder for evidence",
    path = .path.display()
)]
pub struct EvidenceError {
    /// What was tried.
    pub operation: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl Cluster {
    /// Collects what there is to know of the cluster as it is now, whether anything failed or not,
    /// and writes it into a new folder for `name`. Faults stay in force.
    ///
    /// # Errors
    /// When the folder cannot be written. What cannot be collected is told in the evidence.
    pub async fn evidence(&self, name: &str) -> Result<Evidence, EvidenceError> {
        let clusters = [self.clone()];
        let captures = self.scope().map(|scope| scope.files()).unwrap_or_default();
        write(
            name,
            "nothing failed: collected on request",
            &clusters,
            &captures,
            false,
        )
        .await
    }
}

/// Drives `test` to its end; when it panics or returns an error, writes evidence of its clusters
/// for `name` before they are taken down, and tells on standard error where. The panic or the
/// error goes on unchanged. A cluster whose last handle is dropped while `test` goes on is taken
/// down at the next await.
///
/// Only clusters that are booted in `test` itself are watched, not those of tasks that it spawns.
///
/// # Errors
/// Those of `test`.
pub async fn on_failure<T, E: Debug>(
    name: &str,
    test: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let scope = OpenScope(Scope::new());
    let end = scope.0.watch(test).await;
    let error = match &end {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(format!("Error: {error:?}")),
        Err(payload) => Some(crate::suite::panic_text(&**payload)),
    };
    if let Some(error) = error {
        eprintln!("{name}: {}", after_failure(&scope.0, name, error).await);
    }
    match end {
        Ok(result) => result,
        Err(payload) => resume_unwind(payload),
    }
}

/// A scope that is closed however its user ends.
pub(crate) struct OpenScope(pub(crate) Arc<Scope>);

impl Drop for OpenScope {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Collects and writes what is left of a test that failed with `error`; returns the error with the
/// place and the diagnosis below it. With [`KEEP_VARIABLE`] set returns when somebody says so.
pub(crate) async fn after_failure(scope: &Scope, test: &str, error: String) -> String {
    let clusters: Vec<Cluster> = scope.alive().into_iter().map(Cluster::of).collect();
    if clusters.is_empty() {
        return error;
    }
    let keep = keep::is_wanted();
    // Whatever is wrong with our own code, the test's message is what the user must read.
    let captures = scope.files();
    let written = AssertUnwindSafe(write(test, &error, &clusters, &captures, !keep));
    let mut folder = None;
    let told = match written.catch_unwind().await {
        Ok(Ok(evidence)) => {
            folder = Some(evidence.folder.clone());
            crate::suite::property("evidence", &evidence.report.display().to_string());
            told(&error, &evidence)
        }
        Ok(Err(failure)) => format!("{error}\n\nno evidence: {failure}"),
        Err(payload) => {
            let text = crate::suite::panic_text(&*payload);
            format!("{error}\n\nno evidence, its collection failed: {text}")
        }
    };
    if let (true, Some(folder)) = (keep, folder) {
        keep::pause(test, &told, &clusters, &folder).await;
    }
    told
}

fn told(error: &str, evidence: &Evidence) -> String {
    let mut text = format!("{}\n", error.trim_end());
    if let Some(diagnosis) = &evidence.diagnosis {
        text += &format!("\ndiagnosis: {diagnosis}");
    }
    if let Some(slow) = &evidence.slow {
        text += &format!("\nslow:      {slow}");
    }
    text += &format!("\nevidence:  {}", evidence.report.display());
    text
}

async fn write(
    test: &str,
    error: &str,
    clusters: &[Cluster],
    captures: &[PathBuf],
    heal: bool,
) -> Result<Evidence, EvidenceError> {
    let begin = Instant::now();
    let failed_at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let root = folder::root();
    let folder = Folder::create(&root, test).map_err(|source| EvidenceError {
        operation: "make a folder in",
        path: root,
        source,
    })?;
    let mut states = Vec::new();
    let mut recordings = Vec::new();
    let mut diagnosis = None;
    for cluster in clusters {
        let collected: Collected = collect::collect(cluster, error, heal).await;
        diagnosis = diagnosis.or(collected.diagnosis);
        states.push(collected.state);
        recordings.extend(collected.recordings);
    }
    let captures = captures.iter().map(|file| keep_capture(file, &folder.path));
    let number = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
    let bundle = Bundle {
        format: "podlab-bundle",
        version: VERSION,
        test: test.to_owned(),
        attempt: folder.attempt,
        failed_at_ns: number(failed_at.unwrap_or_default().as_nanos()),
        collected_in_ms: number(begin.elapsed().as_millis()),
        error: error.to_owned(),
        diagnosis: diagnosis.clone(),
        kernel: kernel(),
        captures: captures.collect(),
        clusters: states,
    };
    let save = |name: &str, content: Vec<u8>| {
        let path = folder.path.join(name);
        let written = fs::write(&path, content);
        written.map_err(|source| EvidenceError {
            operation: "write",
            path,
            source,
        })
    };
    let json = serde_json::to_vec_pretty(&bundle);
    save(
        "bundle.json",
        json.unwrap_or_else(|error| error.to_string().into()),
    )?;
    save("report.html", report::page(&bundle).into_bytes())?;
    if !recordings.is_empty() {
        let path = folder.path.join("capture.pcapng");
        save_pcapng(&path, &recordings).map_err(|error| EvidenceError {
            operation: "write",
            path,
            source: io::Error::other(error),
        })?;
    }
    Ok(Evidence {
        report: folder.path.join("report.html"),
        folder: folder.path,
        diagnosis,
        slow: bundle.slow(),
    })
}

/// Keeps a file of the test's own captures in the folder `captures`, and returns its path in the
/// folder of the attempt, or why it is not there. Its capture may still write it.
fn keep_capture(file: &Path, folder: &Path) -> Item<String> {
    let name = file.file_name().unwrap_or_default();
    let kept = Path::new("captures").join(name);
    let target = folder.join(&kept);
    let keep = || -> io::Result<()> {
        fs::create_dir_all(folder.join("captures"))?;
        // The same file under a second name costs nothing; where that cannot be, a copy.
        fs::hard_link(file, &target).or_else(|_| fs::copy(file, &target).map(drop))
    };
    let result = keep().map(|()| kept.display().to_string());
    result
        .map_err(|error| format!("{}: {error}", file.display()))
        .into()
}

fn kernel() -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}"));
    let release = read("osrelease").unwrap_or_default();
    format!("Linux {} {}", release.trim(), std::env::consts::ARCH)
}

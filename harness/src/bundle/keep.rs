//! `PODLAB_KEEP=1`: a failed test pauses with its clusters alive, for a look from another shell.
//!
//! Namespaces are held by descriptors of this process only, so that is how they are entered from
//! outside: `/proc/INIT/root` is the sandbox's own view of the files, its `/proc` has this process,
//! and `fd/N` of that leads to the namespace.

use std::env;
use std::fs;
use std::io;
use std::io::IsTerminal;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::cluster::Cluster;
use crate::machine::Machine;
use crate::namespace::sandbox;

/// Environment variable: when it is set to anything but `0` or nothing, a failed test pauses. It
/// goes on when Enter is pressed on its terminal, or when the file `paused` in the folder of its
/// evidence is removed.
pub const VARIABLE: &str = "PODLAB_KEEP";

/// The file whose removal ends the pause.
const FILE: &str = "paused";

pub(super) fn is_wanted() -> bool {
    env::var_os(VARIABLE).is_some_and(|value| !value.is_empty() && value != "0")
}

/// Tells on standard error how to enter the machines, and returns when somebody says so. `folder`
/// is that of the evidence.
pub(super) async fn pause(test: &str, told: &str, clusters: &[Cluster], folder: &Path) {
    let file = folder.join(FILE);
    let removal = fs::write(&file, "").and_then(|()| Removal::watch(folder));
    let has_terminal = io::stdin().is_terminal();
    let (file, how) = (
        file.display(),
        if has_terminal { "press Enter, or " } else { "" },
    );
    match &removal {
        // With neither there would be no end to it.
        Err(error) if !has_terminal => {
            eprintln!("{test}: not paused: {file}: {error}");
            return;
        }
        _ => eprintln!(
            "\n{told}\n\n{test} is paused; its machines can be entered from another shell:\n\n\
             {}\nto go on: {how}rm {file}\n",
            commands(clusters)
        ),
    }
    let removed = async {
        match removal {
            Ok(removal) => removal.seen(&folder.join(FILE)).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = removed => {}
        () = enter_pressed(), if has_terminal => {}
    }
    // It may be gone already.
    fs::remove_file(folder.join(FILE)).ok();
}

/// One command per machine.
fn commands(clusters: &[Cluster]) -> String {
    let mut text = String::new();
    for cluster in clusters {
        let nodes = cluster
            .nodes()
            .into_iter()
            .map(|node| Machine::clone(&node));
        let pods = cluster.pods().into_iter().map(|pod| Machine::clone(&pod));
        for machine in [cluster.fabric().clone()]
            .into_iter()
            .chain(nodes)
            .chain(pods)
        {
            text += &format!("# {}\n{}\n", machine.name(), command(&machine));
        }
    }
    text
}

fn command(machine: &Machine) -> String {
    let process = std::process::id();
    // Outside of a sandbox this process is found under its own number.
    let (proc, pid) = match sandbox::init_outside() {
        Some(init) => (format!("/proc/{init}/root/proc"), "--pid"),
        None => ("/proc".to_owned(), ""),
    };
    let mut command = "nsenter".to_owned();
    if sandbox::is_rootless() {
        command += &format!(" --user={proc}/{process}/ns/user --preserve-credentials");
    }
    for (kind, fd) in machine.namespaces().fds() {
        command += &format!(" --{kind}={proc}/{process}/fd/{fd}");
    }
    if !pid.is_empty() {
        command += &format!(" {pid}={proc}/{process}/ns/pid");
    }
    command
}

/// Waits for the next Enter. When several tests are paused, one Enter is for the one that was
/// first.
async fn enter_pressed() {
    static READER: Once = Once::new();
    static PRESSED: Notify = Notify::const_new();
    static WAITING: AtomicUsize = AtomicUsize::new(0);
    /// One that stops to wait for another reason waits no more.
    struct Waits;
    impl Drop for Waits {
        fn drop(&mut self) {
            WAITING.fetch_sub(1, Ordering::AcqRel);
        }
    }
    WAITING.fetch_add(1, Ordering::AcqRel);
    let _waits = Waits;
    let pressed = PRESSED.notified();
    READER.call_once(|| {
        // It ends with the process: nobody can take a thread away from a terminal.
        std::thread::spawn(|| {
            for line in io::stdin().lines() {
                if line.is_ok() && WAITING.load(Ordering::Acquire) > 0 {
                    PRESSED.notify_one();
                }
            }
        });
    });
    pressed.await;
}

/// Somebody removes files in a folder.
struct Removal {
    events: AsyncFd<OwnedFd>,
}

impl Removal {
    fn watch(folder: &Path) -> io::Result<Self> {
        let events = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        events.add_watch(
            folder,
            AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_DELETE_SELF,
        )?;
        // SAFETY: the descriptor is owned, stays the same, and is open until the AsyncFd drops it.
        let events =
            unsafe { AsyncFd::register_with_interest(OwnedFd::from(events), Interest::READABLE) }
                .map_err(io::Error::from)?;
        Ok(Self { events })
    }

    async fn seen(self, file: &Path) {
        while file.exists() {
            let Ok(mut ready) = self.events.readable().await else {
                return;
            };
            // What they say does not matter: the file is there, or it is not.
            let mut events = [0; 4096];
            nix::unistd::read(self.events.get_ref(), &mut events).ok();
            ready.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pause_ends_when_its_file_is_removed_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let pause = pause("a test", "failed", &[], folder.path());
        tokio::pin!(pause);
        let file = folder.path().join(FILE);
        let other = folder.path().join("other");
        let is_over = |context: &mut std::task::Context<'_>, pause: std::pin::Pin<&mut _>| {
            Future::poll(pause, context).is_ready()
        };
        let poll = std::future::poll_fn(|context| {
            std::task::Poll::Ready(is_over(context, pause.as_mut()))
        });
        assert!(!poll.await, "it is paused");
        fs::write(&other, "").unwrap();
        fs::remove_file(&other).unwrap();
        let soon = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, pause.as_mut()).await.is_err());
        fs::remove_file(&file).unwrap();
        let late = std::time::Duration::from_secs(10);
        tokio::time::timeout(late, pause).await.expect("it goes on");
    }
}

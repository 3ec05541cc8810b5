//! Runs that are killed at random instants, and the host a second later.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podlab::fault::Random;

use super::footprint::Host;

const CROWD: &str = env!("CARGO_BIN_EXE_crowd");
/// Environment variables: how many runs are killed, and the seed that chooses the instants.
const KILLS: &str = "PODLAB_KILLS";
const SEED: &str = "PODLAB_SEED";
/// What an ordinary run of the tests has time for; `make leaks` kills 200.
const FEW: usize = 24;
/// How long the kernel may take to take down what a killed run had. Beside other tests, which make
/// and destroy namespaces by the hundred in the kernel's one queue for that, it takes longer.
const ALONE: Duration = Duration::from_secs(1);
const IN_COMPANY: Duration = Duration::from_secs(15);

/// Who is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    /// The process that was started.
    Supervisor,
    /// Process 1 of the sandbox.
    Init,
    /// The process in which the tests run.
    Worker,
    /// Who started the run.
    Parent,
}

const ENDS: [(Victim, Signal); 6] = [
    (Victim::Supervisor, Signal::SIGKILL),
    (Victim::Worker, Signal::SIGKILL),
    (Victim::Init, Signal::SIGKILL),
    (Victim::Parent, Signal::SIGKILL),
    (Victim::Supervisor, Signal::SIGINT),
    (Victim::Supervisor, Signal::SIGTERM),
];

/// A run below a shell that waits for it.
struct Run {
    shell: Child,
    marker: String,
}

impl Run {
    fn start(host: &Host, program: &Path) -> Result<Self> {
        let marker = host.new_marker();
        let shell = Command::new("sh")
            // With a second command the shell cannot become the first. Who runs these tests in the
            // background has perhaps passed on that SIGINT is ignored.
            .args(["-c", "env --default-signal=INT \"$@\"; exit $?", "sh"])
            .arg(program)
            .current_dir(host.home())
            .env("HOME", host.home())
            .env("TMPDIR", host.home())
            .env("RUST_BACKTRACE", "0")
            .env(Host::MARKER, &marker)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start a shell")?;
        Ok(Self { shell, marker })
    }

    /// Sends a signal. A victim that is not born yet is replaced by the one that would have borne
    /// it; only the parent's death is put off until there is an init: before that, nobody can tell
    /// it from a parent that went away long ago.
    fn end(&self, victim: Victim, signal: Signal) -> Result<()> {
        let shell = self.shell.id();
        let supervisor = child_of(shell);
        let init = || supervisor.and_then(child_of);
        let chosen = match victim {
            Victim::Parent => {
                while child_of(shell).is_some_and(|id| child_of(id).is_none()) {
                    std::thread::yield_now();
                }
                Some(shell)
            }
            Victim::Supervisor => supervisor,
            Victim::Init => init().or(supervisor),
            Victim::Worker => init().and_then(child_of).or_else(init).or(supervisor),
        };
        // A run that has ended by itself has been killed by nobody.
        match kill(Pid::from_raw(chosen.unwrap_or(shell).cast_signed()), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno).context("send a signal"),
        }
    }
}

/// The first child of a process, if it has one.
fn child_of(process: u32) -> Option<u32> {
    let path = format!("/proc/{process}/task/{process}/children");
    let children = std::fs::read_to_string(path).ok()?;
    children.split(' ').next()?.parse().ok()
}

/// A suite that was built beside this one, the latest, where there is one.
fn suite() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let files = std::fs::read_dir(own.parent()?)
        .ok()?
        .filter_map(Result::ok);
    let programs = files.map(|file| file.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("seed-") && path.extension().is_none()
    });
    programs.max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok())
}

/// How long what was killed may take to be gone.
fn limit() -> Duration {
    // `make leaks` runs nothing else.
    match std::env::var_os(KILLS) {
        Some(_) => ALONE,
        None => IN_COMPANY,
    }
}

fn from_environment<T: std::str::FromStr>(name: &str, otherwise: T) -> Result<T> {
    let Ok(text) = std::env::var(name) else {
        return Ok(otherwise);
    };
    let number = text.parse().ok();
    number.with_context(|| format!("{name} is {text:?}, not a number"))
}

/// Proves that however and whenever a run ends, a second later there is nothing of it on the host:
/// no process, so no namespace, no link, no mount, no control group, no file.
#[tokio::test]
async fn nothing_stays_whenever_a_run_is_killed() -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = from_environment(SEED, now.subsec_nanos().into())?;
    let kills = from_environment(KILLS, FEW)?;
    let mut random = Random::new(seed);
    let host = Host::before()?;
    let programs: Vec<PathBuf> = [Some(CROWD.into()), suite()]
        .into_iter()
        .flatten()
        .collect();
    let window = boot_time(&host).await? * 3 / 2;
    for number in 0..kills {
        let program = &programs[number / ENDS.len() % programs.len()];
        let (victim, signal) = ENDS[number % ENDS.len()];
        let instant = window.mul_f64(f64::from(random.below(1000)) / 1000.0);
        kill_once(&host, program, victim, signal, instant)
            .await
            .with_context(|| {
                format!(
                    "{}: {victim:?} got {signal} after {instant:?}, kill {number} of {SEED}={seed}",
                    program.display()
                )
            })?;
    }
    println!("{kills} runs of {programs:?} killed within {window:?}, {SEED}={seed}");
    Ok(())
}

async fn kill_once(
    host: &Host,
    program: &Path,
    victim: Victim,
    signal: Signal,
    instant: Duration,
) -> Result<()> {
    let mut run = Run::start(host, program)?;
    // The instant is the point of this test; no event announces it.
    tokio::time::sleep(instant).await;
    run.end(victim, signal)?;
    let cleaned = host.assert_nothing_of(&run.marker, limit()).await;
    // Whatever is left would be in the way of the next.
    run.shell.kill().ok();
    let output = run.shell.wait_with_output()?;
    cleaned?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(!errors.contains("left something behind"), "{errors}");
    Ok(())
}

/// How long the crowd takes to be up, on this machine and now.
async fn boot_time(host: &Host) -> Result<Duration> {
    let start = Instant::now();
    let marker = host.new_marker();
    let output = Command::new(CROWD)
        .arg("--once")
        .env(Host::MARKER, &marker)
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "crowd: {}\n{errors}",
        output.status
    );
    let time = start.elapsed();
    host.assert_nothing_of(&marker, limit()).await?;
    Ok(time)
}

/// Proves that the kernel has really taken the namespaces down soon after a kill (within a second
/// under `make leaks`), those too that no process shows: where there may be 45 network namespaces a run that needs 42 of them
/// finds room again.
#[test]
fn the_kernel_takes_down_every_namespace_of_a_killed_run() -> Result<()> {
    const SCRIPT: &str = r#"
        echo 45 > /proc/sys/user/max_net_namespaces
        for delay in 0.1 0.4 0.8 1.6; do
          timeout -s KILL "$delay" "$CROWD" >/dev/null 2>&1 || :
          give_up=$(($(date +%s%N) + PATIENCE_NS))
          until errors=$("$CROWD" --once 2>&1); do
            if [ "$(date +%s%N)" -gt "$give_up" ]; then echo "$errors" >&2; exit 1; fi
          done
        done"#;
    let patience = podlab::patience::scaled(limit())?;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-euc", SCRIPT])
        .env("CROWD", CROWD)
        .env("PATIENCE_NS", patience.as_nanos().to_string())
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{errors}");
    Ok(())
}

//! Runs that are killed at random instants, and the host a second later.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use podlab::fault::Random;

use super::footprint::{Footprint, Held, Host};

const CROWD: &str = env!("CARGO_BIN_EXE_crowd");
/// Environment variables: how many runs are killed, and the seed that chooses the instants.
const KILLS: &str = "PODLAB_KILLS";
const SEED: &str = "PODLAB_SEED";
/// What an ordinary run of the tests has time for; `make leaks` kills 200.
const FEW: usize = 24;
/// How long the kernel may take to take down what a killed run had, before the patience factor; how
/// long it took is printed. A run with a capture of every device of twenty nodes has some 140 packet
/// sockets, which the kernel closes one after the other, waiting some 20 ms (RCU) for each; and
/// beside other tests, which make and destroy namespaces by the hundred in the kernel's one queue
/// for that, everything takes longer.
const LATE: Duration = Duration::from_secs(15);
/// Of so many runs that are killed agents have to be there, in percent.
const AT_WORK: usize = 75;
/// The part of a run in which there may be no agents yet.
const BEGINNING: f64 = 0.3;
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
    /// Everybody in the run's process group, as by Ctrl-C in a terminal.
    Group,
}

const ENDS: [(Victim, Signal); 7] = [
    (Victim::Supervisor, Signal::SIGKILL),
    (Victim::Worker, Signal::SIGKILL),
    (Victim::Init, Signal::SIGKILL),
    (Victim::Parent, Signal::SIGKILL),
    (Victim::Supervisor, Signal::SIGINT),
    (Victim::Supervisor, Signal::SIGTERM),
    (Victim::Group, Signal::SIGINT),
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
            .process_group(0)
            .spawn()
            .context("start a shell")?;
        Ok(Self { shell, marker })
    }

    /// Sends a signal. A victim that is not born yet is replaced by the one that would have borne
    /// it; only the parent's death is put off until there is an init: before that, nobody can tell
    /// it from a parent that went away long ago.
    fn end(&self, victim: Victim, signal: Signal) -> Result<()> {
        let shell = self.shell.id();
        if let Victim::Group = victim {
            let group = Pid::from_raw(shell.cast_signed());
            return killpg(group, signal).context("send a signal to the group");
        }
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
            Victim::Group => unreachable!("sent above"),
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

fn from_environment<T: std::str::FromStr>(name: &str, otherwise: T) -> Result<T> {
    let Ok(text) = std::env::var(name) else {
        return Ok(otherwise);
    };
    let number = text.parse().ok();
    number.with_context(|| format!("{name} is {text:?}, not a number"))
}

/// A program whose runs are killed.
struct Prey {
    program: PathBuf,
    /// Runs are killed so long after their start at the latest.
    window: Duration,
    runs: usize,
    /// How many of them had agents when they were killed.
    at_work: usize,
}

/// What became of a run that was killed.
struct Killed {
    at_work: bool,
    took: Duration,
}

/// Proves that however and whenever a run ends, a second later there is nothing of it on the host:
/// no process, no namespace that somebody else holds, no link, no mount, no control group, no file;
/// and that the host has all that it had.
#[tokio::test]
async fn nothing_stays_whenever_a_run_is_killed() -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = from_environment(SEED, now.subsec_nanos().into())?;
    let kills = from_environment(KILLS, FEW)?;
    let mut random = Random::new(seed);
    let host = Host::before()?;
    let mut prey = Vec::new();
    // The crowd stays until it is killed.
    prey.push(prey_of(&host, CROWD.into(), &["--once"], 2.0).await?);
    match suite() {
        // A suite ends by itself.
        Some(suite) => prey.push(prey_of(&host, suite, &[], 0.7).await?),
        None => ensure!(
            std::env::var_os("CI").is_none(),
            "no suite was built beside this one"
        ),
    }
    let count = prey.len();
    let mut slowest = Duration::ZERO;
    for number in 0..kills {
        let prey = &mut prey[number / ENDS.len() % count];
        let (victim, signal) = ENDS[number % ENDS.len()];
        let share = f64::from(random.below(1000)) / 1000.0;
        // One in six while the run begins; the others when there is most to be left.
        let share = match number % 6 {
            5 => BEGINNING * share,
            _ => BEGINNING + (1.0 - BEGINNING) * share,
        };
        let instant = prey.window.mul_f64(share);
        let killed = kill_once(&host, &prey.program, victim, signal, instant)
            .await
            .with_context(|| {
                let program = prey.program.display();
                format!(
                    "{program}: {victim:?} got {signal} after {instant:?}, kill {number} of {SEED}={seed}",
                )
            })?;
        prey.runs += 1;
        prey.at_work += usize::from(killed.at_work);
        slowest = slowest.max(killed.took);
    }
    let (mut runs, mut at_work) = (0, 0);
    for of in prey.iter().filter(|of| of.runs > 0) {
        println!(
            "{}: {} runs killed within {:.1?}, {} of them with agents at work",
            of.program.display(),
            of.runs,
            of.window,
            of.at_work
        );
        runs += of.runs;
        at_work += of.at_work;
    }
    println!("all was gone after {slowest:.1?} at the latest; {SEED}={seed}");
    ensure!(
        at_work * 100 >= runs * AT_WORK,
        "only {at_work} of {runs} runs had agents when they were killed, {SEED}={seed}"
    );
    Ok(())
}

async fn kill_once(
    host: &Host,
    program: &Path,
    victim: Victim,
    signal: Signal,
    instant: Duration,
) -> Result<Killed> {
    let mut run = Run::start(host, program)?;
    // The instant is the point of this test; no event announces it.
    tokio::time::sleep(instant).await;
    let alive = Footprint::of(&run.marker)?;
    let held = alive.hold(host);
    run.end(victim, signal)?;
    let cleaned = is_clean(host, &run.marker, &held).await;
    // Whatever is left would be in the way of the next.
    run.shell.kill().ok();
    let output = run.shell.wait_with_output()?;
    let took = cleaned?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(!errors.contains("left something behind"), "{errors}");
    let at_work = alive.agents > 0;
    Ok(Killed { at_work, took })
}

/// Returns how long it took until nothing was left.
async fn is_clean(host: &Host, marker: &str, held: &Held) -> Result<Duration> {
    let begin = Instant::now();
    host.assert_nothing_of(marker, LATE).await?;
    host.assert_nobody_has(held, LATE).await?;
    Ok(begin.elapsed())
}

/// A program, and when its runs are killed: within `factor` times of what it takes to the end.
async fn prey_of(host: &Host, program: PathBuf, arguments: &[&str], factor: f64) -> Result<Prey> {
    let start = Instant::now();
    let marker = host.new_marker();
    let output = Command::new(&program)
        .args(arguments)
        .current_dir(host.home())
        .env(Host::MARKER, &marker)
        .output()?;
    // A suite is no worse for this where it skips or fails what this machine has no time for.
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() || arguments.is_empty(),
        "{}: {}\n{errors}",
        program.display(),
        output.status
    );
    let window = start.elapsed().mul_f64(factor);
    host.assert_nothing_of(&marker, LATE).await?;
    Ok(Prey {
        program,
        window,
        runs: 0,
        at_work: 0,
    })
}

/// Proves that the kernel has really taken the namespaces down soon after a kill, those too that no
/// process shows: where there may be 45 network namespaces a run that needs 42 of them finds room
/// again.
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
    let patience = podlab::patience::scaled(LATE)?;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-euc", SCRIPT])
        .env("CROWD", CROWD)
        .env("PATIENCE_NS", patience.as_nanos().to_string())
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{errors}");
    Ok(())
}

//! Runs that are killed at random instants, and the host a second later.

mod interrupted;
mod run;
mod yardstick;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use podlab::fault::Random;
use podlab::patience::scaled;

use super::footprint::{Footprint, Held, Host};
use run::{ENDS, Run, Victim};
use yardstick::{FOR_A_TAP, Yardstick, busy};

const CROWD: &str = env!("CARGO_BIN_EXE_crowd");
/// Environment variables: how many runs are killed, and the seed that chooses the instants.
const KILLS: &str = "PODLAB_KILLS";
const SEED: &str = "PODLAB_SEED";
/// What an ordinary run of the tests has time for; `make leaks` kills 200.
const FEW: usize = 24;
/// How long after a kill there may be something of a run, before the patience factor.
const SECOND: Duration = Duration::from_secs(1);
/// How long somebody looks, so that it can be told how late something was.
const LATE: Duration = Duration::from_secs(30);
/// Of so many runs that are killed agents have to be there, in percent. The instants are random, and
/// there are agents for about three quarters of the time.
const AT_WORK: usize = 50;
/// The part of a run in which there may be no agents yet.
const BEGINNING: f64 = 0.3;

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

/// The seed that the environment asks for, or one of the hour.
fn random() -> Result<(u64, Random)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let seed = from_environment(SEED, now.subsec_nanos().into())?;
    Ok((seed, Random::new(seed)))
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

/// Proves that however and whenever a run ends, a second later there is nothing of it on the host:
/// no process, no namespace that somebody else holds, no link, no mount, no control group, no file;
/// and that the host has all that it had.
#[podlab::test]
async fn nothing_stays_whenever_a_run_is_killed() -> Result<()> {
    let (seed, mut random) = random()?;
    let kills = from_environment(KILLS, FEW)?;
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
    let mut slowest = (Duration::ZERO, Duration::ZERO);
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
        let context = || {
            let program = prey.program.display();
            format!(
                "{program}: {victim:?} got {signal} after {instant:?}, kill {number} of {SEED}={seed}"
            )
        };
        let run = Run::start(&host, &prey.program, &[])?;
        // The instant is the point of this test; no event announces it.
        tokio::time::sleep(instant).await;
        let at_work = run.footprint().agents > 0;
        let gone = kill(&host, run, victim, signal)
            .await
            .with_context(context)?;
        let limit = scaled(SECOND)?.mul_f64(busy(gone.grace_period));
        let took = gone.after;
        ensure!(
            took <= limit,
            "not gone within {limit:.2?}: {gone:?}: {}",
            context()
        );
        prey.runs += 1;
        prey.at_work += usize::from(at_work);
        slowest = slowest.max((took, limit));
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
    let (took, limit) = slowest;
    println!("all was gone after {took:.2?} at the latest, of {limit:.2?}; {SEED}={seed}");
    ensure!(
        at_work * 100 >= runs * AT_WORK,
        "only {at_work} of {runs} runs had agents when they were killed, {SEED}={seed}"
    );
    Ok(())
}

/// The same for a run that taps every device of twenty nodes. The second is not enough for that,
/// but what is more is the kernel's time for closing so many taps, and nothing of ours.
#[podlab::test]
async fn what_taps_everything_takes_the_kernels_time_for_its_taps_longer() -> Result<()> {
    /// What was measured is that of the whole time; the crowd may have met the longer ones.
    const BUSIER: u32 = 2;
    let host = Host::before()?;
    for (victim, signal) in [
        (Victim::Supervisor, Signal::SIGKILL),
        (Victim::Worker, Signal::SIGKILL),
        (Victim::Parent, Signal::SIGKILL),
    ] {
        let mut run = Run::start(&host, CROWD.as_ref(), &["--tap-everything"])?;
        let taps = run.taps()?;
        let gone = kill(&host, run, victim, signal).await?;
        let limit = scaled(SECOND)? + BUSIER * FOR_A_TAP * taps * gone.grace_period;
        println!(
            "{victim:?} got {signal}: {taps} taps were gone after {:.2?}, of {limit:.2?}; \
             a grace period was {:.1?}",
            gone.after, gone.grace_period
        );
        ensure!(
            gone.after <= limit,
            "{taps} taps were not gone within {limit:.2?}: {gone:?}"
        );
    }
    Ok(())
}

/// What a killed run took to be gone.
#[derive(Debug)]
struct Gone {
    /// Until a look at the host found nothing of it.
    after: Duration,
    /// What the look before that had found.
    #[expect(dead_code, reason = "told by messages of failures")]
    last_seen: Option<String>,
    /// How long the kernel's grace periods were meanwhile.
    grace_period: Duration,
}

async fn kill(host: &Host, run: Run, victim: Victim, signal: Signal) -> Result<Gone> {
    let alive = run.footprint();
    let held = alive.hold(host);
    let yardstick = Yardstick::new()?;
    let since = run.end(victim, signal)?;
    let clean = host.until_clean(&alive, &held, LATE).await;
    let after = since.elapsed();
    let grace_period = yardstick.grace_period()?;
    // What is left of it may hold the other end of its output for ever.
    let last_seen = clean?;
    let errors = run.clear()?;
    ensure!(!errors.contains("left something behind"), "{errors}");
    Ok(Gone {
        after,
        last_seen,
        grace_period,
    })
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
    host.until_clean(&Footprint::of(&marker), &Held::default(), SECOND)
        .await?;
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
///
/// A run that finds none leaves a few of its own to be taken down, so runs that try without a pause
/// may keep the kernel from ever being through.
#[podlab::test]
fn the_kernel_takes_down_every_namespace_of_a_killed_run() -> Result<()> {
    const SCRIPT: &str = r#"
        echo 45 > /proc/sys/user/max_net_namespaces
        for delay in 0.1 0.4 0.8 1.6; do
          timeout -s KILL "$delay" "$CROWD" >/dev/null 2>&1 || :
          give_up=$(($(date +%s%N) + PATIENCE_NS)) pause=1
          until errors=$("$CROWD" --once 2>&1); do
            if [ "$(date +%s%N)" -gt "$give_up" ]; then echo "$errors" >&2; exit 1; fi
            sleep "${pause}e-1"
            pause=$((pause * 2))
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

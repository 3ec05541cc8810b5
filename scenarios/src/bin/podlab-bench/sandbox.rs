//! What a sandbox of its own adds to a process: from its start to its end, that is entering, the
//! look at the host before and after, and the clean-up that its end waits for.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::unistd::Uid;

use super::results::{Results, median, ms};

pub(crate) const NAME: &str = "sandbox";
const TIMES: usize = 100;
/// The most that it may add, in milliseconds.
const BUDGET: f64 = 10.0;
const NOBODY: u32 = 65534;

/// Starts the same program in a sandbox and outside, by turns.
pub(crate) fn run(results: &mut Results) -> Result<()> {
    // The build folder may be closed to others.
    let folder = std::env::temp_dir().join(format!("in-sandbox-{}", std::process::id()));
    std::fs::create_dir(&folder).context("make a folder")?;
    let measured = measure(&folder, results);
    std::fs::remove_dir_all(&folder).context("remove the folder")?;
    measured
}

fn measure(folder: &Path, results: &mut Results) -> Result<()> {
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755))?;
    let program = folder.join("in-sandbox");
    let built = std::env::current_exe()?.with_file_name("in-sandbox");
    std::fs::copy(&built, &program).with_context(|| format!("copy {}", built.display()))?;
    let root = Uid::effective().is_root();
    if root {
        add("as root", &program, None, results)?;
    }
    add(
        "as an ordinary user",
        &program,
        root.then_some(NOBODY),
        results,
    )
}

fn add(who: &str, program: &Path, user: Option<u32>, results: &mut Results) -> Result<()> {
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        inside.push(time(program, &[], user)?);
        outside.push(time(program, &["--outside"], user)?);
    }
    let added = median(&mut inside) - median(&mut outside);
    let name = format!("sandbox, added to a process {who}");
    results.add_with_goal(name, "ms", added, BUDGET);
    Ok(())
}

/// How many milliseconds the program takes to run `true`.
fn time(program: &Path, options: &[&str], user: Option<u32>) -> Result<f64> {
    let mut command = Command::new(program);
    command.args(options).arg("/bin/true").current_dir("/");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let start = Instant::now();
    let output = command.output()?;
    let time = ms(start.elapsed());
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {errors}", output.status);
    Ok(time)
}

//! Finds the agent's program: the one that was named, or the one that was built beside us.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::AgentError;

/// Names the program to start; nothing is searched or checked then.
const VARIABLE: &str = "PODLAB_AGENT";

/// The path of `podlab-agent`.
///
/// Cargo puts test programs into `target/PROFILE/deps` and programs one folder above.
pub(super) fn podlab_agent() -> Result<PathBuf, AgentError> {
    if let Some(path) = std::env::var_os(VARIABLE) {
        return existing(PathBuf::from(path));
    }
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new("."));
    let folder = if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    let agent = existing(folder.join("podlab-agent"))?;
    refuse_stale(&agent)?;
    Ok(agent)
}

fn existing(path: PathBuf) -> Result<PathBuf, AgentError> {
    if path.is_file() {
        Ok(path)
    } else {
        Err(AgentError::NotBuilt { path })
    }
}

/// A test that runs yesterday's agent proves nothing about today's sources.
fn refuse_stale(agent: &Path) -> Result<(), AgentError> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dataplane");
    let built = agent.metadata().and_then(|metadata| metadata.modified());
    let newest = ["src", "bpf"]
        .iter()
        .filter_map(|part| newest_below(&sources.join(part)))
        .max();
    match (built, newest) {
        (Ok(built), Some((changed, source))) if changed > built => Err(AgentError::Stale {
            agent: agent.to_owned(),
            source_file: source,
        }),
        // Away from the sources (a packed test program in a VM) there is nothing to compare.
        _ => Ok(()),
    }
}

fn newest_below(folder: &Path) -> Option<(SystemTime, PathBuf)> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let times = entries.filter_map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return newest_below(&path);
        }
        let modified = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()?;
        Some((modified, path))
    });
    times.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_file_of_a_tree_is_found_in_its_sub_folders() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        let newest = folder.path().join("deep/newest");
        let old = SystemTime::UNIX_EPOCH;
        for path in [folder.path().join("old"), newest.clone()] {
            std::fs::write(&path, "").unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            let age = if path == newest { 10 } else { 5 };
            file.set_modified(old + std::time::Duration::from_secs(age))
                .unwrap();
        }
        let (_, path) = newest_below(folder.path()).unwrap();
        assert_eq!(path, newest);
    }

    #[test]
    fn a_missing_agent_is_named_with_the_command_that_builds_it() {
        let error = existing(PathBuf::from("/nowhere/podlab-agent"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nowhere/podlab-agent"), "{error}");
        assert!(error.contains("hint: build it: cargo build"), "{error}");
    }
}

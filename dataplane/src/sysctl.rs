//! Values below `/proc/sys`, of the network namespace that the process is in.

use std::fs;
use std::path::Path;

use crate::platform::{KernelError, Sysctls};

/// The files of `/proc/sys`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcSys;

impl Sysctls for ProcSys {
    fn set(&mut self, path: &str, value: &str) -> Result<bool, KernelError> {
        set(Path::new("/proc/sys"), path, value)
    }
}

/// A value that is right is left alone: a write makes the kernel send events, and where
/// `/proc/sys` is read-only it would fail for nothing.
fn set(root: &Path, path: &str, value: &str) -> Result<bool, KernelError> {
    let failed = |operation, source| KernelError {
        operation,
        object: format!("{}={value}", path.replace('/', ".")),
        message: String::new(),
        source,
    };
    let file = root.join(path);
    let current = fs::read_to_string(&file).map_err(|error| failed("read sysctl", error))?;
    if current.trim_end() == value {
        return Ok(false);
    }
    fs::write(&file, value).map_err(|error| failed("write sysctl", error))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn a_value_is_written_only_when_it_differs() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("net");
        fs::write(&file, "0\n").unwrap();
        assert!(set(root.path(), "net", "1").unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "1");
        fs::write(&file, "1\n").unwrap();
        assert!(!set(root.path(), "net", "1").unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "1\n", "left alone");
    }

    #[test]
    fn a_missing_sysctl_is_named_as_sysctl_names_it() {
        let root = tempfile::tempdir().unwrap();
        let error = set(root.path(), "net/ipv4/nothing", "1").unwrap_err();
        assert_eq!(error.source.kind(), ErrorKind::NotFound);
        assert!(
            error
                .to_string()
                .starts_with("cannot read sysctl net.ipv4.nothing=1"),
            "{error}"
        );
    }
}

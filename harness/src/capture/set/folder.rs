//! Where captures go that were given no path: `captures`, beside the evidence of failed tests.

use std::io;
use std::path::Path;

use crate::bundle;
use crate::capture::PcapngError;
use crate::capture::pcapng::{ContinuousFile, Interface};
use crate::suite;

/// Makes a file of its own, named after the test that runs. Where the folder may not be written,
/// it is in the one for temporary files.
pub(super) fn create(
    interfaces: Vec<Interface>,
    limit: u64,
) -> Result<ContinuousFile, PcapngError> {
    let prefix = suite::current().map_or_else(
        || "capture-".to_owned(),
        |test| format!("{}-", test.replace("::", ".")),
    );
    let folder = bundle::root().join("captures");
    let make = |folder: &Path| {
        ContinuousFile::create_temporary(folder, &prefix, interfaces.clone(), limit)
    };
    match make(&folder) {
        Err(error) if is_closed(&error.source) => {
            make(&std::env::temp_dir().join("podlab-captures"))
        }
        made => made,
    }
}

fn is_closed(error: &io::Error) -> bool {
    let kinds = [
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::ReadOnlyFilesystem,
    ];
    kinds.contains(&error.kind())
}

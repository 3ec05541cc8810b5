//! `podlab-agent`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    podlab_dataplane::cli::main()
}

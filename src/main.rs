//! Arguments, runtime, exit code; nothing else.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    archiver::cli::Args::parse().run()
}

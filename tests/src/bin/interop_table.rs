//! Writes docs/interop.md from the outcomes that the tests of `make interop` left.

use std::path::PathBuf;

use clap::Parser;

#[derive(Parser)]
struct Arguments {
    /// Folder with an outcome for every cell.
    outcomes: PathBuf,
    /// The page to write.
    page: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let Arguments { outcomes, page } = Arguments::parse();
    towpath_tests::interop::table::write(&outcomes, &page)
}

//! `crdgen`: prints deploy/crds.yaml.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    let text = api::crd::render().map_err(io::Error::other)?;
    io::stdout().write_all(text.as_bytes())
}

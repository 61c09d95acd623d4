//! `crdgen`: prints deploy/crds.yaml; `crdgen KIND`: the schema that files are checked with, `schemas/KIND.json`.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    let text = match std::env::args().nth(1) {
        None => api::crd::render().map_err(io::Error::other)?,
        Some(kind) => api::crd::render_spec(&kind)
            .ok_or_else(|| io::Error::other(format!("{kind} is no kind of towpath.io")))?,
    };
    io::stdout().write_all(text.as_bytes())
}

//! `crdgen`: prints deploy/crds.yaml.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    print!("{}", api::crd::render()?);
    Ok(())
}

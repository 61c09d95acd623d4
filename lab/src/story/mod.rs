//! The story of a lab: `expect.yaml` beside the topology, played by `towpath lab test`.

pub mod report;

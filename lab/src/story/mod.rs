//! The story of a lab: `expect.yaml` beside the topology, played by `towpath lab test`.

mod columns;
pub mod junit;
pub mod report;
pub mod table;
pub mod timeline;
mod units;
mod verdict;

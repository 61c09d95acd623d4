//! From a topology file to a [`topology::Topology`]: read, inherited, checked. Every mistake has its line.
//!
//! No kernel and no processes; the only files looked at are those the topology names.

pub(crate) mod binds;
pub(crate) mod fields;
pub(crate) mod git;
pub(crate) mod hosts;
pub(crate) mod image;
pub(crate) mod kind;
pub(crate) mod lifecycle;
pub(crate) mod links;
pub(crate) mod management;
pub(crate) mod network;
pub(crate) mod node_spec;
pub(crate) mod problem;
pub(crate) mod shape;
pub(crate) mod space;
pub(crate) mod stage;
pub(crate) mod stage_file;
pub(crate) mod substitute;
pub(crate) mod sysctls;
pub(crate) mod topology;
pub(crate) mod words;
pub(crate) mod yaml;

//! The CNI specification's words: what a runtime says, what it is answered. Pure: text in, text out.
//!
//! ```text
//!   environment ──> Call                     command, and whom it is about
//!   stdin ──> Input ──> NetworkConf          the network
//!                  ├──> Wanted               what this pod asks for (runtimeConfig > args.cni > CNI_ARGS)
//!                  └──> AddResult            what plugins before us did; ours is added to it
//!   AddResult, CniError ──> one line of JSON in the request's version
//! ```

pub mod args;
pub mod config;
pub mod environment;
pub mod error;
pub mod fields;
pub mod input;
pub mod result;
pub mod runtime;
pub mod version;
pub mod wanted;

pub use args::CniArgs;
pub use config::{NetworkConf, StatePlace};
pub use environment::{Call, Command, NetnsPath, Target};
pub use error::{CniError, Code};
pub use input::Input;
pub use result::{AddResult, Dns, Interface};
pub use runtime::{Bandwidth, IpRange, PortMapping, Protocol, Rate};
pub use version::Version;
pub use wanted::{Mac, Wanted};

//! The CNI specification's words: what a runtime says, what it is answered. Pure: text in, text out.

pub mod error;
pub mod runtime;
pub mod version;

pub use error::{CniError, Code};
pub use runtime::{Bandwidth, IpRange, PortMapping, Protocol, Rate};
pub use version::Version;

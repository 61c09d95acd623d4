//! feeder

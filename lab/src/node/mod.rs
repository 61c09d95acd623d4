//! One node from the inside: namespaces, files, process 1 and what it runs.

pub(crate) mod boot;
pub(crate) mod control;
pub(crate) mod device_requests;
pub(crate) mod health;
pub(crate) mod init;
pub(crate) mod launch;
pub(crate) mod main_process;
pub(crate) mod namespaces;
pub(crate) mod programs;
pub(crate) mod reaper;
pub(crate) mod root;
pub(crate) mod terminal;
pub(crate) mod users;

//! A node's boots: a boot id of its own, and what a machine that was off has lost when it returns.
//!
//! A container shares its machine's boot id, and a node that died and returned would seem never to have
//! been away. So each node has its own file over `/proc/sys/kernel/random/boot_id`, and when its main process
//! starts after a death, the named network namespaces in it are gone, with every device in them and its
//! other end, and what towpath keeps in `/run`.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::mount::{UnmountFlags, mount_bind, unmount};

use crate::kernel::netlink::Netlink;
use crate::start::netns_names;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// A new random id with each reading.
const UUID: &str = "/proc/sys/kernel/random/uuid";
/// Where the node's own boot id is; in `/run`, which a node has for itself.
const OWN: &str = "/run/.towpath-lab/boot_id";

/// Folders of `/run` that would not outlive a boot, and whose owner makes them anew.
const VOLATILE: [&str; 1] = ["/run/towpath"];

/// Gives the node its boot id. A kernel without one leaves it so.
pub(crate) fn begin() -> io::Result<()> {
    let own = Path::new(OWN);
    if let Some(folder) = own.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(own, fs::read(UUID)?)?;
    Ok(mount_bind(own, BOOT_ID)?)
}

/// The node was off: it has another boot id, and nothing of its earlier life. Goes on after a failure, and
/// tells the first one.
pub(crate) fn again() -> io::Result<()> {
    let mut outcome = fs::read(UUID).and_then(|id| fs::write(OWN, id));
    for entry in list(Path::new(netns_names::FOLDER))? {
        outcome = outcome.and(remove_netns(&entry.path()));
    }
    for folder in VOLATILE {
        outcome = outcome.and(match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
    }
    outcome.map_err(|error| io::Error::new(error.kind(), format!("forgetting its earlier life: {error}")))
}

fn list(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Devices first: somebody who looks into the namespace, such as a test, would keep it and them alive.
fn remove_netns(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    // A name without a namespace is only a file.
    let devices = Netlink::route_in(file.as_fd()).map_or(Ok(()), |mut netlink| netlink.delete_veths());
    drop(file);
    match unmount(path, UnmountFlags::DETACH) {
        Ok(()) | Err(rustix::io::Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    fs::remove_file(path)?;
    devices
}

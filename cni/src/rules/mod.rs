//! What the node's nf_tables do for pods: no pod sends under another's address, and ports of the node lead into pods.
//!
//! In: who owns what ([`Published`]). Out: elements of maps in the table `inet towpath-cni`, which is ours alone; no
//! other table is read or changed. Every element carries the host interface of the pod it belongs to as its comment,
//! so that [`withdraw`] needs nothing else. Every change is one transaction: seen whole or not at all.
//!
//! ```text
//!   publish ──> elements (what a pod's mappings are in the maps) ──> layout (the table and its chains)
//!   withdraw ─> the elements that carry the owner's name             conntrack (flows that outlive a mapping)
//! ```
//!
//! Source: CNI convention `portMappings`; `linux/netfilter/nf_tables.h`.

mod conntrack;
mod elements;
mod layout;

use std::collections::BTreeSet;

use netlink::nft::{self, Element};
use netlink::{Batch, Error, Socket};

use crate::Addresses;
use crate::names::IfName;
use crate::spec::runtime::PortMapping;
use elements::Installed;

pub use conntrack::{Effort, forget_flows};

/// A change that others always overtake is given up after this many attempts; each lost attempt is one that another
/// process won, so 32 at once need 32 at most.
const ATTEMPTS: u32 = 200;

/// The ports of the node that lead into one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The pod's host interface: whose the mappings are.
    pub owner: IfName,
    /// Where they lead.
    pub addresses: Addresses,
    /// Which they are.
    pub mappings: Vec<PortMapping>,
}

/// Why the node's rules are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// nf_tables or conntrack said no.
    #[error(
        "{0}; the kernel needs nf_tables with inet, nat, fib and masquerade (CONFIG_NF_TABLES_INET, NFT_NAT, NFT_FIB_INET, NFT_MASQ)"
    )]
    Unsupported(Error),
    /// The kernel said no.
    #[error(transparent)]
    Netlink(#[from] Error),
    /// Another pod has the port.
    #[error(
        "hostPort {port} belongs to the pod behind {owner} (to {target}); choose another hostPort or remove that pod"
    )]
    Taken {
        /// Port, protocol and address of the node.
        port: String,
        /// The other pod's host interface.
        owner: String,
        /// Where the port leads.
        target: String,
    },
    /// The same port of the node is to lead to two ports of the pod.
    #[error(
        "hostPort {port} is mapped twice, to different ports of the pod; remove one of both portMappings"
    )]
    Twice {
        /// Port, protocol and address of the node.
        port: String,
    },
    /// The pod has no address of hostIP's family.
    #[error("portMappings: hostIP {host_ip} for {protocol} port {port}, but the pod has no address of that family; remove hostIP or give the pod one", protocol = .mapping.protocol, port = .mapping.host_port, host_ip = .mapping.host_ip.map(|ip| ip.to_string()).unwrap_or_default())]
    NoAddress {
        /// What was asked for.
        mapping: PortMapping,
    },
    /// hostIP is ::1, which no packet can leave the node from.
    #[error("portMappings: hostIP ::1 for {protocol} port {port} cannot lead into a pod, the kernel keeps ::1 to itself; use 127.0.0.1 or an address of the node", protocol = .mapping.protocol, port = .mapping.host_port)]
    Ipv6Loopback {
        /// What was asked for.
        mapping: PortMapping,
    },
    /// Others change nf_tables faster than a change can be made.
    #[error("nf_tables changed during each of {ATTEMPTS} attempts to {doing}; try again")]
    Unstable {
        /// What was being done.
        doing: &'static str,
    },
}

/// Sees to it that no pod can send under an address that is not its own, and that nothing from outside reaches
/// 127.0.0.0/8. One question to the kernel when all is there.
///
/// # Errors
/// [`RulesError::Unsupported`] where the kernel lacks nf_tables, [`RulesError::Netlink`].
pub fn ensure_guard() -> Result<(), RulesError> {
    layout::ensure(&mut Socket::netfilter()?, layout::Part::Guard)
}

/// Removes the whole table, when the plugin is taken off a node. False: there was none.
///
/// # Errors
/// [`RulesError::Unsupported`] where the kernel lacks nf_tables, [`RulesError::Netlink`].
pub fn remove_table() -> Result<bool, RulesError> {
    let mut batch = Batch::new();
    batch.transaction(|batch| layout::TABLE.delete(batch));
    match Socket::netfilter()?.exchange(batch) {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Leads the node's ports into the pod. Repeating it changes nothing. Ports that a pod without a host interface has
/// left behind are taken over.
///
/// # Errors
/// [`RulesError::Taken`] when another pod has one of the ports: nothing is changed then; [`RulesError::Twice`] and
/// [`RulesError::NoAddress`] before anything is asked of the kernel.
pub fn publish(published: &Published) -> Result<(), RulesError> {
    let wanted = elements::wanted(published)?;
    if wanted.is_empty() {
        return Ok(());
    }
    let mut socket = Socket::netfilter()?;
    layout::ensure(&mut socket, layout::Part::HostPorts)?;
    // Nearly always every port is free, which the transaction itself finds out.
    let mut batch = Batch::new();
    batch.transaction(|batch| elements::create(batch, &wanted));
    match socket.exchange(batch) {
        Ok(()) => {}
        Err(error) if matches!(error.errno(), Some(libc::EEXIST | libc::ENOENT | libc::EBUSY)) => {
            settle(&mut socket, published, &wanted)?;
        }
        Err(error) => return Err(error.into()),
    }
    conntrack::forget_udp(published)?;
    Ok(())
}

/// Publishes where some of the elements are there already: ours stay, those of pods that are gone make way.
fn settle(socket: &mut Socket, published: &Published, wanted: &[Installed]) -> Result<(), RulesError> {
    for _ in 0..ATTEMPTS {
        layout::ensure(socket, layout::Part::HostPorts)?;
        let generation = nft::generation(socket)?;
        let installed = elements::list(socket)?;
        let (mut stale, mut missing) = (Vec::new(), Vec::new());
        for element in wanted {
            let there = installed.iter().find(|there| there.is_same_key(element));
            match there {
                Some(there) if there == element => continue,
                Some(there) if there.owner() != published.owner.as_str() && has_link(there.owner())? => {
                    return Err(there.taken());
                }
                Some(there) => stale.push(there.clone()),
                None => {}
            }
            missing.push(element.clone());
        }
        let mut batch = Batch::new();
        batch.transaction_since(generation, |batch| {
            elements::delete(batch, &stale);
            elements::create(batch, &missing);
        });
        match socket.exchange(batch) {
            Err(error) if is_overtaken(&error) => {}
            outcome => return outcome.map_err(Into::into),
        }
    }
    Err(RulesError::Unstable { doing: "publish host ports" })
}

/// Ports that were taken back. Dropping it waits until the kernel has let go of them, some 10 ms: the last close of a
/// netfilter socket does. Whoever keeps it while the pod's interfaces are deleted, which waits for the same, waits once.
#[derive(Debug)]
#[must_use = "dropping it at once waits for the kernel"]
pub struct Withdrawn {
    any: bool,
    _socket: Socket,
}

impl Withdrawn {
    /// Whether there was any port.
    #[must_use]
    pub fn any(&self) -> bool {
        self.any
    }
}

/// Takes back every port that leads to the pod behind `owner`. What the ports have left in conntrack is for
/// [`forget_flows`].
///
/// # Errors
/// [`RulesError::Netlink`], [`RulesError::Unstable`].
pub fn withdraw(owner: &IfName) -> Result<Withdrawn, RulesError> {
    let mut socket = Socket::netfilter()?;
    for _ in 0..ATTEMPTS {
        let generation = nft::generation(&mut socket)?;
        let mut installed = elements::list(&mut socket)?;
        installed.retain(|element| element.owner() == owner.as_str());
        if installed.is_empty() {
            return Ok(Withdrawn { any: false, _socket: socket });
        }
        let mut batch = Batch::new();
        batch.transaction_since(generation, |batch| elements::delete(batch, &installed));
        match socket.exchange(batch) {
            Err(error) if is_overtaken(&error) => {}
            Err(error) => return Err(error.into()),
            Ok(()) => return Ok(Withdrawn { any: true, _socket: socket }),
        }
    }
    Err(RulesError::Unstable { doing: "withdraw host ports" })
}

/// What is not as [`publish`] and [`ensure_guard`] have left it, in words; empty: all is well. For a pod without
/// mappings only the guard is looked at.
///
/// # Errors
/// [`RulesError::Netlink`], and [`publish`]'s when the mappings themselves are impossible.
pub fn check(published: &Published) -> Result<Vec<String>, RulesError> {
    let wanted = elements::wanted(published)?;
    let mut socket = Socket::netfilter()?;
    let mut differences = layout::differences(&mut socket, layout::Part::Guard)?;
    if wanted.is_empty() {
        return Ok(differences);
    }
    differences.extend(layout::differences(&mut socket, layout::Part::HostPorts)?);
    let installed = elements::list(&mut socket)?;
    for element in &wanted {
        match installed.iter().find(|there| there.is_same_key(element)) {
            Some(there) if there == element => {}
            Some(there) => differences.push(there.taken().to_string()),
            None => differences.push(format!("{element} is missing in table inet {}", layout::TABLE.name)),
        }
    }
    Ok(differences)
}

/// The host interfaces that own elements, whether they exist or not: for GC.
///
/// # Errors
/// [`RulesError::Netlink`].
pub fn owners() -> Result<BTreeSet<IfName>, RulesError> {
    let installed = elements::list(&mut Socket::netfilter()?)?;
    Ok(installed.iter().filter_map(|element| IfName::parse(element.owner()).ok()).collect())
}

/// Somebody else changed nf_tables between our reading and our writing.
fn is_overtaken(error: &Error) -> bool {
    /// The kernel's own, never seen by programs except here (`linux/errno.h`).
    const ERESTART: i32 = 85;
    matches!(error.errno(), Some(ERESTART | libc::EAGAIN | libc::EBUSY | libc::ENOENT | libc::EEXIST))
}

/// Whether there is an interface of this name.
fn has_link(name: &str) -> Result<bool, Error> {
    const RTM_GETLINK: u16 = 18;
    const IFLA_IFNAME: u16 = 3;
    let found = Socket::route()?.get(
        "asking for a port owner's interface",
        RTM_GETLINK,
        |body| {
            body.header(&[0; 16]);
            body.text(IFLA_IFNAME, name);
        },
        |_| Some(()),
    );
    match found {
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(false),
        found => found.map(|found| found.is_some()),
    }
}

/// What the elements of one set are.
fn of_set(elements: &[Installed], set: usize) -> impl Iterator<Item = &Element> {
    elements.iter().filter(move |element| element.set == set).map(|element| &element.element)
}

//! Listening sockets: one for each address, with the MD5 keys of every peer that may call.
//!
//! In: the addresses and keys wanted, as a whole. Out: accepted streams on a bounded channel. Only the
//! difference is applied, so a changed key of one peer never touches another's connection.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;

use api::desired::{Listen, Secret};
use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::{sockopt, unspecified};

/// Connections the kernel keeps while we are busy.
const BACKLOG: i32 = 1024;

/// The MD5 key of one neighbour or listen range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenKey {
    pub(crate) neighbor: IpNet,
    pub(crate) key: Secret,
}

/// The listening sockets of this speaker.
pub(crate) struct Listeners {
    sockets: BTreeMap<SocketAddr, Listening>,
    /// Full when the router is busy: accepting waits, the kernel's backlog holds the callers.
    accepted: mpsc::Sender<TcpStream>,
}

struct Listening {
    listener: Arc<TcpListener>,
    accepting: JoinHandle<()>,
    keys: BTreeMap<IpNet, Secret>,
}

impl Listeners {
    pub(crate) fn new(accepted: mpsc::Sender<TcpStream>) -> Self {
        Self { sockets: BTreeMap::new(), accepted }
    }

    /// Makes the sockets and keys match what is wanted; returns what could not be done, in words.
    pub(crate) fn configure(&mut self, listen: Option<&Listen>, keys: &[ListenKey]) -> Vec<String> {
        let wanted = listen.map(socket_addresses).unwrap_or_default();
        let mut problems = Vec::new();
        self.sockets.retain(|address, listening| {
            let keep = wanted.contains(address);
            if !keep {
                listening.accepting.abort();
                info!(%address, "stopped listening");
            }
            keep
        });
        for address in wanted {
            if !self.sockets.contains_key(&address) {
                match self.open(address, keys, &mut problems) {
                    Ok(listening) => {
                        info!(%address, "listening");
                        self.sockets.insert(address, listening);
                    }
                    // A host without IPv6 has no [::]; IPv4 alone is fine there.
                    Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
                    Err(error) => problems.push(format!(
                        "cannot listen on {address}: {error}; is another BGP daemon running? Stop it, or set \
                         NetworkConfig spec.listen.port"
                    )),
                }
            }
            if let Some(listening) = self.sockets.get_mut(&address) {
                set_keys(&listening.listener, address, keys, &mut listening.keys, &mut problems);
            }
        }
        problems
    }

    /// A connection from this neighbour has shown that it knows a key.
    pub(crate) fn demands_key(&self, neighbor: IpAddr) -> bool {
        let mut sockets = self.sockets.values();
        sockets.any(|listening| listening.keys.keys().any(|range| range.contains(&neighbor)))
    }

    fn open(
        &self,
        address: SocketAddr,
        keys: &[ListenKey],
        problems: &mut Vec<String>,
    ) -> io::Result<Listening> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
            // A caller with GTSM drops a SYN-ACK of any lower hop limit; the accepted socket gets its own.
            socket.set_unicast_hops_v6(255)?;
        } else {
            socket.set_ttl_v4(255)?;
        }
        sockopt::save_syn(&socket)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        // Before the first caller: nobody slips in without a password.
        let mut set = BTreeMap::new();
        set_keys(&socket, address, keys, &mut set, problems);
        socket.listen(BACKLOG)?;
        let listener = Arc::new(TcpListener::from_std(socket.into())?);
        let accepting = tokio::spawn(accept(Arc::clone(&listener), self.accepted.clone()));
        Ok(Listening { listener, accepting, keys: set })
    }
}

/// Makes the keys of a socket match; `set` is what it has, and stays true whatever the kernel refuses.
fn set_keys(
    socket: &impl AsFd,
    address: SocketAddr,
    keys: &[ListenKey],
    set: &mut BTreeMap<IpNet, Secret>,
    problems: &mut Vec<String>,
) {
    let wanted: BTreeMap<IpNet, &Secret> = keys
        .iter()
        .filter(|key| key.neighbor.addr().is_ipv6() == address.is_ipv6())
        .map(|key| (key.neighbor, &key.key))
        .collect();
    set.retain(|neighbor, _| {
        let keep = wanted.contains_key(neighbor);
        if !keep && let Err(error) = sockopt::set_md5_key(socket, *neighbor, None) {
            problems.push(format!("TCP MD5 key of {neighbor} could not be removed: {error}"));
            return true;
        }
        keep
    });
    for (neighbor, key) in wanted {
        if set.get(&neighbor) == Some(key) {
            continue;
        }
        match sockopt::set_md5_key(socket, neighbor, Some(key)) {
            Ok(()) => drop(set.insert(neighbor, key.clone())),
            Err(error) => {
                let remedy = match error.raw_os_error() {
                    Some(libc::ENOMEM) => {
                        "; raise net.core.optmem_max (about 200 bytes a key), or use one listen range"
                    }
                    Some(libc::ENOPROTOOPT) => "; this kernel is built without TCP MD5",
                    _ => "",
                };
                problems.push(format!(
                    "TCP MD5 key of {neighbor}: {error}{remedy}; until then its connections are refused"
                ));
            }
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        for listening in self.sockets.values() {
            listening.accepting.abort();
        }
    }
}

fn socket_addresses(listen: &Listen) -> Vec<SocketAddr> {
    let any: Vec<IpAddr> = vec![unspecified(false), unspecified(true)];
    let addresses = if listen.addresses.is_empty() { &any } else { &listen.addresses };
    addresses.iter().map(|address| SocketAddr::new(*address, listen.port)).collect()
}

async fn accept(listener: Arc<TcpListener>, accepted: mpsc::Sender<TcpStream>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if accepted.send(stream).await.is_err() {
                    return; // the speaker has ended
                }
            }
            Err(error) => {
                // Out of descriptors, or a caller that was gone at once: the listener itself is fine.
                warn!(%error, "accepting a connection failed");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

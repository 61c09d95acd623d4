//! Where next hops lead: from links and addresses at once, from the kernel's own lookup a little later.

use std::net::IpAddr;

use bgp_speaker::rib::FibNexthop;
use ipnet::IpNet;
use tracing::{debug, warn};

use super::Driver;
use crate::fib::Hop;
use crate::fib::run::SpeakerFeedback;
use crate::kernel::dump::Lookup;
use crate::kernel::resolve::Resolution;
use crate::kernel::worker::Job;
use crate::kernel::{KernelError, RTN_UNICAST};

/// What is being looked up, in this order.
pub(super) struct Looking {
    nexthops: Vec<FibNexthop>,
    prefixes: Vec<IpNet>,
    pods: Vec<IpNet>,
}

impl<F: SpeakerFeedback> Driver<F> {
    pub(super) fn resolve_new(&mut self) {
        for nexthop in self.fib.take_unresolved() {
            self.resolve(nexthop);
        }
    }

    fn resolve(&mut self, nexthop: FibNexthop) {
        let resolution = self.topology.resolve(&nexthop);
        if resolution == Resolution::Lookup {
            self.indirect.insert(nexthop);
            self.to_look_up.insert(nexthop);
            return;
        }
        self.indirect.remove(&nexthop);
        self.to_look_up.remove(&nexthop);
        let hop = if let Resolution::Via(hop) = resolution { Some(hop) } else { None };
        self.fib.resolved(&nexthop, hop);
    }

    pub(super) fn resolve_all(&mut self) {
        let nexthops: Vec<FibNexthop> = self.fib.nexthops().collect();
        self.indirect.retain(|nexthop| nexthops.contains(nexthop));
        for nexthop in nexthops {
            self.resolve(nexthop);
        }
    }

    /// One job at a time: what comes up meanwhile is in the next.
    pub(super) fn look_up(&mut self) {
        let idle =
            self.to_look_up.is_empty() && self.to_inspect.is_empty() && self.pods_to_look_up.is_empty();
        if self.looking.is_some() || idle {
            return;
        }
        let nexthops: Vec<FibNexthop> = std::mem::take(&mut self.to_look_up).into_iter().collect();
        let prefixes: Vec<IpNet> = std::mem::take(&mut self.to_inspect).into_iter().collect();
        let pods: Vec<IpNet> = std::mem::take(&mut self.pods_to_look_up).into_iter().collect();
        let addresses: Vec<IpAddr> = nexthops
            .iter()
            .map(|nexthop| nexthop.address)
            .chain(prefixes.iter().chain(&pods).map(IpNet::addr))
            .collect();
        self.looking = Some(Looking { nexthops, prefixes, pods });
        if self.worker.jobs.try_send(Job::Lookup(addresses)).is_err() {
            debug!("the writer thread takes no jobs");
        }
    }

    pub(super) fn looked_up(&mut self, found: Vec<(IpAddr, Result<Option<Lookup>, KernelError>)>) {
        let Some(Looking { nexthops, prefixes, pods }) = self.looking.take() else { return };
        let mut found = found.into_iter().map(|(address, found)| {
            found.unwrap_or_else(|error| {
                warn!(%address, %error, "lookup failed");
                None
            })
        });
        for nexthop in nexthops {
            let lookup = found.next().flatten();
            // A link or address event may have made it direct in the meantime.
            if self.indirect.contains(&nexthop) {
                let hop = lookup.and_then(|lookup| self.usable(&nexthop, &lookup));
                self.fib.resolved_over(&nexthop, hop, lookup.map(|lookup| lookup.route).as_ref());
            }
        }
        for prefix in prefixes {
            let lookup = found.next().flatten();
            self.fib.inspected(prefix, lookup.as_ref().map(|lookup| &lookup.route));
        }
        for prefix in pods {
            let route = found.next().flatten().map(|lookup| lookup.route);
            let install = self.fib.install();
            self.published.pods.send_if_modified(|pods| pods.looked_up(install, prefix, route.as_ref()));
        }
    }

    fn usable(&self, nexthop: &FibNexthop, lookup: &Lookup) -> Option<Hop> {
        let ours = lookup.route.protocol == self.fib.install().protocol;
        let hop = lookup.hop.filter(|hop| self.topology.usable(hop.ifindex))?;
        (lookup.route.kind == RTN_UNICAST && (!ours || nexthop.recursive)).then_some(hop)
    }
}

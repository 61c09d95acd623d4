//! The routes to this node's pods, as the CNI plugin writes them: host routes with our local protocol number that
//! lead to an interface.
//!
//! In: what dumps and notifications say. Out: which addresses pods have. Nothing here is ever written, adopted or
//! swept: the routes belong to the plugin. The kernel deletes the IPv4 routes of an interface that goes without
//! saying so, hence the interface is kept with each. Pure.

use std::collections::{BTreeMap, BTreeSet};

use api::desired::Install;
use ipnet::IpNet;

use crate::kernel::{KernelRoute, RTN_UNICAST};

/// Addresses of pods, each with its interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodRoutes {
    interfaces: BTreeMap<IpNet, u32>,
}

impl PodRoutes {
    /// Starts over from a dump.
    pub(super) fn read(install: &Install, routes: &[KernelRoute]) -> Self {
        let interfaces = routes.iter().filter_map(|route| Some((route.prefix, pod(install, route)?)));
        Self { interfaces: interfaces.collect() }
    }

    /// A route appeared; true if it is a pod's and news.
    pub(super) fn appeared(&mut self, install: &Install, route: &KernelRoute) -> bool {
        pod(install, route)
            .is_some_and(|ifindex| self.interfaces.insert(route.prefix, ifindex) != Some(ifindex))
    }

    /// A route is gone; true if it was a pod's. One that is over another interface by now stays.
    pub(super) fn gone(&mut self, install: &Install, route: &KernelRoute) -> bool {
        let ifindex = pod(install, route);
        let known = ifindex.is_some() && self.interfaces.get(&route.prefix).copied() == ifindex;
        known && self.interfaces.remove(&route.prefix).is_some()
    }

    /// A pod's address is looked up after its link changed; true if that is news.
    pub(super) fn looked_up(
        &mut self,
        install: &Install,
        prefix: IpNet,
        found: Option<&KernelRoute>,
    ) -> bool {
        match found.filter(|route| route.prefix == prefix && pod(install, route).is_some()) {
            Some(route) => self.appeared(install, route),
            None => self.interfaces.remove(&prefix).is_some(),
        }
    }

    /// An interface was deleted; true if a pod had it.
    pub(super) fn link_gone(&mut self, ifindex: u32) -> bool {
        let before = self.interfaces.len();
        self.interfaces.retain(|_, interface| *interface != ifindex);
        self.interfaces.len() != before
    }

    /// Addresses behind an interface.
    pub(super) fn behind(&self, ifindex: u32) -> impl Iterator<Item = IpNet> {
        self.interfaces.iter().filter(move |(_, interface)| **interface == ifindex).map(|(prefix, _)| *prefix)
    }

    /// Addresses that no block contains, as host routes.
    pub fn outside<'a>(&'a self, blocks: &'a [IpNet]) -> impl Iterator<Item = IpNet> + 'a {
        self.interfaces
            .keys()
            .copied()
            .filter(move |prefix| !blocks.iter().any(|block| block.contains(prefix)))
    }

    /// How many pods have a route: one of two families counts once.
    pub fn pods(&self) -> usize {
        self.interfaces.values().collect::<BTreeSet<_>>().len()
    }
}

/// The interface of a pod's route; `None`: it is something else.
fn pod(install: &Install, route: &KernelRoute) -> Option<u32> {
    let host = route.prefix.prefix_len() == route.prefix.max_prefix_len();
    let ours = route.protocol == install.local_protocol && route.table == install.table;
    let plain = route.kind == RTN_UNICAST && route.tos == 0;
    route.ifindex.filter(|_| host && ours && plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install() -> Install {
        Install {
            metric: 20,
            table: 254,
            max_paths: 8,
            protocol: 199,
            local_protocol: 200,
            advertise_after_install: false,
        }
    }

    fn route(prefix: &str, ifindex: u32) -> KernelRoute {
        KernelRoute {
            prefix: prefix.parse().unwrap(),
            table: 254,
            metric: 0,
            protocol: 200,
            kind: RTN_UNICAST,
            tos: 0,
            nexthop_id: None,
            ifindex: Some(ifindex),
        }
    }

    fn outside(pods: &PodRoutes, blocks: &[&str]) -> Vec<String> {
        let blocks: Vec<IpNet> = blocks.iter().map(|block| block.parse().unwrap()).collect();
        pods.outside(&blocks).map(|prefix| prefix.to_string()).collect()
    }

    #[test]
    fn only_host_routes_of_the_plugin_over_an_interface_are_pods() {
        let install = install();
        let pod = route("10.244.1.5/32", 7);
        let cases = [
            ("a pod", pod, 1),
            ("a prefix", route("10.244.1.0/24", 7), 0),
            ("learned", KernelRoute { protocol: 199, ..pod }, 0),
            ("another table", KernelRoute { table: 100, ..pod }, 0),
            ("a blackhole", KernelRoute { kind: crate::kernel::RTN_BLACKHOLE, ..pod }, 0),
            ("nowhere", KernelRoute { ifindex: None, ..pod }, 0),
        ];
        for (name, route, expected) in cases {
            assert_eq!(PodRoutes::read(&install, &[route]).pods(), expected, "{name}");
        }
        let dual = [pod, route("fd00:244:1::5/128", 7), route("10.244.1.6/32", 8)];
        assert_eq!(PodRoutes::read(&install, &dual).pods(), 2);
    }

    #[test]
    fn addresses_outside_the_blocks_come_and_go_with_their_routes_and_links() {
        let install = install();
        let mut pods = PodRoutes::default();
        assert!(pods.appeared(&install, &route("10.244.1.5/32", 7)));
        assert!(pods.appeared(&install, &route("192.0.2.7/32", 8)));
        assert!(!pods.appeared(&install, &route("192.0.2.7/32", 8)), "no news");
        assert!(pods.appeared(&install, &route("2001:db8::7/128", 8)));
        let blocks = ["10.244.1.0/24", "fd00:244:1::/64"];
        assert_eq!(outside(&pods, &blocks), ["192.0.2.7/32", "2001:db8::7/128"]);
        // Its successor was there before the old one went.
        assert!(pods.appeared(&install, &route("192.0.2.7/32", 9)));
        assert!(!pods.gone(&install, &route("192.0.2.7/32", 8)));
        assert!(pods.link_gone(8) && !pods.link_gone(8));
        assert_eq!(outside(&pods, &blocks), ["192.0.2.7/32"]);
        assert!(pods.gone(&install, &route("192.0.2.7/32", 9)));
        assert_eq!((outside(&pods, &blocks).len(), pods.pods()), (0, 1));
    }

    #[test]
    fn a_route_that_went_in_silence_with_its_link_is_found_out_by_looking_it_up() {
        let install = install();
        let pod = route("192.0.2.7/32", 8);
        let mut pods = PodRoutes::read(&install, &[pod]);
        assert_eq!(pods.behind(8).collect::<Vec<_>>(), [pod.prefix]);
        assert!(!pods.looked_up(&install, pod.prefix, Some(&pod)), "still there");
        let default = KernelRoute { prefix: "0.0.0.0/0".parse().unwrap(), protocol: 3, ..pod };
        assert!(pods.looked_up(&install, pod.prefix, Some(&default)));
        assert!(!pods.looked_up(&install, pod.prefix, None));
        assert_eq!(pods.pods(), 0);
    }
}

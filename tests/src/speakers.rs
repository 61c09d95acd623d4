//! Routers of other projects as neighbours: their configuration from one description.
//!
//! [`Router`] is written out as the file of each program; [`Speaker`] reads sessions and routes through a
//! function that runs a command on the node (a lab node, a [`Sandbox`]).
//! All of them import and export everything, so that what is filtered is filtered by towpath.
//!
//! [`Sandbox`]: crate::sandbox::Sandbox

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

mod bird;
mod exabgp;
mod frr;
mod gobgp;
mod openbgpd;

pub use exabgp::route as exabgp_route;
pub use frr::daemons;
pub use gobgp::{network as gobgp_network, started as gobgp_started};
pub use lab::speakers::{Path, Session, Speaker, Table};

/// A router of another project.
#[derive(Debug, Clone)]
pub struct Router {
    /// AS number.
    pub local_as: u32,
    /// BGP Identifier.
    pub router_id: Ipv4Addr,
    /// Sessions.
    pub neighbors: Vec<Neighbor>,
    /// Prefixes to announce, whether or not the kernel has them.
    pub networks: Vec<IpNet>,
    /// RFC 4724 as restarter and helper; off: not negotiated.
    pub graceful_restart: bool,
    /// Whether BGP routes go into the kernel.
    pub kernel: bool,
}

impl Router {
    /// A router without sessions, with graceful restart, that forwards.
    pub fn new(local_as: u32, router_id: Ipv4Addr) -> Self {
        Self {
            local_as,
            router_id,
            neighbors: Vec::new(),
            networks: Vec::new(),
            graceful_restart: true,
            kernel: true,
        }
    }

    /// The networks of one family.
    fn networks(&self, v6: bool) -> impl Iterator<Item = &IpNet> {
        self.networks.iter().filter(move |network| network.addr().is_ipv6() == v6)
    }

    /// `/etc/frr/frr.conf`, for FRR 8.4 and later.
    pub fn frr_conf(&self) -> String {
        frr::conf(self)
    }

    /// `/etc/bird/bird.conf`, for BIRD 2.
    pub fn bird_conf(&self) -> String {
        bird::conf(self)
    }

    /// `/config/gobgp.toml`, for GoBGP 3; its networks are announced by [`gobgp_network`].
    pub fn gobgp_conf(&self) -> String {
        gobgp::conf(self)
    }

    /// `/etc/bgpd/bgpd.conf`, for OpenBGPD 7.
    pub fn openbgpd_conf(&self) -> String {
        openbgpd::conf(self)
    }

    /// `/etc/exabgp/exabgp.conf`, for ExaBGP 4.
    pub fn exabgp_conf(&self) -> String {
        exabgp::conf(self)
    }
}

/// One session of a [`Router`].
#[derive(Debug, Clone)]
pub struct Neighbor {
    /// The other end.
    pub address: IpAddr,
    /// The interface of a link-local address.
    pub interface: Option<String>,
    /// The other end's AS number.
    pub remote_as: u32,
    /// TCP MD5 key.
    pub password: Option<String>,
    /// TTL security (RFC 5082) over one hop.
    pub gtsm: bool,
    /// TTL of a session over several hops.
    pub multihop: Option<u8>,
    /// Wait for the other end to connect.
    pub passive: bool,
    /// Our end, where the kernel should not choose.
    pub source: Option<IpAddr>,
    /// Our end, for programs that do not find it themselves.
    pub local: Option<IpAddr>,
    /// Our address of the other family on the link, for programs that do not find it themselves: the next
    /// hop of that family's routes.
    pub local_other_family: Option<IpAddr>,
    /// Keepalive and hold time in seconds; `None` for the program's own.
    pub timers: Option<(u16, u16)>,
    /// Seconds between attempts to connect; the programs' own patience is too long for most tests.
    pub connect_retry: u16,
    /// IPv4 unicast; over an IPv6 session with RFC 8950 next hops.
    pub v4: bool,
    /// IPv6 unicast.
    pub v6: bool,
    /// Speak as before RFC 6793, with AS numbers of 2 octets; FRR then offers no capability at all.
    pub two_octet_as: bool,
    /// End the session with Cease 6/1 when it sends more prefixes of a family.
    pub max_prefixes: Option<u32>,
    /// A standard community that is put on everything announced to it.
    pub community: Option<(u16, u16)>,
}

impl Neighbor {
    /// A directly connected neighbour with both families and no extras.
    pub fn new(address: IpAddr, remote_as: u32) -> Self {
        Self {
            address,
            interface: None,
            remote_as,
            password: None,
            gtsm: false,
            multihop: None,
            passive: false,
            source: None,
            local: None,
            local_other_family: None,
            timers: None,
            connect_retry: 1,
            v4: true,
            v6: true,
            two_octet_as: false,
            max_prefixes: None,
            community: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::netns::Netns;
    use crate::sandbox::Sandbox;

    const LIMIT: Duration = Duration::from_secs(30);

    /// FRR and BIRD on one link, both families, MD5, TTL security: each must learn the other's networks.
    #[test]
    fn frr_and_bird_understand_their_files_and_their_state_is_read() {
        let (left, right) = (Netns::fresh().unwrap(), Netns::fresh().unwrap());
        left.link(("eth1", &["10.0.0.1/24", "fd00::1/64"]), &right, ("eth1", &["10.0.0.2/24", "fd00::2/64"]))
            .unwrap();
        let router = |me: u8, other: &str| {
            let mut router = Router::new(65_000 + u32::from(me), Ipv4Addr::new(me, me, me, me));
            router.networks =
                vec![format!("10.{me}.0.0/16").parse().unwrap(), format!("fd00:{me}::/32").parse().unwrap()];
            let mut neighbor = Neighbor::new(other.parse().unwrap(), 65_003 - u32::from(me));
            neighbor.password = Some("secret".to_owned());
            neighbor.gtsm = true;
            neighbor.timers = Some((1, 3));
            router.neighbors.push(neighbor);
            router
        };
        for (one, two) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let frr = Sandbox::frr(&left, &router(1, two)).unwrap();
            let bird = Sandbox::bird(&right, &router(2, one)).unwrap();
            let (ask_frr, ask_bird) = (|argv: &[&str]| frr.run(argv), |argv: &[&str]| bird.run(argv));
            let up = |sessions: BTreeMap<IpAddr, Session>| {
                anyhow::ensure!(
                    sessions.len() == 1 && sessions.values().all(Session::established),
                    "{sessions:?}"
                );
                Ok(Some(()))
            };
            crate::wait::until(LIMIT, "FRR's session", || up(Speaker::Frr.sessions(&ask_frr)?)).unwrap();
            crate::wait::until(LIMIT, "BIRD's session", || up(Speaker::Bird.sessions(&ask_bird)?)).unwrap();
            for v6 in [false, true] {
                let (ours, theirs) =
                    if v6 { ("fd00:1::/32", "fd00:2::/32") } else { ("10.1.0.0/16", "10.2.0.0/16") };
                let has = |table: Table, prefix: &str, path: &str| {
                    let paths = table.get(&prefix.parse().unwrap()).cloned().unwrap_or_default();
                    anyhow::ensure!(
                        paths.iter().any(|p| p.as_path == path && p.best && !p.next_hops.is_empty()),
                        "{table:?}"
                    );
                    Ok(Some(()))
                };
                crate::wait::until(LIMIT, "FRR's route", || {
                    has(Speaker::Frr.routes(&ask_frr, v6)?, theirs, "65002")
                })
                .unwrap();
                crate::wait::until(LIMIT, "BIRD's route", || {
                    has(Speaker::Bird.routes(&ask_bird, v6)?, ours, "65001")
                })
                .unwrap();
                let family = if v6 { "-6" } else { "-4" };
                crate::wait::until(LIMIT, "the kernel's route", || {
                    Ok(left.ip(&format!("{family} route show {theirs}"))?.contains("bgp").then_some(()))
                })
                .unwrap();
            }
        }
    }

    /// Every option at once; FRR must have taken each line, BIRD parses the whole file or refuses it.
    #[test]
    fn both_programs_accept_every_option() {
        let netns = Netns::fresh().unwrap();
        let other = Netns::fresh().unwrap();
        netns.link(("eth1", &["10.0.0.1/24"]), &other, ("eth1", &["10.0.0.2/24"])).unwrap();
        let mut router = Router::new(65_001, Ipv4Addr::new(1, 1, 1, 1));
        let mut far = Neighbor::new("10.9.9.9".parse().unwrap(), 65_009);
        (far.multihop, far.passive, far.v6) = (Some(3), true, false);
        far.source = Some("10.0.0.1".parse().unwrap());
        far.community = Some((65_535, 65_281));
        let mut near = Neighbor::new("fe80::2".parse().unwrap(), 65_002);
        near.interface = Some("eth1".to_owned());
        router.neighbors = vec![far, near];
        for graceful_restart in [true, false] {
            router.graceful_restart = graceful_restart;
            let frr = Sandbox::frr(&netns, &router).unwrap();
            crate::wait::until(LIMIT, "FRR to have read its file", || {
                let running = frr.run(&["vtysh", "-c", "show running-config"])?;
                for line in router.frr_conf().lines().filter(|line| line.contains(" neighbor ")) {
                    anyhow::ensure!(running.contains(line.trim()), "{line} is not in:\n{running}");
                }
                anyhow::ensure!(
                    running.contains("graceful-restart-disable") != graceful_restart,
                    "{running}"
                );
                Ok(Some(()))
            })
            .unwrap();
            drop(frr);
            let bird = Sandbox::bird(&netns, &router).unwrap();
            crate::wait::until(LIMIT, "BIRD to start", || {
                let sessions = Speaker::Bird.sessions(&|argv| bird.run(argv))?;
                anyhow::ensure!(sessions.len() == 2, "{sessions:?}");
                Ok(Some(()))
            })
            .unwrap();
        }
    }

    /// The others check a file without starting: right as it is, wrong with one more word.
    #[test]
    fn the_files_of_the_others_pass_their_own_checks() {
        let mut router = Router::new(4_200_000_001, Ipv4Addr::new(1, 1, 1, 1));
        router.networks = vec!["10.1.0.0/16".parse().unwrap(), "fd00:1::/33".parse().unwrap()];
        let mut near = Neighbor::new("10.0.0.2".parse().unwrap(), 4_200_000_002);
        (near.password, near.gtsm, near.timers) = (Some("secret".to_owned()), true, Some((3, 9)));
        (near.local, near.max_prefixes) = (Some("10.0.0.1".parse().unwrap()), Some(100));
        near.local_other_family = Some("fd00::1".parse().unwrap());
        near.community = Some((65_535, 65_281));
        let mut far = Neighbor::new("10.9.9.9".parse().unwrap(), 65_009);
        (far.multihop, far.passive, far.v6, far.two_octet_as) = (Some(3), true, false, true);
        far.source = Some("10.0.0.1".parse().unwrap());
        let mut v6 = Neighbor::new("fd00::2".parse().unwrap(), 65_002);
        v6.local = Some("fd00::1".parse().unwrap());
        router.neighbors = vec![near, far, v6];
        for graceful_restart in [true, false] {
            router.graceful_restart = graceful_restart;
            let cases = [
                (router.gobgp_conf(), "gobgpd -d --disable-stdlog -f /etc/checked"),
                (router.openbgpd_conf(), "chmod 600 /etc/checked; bgpd -n -f /etc/checked"),
                (router.exabgp_conf(), "env exabgp.daemon.user=root exabgp --test /etc/checked"),
            ];
            for (text, check) in cases {
                for wrong in [false, true] {
                    let text = if wrong { format!("{text}\nnonsense;\n") } else { text.clone() };
                    let files = [("etc/checked", text.clone())];
                    let sandbox =
                        Sandbox::start(&Netns::fresh().unwrap(), &files, &[], &["sleep", "infinity"])
                            .unwrap();
                    let output = sandbox.exec(&["sh", "-c", check]).unwrap();
                    assert_eq!(output.status.success(), !wrong, "{check}: {output:?}\n{text}");
                }
            }
        }
    }
}

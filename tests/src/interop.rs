//! towpath beside routers of other projects: the bed, and what must hold with each of them.
//!
//! A [`Plan`] puts a transit towpath in the middle (the hub) and routers around it, each on a link of its
//! own; [`Plan::start`] makes a [`Bed`] of it. The scenarios in the modules below take the [`Program`] to
//! run against. [`rows`] lists them and makes tests of all of them, so that a further program is one more
//! column; [`matrix`] says what is not expected to work, and [`table`] writes docs/interop.md.
//!
//! Router `n` (from 1) has AS 65000+n, `10.0.n.1` and `fd00:0:0:n::1` towards the hub (`.2`), and announces
//! `10.(100+n).0.0/16` and `fd00:(100+n)::/32`, of which it has the first address. The hub has AS 65000
//! and announces `10.200.0.0/16` and `fd00:200::/32`.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, bail, ensure};
use bgp_speaker::query::RibView;
use ipnet::IpNet;
use serde_json::Value;

use crate::agent::{Agent, LIMIT};
use crate::netns::Netns;
use crate::speakers::{Neighbor, Router};
use crate::wait::until;

pub mod attributes;
pub mod auth;
pub mod cease;
pub mod collision;
mod config;
pub mod exceptions;
pub mod exchange;
pub mod loss;
pub mod matrix;
mod operator;
mod other;
pub mod refresh;
pub mod restart;
pub mod rows;
pub mod scale;
pub mod session;
pub mod table;
pub mod well_known;

pub use config::{Config, Peer};
pub use other::{Other, Program};

/// AS number of the hub.
pub const HUB_AS: u32 = 65_000;
/// What the hub announces.
pub const HUB_NETWORKS: [&str; 2] = ["10.200.0.0/16", "fd00:200::/32"];
/// Where the hub answers pings.
pub const HUB_ADDRESSES: [&str; 2] = ["10.200.0.1", "fd00:200::1"];

/// A router that is planned, with its namespace.
#[derive(Debug)]
pub struct Spoke {
    /// Which program it will run.
    pub program: Program,
    /// Its configuration.
    pub router: Router,
    /// Its namespace, linked already.
    pub netns: Netns,
    /// Whether its link has IPv4 addresses too.
    pub v4: bool,
}

/// What is to be started.
#[derive(Debug)]
pub struct Plan {
    /// The hub's namespace.
    pub hub: Netns,
    /// The hub's configuration.
    pub config: Config,
    /// The routers, from 1.
    pub spokes: Vec<Spoke>,
}

impl Plan {
    /// A hub without neighbours.
    ///
    /// # Errors
    /// Without the right to make namespaces.
    pub fn new() -> anyhow::Result<Self> {
        let hub = fresh()?;
        for address in HUB_ADDRESSES {
            hub.ip(&format!("address add {address} dev lo"))?;
        }
        let networks = HUB_NETWORKS.map(str::to_owned).to_vec();
        let router_id = Ipv4Addr::new(9, 9, 9, 9);
        Ok(Self {
            hub,
            config: Config { asn: HUB_AS, router_id, networks, tagged: Vec::new(), peers: Vec::new() },
            spokes: Vec::new(),
        })
    }

    /// Adds a router on a link with both families; no session yet.
    ///
    /// # Errors
    /// With the words of `ip`.
    pub fn spoke(&mut self, program: Program) -> anyhow::Result<&mut Spoke> {
        self.spoke_with(program, true)
    }

    /// As [`Plan::spoke`], on a link that has IPv4 addresses or not.
    ///
    /// # Errors
    /// With the words of `ip`.
    pub fn spoke_with(&mut self, program: Program, v4: bool) -> anyhow::Result<&mut Spoke> {
        let n = self.spokes.len() + 1;
        let netns = fresh()?;
        let [theirs4, ours4] = [1, 2].map(|end| format!("10.0.{n}.{end}/24"));
        let [theirs6, ours6] = [1, 2].map(|end| format!("fd00:0:0:{n}::{end}/64"));
        let (theirs, ours): (Vec<&str>, Vec<&str>) = if v4 {
            (vec![&theirs4, &theirs6], vec![&ours4, &ours6])
        } else {
            (vec![&theirs6], vec![&ours6])
        };
        netns.link(("eth0", &theirs), &self.hub, (&format!("eth{n}"), &ours))?;
        let number = u8::try_from(n)?;
        let mut router =
            Router::new(HUB_AS + u32::from(number), Ipv4Addr::new(number, number, number, number));
        router.kernel = program.forwards();
        for address in spoke_addresses(n) {
            netns.ip(&format!("address add {address} dev lo"))?;
        }
        for network in spoke_networks(n) {
            router.networks.push(network.parse()?);
        }
        if !program.forwards() {
            let gateway4 = if v4 { format!("10.0.{n}.2") } else { format!("inet6 fd00:0:0:{n}::2") };
            for (network, gateway) in HUB_NETWORKS.into_iter().zip([gateway4, format!("fd00:0:0:{n}::2")]) {
                netns.ip(&format!("route add {network} via {gateway}"))?;
            }
        }
        self.spokes.push(Spoke { program, router, netns, v4 });
        self.spokes.last_mut().context("just pushed")
    }

    /// Adds a session of router `n` over IPv4 or IPv6, for that family only; both ends may be edited.
    ///
    /// # Errors
    /// When there is no such router.
    pub fn session(&mut self, n: usize, v6: bool) -> anyhow::Result<(&mut Peer, &mut Neighbor)> {
        let [theirs, ours] =
            [1, 2].map(|end| if v6 { format!("fd00:0:0:{n}::{end}") } else { format!("10.0.{n}.{end}") });
        let v4 = self.spokes.get(n - 1).context("no such router")?.v4;
        let (peer, neighbor) = self.session_between(n, theirs.parse()?, ours.parse()?)?;
        let other = if v6 { format!("10.0.{n}.1") } else { format!("fd00:0:0:{n}::1") };
        neighbor.local_other_family = if v4 { Some(other.parse()?) } else { None };
        Ok((peer, neighbor))
    }

    /// As [`Plan::session`], between any two addresses.
    ///
    /// # Errors
    /// When there is no such router.
    pub fn session_between(
        &mut self,
        n: usize,
        theirs: IpAddr,
        ours: IpAddr,
    ) -> anyhow::Result<(&mut Peer, &mut Neighbor)> {
        let router = &mut self.spokes.get_mut(n - 1).context("no such router")?.router;
        let mut neighbor = Neighbor::new(ours, self.config.asn);
        (neighbor.v4, neighbor.v6) = (ours.is_ipv4(), ours.is_ipv6());
        (neighbor.timers, neighbor.local) = (Some((3, 9)), Some(theirs));
        router.neighbors.push(neighbor);
        self.config.peers.push(Peer {
            name: peer_name(n, theirs.is_ipv6()),
            address: theirs,
            remote_as: router.local_as,
            timers: "hold: 9s, keepalive: 3s, connectRetry: 1s, idleHoldMax: 1s".to_owned(),
            spec: Vec::new(),
            password: None,
        });
        let peer = self.config.peers.last_mut().context("just pushed")?;
        Ok((peer, router.neighbors.last_mut().context("just pushed")?))
    }

    /// Starts everything and waits for nothing.
    ///
    /// # Errors
    /// When a program does not start.
    pub fn start(self) -> anyhow::Result<Bed> {
        let agent = Agent::start(&self.hub, &[("hub.yaml", &self.config.yaml())], "hub")?;
        let others = self.spokes.into_iter().map(Other::start).collect::<anyhow::Result<_>>()?;
        Ok(Bed { hub: self.hub, config: self.config, agent, others })
    }

    /// Starts everything and waits until all sessions are Established, as both ends see it.
    ///
    /// # Errors
    /// When one is not; with what is known of it.
    pub fn up(self) -> anyhow::Result<Bed> {
        let bed = self.up_but_for_feeders()?;
        bed.others.iter().try_for_each(Other::until_established)?;
        Ok(bed)
    }

    /// As [`Plan::up`], but for sessions with neighbours of the routers that are yet to come, and our
    /// session with a neighbour that is none of the routers.
    ///
    /// # Errors
    /// As [`Plan::up`].
    pub fn up_but_for_feeders(self) -> anyhow::Result<Bed> {
        let bed = self.start()?;
        for peer in bed.config.peers.iter().filter(|peer| peer.name.starts_with("router")) {
            bed.agent.until_established(&peer.name)?;
        }
        Ok(bed)
    }
}

/// A namespace whose link-local addresses can be used at once: a router that starts without one announces
/// other next hops than one that starts later.
fn fresh() -> anyhow::Result<Netns> {
    let netns = Netns::fresh()?;
    netns.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
    netns.sysctl("net/ipv6/conf/default/dad_transmits", "0")?;
    Ok(netns)
}

/// Name of the BGPPeer for router `n`.
pub fn peer_name(n: usize, v6: bool) -> String {
    format!("router{n}-v{}", if v6 { 6 } else { 4 })
}

/// What router `n` announces.
pub fn spoke_networks(n: usize) -> [String; 2] {
    [format!("10.{}.0.0/16", 100 + n), format!("fd00:{}::/32", 100 + n)]
}

/// Where router `n` answers pings.
pub fn spoke_addresses(n: usize) -> [String; 2] {
    [format!("10.{}.0.1", 100 + n), format!("fd00:{}::1", 100 + n)]
}

/// A plan that runs.
#[derive(Debug)]
pub struct Bed {
    /// The hub's namespace.
    pub hub: Netns,
    /// The hub's configuration, as in its file.
    pub config: Config,
    /// The hub's daemon.
    pub agent: Agent,
    /// The routers, from 1.
    pub others: Vec<Other>,
}

impl Bed {
    /// Changes the hub's file and waits until that is in force.
    ///
    /// # Errors
    /// When the daemon does not take it.
    pub fn edit(&mut self, edit: impl FnOnce(&mut Config)) -> anyhow::Result<()> {
        edit(&mut self.config);
        self.agent.apply("hub.yaml", &self.config.yaml())
    }

    /// Waits until the hub's kernel has a route to `prefix` over exactly these routers (none: no route).
    ///
    /// # Errors
    /// When it has not; with what it has, and the log.
    pub fn until_kernel(&self, prefix: &str, routers: &[usize]) -> anyhow::Result<()> {
        until(LIMIT, &format!("the kernel's route to {prefix} over routers {routers:?}"), || {
            let found = kernel_routers(&self.hub, prefix)?;
            ensure!(found == routers, "it goes over {found:?}");
            Ok(Some(()))
        })
        .with_context(|| self.agent.log())
    }

    /// Waits until the pings between all addresses of the hub and router `n` in one family are answered.
    ///
    /// # Errors
    /// When they are not.
    pub fn until_pings(&self, n: usize, v6: bool) -> anyhow::Result<()> {
        let theirs = &spoke_addresses(n)[usize::from(v6)];
        ping(&self.hub, HUB_ADDRESSES[usize::from(v6)], theirs)
    }

    /// Waits until the best path to a prefix has this AS_PATH, which is returned with everything else.
    ///
    /// # Errors
    /// When it has not.
    pub fn until_best(&self, prefix: &str, as_path: &str) -> anyhow::Result<bgp_speaker::query::RouteStatus> {
        until(LIMIT, &format!("{prefix} with the path {as_path}"), || {
            let routes = self.agent.routes(RibView::Best, Some(prefix))?;
            match routes.iter().find(|route| route.best && route.as_path == as_path) {
                Some(route) => Ok(Some(route.clone())),
                None => bail!("there are {routes:?}"),
            }
        })
        .with_context(|| self.agent.log())
    }
}

/// Which routers our route to `prefix` goes to, by the links of its nexthop objects. (Whether the gateway is
/// a global address or, RFC 2545, a link-local one is the router's choice.)
///
/// # Errors
/// When `ip` prints what is not understood.
fn kernel_routers(hub: &Netns, prefix: &str) -> anyhow::Result<Vec<usize>> {
    let json = |question: String| -> anyhow::Result<Vec<Value>> {
        let text = hub.ip(&question)?;
        Ok(serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text })?)
    };
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    let mut routers = Vec::new();
    for route in json(format!("-j {family} route show {prefix} proto 199"))? {
        let id = route.get("nhid").with_context(|| format!("a route without a nexthop object: {route}"))?;
        for object in json(format!("-j nexthop show id {id}"))? {
            let members = object.get("group").and_then(Value::as_array).cloned();
            let ids = members.map_or_else(
                || vec![id.clone()],
                |members| members.iter().filter_map(|member| member.get("id").cloned()).collect(),
            );
            for id in ids {
                for hop in json(format!("-j nexthop show id {id}"))? {
                    ensure!(hop.get("gateway").is_some(), "no gateway in {hop}");
                    let number =
                        hop.get("dev").and_then(Value::as_str).and_then(|dev| dev.strip_prefix("eth"));
                    routers.push(number.with_context(|| format!("no link to a router: {hop}"))?.parse()?);
                }
            }
        }
    }
    routers.sort_unstable();
    Ok(routers)
}

/// Pings until the first answer.
///
/// # Errors
/// When none comes.
pub fn ping(from: &Netns, source: &str, to: &str) -> anyhow::Result<()> {
    until(LIMIT, &format!("an answer of {to} to {source}"), || {
        let output = from.exec(&["ping", "-n", "-c", "1", "-W", "1", "-I", source, to])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        Ok(Some(()))
    })
}

/// Waits until `has` finds what it looks for among the paths another program has for a prefix.
///
/// # Errors
/// When it does not; with the paths.
pub fn until_path(other: &Other, prefix: &str, as_path: Option<&str>) -> anyhow::Result<()> {
    let net: IpNet = prefix.parse()?;
    until(LIMIT, &format!("{:?} with {prefix} over {as_path:?}", other.program), || {
        let table = other.routes(net.addr().is_ipv6())?;
        let paths = table.get(&net).map(Vec::as_slice).unwrap_or_default();
        let found = match as_path {
            Some(as_path) => paths.iter().any(|path| path.best && path.as_path == as_path),
            None => paths.is_empty(),
        };
        ensure!(found, "it has {paths:?}");
        Ok(Some(()))
    })
}

//! Addresses, cables and configuration of the test cluster, as text.
//!
//! Machine `m` (1, 2, ... are nodes, 100 is the control plane) is 172.20.0.m and fd00:20::m, on `lo`, so that it is reached
//! over either switch. A switch has one address on all its ports and a machine one on each uplink; each port leads to
//! one machine only. Without switches all machines are ports of one bridge, and have their addresses there.

use std::fmt::Write as _;

use super::api_server::Families;
use super::cluster::{Fabric, Options};

/// The control plane's number.
pub(crate) const CONTROL_PLANE: usize = 100;

/// One machine's place in the site.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) number: usize,
    pub(crate) fabric: Fabric,
    pub(crate) families: Families,
}

impl Place {
    /// Name of the machine, and of its Node.
    pub(crate) fn name(&self) -> String {
        if self.number == CONTROL_PLANE { "cp".to_owned() } else { format!("node{}", self.number) }
    }

    /// Its own addresses, of the cluster's families.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let v4 = self.families.v4().then(|| format!("172.20.0.{}", self.number));
        let v6 = self.families.v6().then(|| format!("fd00:20::{}", self.number));
        v4.into_iter().chain(v6).collect()
    }

    /// Its uplinks.
    pub(crate) fn interfaces(&self) -> &'static [&'static str] {
        match self.fabric {
            Fabric::TwoTors | Fabric::StaticTors => &["eth1", "eth2"],
            Fabric::Flat => &["eth1"],
        }
    }

    /// The port of each switch that leads here.
    fn port(&self) -> String {
        format!("eth{}", if self.number == CONTROL_PLANE { 1 } else { self.number + 1 })
    }

    /// Where nobody tells others by BGP which pods are here: who has to be told that `block` is, and by which command.
    pub(crate) fn static_routes(&self, block: &str) -> Vec<(String, String)> {
        let v6 = block.contains(':');
        let route = |via: &str, how: &str| format!("ip route replace {block} via {via}{how}");
        match self.fabric {
            Fabric::TwoTors => Vec::new(),
            // The control plane is no node, and so no peer of any. Pods ask the API server all the same.
            Fabric::Flat => {
                let own = self.addresses().into_iter().find(|address| address.contains(':') == v6);
                own.map(|via| ("cp".to_owned(), route(&via, ""))).into_iter().collect()
            }
            Fabric::StaticTors => [1, 2]
                .map(|tor| {
                    let near = if v6 { format!("fd00:0:0:{tor}::") } else { format!("10.0.{tor}.") };
                    let via = format!("{near}{}", 10 + self.number);
                    (format!("tor{tor}"), route(&via, &format!(" dev {} onlink", self.port())))
                })
                .into(),
        }
    }

    /// `ip` commands that give the machine its addresses and its way to the API server, before any BGP. The metric of the
    /// default route is worse than that of every learned one.
    pub(crate) fn commands(&self) -> Vec<String> {
        let (number, link) = (self.number, 10 + self.number);
        // The kernel makes an IPv6 address usable, and the route to its peer, in its own time: `onlink` does not ask for
        // that route, and the one that needs the address as its source is tried until it is there.
        let mut commands = Vec::new();
        let mut add = |family: &str, own: &str, on_link: fn(usize) -> (String, String)| {
            match self.fabric {
                Fabric::Flat => commands.push(format!("ip {family} addr add {own} dev eth1")),
                Fabric::TwoTors | Fabric::StaticTors => {
                    let host = own.split('/').next().unwrap_or(own);
                    commands.push(format!("ip {family} addr add {host} dev lo"));
                    let mut hops = String::new();
                    for tor in [1, 2] {
                        let (near, far) = on_link(tor);
                        let length = if family == "-6" { 128 } else { 32 };
                        commands.push(format!(
                            "ip {family} addr add {near}{link} peer {far}/{length} dev eth{tor}"
                        ));
                        let _ = write!(hops, " nexthop via {far} dev eth{tor} onlink"); // a String takes everything
                    }
                    let route =
                        format!("ip {family} route add default proto static metric 1000 src {host}{hops}");
                    commands.push(format!(
                        "sh -c 'for i in $(seq 250); do {route} 2>/dev/null && exit; sleep 0.02; done; {route}'"
                    ));
                }
            }
        };
        if self.families.v4() {
            add("-4", &format!("172.20.0.{number}/24"), |tor| {
                (format!("10.0.{tor}."), format!("10.0.{tor}.1"))
            });
        }
        if self.families.v6() {
            add("-6", &format!("fd00:20::{number}/64"), |tor| {
                (format!("fd00:0:0:{tor}::"), format!("fd00:0:0:{tor}::1"))
            });
        }
        commands
    }

    /// Commands of the port of switch `tor` that leads to this machine.
    fn port_commands(&self, tor: usize) -> Vec<String> {
        let (number, link, interface) = (self.number, 10 + self.number, self.port());
        let v4 = [
            format!("ip addr add 10.0.{tor}.1 peer 10.0.{tor}.{link}/32 dev {interface}"),
            format!("ip route add 172.20.0.{number}/32 via 10.0.{tor}.{link} dev {interface} onlink"),
        ];
        let v6 = [
            format!("ip -6 addr add fd00:0:0:{tor}::1 peer fd00:0:0:{tor}::{link}/128 dev {interface}"),
            format!(
                "ip -6 route add fd00:20::{number}/128 via fd00:0:0:{tor}::{link} dev {interface} onlink"
            ),
        ];
        let v4 = self.families.v4().then_some(v4).into_iter().flatten();
        v4.chain(self.families.v6().then_some(v6).into_iter().flatten()).collect()
    }
}

/// All machines: the control plane, and the nodes.
pub(crate) fn places(options: &Options) -> Vec<Place> {
    let numbers = std::iter::once(CONTROL_PLANE).chain(1..=options.nodes);
    numbers.map(|number| Place { number, fabric: options.fabric, families: options.families }).collect()
}

/// The containerlab file. `disks` is the folder that has one per machine; `programs` what all of them share.
pub(crate) fn topology(name: &str, options: &Options, programs: &str) -> String {
    let places = places(options);
    let mut nodes = String::new();
    let mut links = String::new();
    for place in &places {
        let machine = place.name();
        let speaks = place.number == CONTROL_PLANE && options.fabric != Fabric::StaticTors;
        let image = if speaks { "towpath" } else { "busybox" };
        // A node's own cables end in the machine that is started inside it.
        let exec = if place.number == CONTROL_PLANE { place.commands() } else { Vec::new() };
        nodes +=
            &format!("    {machine}:\n      image: {image}\n      group: machine\n{}", exec_field(&exec));
    }
    match options.fabric {
        Fabric::TwoTors | Fabric::StaticTors => {
            for tor in [1, 2] {
                let mut exec = Vec::new();
                for place in &places {
                    let (port, machine) = (place.port(), place.name());
                    exec.extend(place.port_commands(tor));
                    links += &format!("    - endpoints: [\"tor{tor}:{port}\", \"{machine}:eth{tor}\"]\n");
                }
                let image = match options.fabric {
                    Fabric::StaticTors => "busybox".to_owned(),
                    _ => format!("towpath\n      binds:\n        - tor{tor}:/etc/towpath"),
                };
                nodes += &format!("    tor{tor}:\n      image: {image}\n{}", exec_field(&exec));
            }
        }
        Fabric::Flat => {
            nodes += "    br0:\n      kind: bridge\n";
            for (index, place) in places.iter().enumerate() {
                links +=
                    &format!("    - endpoints: [\"br0:port{}\", \"{}:eth1\"]\n", index + 1, place.name());
            }
        }
    }
    format!(
        "name: {name}\n\ntopology:\n  defaults:\n    kind: linux\n    network-mode: none\n    sysctls:\n      \
         net.ipv4.ip_forward: 1\n      net.ipv6.conf.all.forwarding: 1\n  groups:\n    machine:\n      binds:\n{}        \
         - {programs}:/opt/cluster:ro\n        - images:/opt/images\n        - /sys/fs/cgroup:/sys/fs/cgroup\n  \
         nodes:\n{nodes}  links:\n{links}",
        DISK.map(|path| format!("        - __clabNodeName__{path}:{path}\n")).concat()
    )
}

/// Folders of a machine's disk: what is in them outlives a reboot.
pub(crate) const DISK: [&str; 9] = [
    "/etc/cni",
    "/etc/node",
    "/etc/towpath",
    "/opt/cni",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/lib/towpath",
    "/var/log/node",
];

fn exec_field(commands: &[String]) -> String {
    if commands.is_empty() {
        return String::new();
    }
    let lines = commands.iter().map(|command| format!("        - {command}\n"));
    format!("      exec:\n{}", lines.collect::<String>())
}

/// The configuration of switch `tor`: it accepts whoever is on one of its ports.
pub(crate) fn tor_yaml(tor: usize, families: Families) -> String {
    let mut text = format!(
        "# tor{tor}: the way between all machines, and the default route.\n\
         apiVersion: towpath.io/v1alpha1\nkind: NetworkConfig\nmetadata: {{ name: default }}\n\
         spec: {{ asn: 6510{tor}, routerID: 10.255.0.{tor}, transit: true }}\n"
    );
    for (family, range, default) in
        [("v4", format!("10.0.{tor}.0/24"), "0.0.0.0/0"), ("v6", format!("fd00:0:0:{tor}::/64"), "::/0")]
    {
        if family == "v4" && !families.v4() || family == "v6" && !families.v6() {
            continue;
        }
        text += &format!(
            "---\napiVersion: towpath.io/v1alpha1\nkind: BGPPeer\nmetadata: {{ name: machines-{family} }}\n\
             spec: {{ neighbor: {{ listen: {{ ranges: ['{range}'] }} }}, remoteASN: external, timers: {{ hold: 9s }} }}\n\
             ---\napiVersion: towpath.io/v1alpha1\nkind: Advertisement\nmetadata: {{ name: default-{family} }}\n\
             spec: {{ source: {{ static: {{ cidrs: ['{default}'] }} }} }}\n"
        );
    }
    text
}

/// The control plane's: it learns the pods' blocks and announces its own addresses.
pub(crate) fn control_plane_yaml(families: Families) -> String {
    format!(
        "# cp: the machine of the control plane, without a kubelet.\n\
         apiVersion: towpath.io/v1alpha1\nkind: NetworkConfig\nmetadata: {{ name: default }}\n\
         spec: {{ asn: 65100, routerID: 172.20.0.{CONTROL_PLANE} }}\n---\n\
         {}---\n{}---\n{}",
        pool_yaml(),
        peers_yaml(families),
        advertisement_yaml(families)
    )
}

/// One BGPPeer per switch and family, the same for every machine. The nodes share an AS number, as they do by default, so
/// they must take routes that have it in their path.
pub(crate) fn peers_yaml(families: Families) -> String {
    let mut peers = Vec::new();
    for tor in [1, 2] {
        for (family, address, wanted) in [
            ("v4", format!("10.0.{tor}.1"), families.v4()),
            ("v6", format!("fd00:0:0:{tor}::1"), families.v6()),
        ] {
            if wanted {
                peers.push(format!(
                    "apiVersion: towpath.io/v1alpha1\nkind: BGPPeer\nmetadata: {{ name: tor{tor}-{family} }}\n\
                     spec: {{ neighbor: {{ address: '{address}' }}, remoteASN: 6510{tor}, \
                     timers: {{ hold: 9s, connectRetry: 1s }}, allowLocalAS: 1 }}\n"
                ));
            }
        }
    }
    peers.join("---\n")
}

/// The ranges of the pods, inside which nodes accept routes.
pub(crate) fn pool_yaml() -> &'static str {
    "apiVersion: towpath.io/v1alpha1\nkind: IPPool\nmetadata: { name: pods }\n\
     spec: { cidrs: [10.244.0.0/16, 'fd00:244::/56'] }\n"
}

/// A machine's own addresses, so that either switch can deliver to them when the other one is gone. That of an uplink is
/// told to the other switch only: the one at its end has it on its port.
pub(crate) fn advertisement_yaml(families: Families) -> String {
    let peers = |tor: usize| {
        let names =
            [families.v4().then(|| format!("tor{tor}-v4")), families.v6().then(|| format!("tor{tor}-v6"))];
        names.into_iter().flatten().collect::<Vec<_>>().join(", ")
    };
    let document = |interface: &str, peers: &str| {
        format!(
            "apiVersion: towpath.io/v1alpha1\nkind: Advertisement\nmetadata: {{ name: machine-{interface} }}\n\
             spec: {{ source: {{ interfaces: {{ names: [{interface}] }} }}{peers} }}\n"
        )
    };
    let uplink = |tor: usize| document(&format!("eth{tor}"), &format!(", peers: [{}]", peers(3 - tor)));
    [document("lo", ""), uplink(1), uplink(2)].join("---\n")
}

//! A random topology: what is in it, chosen by a seed, and its text as a containerlab file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// What one level (defaults, kind, group or node) says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Level {
    pub(crate) kind: bool,
    pub(crate) image: Option<&'static str>,
    pub(crate) hostname: Option<String>,
    pub(crate) cmd: Option<&'static str>,
    pub(crate) env: BTreeMap<&'static str, &'static str>,
    pub(crate) labels: BTreeMap<&'static str, &'static str>,
    pub(crate) sysctls: BTreeMap<&'static str, &'static str>,
    /// Words that `exec` writes down one after the other.
    pub(crate) exec: Vec<String>,
    pub(crate) binds: Vec<Bind>,
}

/// A file of the lab's folder, by number, at a place in the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) file: usize,
    pub(crate) target: &'static str,
    pub(crate) read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Net {
    /// No `network-mode`: eth0 on the management network, with the last octet of its `mgmt-ipv4`, if any.
    Managed(Option<u8>),
    /// `network-mode: none`.
    Bare,
    /// `network-mode: container:` the node of this number.
    Shared(usize),
}

#[derive(Debug)]
pub(crate) struct NodeDescription {
    pub(crate) name: String,
    pub(crate) group: Option<&'static str>,
    pub(crate) net: Net,
    pub(crate) level: Level,
}

#[derive(Debug)]
pub(crate) struct LinkDescription {
    pub(crate) ends: [EndDescription; 2],
    pub(crate) mtu: Option<u32>,
}

#[derive(Debug, Clone)]
pub(crate) struct EndDescription {
    pub(crate) node: usize,
    pub(crate) interface: String,
    pub(crate) mac: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) lab: String,
    pub(crate) defaults: Level,
    pub(crate) kind: Level,
    pub(crate) groups: BTreeMap<&'static str, Level>,
    pub(crate) nodes: Vec<NodeDescription>,
    pub(crate) links: Vec<LinkDescription>,
}

/// Files that binds may name; each holds its number.
pub(crate) const FILES: usize = 4;
pub(crate) const TARGETS: [&str; 4] = ["/x/b0", "/x/b1", "/etc/deep/er/b2", "/run/b3"];
pub(crate) const SYSCTLS: [(&str, [&str; 2]); 6] = [
    ("net.ipv4.ip_forward", ["0", "1"]),
    ("net.ipv4.conf.all.rp_filter", ["0", "2"]),
    ("net.ipv4.conf.default.rp_filter", ["1", "2"]),
    ("net.ipv4.ip_default_ttl", ["63", "100"]),
    ("net.ipv6.conf.all.forwarding", ["0", "1"]),
    ("net.ipv4.tcp_keepalive_time", ["600", "7000"]),
];

/// Texts that YAML, the substitution of variables or a shell could make something else of.
const TEXTS: [&str; 12] =
    ["", "010", "yes", "null", "~", "a b", "x: y", "#no", "größe", "$HOME ${HOME}", "[x]", "it's \"so\""];
const KEYS: [&str; 4] = ["A", "B_2", "LONG_NAME", "zz"];
const LABELS: [&str; 4] = ["role", "a.b-c", "x/y", "T+1"];
const IMAGES: [&str; 4] =
    ["alpine", "docker.io/library/debian:12", "nicolaka/netshoot:v0.11", "wbitt/network-multitool@sha256:ab"];
const GROUPS: [&str; 3] = ["g0", "g1", "nobody-knows"];

/// SplitMix64: small, and the same on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}

pub(crate) fn describe(lab: &str, random: &mut Random) -> Description {
    let mut defaults = level(random);
    defaults.kind = random.chance(50);
    let kind = level(random);
    let groups: BTreeMap<_, _> = GROUPS[..2]
        .iter()
        .map(|group| {
            let mut level = level(random);
            level.kind = random.chance(30);
            (*group, level)
        })
        .collect();
    let count = 1 + random.below(30);
    let nodes: Vec<_> = (0..count)
        .map(|index| {
            let group = random.chance(60).then(|| random.pick(&GROUPS));
            let inherited = |has: &dyn Fn(&Level) -> bool| {
                has(&defaults) || group.and_then(|group| groups.get(group)).is_some_and(has)
            };
            let mut own = if random.chance(50) { level(random) } else { Level::default() };
            own.kind = !inherited(&|level| level.kind);
            if !inherited(&|level| level.image.is_some()) && kind.image.is_none() {
                own.image = Some(random.pick(&IMAGES));
            }
            let net = match index {
                1.. if random.chance(15) => Net::Shared(random.below(index)),
                _ if random.chance(40) => {
                    // Above those that are chosen: at most 30 nodes begin at .2.
                    let last = u8::try_from(100 + index).unwrap();
                    Net::Managed(random.chance(30).then_some(last))
                }
                _ => Net::Bare,
            };
            let name = match random.below(3) {
                0 => format!("n{index}"),
                1 => format!("Node-{index}.rack_1"),
                _ => format!("{index}"),
            };
            NodeDescription { name, group, net, level: own }
        })
        .collect();
    let mut used = BTreeSet::new();
    let links = (0..random.below(2 * count + 2)).map(|_| link(&nodes, &mut used, random)).collect();
    Description { lab: lab.to_owned(), defaults, kind, groups, nodes, links }
}

fn level(random: &mut Random) -> Level {
    let mut level = Level {
        image: random.chance(30).then(|| random.pick(&IMAGES)),
        hostname: random.chance(10).then(|| format!("host-{}", random.below(9))),
        cmd: random.chance(20).then(|| random.pick(&["sleep 1000001", "sh -c 'sleep 1000002; true'"])),
        ..Level::default()
    };
    for _ in 0..random.below(3) {
        level.env.insert(random.pick(&KEYS), random.pick(&TEXTS));
        level.labels.insert(random.pick(&LABELS), random.pick(&TEXTS));
        let (key, values) = random.pick(&SYSCTLS);
        level.sysctls.insert(key, random.pick(&values));
        // Few words, so that levels repeat each other.
        level.exec.push(format!("w{}", random.below(6)));
        level.binds.push(Bind {
            file: random.below(FILES),
            target: random.pick(&TARGETS),
            read_only: random.chance(30),
        });
    }
    level
}

fn link(
    nodes: &[NodeDescription],
    used: &mut BTreeSet<(usize, String)>,
    random: &mut Random,
) -> LinkDescription {
    let mut end = |random: &mut Random| loop {
        let node = random.below(nodes.len());
        let number = random.below(200);
        let interface = match random.below(8) {
            0 => format!("Ethernet{number}/1"),
            1 => format!("a-name-longer-than-the-kernel-takes-{number}"),
            2 => format!("fifteen-bytes{number:02}").chars().take(15).collect(),
            3 => format!("eth0.{number}"),
            4 => "eth0".to_owned(),
            _ => format!("eth{number}"),
        };
        let managed = matches!(nodes[owner(nodes, node)].net, Net::Managed(_));
        if managed && interface == "eth0" {
            continue;
        }
        if used.insert((owner(nodes, node), interface.clone())) {
            // Locally administered, and different at each end.
            let mac = random.chance(30).then(|| {
                let bytes: [usize; 5] = std::array::from_fn(|_| random.below(256));
                bytes.iter().fold("02".to_owned(), |mac, byte| format!("{mac}:{byte:02x}"))
            });
            return EndDescription { node, interface, mac };
        }
    };
    let ends = [end(random), end(random)];
    LinkDescription { ends, mtu: random.chance(40).then(|| u32::try_from(68 + random.below(9433)).unwrap()) }
}

/// The node whose network `node` uses.
pub(crate) fn owner(nodes: &[NodeDescription], node: usize) -> usize {
    match nodes[node].net {
        Net::Bare | Net::Managed(_) => node,
        Net::Shared(other) => owner(nodes, other),
    }
}

impl Description {
    /// The topology file, next to files `0`, `1`, ... for the binds.
    pub(crate) fn text(&self, folder: &Path) -> String {
        let mut out = format!("name: {}\ntopology:\n", self.lab);
        write!(out, "  defaults: {}\n  kinds:\n    linux: ", map(&self.defaults.fields(folder))).unwrap();
        write!(out, "{}\n  groups:\n", map(&self.kind.fields(folder))).unwrap();
        for (name, group) in &self.groups {
            writeln!(out, "    {name}: {}", map(&group.fields(folder))).unwrap();
        }
        out += "  nodes:\n";
        for node in &self.nodes {
            let mut fields = node.level.fields(folder);
            fields.extend(node.group.map(|group| ("group", text(group))));
            fields.extend(match node.net {
                Net::Managed(None) => None,
                Net::Managed(Some(last)) => Some(("mgmt-ipv4", format!("172.20.20.{last}"))),
                Net::Bare => Some(("network-mode", "none".to_owned())),
                Net::Shared(other) => {
                    Some(("network-mode", text(&format!("container:{}", self.nodes[other].name))))
                }
            });
            // In block style, as people write nodes.
            writeln!(out, "    \"{}\":", node.name).unwrap();
            for (key, value) in fields {
                writeln!(out, "      {key}: {value}").unwrap();
            }
        }
        if !self.links.is_empty() {
            out += "  links:\n";
        }
        for link in &self.links {
            out += &self.link(link);
        }
        out
    }

    fn link(&self, link: &LinkDescription) -> String {
        let mut out = String::new();
        let long = link.ends.iter().any(|end| end.mac.is_some());
        let ends = link.ends.each_ref().map(|end| {
            let name = &self.nodes[end.node].name;
            let mac = end.mac.as_ref().map_or(String::new(), |mac| format!(", mac: \"{mac}\""));
            match long {
                true => format!("{{node: \"{name}\", interface: {}{mac}}}", end.interface),
                false => format!("\"{name}:{}\"", end.interface),
            }
        });
        writeln!(out, "    - endpoints: [{}]", ends.join(", ")).unwrap();
        if long {
            out += "      type: veth\n";
        }
        if let Some(mtu) = link.mtu {
            writeln!(out, "      mtu: {mtu}").unwrap();
        }
        out
    }
}

impl Level {
    fn fields(&self, folder: &Path) -> Vec<(&'static str, String)> {
        let texts = |entries: &BTreeMap<&'static str, &'static str>| {
            map(&entries.iter().map(|(key, value)| (*key, text(value))).collect::<Vec<_>>())
        };
        let list = |items: Vec<String>| {
            format!("[{}]", items.iter().map(|item| text(item)).collect::<Vec<_>>().join(", "))
        };
        let mut fields = Vec::new();
        fields.extend(self.kind.then(|| ("kind", "linux".to_owned())));
        fields.extend(self.image.map(|image| ("image", text(image))));
        fields.extend(self.hostname.as_ref().map(|hostname| ("hostname", text(hostname))));
        fields.extend(self.cmd.map(|cmd| ("cmd", text(cmd))));
        for (name, entries) in [("env", &self.env), ("labels", &self.labels), ("sysctls", &self.sysctls)] {
            fields.extend((!entries.is_empty()).then(|| (name, texts(entries))));
        }
        if !self.exec.is_empty() {
            let lines = self.exec.iter().map(|word| format!("sh -c 'echo {word} >> /tmp/order'"));
            fields.push(("exec", list(lines.collect())));
            let binds = self.binds.iter().map(|bind| bind.text(folder));
            fields.push(("binds", list(binds.collect())));
        }
        fields
    }
}

impl Bind {
    /// An odd file is named by its absolute path.
    pub(crate) fn text(&self, folder: &Path) -> String {
        let folder =
            if self.file.is_multiple_of(2) { String::new() } else { format!("{}/", folder.display()) };
        format!("{folder}{}:{}{}", self.file, self.target, if self.read_only { ":ro" } else { "" })
    }
}

fn map(fields: &[(&str, String)]) -> String {
    let entries: Vec<_> = fields.iter().map(|(key, value)| format!("{}: {value}", text(key))).collect();
    format!("{{{}}}", entries.join(", "))
}

/// Plain where that means the same, else quoted; `$$` is how a file says `$`.
fn text(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    if !value.is_empty() && value.chars().all(plain) && value != "null" {
        return value.to_owned();
    }
    serde_json::to_string(value).unwrap().replace('$', "$$")
}

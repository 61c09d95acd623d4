//! Classes of flows, as the file writes them, and what each may lose.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::given::{Given, Reader};
use super::keys;
use crate::file::fields::mapping;
use crate::file::yaml::{Value, Yaml};

/// Flows between pairs of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Class {
    pub(crate) name: String,
    pub(crate) pairs: Vec<[String; 2]>,
    /// Where given; the others are read from the node.
    pub(crate) addresses: BTreeMap<String, Addresses>,
    pub(crate) protocol: Protocol,
    /// Of each pair, per direction and family.
    pub(crate) flows: usize,
    /// Packets per second of the whole class.
    pub(crate) rate: u32,
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
}

/// At most one address of each family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) v4: Option<Ipv4Addr>,
    pub(crate) v6: Option<Ipv6Addr>,
}

/// What the flows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Udp,
    Tcp,
}

/// What a class may lose during a step; slack not included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) packets: Option<u64>,
    pub(crate) outage: Option<Duration>,
}

const FLOWS: usize = 4;
const MAX_FLOWS: usize = 1000;
const RATE: u32 = 1000;
const MAX_RATE: u32 = 1_000_000;

impl Bound {
    /// With a slower machine in mind; nothing lost stays nothing lost.
    pub(super) fn times(self, slack: u32) -> Self {
        Self {
            packets: self.packets.map(|packets| packets * u64::from(slack)),
            outage: self.outage.map(|outage| outage * slack),
        }
    }

    /// Whether the event may be felt: then it must be one that the flows can feel.
    pub(super) fn allows_loss(self) -> bool {
        self.packets.is_none_or(|packets| packets > 0) && self.outage.is_none_or(|outage| !outage.is_zero())
    }
}

/// Reads `traffic`.
pub(super) fn read_all(yaml: &Yaml, reader: &mut Reader<'_>) -> BTreeMap<String, Class> {
    let entries = mapping("\"traffic\"", yaml, reader.findings);
    let mut classes = BTreeMap::new();
    for (key, value) in entries {
        if let Some(class) = read(&key.text, value, reader) {
            classes.insert(key.text.clone(), class);
        }
    }
    classes
}

fn read(name: &str, yaml: &Yaml, reader: &mut Reader<'_>) -> Option<Class> {
    let place = format!("traffic \"{name}\"");
    let given = Given::read(&keys::CLASS, &place, yaml, reader.findings);
    let pairs = pairs(&given, reader);
    let addresses = addresses(&given, &pairs, reader);
    let protocol = match given.word("protocol", &["udp", "tcp"], reader) {
        Some("tcp") => Protocol::Tcp,
        _ => Protocol::Udp,
    };
    let families: Vec<_> =
        given.list("families", reader, |name, yaml, reader| reader.word(name, yaml, &["ipv4", "ipv6"]));
    let any = families.is_empty();
    let flows = bounded(&given, "flows", FLOWS, MAX_FLOWS, reader);
    let rate = bounded(&given, "rate", RATE, MAX_RATE, reader);
    Some(Class {
        name: name.to_owned(),
        pairs: pairs?,
        addresses,
        protocol,
        flows,
        rate,
        ipv4: any || families.contains(&"ipv4"),
        ipv6: any || families.contains(&"ipv6"),
    })
}

fn bounded<T>(given: &Given<'_>, key: &str, default: T, most: T, reader: &mut Reader<'_>) -> T
where
    T: std::str::FromStr + PartialOrd + From<u8> + Copy + std::fmt::Display,
{
    match given.count(key, reader) {
        Some(count) if count < T::from(1) || count > most => {
            reader.findings.refuse(given.line_of(key), format!("{} must be 1 to {most}", given.name(key)));
            default
        }
        Some(count) => count,
        None => default,
    }
}

/// `[a, b]`, or a list of such pairs.
fn pairs(given: &Given<'_>, reader: &mut Reader<'_>) -> Option<Vec<[String; 2]>> {
    let yaml = given.get("between")?;
    let name = given.name("between");
    let many = matches!(&yaml.value, Value::Seq(items) if items.iter().any(|item| matches!(item.value, Value::Seq(_))));
    let lists: Vec<&Yaml> = match &yaml.value {
        Value::Seq(items) if many => items.iter().collect(),
        _ => vec![yaml],
    };
    let mut pairs = Vec::new();
    for list in lists {
        let items = crate::file::fields::sequence(&name, list, reader.findings);
        let nodes: Vec<String> = items.iter().filter_map(|item| reader.place(&name, item)).collect();
        match <[String; 2]>::try_from(nodes) {
            Ok([a, b]) if a == b => {
                reader
                    .findings
                    .refuse(list.line, format!("{name}: {a} cannot send to itself; name two nodes"));
            }
            Ok(pair) => pairs.push(pair),
            Err(_) if items.len() == 2 => {} // an unknown node, told already
            Err(_) => {
                let text = format!("{name} takes two nodes or a list of such pairs, such as [a, b]");
                reader.findings.refuse(list.line, text);
            }
        }
    }
    (!pairs.is_empty()).then_some(pairs)
}

fn addresses(
    given: &Given<'_>,
    pairs: &Option<Vec<[String; 2]>>,
    reader: &mut Reader<'_>,
) -> BTreeMap<String, Addresses> {
    let Some(yaml) = given.get("addresses") else { return BTreeMap::new() };
    let name = given.name("addresses");
    let mut all = BTreeMap::new();
    for (key, value) in mapping(&name, yaml, reader.findings) {
        let named = pairs.as_ref().is_none_or(|pairs| pairs.iter().flatten().any(|node| *node == key.text));
        if !named {
            let text = format!("{name}: node \"{}\" is not in \"between\"; remove it", key.text);
            reader.findings.refuse(key.line, text);
            continue;
        }
        let mut addresses = Addresses::default();
        for item in crate::file::fields::sequence(&name, value, reader.findings) {
            let twice = match reader.address(&name, item) {
                Some(IpAddr::V4(address)) => addresses.v4.replace(address).is_some(),
                Some(IpAddr::V6(address)) => addresses.v6.replace(address).is_some(),
                None => false,
            };
            if twice {
                let text = format!("{name}: {} has two addresses of one family; keep one", key.text);
                reader.findings.refuse(item.line, text);
            }
        }
        all.insert(key.text.clone(), addresses);
    }
    all
}

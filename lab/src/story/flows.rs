//! The traffic of a step: started before the events, summed up by class after them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use meter::tcp::Connections;
use meter::{FlowReport, Meter, Pair, Plan, Side};

use super::class::{Addresses, Bound, Class, Protocol};
use super::report::{Bucket, PacketSeries, TrafficReport};
use super::scene::Scene;

const FIRST_PORT: u16 = 9200;
const FIRST_SOURCE_PORT: u16 = 20_000;
/// Far longer than any step.
const LONGEST: Duration = Duration::from_secs(4 * 3600);
/// A round trip that takes longer ends its connection: TCP would try again for a quarter of an hour.
const ROUND_TRIP: Duration = Duration::from_secs(15);
/// How many flows that suffered are named.
const WORST: usize = 5;

/// Traffic that runs.
pub(super) struct Flows {
    running: Vec<Running>,
}

struct Running {
    class: Class,
    /// Each with the time at which its first packet was sent.
    meters: Vec<(Meter, Duration)>,
    connections: Vec<Connections>,
    flows: usize,
    began: Duration,
}

/// What became of the traffic.
pub(super) struct Ended {
    pub(super) reports: Vec<TrafficReport>,
    /// By class, for the timeline.
    logs: Vec<(String, Vec<Log>)>,
}

/// What one meter saw.
struct Log {
    began: Duration,
    lasted: Duration,
    flows: Vec<FlowReport>,
}

impl Flows {
    /// Starts `classes` and returns when every flow gets through.
    pub(super) fn start<'c>(
        scene: &Scene,
        classes: impl IntoIterator<Item = &'c Class>,
        warm_up: Duration,
    ) -> anyhow::Result<Self> {
        let mut ports = FIRST_PORT..;
        let mut source_ports = (FIRST_SOURCE_PORT..).step_by(1000);
        let mut running = Vec::new();
        for class in classes {
            let sides = class
                .pairs
                .iter()
                .map(|[a, b]| Ok(Pair { a: side(scene, class, a)?, b: side(scene, class, b)? }))
                .collect::<anyhow::Result<Vec<Pair>>>()?;
            let flows: usize = sides.iter().map(|pair| 2 * families(pair) * class.flows).sum();
            if let Some((pair, _)) = class.pairs.iter().zip(&sides).find(|(_, sides)| families(sides) == 0) {
                bail!(
                    "traffic {}: {} and {} have no addresses of one family; name them with \"addresses\"",
                    class.name,
                    pair[0],
                    pair[1]
                );
            }
            let mut one = Running {
                class: class.clone(),
                meters: Vec::new(),
                connections: Vec::new(),
                flows,
                began: scene.clock(),
            };
            for pair in sides {
                let port = ports.next().context("more pairs than ports")?;
                let source_port = source_ports.next().context("more pairs than source ports")?;
                one.open(scene, pair, port, source_port, warm_up)
                    .with_context(|| format!("traffic {}", class.name))?;
            }
            running.push(one);
        }
        Ok(Self { running })
    }

    /// Packets that `class` has sent up to now, about.
    pub(super) fn sent(&self, class: &str, now: Duration) -> u64 {
        let running = self.running.iter().find(|running| running.class.name == class);
        running.map_or(0, |running| {
            (now.saturating_sub(running.began).as_secs_f64() * f64::from(running.class.rate)) as u64
        })
    }

    /// Ends the traffic and judges it.
    pub(super) fn stop(self, bounds: &BTreeMap<String, Bound>, slack: u32) -> anyhow::Result<Ended> {
        let mut ended = Ended { reports: Vec::new(), logs: Vec::new() };
        // All senders first: what the sum takes must not lengthen the others' run.
        for running in self.running {
            let bound = bounds.get(&running.class.name).copied().unwrap_or_default().times(slack);
            let name = running.class.name.clone();
            let (report, logs) = running.stop(bound).with_context(|| format!("traffic {name}"))?;
            ended.reports.push(report);
            ended.logs.push((name, logs));
        }
        Ok(ended)
    }
}

impl Running {
    fn open(
        &mut self,
        scene: &Scene,
        pair: Pair,
        port: u16,
        source_port: u16,
        warm_up: Duration,
    ) -> anyhow::Result<()> {
        let rate = (self.class.rate as usize / self.flows).max(1);
        match self.class.protocol {
            Protocol::Udp => {
                let plan = Plan {
                    flows: self.class.flows,
                    rate: u32::try_from(rate)?,
                    source_port,
                    port,
                    warm_up,
                    longest: LONGEST,
                    ..Plan::default()
                };
                let meter = Meter::start(&[pair], plan)?;
                let began = scene.clock().saturating_sub(meter.elapsed());
                self.meters.push((meter, began));
            }
            Protocol::Tcp => {
                let interval = Duration::from_secs(1) / u32::try_from(rate)?;
                for (client, server) in [(&pair.a, &pair.b), (&pair.b, &pair.a)] {
                    let v4 = client.v4.and(server.v4).map(IpAddr::V4);
                    let v6 = client.v6.and(server.v6).map(IpAddr::V6);
                    for address in v4.into_iter().chain(v6) {
                        self.connections.push(Connections::start(
                            &client.netns,
                            &server.netns,
                            SocketAddr::new(address, port),
                            self.class.flows,
                            interval,
                            ROUND_TRIP,
                        )?);
                    }
                }
            }
        }
        Ok(())
    }

    fn stop(self, bound: Bound) -> anyhow::Result<(TrafficReport, Vec<Log>)> {
        let mut report = TrafficReport {
            class: self.class.name,
            flows: self.flows,
            sent: 0,
            lost: 0,
            longest_outage: Duration::ZERO,
            allowed_lost: bound.packets,
            allowed_outage: bound.outage,
            held: true,
            worst: Vec::new(),
        };
        let mut logs = Vec::new();
        let mut late = Duration::ZERO;
        let mut suffered: Vec<(Duration, String)> = Vec::new();
        for (meter, began) in self.meters {
            let measured = meter.stop()?;
            report.sent += measured.sent();
            report.lost += measured.lost();
            report.longest_outage = report.longest_outage.max(measured.longest_outage());
            late = late.max(measured.sender_late);
            suffered.extend(measured.hit().map(|flow| (flow.longest_outage(), describe(flow))));
            logs.push(Log { began, lasted: measured.duration, flows: measured.flows });
        }
        let mut round_trips = 0;
        for connection in self.connections.into_iter().map(Connections::stop) {
            for one in connection? {
                round_trips += one.round_trips;
                report.longest_outage = report.longest_outage.max(one.longest);
                report.held &= one.failure.is_none();
                let failure = one.failure.map_or(String::new(), |failure| format!(", then: {failure}"));
                let text = format!(
                    "{}: longest round trip {:.1} ms{failure}",
                    one.local,
                    one.longest.as_secs_f64() * 1000.0
                );
                suffered.push((one.longest, text));
            }
        }
        suffered.sort();
        report.worst = suffered.into_iter().rev().take(WORST).map(|(_, text)| text).collect();
        report.held &= bound.packets.is_none_or(|allowed| report.lost <= allowed);
        report.held &= bound.outage.is_none_or(|allowed| report.longest_outage <= allowed);
        ensure!(report.sent > 0 || round_trips > 0, "no packet was sent, so nothing was tested");
        if !report.held && late > Duration::from_millis(20) {
            report.worst.push(format!(
                "the sender itself was up to {} ms late: this machine is busy",
                late.as_millis()
            ));
        }
        Ok((report, logs))
    }
}

impl Ended {
    /// Packets of each class over time.
    pub(super) fn series(&self, from: Duration, to: Duration, bucket: Duration) -> Vec<PacketSeries> {
        let count = (to.saturating_sub(from).as_nanos() / bucket.as_nanos().max(1)) as usize + 1;
        let index = |time: Duration| {
            let since = time.checked_sub(from)?;
            Some((since.as_nanos() / bucket.as_nanos().max(1)) as usize)
        };
        let mut series = Vec::new();
        for (class, meters) in self.logs.iter().filter(|(_, meters)| !meters.is_empty()) {
            let mut buckets = vec![Bucket::default(); count];
            for Log { began, lasted, flows } in meters {
                for flow in flows {
                    // Packets were sent at even times: their numbers tell when.
                    for time in spread(*began, *began + *lasted, flow.sent) {
                        if let Some(bucket) = index(time).and_then(|index| buckets.get_mut(index)) {
                            bucket.sent += 1;
                        }
                    }
                    for range in &flow.lost_ranges {
                        let end = range.ended.unwrap_or(range.sent_last);
                        for time in spread(*began + range.sent_first, *began + end, range.packets()) {
                            if let Some(bucket) = index(time).and_then(|index| buckets.get_mut(index)) {
                                bucket.lost += 1;
                            }
                        }
                    }
                }
            }
            series.push(PacketSeries { class: class.clone(), bucket, buckets });
        }
        series
    }
}

/// `count` times, evenly from `from` to `to`.
fn spread(from: Duration, to: Duration, count: u64) -> impl Iterator<Item = Duration> {
    let step = to.saturating_sub(from).as_secs_f64() / count.max(1) as f64;
    (0..count).map(move |number| from + Duration::from_secs_f64(step * number as f64))
}

fn describe(flow: &FlowReport) -> String {
    format!(
        "{} -> {}: {} of {} lost, outage {:.1} ms",
        flow.from,
        flow.to,
        flow.lost(),
        flow.sent,
        flow.longest_outage().as_secs_f64() * 1000.0
    )
}

fn families(pair: &Pair) -> usize {
    usize::from(pair.a.v4.and(pair.b.v4).is_some()) + usize::from(pair.a.v6.and(pair.b.v6).is_some())
}

fn side(scene: &Scene, class: &Class, node: &str) -> anyhow::Result<Side> {
    let addresses = match class.addresses.get(node) {
        Some(addresses) => *addresses,
        None => global_addresses(scene, node)?,
    };
    Ok(Side {
        netns: scene.netns(node)?,
        v4: addresses.v4.filter(|_| class.ipv4),
        v6: addresses.v6.filter(|_| class.ipv6),
    })
}

/// The first global address of each family, not counting those of the management network.
fn global_addresses(scene: &Scene, name: &str) -> anyhow::Result<Addresses> {
    let output = scene.netns(name)?.ip("-json address show scope global")?;
    let interfaces: serde_json::Value =
        serde_json::from_str(&output).with_context(|| format!("the addresses of {name}"))?;
    let topology = scene.lab.topology();
    let is_link = |interface: &str| {
        let owner = topology.network_owner(name);
        let mut ends = topology.links.iter().flat_map(|link| &link.ends);
        ends.any(|end| {
            topology.network_owner(&end.node) == owner
                && crate::file::links::device_name(&end.interface) == interface
        })
    };
    let mut found = Addresses::default();
    for interface in interfaces.as_array().into_iter().flatten() {
        // A namespace inside a node has no part in the management network.
        let managed = |device: &str| device == "eth0" && !name.contains('/') && !is_link(device);
        if interface["ifname"].as_str().is_some_and(managed) {
            continue;
        }
        for address in interface["addr_info"].as_array().into_iter().flatten() {
            match address["local"].as_str().and_then(|address| address.parse().ok()) {
                Some(IpAddr::V4(address)) => found.v4 = found.v4.or(Some(address)),
                Some(IpAddr::V6(address)) => found.v6 = found.v6.or(Some(address)),
                None => {}
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spread_evenly() {
        let ms = Duration::from_millis;
        assert_eq!(spread(ms(10), ms(14), 4).collect::<Vec<_>>(), [ms(10), ms(11), ms(12), ms(13)]);
        assert_eq!(spread(ms(10), ms(10), 1).collect::<Vec<_>>(), [ms(10)]);
        assert_eq!(spread(ms(10), ms(14), 0).count(), 0);
    }
}

//! The packets of one class over time: what arrived as an area, what was lost in red on top of it.

use std::fmt::Write as _;
use std::time::Duration;

use super::scale::Scale;
use super::{LEFT, MARGIN, lost_words};
use crate::story::report::{Bucket, PacketSeries, TrafficReport};
use crate::story::units::{count, span};
use crate::svg::{self, Anchor, bold, fit, line, rect, text};
use crate::xml::Element;

const HEIGHT: f64 = 54.0;
/// Narrowest stretch of time that is drawn.
const NARROW: f64 = 3.0;

/// Draws a class from `y` down, and says where it ends.
pub(super) fn lane(
    items: &mut Vec<Element>,
    y: f64,
    series: &PacketSeries,
    class: Option<&TrafficReport>,
    begin: Duration,
    scale: &Scale,
) -> f64 {
    let bottom = y + HEIGHT;
    let room = LEFT - MARGIN - 80.0; // the peak stands beside it
    items.push(bold(text(
        (MARGIN, y + 13.0),
        12.0,
        Anchor::Start,
        svg::INK,
        &fit(&series.class, 12.0, room),
    )));
    let total = series.buckets.iter().fold(Bucket::default(), sum);
    let fill = if total.lost == 0 { svg::MUTED } else { svg::RED };
    items.push(text((MARGIN, y + 29.0), 11.0, Anchor::Start, fill, &lost_words(total.lost, total.sent)));
    if let Some(class) = class {
        let words = match class.allowed_outage {
            Some(allowed) => format!("longest outage {} of {}", span(class.longest_outage), span(allowed)),
            None => format!("longest outage {}", span(class.longest_outage)),
        };
        let fill = if class.held { svg::MUTED } else { svg::RED };
        items.push(text((MARGIN, y + 44.0), 11.0, Anchor::Start, fill, &words));
    }
    let stretches = stretches(series, begin, scale);
    let peak = stretches.iter().map(Stretch::rate).fold(0.0, f64::max);
    if peak > 0.0 {
        let height = |packets: f64, stretch: &Stretch| packets / stretch.seconds() / peak * (HEIGHT - 6.0);
        items.push(arrived(&stretches, bottom, &height));
        items.extend(stretches.iter().filter(|stretch| stretch.packets.lost > 0).map(|stretch| {
            let lost = height(stretch.packets.lost as f64, stretch).max(3.0);
            let all = height(stretch.packets.sent as f64, stretch).max(lost);
            let red = rect(stretch.left, bottom - all, stretch.right - stretch.left, lost, svg::RED);
            red.with("shape-rendering", "crispEdges")
        }));
        let words = format!("{}/s", count(peak.round() as u64));
        items.push(text((LEFT - 10.0, y + 13.0), 10.0, Anchor::End, svg::MUTED, &words));
    }
    items.push(line((LEFT, bottom), (scale.right(), bottom), svg::MUTED, 1.0));
    bottom + 12.0
}

/// Packets of neighbouring buckets that are drawn as one.
struct Stretch {
    from: Duration,
    to: Duration,
    left: f64,
    right: f64,
    packets: Bucket,
}

impl Stretch {
    fn seconds(&self) -> f64 {
        self.to.saturating_sub(self.from).as_secs_f64().max(1e-6)
    }

    fn rate(&self) -> f64 {
        self.packets.sent as f64 / self.seconds()
    }
}

/// The buckets that are shown, as many together as make [`NARROW`] pixels.
fn stretches(series: &PacketSeries, begin: Duration, scale: &Scale) -> Vec<Stretch> {
    let start = |index: usize| begin + series.bucket * u32::try_from(index).unwrap_or(u32::MAX);
    let mut stretches: Vec<Stretch> = Vec::new();
    for (index, bucket) in series.buckets.iter().enumerate() {
        let (from, to) = (start(index), start(index + 1));
        if to <= scale.from || from >= scale.to {
            continue;
        }
        match stretches.last_mut() {
            Some(last) if last.right - last.left < NARROW => {
                last.packets = sum(last.packets, bucket);
                last.to = to;
                last.right = scale.x(to);
            }
            _ => stretches.push(Stretch {
                from,
                to,
                left: scale.x(from),
                right: scale.x(to),
                packets: *bucket,
            }),
        }
    }
    stretches
}

fn sum(a: Bucket, b: &Bucket) -> Bucket {
    Bucket { sent: a.sent + b.sent, lost: a.lost + b.lost }
}

/// One outline around all that arrived: a rectangle each would leave seams between them.
fn arrived(stretches: &[Stretch], bottom: f64, height: &impl Fn(f64, &Stretch) -> f64) -> Element {
    let mut path = String::new();
    let mut last = None;
    for stretch in stretches {
        let Stretch { left, right, packets, .. } = stretch;
        let top = bottom - height(packets.sent.saturating_sub(packets.lost) as f64, stretch);
        // Stretches touch, except where nothing was recorded: there the outline goes down and begins anew.
        match last {
            Some(end) if left - end < 0.05 => {}
            Some(_) => write!(path, "V{bottom:.1}M{left:.1} {bottom:.1}").expect("a string takes everything"),
            None => write!(path, "M{left:.1} {bottom:.1}").expect("a string takes everything"),
        }
        write!(path, "V{top:.1}H{right:.1}").expect("a string takes everything");
        last = Some(*right);
    }
    write!(path, "V{bottom:.1}").expect("a string takes everything");
    Element::new("path").with("d", path).with("fill", svg::BLUE)
}

//! The graph as SVG: a box for each node with its addresses, a line for each link in the colour of its
//! sessions.
//!
//! Above [`DETAILED`] nodes the boxes hold names only, and addresses are tooltips.

use std::f64::consts::TAU;

use super::text::shortened;
use super::{Graph, Node, layers, place};
use crate::svg::{self, Anchor, bold, line, rect, text, text_width};
use crate::xml::Element;

/// Most nodes whose addresses are written out.
const DETAILED: usize = 24;
const MARGIN: f64 = 28.0;
const HEAD: f64 = 74.0;
const LAYER_GAP: f64 = 116.0;
const ROW: f64 = 14.0;
const SIZE: f64 = 10.5;
const PAD: f64 = 9.0;

/// One node's box; `x` and `y` are its upper left corner.
struct Box {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    rows: Vec<Row>,
}

struct Row {
    /// Interface name, in a column of its own.
    key: String,
    words: String,
    fill: &'static str,
}

/// Where a link meets a box, and where its interface's name stands.
#[derive(Clone, Copy)]
struct Port {
    at: (f64, f64),
    label: (f64, f64),
    anchor: Anchor,
    /// There is room for the name.
    named: bool,
}

impl Graph {
    /// The picture.
    #[must_use]
    pub fn svg(&self) -> String {
        let mut boxes: Vec<Box> = self.nodes.iter().map(|node| self.sized(node)).collect();
        let edges: Vec<(usize, usize)> =
            self.links.iter().map(|link| (link.ends[0].0, link.ends[1].0)).filter(|(a, b)| a != b).collect();
        match layers::layers(self) {
            Some(mut layers) => in_layers(&mut boxes, &mut layers, &edges),
            None => in_a_ring(&mut boxes),
        }
        let right = boxes.iter().map(|node| node.x + node.width).fold(0.0, f64::max);
        let bottom = boxes.iter().map(|node| node.y + node.height).fold(0.0, f64::max);
        let width = (right + MARGIN).max(760.0);
        // Narrow graphs stand in the middle of the legend's width.
        let shift = (width - right - MARGIN) / 2.0;
        boxes.iter_mut().for_each(|node| node.x += shift);

        let ports = self.ports(&boxes);
        let mut picture = svg::picture(width, bottom + 64.0, &self.headline());
        picture.push(bold(text((MARGIN, 34.0), 18.0, Anchor::Start, svg::INK, &format!("lab {}", self.lab))));
        let facts = self.headline();
        let facts = facts.split_once(": ").map_or("", |(_, facts)| facts);
        picture.push(text((MARGIN, 54.0), 12.0, Anchor::Start, svg::MUTED, facts));
        let mut badges = Badges { taken: Vec::new(), drawn: Vec::new() };
        for (index, ports) in ports.iter().enumerate() {
            picture.push(self.line_of(index, ports));
            self.badge(index, ports, &mut badges);
        }
        for session in self.sessions.iter().filter(|session| session.link.is_none()) {
            let [a, b] = session.nodes.map(|node| boxes[node].middle());
            picture.push(far_session(a, b, if session.established() { svg::GREEN } else { svg::RED }));
        }
        for (node, drawn) in self.nodes.iter().zip(&boxes) {
            picture.push(box_of(node, drawn));
        }
        for (link, ports) in self.links.iter().zip(&ports) {
            for ((node, interface), port) in link.ends.iter().zip(ports).filter(|(_, port)| port.named) {
                let name = &self.nodes[*node].interfaces[*interface].name;
                picture.push(haloed(port.label, port.anchor, name));
            }
        }
        picture = picture.children(badges.drawn);
        picture.children(self.legend(bottom + 38.0)).to_string()
    }

    /// A box as large as its words need, at no place yet.
    fn sized(&self, node: &Node) -> Box {
        let mut rows = Vec::new();
        let facts = node.facts().join(", ");
        if !facts.is_empty() {
            let fill = if node.runs { svg::MUTED } else { svg::RED };
            rows.push(Row { key: String::new(), words: facts, fill });
        }
        if self.nodes.len() <= DETAILED {
            for interface in &node.interfaces {
                for (index, address) in interface.addresses.iter().enumerate() {
                    let key = if index == 0 { interface.name.clone() } else { String::new() };
                    rows.push(Row { key, words: address.to_string(), fill: svg::INK });
                }
            }
            let prefixes: Vec<String> = node.originates.iter().map(ToString::to_string).collect();
            let most = if prefixes.len() > 4 { 3 } else { 4 };
            for (index, prefix) in prefixes.iter().take(most).enumerate() {
                let key = if index == 0 { "announces" } else { "" }.to_owned();
                rows.push(Row { key, words: prefix.clone(), fill: svg::GREEN });
            }
            if prefixes.len() > most {
                let words = format!("and {} more", prefixes.len() - most);
                rows.push(Row { key: String::new(), words, fill: svg::GREEN });
            }
        }
        let keys = key_width(&rows);
        let rows_width = rows.iter().map(|row| {
            text_width(&row.words, SIZE)
                + if row.fill == svg::MUTED || row.fill == svg::RED { 0.0 } else { keys }
        });
        let width = rows_width.fold(text_width(&node.name, 13.0) * 1.06, f64::max) + 2.0 * PAD;
        Box { x: 0.0, y: 0.0, width: width.max(74.0), height: 26.0 + rows.len() as f64 * ROW, rows }
    }

    /// The two ports of each link.
    fn ports(&self, boxes: &[Box]) -> Vec<[Port; 2]> {
        let mut ports: Vec<[Port; 2]> = self
            .links
            .iter()
            .map(|link| {
                let [a, b] = link.ends.map(|(node, _)| &boxes[node]);
                [a.toward(b.middle()), b.toward(a.middle())]
            })
            .collect();
        // Links that leave a box upwards or downwards share its edge, in the order of where they go.
        for (index, drawn) in boxes.iter().enumerate() {
            for up in [true, false] {
                let mut leaving: Vec<(f64, usize, usize)> = Vec::new();
                for (link, ends) in self.links.iter().map(|link| link.ends).enumerate() {
                    for side in [0, 1] {
                        let other = &boxes[ends[1 - side].0];
                        let beyond = if up {
                            other.y + other.height <= drawn.y
                        } else {
                            other.y >= drawn.y + drawn.height
                        };
                        if ends[side].0 == index && beyond {
                            leaving.push((other.middle().0, link, side));
                        }
                    }
                }
                // Parallel links keep one order at both ends.
                leaving.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                let count = leaving.len() as f64;
                let named = drawn.width / count > 26.0;
                for (place, (_, link, side)) in leaving.into_iter().enumerate() {
                    let x = drawn.x + drawn.width * (place as f64 + 0.5) / count;
                    let (y, label) = if up { (drawn.y, -7.0) } else { (drawn.y + drawn.height, 15.0) };
                    ports[link][side] =
                        Port { at: (x, y), label: (x, y + label), anchor: Anchor::Middle, named };
                }
            }
        }
        ports
    }

    fn line_of(&self, index: usize, ports: &[Port; 2]) -> Element {
        let up = self.links[index]
            .ends
            .iter()
            .all(|(node, interface)| self.nodes[*node].interfaces[*interface].up);
        let colour = match self.link_held(index) {
            _ if !up => svg::RED,
            Some(true) => svg::GREEN,
            Some(false) => svg::RED,
            None => svg::LINE,
        };
        let drawn = line(ports[0].at, ports[1].at, colour, 1.8);
        let drawn = if up { drawn } else { drawn.with("stroke-dasharray", "6 5") };
        drawn.child(Element::new("title").text(self.said_of(index)))
    }

    /// Everything about a link, for its tooltip.
    fn said_of(&self, index: usize) -> String {
        let ends = self.links[index].ends.map(|(node, interface)| {
            let interface = &self.nodes[node].interfaces[interface];
            let addresses: Vec<String> = interface.addresses.iter().map(ToString::to_string).collect();
            let carrier = if interface.up { "" } else { " (no carrier)" };
            format!("{}:{} {}{carrier}", self.nodes[node].name, interface.name, shortened(&addresses, 6))
        });
        let sessions = self.sessions.iter().filter(|session| session.link == Some(index));
        let sessions = sessions.map(|session| format!("\n{} {}", session.family(), session.state()));
        format!("{}\n{}{}", ends[0], ends[1], sessions.collect::<String>())
    }

    /// How many sessions of a link are Established; which state, if one is not.
    fn badge(&self, index: usize, ports: &[Port; 2], badges: &mut Badges) {
        let Some(held) = self.link_held(index) else { return };
        // In a large graph the line's colour says it, and only what is wrong needs words.
        if held && self.nodes.len() > DETAILED {
            return;
        }
        let sessions: Vec<_> = self.sessions.iter().filter(|session| session.link == Some(index)).collect();
        let words = match sessions.iter().find(|session| !session.established()) {
            None => sessions.iter().map(|session| session.family()).collect::<Vec<_>>().join(" "),
            Some(down) => format!("{} {}", down.family(), down.state()),
        };
        let (fill, ink) = if held { (svg::PALE_GREEN, svg::GREEN) } else { (svg::PALE_RED, svg::RED) };
        let width = text_width(&words, 9.0) + 8.0;
        let (x, y) = badges.place(ports, width);
        let pill = rect(x - width / 2.0, y - 7.0, width, 14.0, fill).with("rx", 7).with("stroke", ink);
        let pill = pill.with("stroke-width", 0.8).child(Element::new("title").text(self.said_of(index)));
        let words = text((x, y + 3.2), 9.0, Anchor::Middle, ink, &words);
        badges.drawn.push(Element::new("g").child(pill).child(words));
    }

    fn legend(&self, y: f64) -> Vec<Element> {
        let entries: &[(&str, &str)] = if self.live {
            &[
                (svg::GREEN, "all sessions Established"),
                (svg::RED, "a session is not Established; dashed: no carrier"),
                (svg::LINE, "link without BGP"),
            ]
        } else {
            &[(svg::LINE, "link")]
        };
        let mut x = MARGIN;
        let mut legend = Vec::new();
        for (colour, words) in entries {
            legend.push(line((x, y - 4.0), (x + 22.0, y - 4.0), colour, 2.0));
            legend.push(text((x + 28.0, y), 11.0, Anchor::Start, svg::MUTED, words));
            x += 28.0 + text_width(words, 11.0) + 20.0;
        }
        legend
    }
}

/// The badges drawn so far, and where: they keep clear of each other.
struct Badges {
    taken: Vec<(f64, f64, f64)>,
    drawn: Vec<Element>,
}

impl Badges {
    /// The middle of a badge of this width, on the link between two ports.
    fn place(&mut self, ports: &[Port; 2], width: f64) -> (f64, f64) {
        let [upper, lower] = if ports[0].at.1 <= ports[1].at.1 { *ports } else { [ports[1], ports[0]] };
        let at = |part: f64| {
            let between = |a: f64, b: f64| a + (b - a) * part;
            (between(upper.at.0, lower.at.0), between(upper.at.1, lower.at.1))
        };
        let free = |(x, y): &(f64, f64)| {
            let apart = |(other, level, wide): &(f64, f64, f64)| {
                (x - other).abs() > (width + wide) / 2.0 + 3.0 || (y - level).abs() > 17.0
            };
            self.taken.iter().all(apart)
        };
        // Not first in the middle, where lines cross.
        let parts = [0.38, 0.54, 0.3, 0.62, 0.46, 0.7];
        let (x, y) = parts.into_iter().map(at).find(free).unwrap_or_else(|| at(parts[0]));
        self.taken.push((x, y, width));
        (x, y)
    }
}

impl Box {
    fn middle(&self) -> (f64, f64) {
        (self.x + self.width / 2.0, self.y + self.height / 2.0)
    }

    /// Where the line from the middle to `to` leaves the box.
    fn toward(&self, to: (f64, f64)) -> Port {
        let (x, y) = self.middle();
        let (dx, dy) = (to.0 - x, to.1 - y);
        let reach =
            |half: f64, delta: f64| if delta.abs() < 1e-6 { f64::INFINITY } else { half / delta.abs() };
        let part = reach(self.width / 2.0, dx).min(reach(self.height / 2.0, dy)).min(0.5);
        let at = (x + dx * part, y + dy * part);
        let length = dx.hypot(dy).max(1.0);
        let out = 14.0;
        let label = (at.0 + dx / length * out, at.1 + dy / length * out + 3.0);
        let anchor = match dx / length {
            side if side > 0.5 => Anchor::Start,
            side if side < -0.5 => Anchor::End,
            _ => Anchor::Middle,
        };
        Port {
            at,
            label: if anchor == Anchor::Middle { label } else { (at.0 + dx.signum() * 4.0, label.1 - 4.0) },
            anchor,
            named: true,
        }
    }
}

fn in_layers(boxes: &mut [Box], layers: &mut [Vec<usize>], edges: &[(usize, usize)]) {
    // Boxes of a layer are of one size: a row reads better so.
    for layer in layers.iter() {
        let size = |of: fn(&Box) -> f64| layer.iter().map(|node| of(&boxes[*node])).fold(0.0, f64::max);
        let (width, height) = (size(|node| node.width), size(|node| node.height));
        for node in layer {
            (boxes[*node].width, boxes[*node].height) = (width, height);
        }
    }
    let widths: Vec<f64> = boxes.iter().map(|node| node.width).collect();
    let x = place::place(layers, &widths, edges);
    let mut y = HEAD;
    for layer in layers.iter() {
        for node in layer {
            boxes[*node].x = MARGIN + x[*node] - widths[*node] / 2.0;
            boxes[*node].y = y;
        }
        y += layer.first().map_or(0.0, |node| boxes[*node].height) + LAYER_GAP;
    }
}

/// On a circle, the first node on top; boxes of neighbours keep their distance.
fn in_a_ring(boxes: &mut [Box]) {
    let width = boxes.iter().map(|node| node.width).fold(0.0, f64::max);
    let height = boxes.iter().map(|node| node.height).fold(0.0, f64::max);
    let count = boxes.len() as f64;
    let radius = (width.hypot(height) + 60.0) * count / TAU;
    for (index, node) in boxes.iter_mut().enumerate() {
        let angle = TAU * index as f64 / count;
        node.x = MARGIN + radius + radius * angle.sin() + (width - node.width) / 2.0;
        node.y = HEAD + radius - radius * angle.cos() + (height - node.height) / 2.0;
    }
}

fn key_width(rows: &[Row]) -> f64 {
    let widest = rows.iter().map(|row| text_width(&row.key, SIZE)).fold(0.0, f64::max);
    if widest > 0.0 { widest + 8.0 } else { 0.0 }
}

fn box_of(node: &Node, drawn: &Box) -> Element {
    let (fill, stroke) = match (node.runs, node.is_host()) {
        (false, _) => ("#fef2f2", svg::RED),
        (true, true) => (svg::PALE_GREY, svg::LINE),
        (true, false) => ("#eff6ff", svg::BLUE),
    };
    let Box { x, y, width, height, rows } = drawn;
    let frame =
        rect(*x, *y, *width, *height, fill).with("stroke", stroke).with("stroke-width", 1.4).with("rx", 6);
    let mut group = Element::new("g").child(frame);
    let addresses: Vec<String> = node
        .interfaces
        .iter()
        .flat_map(|interface| {
            interface.addresses.iter().map(|address| format!("{} {address}", interface.name))
        })
        .chain(node.originates.iter().map(|prefix| format!("announces {prefix}")))
        .collect();
    let mut facts = vec![[vec![node.name.clone()], node.facts()].concat().join(", ")];
    facts.extend(addresses);
    group.push(Element::new("title").text(facts.join("\n")));
    group.push(bold(text((x + width / 2.0, y + 17.5), 13.0, Anchor::Middle, svg::INK, &node.name)));
    let keys = key_width(rows);
    for (index, row) in rows.iter().enumerate() {
        let baseline = y + 31.5 + index as f64 * ROW;
        if row.fill == svg::MUTED || row.fill == svg::RED {
            group.push(text((x + width / 2.0, baseline), SIZE, Anchor::Middle, row.fill, &row.words));
            continue;
        }
        if !row.key.is_empty() {
            group.push(text((x + PAD, baseline), SIZE, Anchor::Start, svg::MUTED, &row.key));
        }
        group.push(text((x + PAD + keys, baseline), SIZE, Anchor::Start, row.fill, &row.words));
    }
    group
}

/// A session that runs over several links: a bow beside them.
fn far_session(a: (f64, f64), b: (f64, f64), colour: &str) -> Element {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let middle = ((a.0 + b.0) / 2.0 - dy * 0.18, (a.1 + b.1) / 2.0 + dx * 0.18);
    let path = format!("M{:.1} {:.1}Q{:.1} {:.1} {:.1} {:.1}", a.0, a.1, middle.0, middle.1, b.0, b.1);
    let bow = Element::new("path").with("d", path).with("fill", "none").with("stroke", colour);
    bow.with("stroke-width", 1.4).with("stroke-dasharray", "2 4")
}

/// An interface's name on a patch of paper, so that the lines it stands on do not cross it out.
fn haloed(at: (f64, f64), anchor: Anchor, words: &str) -> Element {
    let width = text_width(words, 9.0);
    let left = match anchor {
        Anchor::Start => at.0,
        Anchor::Middle => at.0 - width / 2.0,
        Anchor::End => at.0 - width,
    };
    let patch = rect(left - 1.0, at.1 - 8.0, width + 2.0, 10.5, svg::PAPER).with("opacity", 0.85);
    Element::new("g").child(patch).child(text(at, 9.0, anchor, svg::MUTED, words))
}

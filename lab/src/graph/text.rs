//! The graph for a terminal: each node with its links, what stands on them, and what it announces.

use super::{Graph, Node, Session};
use crate::story::columns::{Align, columns};

impl Graph {
    /// As lines for people; ends with a line break.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines = vec![self.headline()];
        for (index, node) in self.nodes.iter().enumerate() {
            lines.push(String::new());
            lines.push([vec![node.name.clone()], node.facts()].concat().join(", "));
            lines.extend(self.interfaces_of(index).into_iter().map(|line| format!("  {line}")));
            for session in self.sessions.iter().filter(|session| session.link.is_none()) {
                if let Some(side) = session.nodes.iter().position(|node| *node == index) {
                    let other = &self.nodes[session.nodes[1 - side]].name;
                    lines.push(format!("  session to {other}: {}", said(session, 1 - side)));
                }
            }
            for (_, address, state) in self.strays.iter().filter(|(node, ..)| *node == index) {
                lines.push(format!("  session to {address}, which no node has: {state}"));
            }
            if !node.originates.is_empty() {
                let prefixes: Vec<String> = node.originates.iter().map(ToString::to_string).collect();
                lines.push(format!("  announces {}", shortened(&prefixes, 8)));
            }
        }
        if !self.problems.is_empty() {
            lines.push(String::new());
            lines.extend(self.problems.iter().map(|problem| format!("not known: {problem}")));
        }
        lines.join("\n") + "\n"
    }

    /// `lab clos: 14 nodes, 20 links, 32 of 32 sessions Established`.
    pub(super) fn headline(&self) -> String {
        let up = self.sessions.iter().filter(|session| session.established()).count();
        let all = self.sessions.len() + self.strays.len();
        let sessions = match (self.live, all) {
            (false, _) => "not running".to_owned(),
            (true, 0) => "no BGP sessions".to_owned(),
            (true, all) => format!("{up} of {all} sessions Established"),
        };
        format!("lab {}: {} nodes, {} links, {sessions}", self.lab, self.nodes.len(), self.links.len())
    }

    fn interfaces_of(&self, index: usize) -> Vec<String> {
        let node = &self.nodes[index];
        let row = |(own, interface): (usize, &super::Interface)| {
            let addresses: Vec<String> = interface.addresses.iter().map(ToString::to_string).collect();
            let link = self.links_of(index).find(|(mine, ..)| *mine == own);
            let (far, sessions) = match link {
                Some((_, other, theirs, link)) => {
                    let far = &self.nodes[other];
                    (format!("-- {}:{}", far.name, far.interfaces[theirs].name), self.on_link(link, index))
                }
                None => (String::new(), String::new()),
            };
            let carrier = if interface.up { "" } else { "no carrier" };
            vec![interface.name.clone(), addresses.join(" "), far, sessions, carrier.to_owned()]
        };
        let rows: Vec<_> = node.interfaces.iter().enumerate().map(row).collect();
        columns(&rows, &[Align::Left; 5], 60)
    }

    /// The sessions over a link as `node` names their neighbours.
    fn on_link(&self, link: usize, node: usize) -> String {
        let sessions = self.sessions.iter().filter(|session| session.link == Some(link));
        let words = sessions.map(|session| said(session, usize::from(session.nodes[0] == node)));
        words.collect::<Vec<_>>().join(", ")
    }
}

impl Node {
    /// `towpath`, `AS 65001`, `does not run`.
    pub(super) fn facts(&self) -> Vec<String> {
        let program = self.program.clone();
        let asn = self.asn.map(|asn| format!("AS {asn}"));
        let stopped = (!self.runs).then(|| "does not run".to_owned());
        program.into_iter().chain(asn).chain(stopped).collect()
    }
}

/// The neighbour at `side`, and the state; both states where the ends disagree.
fn said(session: &Session, side: usize) -> String {
    let address =
        session.addresses[side].map_or_else(|| session.family().to_owned(), |address| address.to_string());
    match session.states.each_ref().map(Option::as_deref) {
        [Some(a), Some(b)] if a != b => format!("{address} {} (other end {})", [b, a][side], [a, b][side]),
        _ => format!("{address} {}", session.state()),
    }
}

/// The first few of many.
pub(super) fn shortened(words: &[String], most: usize) -> String {
    match words.len().checked_sub(most) {
        Some(more) if more > 0 => format!("{} and {more} more", words[..most].join(", ")),
        _ => words.join(", "),
    }
}

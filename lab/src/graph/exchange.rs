//! The graph for other drawing programs: Graphviz and Mermaid, as `containerlab graph` writes them.

use std::fmt::Write as _;

use super::Graph;

impl Graph {
    /// An undirected graph in Graphviz' language, interface names at the ends of the edges.
    #[must_use]
    pub fn dot(&self) -> String {
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let mut out = format!("graph {} {{\n  node [shape=box];\n", quoted(&self.lab));
        for node in &self.nodes {
            // Graphviz writes a line break as backslash n, which quoting must not double.
            let words = [vec![node.name.clone()], node.facts()].concat();
            let label: Vec<String> =
                words.iter().map(|word| quoted(word).trim_matches('"').to_owned()).collect();
            writeln!(out, "  {} [label=\"{}\"];", quoted(&node.name), label.join("\\n"))
                .expect("a string takes everything");
        }
        for (index, link) in self.links.iter().enumerate() {
            let [(a, at), (b, bt)] = link.ends;
            let (a, b) = (&self.nodes[a], &self.nodes[b]);
            let colour = match self.link_held(index) {
                Some(true) => ", color=darkgreen",
                Some(false) => ", color=red",
                None => "",
            };
            let (tail, head) = (quoted(&a.interfaces[at].name), quoted(&b.interfaces[bt].name));
            let (a, b) = (quoted(&a.name), quoted(&b.name));
            writeln!(out, "  {a} -- {b} [taillabel={tail}, headlabel={head}{colour}];")
                .expect("a string takes everything");
        }
        out + "}\n"
    }

    /// A Mermaid flow chart, which GitHub shows in Markdown.
    #[must_use]
    pub fn mermaid(&self) -> String {
        let mut out = String::from("graph TD\n");
        for (index, node) in self.nodes.iter().enumerate() {
            let words = [vec![node.name.clone()], node.facts()].concat().join("<br/>").replace('"', "#quot;");
            writeln!(out, "  n{index}[\"{words}\"]").expect("a string takes everything");
        }
        for link in &self.links {
            let [(a, at), (b, bt)] = link.ends;
            let (tail, head) = (&self.nodes[a].interfaces[at].name, &self.nodes[b].interfaces[bt].name);
            let words = format!("{tail} - {head}").replace('"', "#quot;");
            writeln!(out, "  n{a} ---|\"{words}\"| n{b}").expect("a string takes everything");
        }
        out
    }

    /// Whether all sessions over a link are Established; `None` for a link without one.
    pub(super) fn link_held(&self, link: usize) -> Option<bool> {
        let mut sessions = self.sessions.iter().filter(|session| session.link == Some(link)).peekable();
        sessions.peek()?;
        Some(sessions.all(super::Session::established))
    }
}

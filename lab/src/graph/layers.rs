//! Which nodes stand beside each other: hosts at the bottom, and what is farther from them above.
//!
//! The label `graph-level` decides where it is given, as in containerlab's own drawing. Where nothing but
//! a ring or a mesh is left, there are no layers.

use std::collections::VecDeque;

use super::Graph;

/// The nodes from the top layer to the bottom one; `None` where the graph has no layers.
pub(super) fn layers(graph: &Graph) -> Option<Vec<Vec<usize>>> {
    let count = graph.nodes.len();
    let neighbours: Vec<Vec<usize>> = (0..count)
        .map(|node| graph.links_of(node).map(|(_, other, ..)| other).filter(|other| *other != node).collect())
        .collect();
    let bottom = bottom(graph, &neighbours);
    let mut height: Vec<Option<i64>> = vec![None; count];
    let mut queue: VecDeque<usize> = bottom.iter().copied().collect();
    for node in &bottom {
        height[*node] = Some(0);
    }
    while let Some(node) = queue.pop_front() {
        for other in &neighbours[node] {
            if height[*other].is_none() {
                height[*other] = height[node].map(|height| height + 1);
                queue.push_back(*other);
            }
        }
    }
    let top = height.iter().flatten().max().copied().unwrap_or(0);
    // A label counts from the top; nodes without one keep their place by distance.
    let labelled = graph.nodes.iter().any(|node| node.level.is_some());
    let depth = |node: usize| match graph.nodes[node].level {
        Some(level) => level,
        None if labelled => top - height[node].unwrap_or(0) + 1,
        None => top - height[node].unwrap_or(0),
    };
    let mut depths: Vec<i64> = (0..count).map(depth).collect();
    depths.sort_unstable();
    depths.dedup();
    if depths.len() == 1 && count > 3 && graph.links.len() >= count {
        return None;
    }
    Some(depths.iter().map(|level| (0..count).filter(|node| depth(*node) == *level).collect()).collect())
}

/// Where distances begin: hosts with one link; without those any node with one link, else those with fewest.
fn bottom(graph: &Graph, neighbours: &[Vec<usize>]) -> Vec<usize> {
    let nodes = || 0..graph.nodes.len();
    let hosts: Vec<usize> =
        nodes().filter(|node| graph.nodes[*node].is_host() && neighbours[*node].len() <= 1).collect();
    // Hosts alone on their own link have nobody above them, so they are no bottom either.
    if hosts.iter().any(|host| !neighbours[*host].is_empty()) {
        return hosts;
    }
    let fewest = nodes().map(|node| neighbours[node].len()).filter(|links| *links > 0).min().unwrap_or(0);
    nodes().filter(|node| neighbours[*node].len() <= fewest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::topology::Topology;

    /// The layers of nodes and links written `a-b`; `label` gives each a `graph-level`.
    fn drawn(
        routers: &str,
        hosts: &str,
        links: &str,
        label: impl Fn(&str) -> Option<i64>,
    ) -> Option<Vec<String>> {
        let node = |name: &str, image: &str| {
            let label =
                label(name).map_or(String::new(), |level| format!(", labels: {{graph-level: {level}}}"));
            format!("  {name}: {{image: {image}{label}}}\n")
        };
        let nodes: String = routers
            .split(' ')
            .filter(|name| !name.is_empty())
            .map(|name| node(name, "towpath"))
            .chain(hosts.split(' ').filter(|name| !name.is_empty()).map(|name| node(name, "alpine")))
            .collect();
        let links: String = links
            .split(' ')
            .enumerate()
            .filter_map(|(index, link)| Some((index, link.split_once('-')?)))
            .map(|(index, (a, b))| format!("  - endpoints: [\"{a}:e{index}\", \"{b}:e{index}\"]\n"))
            .collect();
        let defaults = "{kind: linux, network-mode: none}";
        let text = format!("name: t\ntopology:\n defaults: {defaults}\n nodes:\n{nodes} links:\n{links}");
        let graph = Graph::of(&Topology::parse(&text, "t.clab.yml".as_ref(), &|_| None).unwrap());
        let names = |layer: &Vec<usize>| {
            layer.iter().map(|node| graph.nodes[*node].name.clone()).collect::<Vec<_>>().join(" ")
        };
        Some(layers(&graph)?.iter().map(names).collect())
    }

    #[test]
    fn layers_are_those_a_person_would_draw() {
        let none = |_: &str| None;
        let clos = "s1-t1 s1-t2 s2-t1 s2-t2 t1-n1 t2-n1 t1-n2 t2-n2 n1-p1 n2-p2 t1-collector";
        // A router with one link is no pod: it stands beyond the switch it is at.
        let expected = ["collector s1 s2", "t1 t2", "n1 n2", "p1 p2"].map(str::to_owned);
        assert_eq!(drawn("s1 s2 t1 t2 n1 n2 collector", "p1 p2", clos, none).unwrap(), expected);
        assert_eq!(
            drawn("s1 s2 t1 t2 t3", "", "s1-t1 s1-t2 s1-t3 s2-t1 s2-t2 s2-t3", none).unwrap(),
            ["s1 s2", "t1 t2 t3"]
        );
        assert_eq!(drawn("a b", "", "a-b", none).unwrap(), ["a b"]);
        assert_eq!(drawn("a b c d", "", "a-b b-c c-d d-a", none), None);
        let label = |name: &str| (name == "b").then_some(1);
        assert_eq!(drawn("a b", "p", "a-b a-p", label).unwrap(), ["b", "a", "p"]);
    }
}

//! Mistakes in `expect.yaml`: one message each, with its line and what to do.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers included")]

use std::path::Path;

use lab::Topology;
use lab::story::Story;

const TOPOLOGY: &str = "name: t
topology:
  nodes:
    a: {kind: linux, image: alpine, network-mode: none}
    b: {kind: linux, image: alpine, network-mode: none}
    r: {kind: linux, image: alpine, network-mode: none, cmd: sleep infinity, binds: [\"/etc:/theirs\", \"/etc:/fixed:ro\"]}
  links:
    - endpoints: [\"a:eth1\", \"r:eth1\"]
    - endpoints: [\"b:eth1\", \"r:eth2\"]
";

fn parse(text: &str) -> Result<Story, Vec<(usize, String)>> {
    let topology = Topology::parse(TOPOLOGY, Path::new("/t/topo.clab.yml"), &|_| None).unwrap();
    Story::parse(text, Path::new("/t/expect.yaml"), topology)
        .map_err(|error| error.problems.into_iter().map(|problem| (problem.line, problem.text)).collect())
}

/// The line, and what the message says after `step "s": `.
type Row = (&'static str, usize, &'static str);

/// Bodies of a step named `s` that begins in line 3; class `c` runs between a and b.
const STEPS: &[Row] = &[
    ("wihtin: 5s\n    expect: []", 4, "unknown field \"wihtin\"; did you mean \"within\"?"),
    ("colour: red\n    expect: []", 4, "unknown field \"colour\"; remove it"),
    (
        "within: 5\n    expect: []",
        4,
        "\"within\": \"5\" is no time; write a number with ms, s or m, such as 50ms",
    ),
    (
        "within: 5h\n    expect: []",
        4,
        "\"within\": \"5h\" is no time; write a number with ms, s or m, such as 50ms",
    ),
    ("within:\n    expect: []", 4, "\"within\" is empty; give a value or remove it"),
    ("traffic: c", 4, "\"traffic\" takes a list, not a text"),
    (
        "traffic: [d]",
        4,
        "\"traffic\": there is no traffic class \"d\"; add it to \"traffic\" at the head of the file",
    ),
    (
        "events: [{die: r2}]",
        4,
        "an event: \"die\": the topology has no node \"r2\"; use one of the topology's nodes",
    ),
    (
        "events: [{die: a/pod}]",
        4,
        "an event: \"die\": the topology has no node \"a/pod\"; use one of the topology's nodes",
    ),
    (
        "expect: [{ping: {from: x1/pod, to: 10.0.0.1}}]",
        4,
        "an expectation: \"ping\": \"from\": the topology has no node \"x1\"; use one of the topology's nodes, or NODE/NETNS for a network namespace in one, such as a pod",
    ),
    (
        "expect: [{ping: {from: a/, to: 10.0.0.1}}]",
        4,
        "an expectation: \"ping\": \"from\": \"\" in \"a/\" is no name of a network namespace; write NODE/NETNS, such as node1/pod1",
    ),
    (
        "expect: [{command: {node: a/b/c, run: ls}}]",
        4,
        "an expectation: \"command\": \"node\": \"b/c\" in \"a/b/c\" is no name of a network namespace; write NODE/NETNS, such as node1/pod1",
    ),
    (
        "events: [{die: spine}]",
        4,
        "an event: \"die\": the topology has no node \"spine\"; use one of the topology's nodes",
    ),
    (
        "events: [{kill: a}]",
        4,
        "an event: \"kill\": node a has no main process; give it a \"cmd\" or another event",
    ),
    ("events: [{dei: r}]", 4, "an event: unknown field \"dei\"; use one of die, kill"),
    ("events: [die r]", 4, "an event takes a mapping, not a text"),
    (
        "events: [{link-down: r}]",
        4,
        "an event: \"link-down\": the topology has no link end \"r\"; write NODE:INTERFACE as in the topology",
    ),
    (
        "events: [{link-down: \"r:eth9\"}]",
        4,
        "an event: \"link-down\": the topology has no link end \"r:eth9\"; did you mean \"r:eth1\"?",
    ),
    (
        "events: [{loss: {end: \"r:eth1\", percent: 120}}]",
        4,
        "an event: \"loss\": \"percent\": \"120\" is no percentage; write a number above 0, at most 100",
    ),
    ("events: [{loss: {end: \"r:eth1\"}}]", 4, "an event: \"loss\" needs \"percent\"; add it"),
    (
        "events: [{edit: {node: r, file: etc/x, replace: a, with: b}}]",
        4,
        "an event: \"edit\": file etc/x must be absolute, as the node sees it",
    ),
    (
        "events: [{edit: {node: r, file: /theirs/x, replace: a, with: b}}]",
        4,
        "an event: \"edit\": file /theirs/x is bound from /etc; put it beside the topology, where a copy is edited",
    ),
    (
        "events: [{edit: {node: r, file: /fixed/x, replace: a, with: b}}]",
        4,
        "an event: \"edit\": file /fixed/x is bound read-only; bind /etc without \"ro\"",
    ),
    ("events: [{edit: {node: r, file: /etc/x, with: b}}]", 4, "an event: \"edit\" needs \"replace\"; add it"),
    (
        "events: [{run: {node: r, command: \"echo 'x\"}}]",
        4,
        "an event: \"run\": \"command\": a ' is never closed; close it",
    ),
    (
        "events: [{run: {node: r, command: \"# x\"}}]",
        4,
        "an event: \"run\": \"command\": there is no command; write one",
    ),
    (
        "events: [{wait: soon}]",
        4,
        "an event: \"wait\": \"soon\" is no time; write a number with ms, s or m, such as 50ms",
    ),
    (
        "events: [{random: {for: 1s, every: 0, events: [kill]}}]",
        4,
        "an event: \"random\": \"every\" is 0; write at least 1ms",
    ),
    (
        "events: [{random: {for: 1s, every: 1s, events: [flood]}}]",
        4,
        "an event: \"random\": \"events\": \"flood\" is unknown; use one of link-flap, kill, restart, pause",
    ),
    (
        "events: [{random: {for: 1s, every: 1s, events: [kill], nodes: [a]}}]",
        4,
        "an event: \"random\": \"nodes\": node a has no main process; name nodes that run a program",
    ),
    (
        "expect: [{route: {node: r, prefix: 10.1.0.1}}]",
        4,
        "an expectation: \"route\": \"prefix\": \"10.1.0.1\" is no prefix; write one such as 10.244.2.0/24",
    ),
    (
        "expect: [{route: {node: r, prefix: 10.1.0.1/24}}]",
        4,
        "an expectation: \"route\": \"prefix\": 10.1.0.1/24 has bits set beyond its length; write 10.1.0.0/24",
    ),
    (
        "expect: [{route: {node: r, prefix: 10.1.0.0/24, nexthops: two}}]",
        4,
        "an expectation: \"route\": \"nexthops\": \"two\" is no number that is possible here; write a whole one",
    ),
    (
        "expect: [{route: {node: r, prefix: 10.1.0.0/24, nexthops: 0, dev: [eth1]}}]",
        4,
        "an expectation: \"route\": a route that is absent has no \"via\" and no \"dev\"; remove them",
    ),
    (
        "expect: [{route: {node: r, prefix: 10.1.0.0/24, nexthops: 3, via: [10.0.0.1]}}]",
        4,
        "an expectation: \"route\": 3 next hops cannot be via 1 gateways; correct one",
    ),
    (
        "expect: [{route: {node: r, prefix: 10.1.0.0/24, protocol: 256}}]",
        4,
        "an expectation: \"route\": \"protocol\": \"256\" is no number that is possible here; write a whole one",
    ),
    (
        "expect: [{sessions: {node: r}}]",
        4,
        "an expectation: \"sessions\": say how many are \"established\", or which \"neighbor\" has which \"state\"",
    ),
    (
        "expect: [{sessions: {node: r, established: most}}]",
        4,
        "an expectation: \"sessions\": \"established\": \"most\" is no number that is possible here; write a whole one",
    ),
    (
        "expect: [{sessions: {node: r, established: 1, neighbor: x}}]",
        4,
        "an expectation: \"sessions\": \"established\" counts all sessions; remove it or \"neighbor\"",
    ),
    (
        "expect: [{sessions: {node: r, neighbor: x}}]",
        4,
        "an expectation: \"sessions\": \"neighbor\" needs the \"state\" it must have",
    ),
    (
        "expect: [{sessions: {node: r, neighbor: x, state: Idle, not: Idle}}]",
        4,
        "an expectation: \"sessions\": \"state\" and \"not\" exclude each other; keep one",
    ),
    (
        "expect: [{sessions: {node: r, state: Idle}}]",
        4,
        "an expectation: \"sessions\": a state belongs to one session; add its \"neighbor\"",
    ),
    (
        "expect: [{ping: {from: a, to: b}}]",
        4,
        "an expectation: \"ping\": \"to\": \"b\" is no IP address; write one without a prefix length",
    ),
    (
        "expect: [{ping: {from: a, to: 10.0.0.1, source: \"fd00::1\"}}]",
        4,
        "an expectation: \"ping\": fd00::1 and 10.0.0.1 are of two families; use one",
    ),
    (
        "expect: [{ping: {from: a, to: 10.0.0.1, size: 70000}}]",
        4,
        "an expectation: \"ping\": \"size\" is more than a packet holds; use at most 65000",
    ),
    (
        "expect: [{transfer: {from: a, to: 10.0.0.1}}]",
        4,
        "an expectation: \"transfer\" needs \"node\"; add it",
    ),
    (
        "expect: [{command: {node: a, run: x, exit: 300}}]",
        4,
        "an expectation: \"command\": \"exit\": \"300\" is no number that is possible here; write a whole one",
    ),
    (
        "expect: [{paths: {class: c, through: [r]}}]",
        4,
        "an expectation: \"paths\": class c does not run in this step; add it to the step's \"traffic\"",
    ),
    (
        "expect: [{ping: {from: a, to: 10.0.0.1}, command: {node: a, run: x}}]",
        4,
        "an expectation is one of sessions, route, ping, transfer, command, paths, same, and 2 are given; start a new list item for each",
    ),
    ("traffic: [c]\n    lost: {c: {}}", 5, "\"lost\" c sets no bound; give \"packets\", \"outage\" or both"),
    (
        "traffic: [c]\n    lost: {c: {packets: -1}}",
        5,
        "\"lost\" c: \"packets\": \"-1\" is no number that is possible here; write a whole one",
    ),
    (
        "expect: []\n    lost: {c: {packets: 1}}",
        5,
        "\"lost\": class c does not run in this step; add it to \"traffic\"",
    ),
    (
        "traffic: [c]\n    lost: {x: {packets: 1}}",
        5,
        "\"lost\": there is no traffic class \"x\"; add it to \"traffic\" at the head of the file",
    ),
    ("events: [{die: r}]\n    prove: none", 5, "`prove: none` needs \"because\", a line that says why"),
    ("events: [{die: r}]\n    prove: maybe", 5, "\"prove\": \"maybe\" is unknown; use one of freeze, none"),
    ("events: [{die: r}]\n    prove: {then: []}", 5, "\"prove\": unknown field \"then\"; remove it"),
    (
        "events: [{die: r}]\n    because: of it",
        5,
        "\"because\" belongs to `prove: none`; add that or remove it",
    ),
    ("expect: []\n    prove: freeze", 5, "has no events, and so nothing to prove; remove \"prove\""),
    ("within: 5s", 3, "does nothing; give it \"events\", \"expect\" or \"traffic\""),
    ("expect: []\n    expect: []", 5, "\"expect\" is given twice, first in line 4; keep one of them"),
];

/// Whole files.
const FILES: &[Row] = &[
    ("", 1, "a story needs \"story\"; add it"),
    ("stroy: []", 1, "a story: unknown field \"stroy\"; did you mean \"story\"?"),
    ("story:", 1, "the story has no steps; add at least one"),
    ("story: []", 1, "the story has no steps; add at least one"),
    ("story: {name: s}", 1, "a story: \"story\" takes a list, not a mapping"),
    ("story: [x]", 1, "a step takes a mapping, not a text"),
    ("story: [{expect: []}]", 1, "a step needs \"name\"; add it"),
    (
        "story:\n- {name: s, expect: []}\n- {name: s, expect: []}",
        3,
        "step \"s\" has the name of the step in line 2; give it another",
    ),
    ("story: [", 2, "not YAML"),
    ("traffic: {c: {}}\nstory: [{name: s, traffic: [c]}]", 1, "traffic \"c\" needs \"between\"; add it"),
    (
        "traffic: {c: {between: [a]}}\nstory: [{name: s, traffic: [c]}]",
        1,
        "traffic \"c\": \"between\" takes two nodes or a list of such pairs, such as [a, b]",
    ),
    (
        "traffic: {c: {between: [a, a]}}\nstory: [{name: s, traffic: [c]}]",
        1,
        "traffic \"c\": \"between\": a cannot send to itself; name two nodes",
    ),
    (
        "traffic: {c: {between: [[a, b], [a, x]]}}\nstory: [{name: s, traffic: [c]}]",
        1,
        "traffic \"c\": \"between\": the topology has no node \"x\"; use one of the topology's nodes, or NODE/NETNS for a network namespace in one, such as a pod",
    ),
    (
        "traffic: {c: {between: [a, b], flows: 0}}\nstory: [{name: s, traffic: [c]}]",
        1,
        "traffic \"c\": \"flows\" must be 1 to 1000",
    ),
    (
        "traffic: {c: {between: [a, b], protocol: sctp}}\nstory: [{name: s, traffic: [c]}]",
        1,
        "traffic \"c\": \"protocol\": \"sctp\" is unknown; use one of udp, tcp",
    ),
    (
        "traffic: {c: {between: [a, b], addresses: {r: [10.0.0.1]}}}\nstory: [{name: s, traffic: [c]}]",
        1,
        "traffic \"c\": \"addresses\": node \"r\" is not in \"between\"; remove it",
    ),
    (
        "traffic: {c: {between: [a, b], addresses: {a: [10.0.0.1, 10.0.0.2]}}}\nstory: [{name: s, traffic: [c]}]",
        1,
        "traffic \"c\": \"addresses\": a has two addresses of one family; keep one",
    ),
    (
        "traffic: {c: {between: [a, b], addresses: {a: [10.0.0.1/24]}}}\nstory: [{name: s, traffic: [c]}]",
        1,
        "traffic \"c\": \"addresses\": \"10.0.0.1/24\" is no IP address; write one without a prefix length",
    ),
    (
        "traffic: {c: {between: [a, b], families: [ip6]}}\nstory: [{name: s, traffic: [c]}]",
        1,
        "traffic \"c\": \"families\": \"ip6\" is unknown; use one of ipv4, ipv6",
    ),
    (
        "traffic: {c: {between: [a, b], protocol: tcp}}\nstory:\n- {name: s, traffic: [c], lost: {c: {packets: 0}}}",
        3,
        "step \"s\": \"lost\" c: a tcp class has no lost packets; bound its \"outage\"",
    ),
];

#[test]
fn each_mistake_has_one_message_with_its_line_and_a_remedy() {
    let mut wrong = Vec::new();
    let steps = STEPS.iter().map(|(body, line, text)| {
        let file = format!("traffic: {{c: {{between: [a, b]}}}}\nstory:\n  - name: s\n    {body}\n");
        let text = if text.starts_with("needs")
            || text.starts_with("has")
            || text.starts_with("does")
            || text.contains("given twice")
        {
            (*text).to_owned()
        } else {
            format!("step \"s\": {text}")
        };
        (file, *line, text)
    });
    let files = FILES.iter().map(|(file, line, text)| ((*file).to_owned(), *line, (*text).to_owned()));
    for (file, line, text) in steps.chain(files) {
        match parse(&file) {
            Err(problems)
                if problems.len() == 1 && problems[0].0 == line && problems[0].1.contains(&text) => {}
            other => wrong.push(format!("{file}\n  expected {line}: {text}\n  got {:?}\n", other.err())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once_in_the_order_of_their_lines() {
    let problems = parse(
        "traffic:\n  c: {between: [a, x]}\nstory:\n- name: s\n  traffic: [c]\n  events:\n  - {die: y}\n  within: 1\n  expect:\n  - {ping: {from: z, to: q}}\n",
    )
    .unwrap_err();
    let lines: Vec<usize> = problems.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [2, 7, 8, 10, 10], "{problems:?}");
}

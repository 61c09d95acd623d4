//! Every key of `expect.yaml`, in one table: what the reader accepts, and what the schema describes.
//!
//! A [`Section`] is a mapping of the file. The reader refuses what is not in the table, and asks for
//! values by the table's names only, so that parser, schema and messages cannot drift apart.

/// A mapping of the file.
#[derive(Debug)]
pub(super) struct Section {
    /// Name in the schema.
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    /// Exactly one of the keys is given, such as the kind of an event.
    pub(super) one: bool,
    pub(super) keys: &'static [Key],
}

/// One key of a mapping.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) takes: Takes,
    pub(super) required: bool,
    pub(super) doc: &'static str,
}

/// What a key's value may be.
#[derive(Debug)]
pub(super) enum Takes {
    Text,
    /// The name of a node of the topology.
    Node,
    /// The name of a node of the topology, or NODE/NETNS: a named network namespace in it.
    Place,
    /// NODE:INTERFACE of a link of the topology.
    End,
    /// The name of a traffic class.
    Class,
    Address,
    Prefix,
    /// A number with `ms`, `s` or `m`.
    Time,
    Count,
    Percent,
    Words(&'static [&'static str]),
    Section(&'static Section),
    List(&'static Takes),
    /// A mapping whose keys are names.
    Named(&'static Takes),
    Either(&'static [Takes]),
}

const fn key(name: &'static str, takes: Takes, doc: &'static str) -> Key {
    Key { name, takes, required: false, doc }
}

const fn needed(name: &'static str, takes: Takes, doc: &'static str) -> Key {
    Key { name, takes, required: true, doc }
}

/// What can befall the nodes and links at random.
pub(super) const RANDOM_EVENTS: [&str; 4] = ["link-flap", "kill", "restart", "pause"];

/// What can be compared.
pub(super) const SAME: [&str; 1] = ["tables"];

pub(super) static FILE: Section = Section {
    name: "file",
    doc: "The story of a lab: traffic, and steps that say what is done to the lab and what must hold then.",
    one: false,
    keys: &[
        key("traffic", Takes::Named(&Takes::Section(&CLASS)), "Classes of flows, by name."),
        needed(
            "story",
            Takes::List(&Takes::Section(&STEP)),
            "The steps, in order; each waits for the one before.",
        ),
    ],
};

pub(super) static CLASS: Section = Section {
    name: "class",
    doc: "Flows between two nodes or pods, or between several pairs.",
    one: false,
    keys: &[
        needed(
            "between",
            Takes::Either(&[Takes::List(&Takes::Place), Takes::List(&Takes::List(&Takes::Place))]),
            "Two nodes or pods (NODE/NETNS), or a list of pairs; flows run both ways.",
        ),
        key(
            "addresses",
            Takes::Named(&Takes::List(&Takes::Address)),
            "Addresses of a node or pod, at most one of each family; default: its first global ones, not those of the management network.",
        ),
        key(
            "protocol",
            Takes::Words(&["udp", "tcp"]),
            "udp (default): numbered packets, loss and outages; tcp: lasting connections, outages.",
        ),
        key("flows", Takes::Count, "Flows of each pair, per direction and family; default 4."),
        key("rate", Takes::Count, "Packets per second of the whole class; default 1000."),
        key("families", Takes::List(&Takes::Words(&["ipv4", "ipv6"])), "Default: those both ends have."),
    ],
};

pub(super) static STEP: Section = Section {
    name: "step",
    doc: "Events, and what must hold after them.",
    one: false,
    keys: &[
        needed("name", Takes::Text, "What the reports call the step."),
        key(
            "traffic",
            Takes::List(&Takes::Class),
            "Classes that run from before the events until the expectations hold and 500 ms more.",
        ),
        key("events", Takes::List(&Takes::Section(&EVENT)), "What is done to the lab, in order."),
        key("within", Takes::Time, "How long after the last event all expectations must hold; default 15s."),
        key("expect", Takes::List(&Takes::Section(&EXPECT)), "What must hold, all at once, in the end."),
        key("lost", Takes::Named(&Takes::Section(&LOST)), "What each class may lose during the step."),
        key(
            "prove",
            Takes::Either(&[Takes::Words(&["freeze", "none"]), Takes::Section(&PROVE)]),
            "How --prove switches the reaction off: freeze (default; every towpath is stopped at the first event), events done first, or none.",
        ),
        key("because", Takes::Text, "Why the step cannot be proved; needed with `prove: none`."),
    ],
};

pub(super) static PROVE: Section = Section {
    name: "prove",
    doc: "Another way than freezing to switch the reaction off.",
    one: false,
    keys: &[needed(
        "first",
        Takes::List(&Takes::Section(&EVENT)),
        "Events done, and settled, before the step.",
    )],
};

pub(super) static LOST: Section = Section {
    name: "lost",
    doc: "What a class may lose at most.",
    one: false,
    keys: &[
        key("packets", Takes::Count, "Packets lost, all flows together; 0 is a bound too."),
        key("outage", Takes::Time, "The longest time in which a flow gets nothing through."),
    ],
};

pub(super) static EVENT: Section = Section {
    name: "event",
    doc: "One thing done to the lab.",
    one: true,
    keys: &[
        key("die", Takes::Node, "kill -9 of its main process and the end of its forwarding, in one instant."),
        key("kill", Takes::Node, "kill -9 of its main process, which stays dead until start."),
        key("stop", Takes::Node, "Its main process ends gently, and stays ended until start."),
        key(
            "start",
            Takes::Node,
            "Its main process starts again; a node that died forwards again, without the routes and the pods of its earlier life.",
        ),
        key("restart", Takes::Node, "kill -9 of its main process, then start."),
        key("pause", Takes::Node, "Its main process is frozen (SIGSTOP)."),
        key("resume", Takes::Node, "Its main process goes on (SIGCONT)."),
        key("isolate", Takes::Node, "It forwards nothing any more."),
        key("restore", Takes::Node, "It forwards again."),
        key("link-down", Takes::End, "The cable at this end is pulled: the other end loses its carrier."),
        key("link-up", Takes::End, "The cable is back."),
        key(
            "loss",
            Takes::Section(&LOSS),
            "Packets at a link's end are lost at random, by a rule in the node.",
        ),
        key("no-loss", Takes::End, "Nothing is lost there any more."),
        key("edit", Takes::Section(&EDIT), "A text in a file of a node is replaced, in a private copy."),
        key("run", Takes::Section(&RUN), "A command in a node, which must succeed."),
        key("wait", Takes::Time, "The story pauses; expectations need no such pause."),
        key("random", Takes::Section(&RANDOM), "Events at random; all of them are undone in the end."),
    ],
};

pub(super) static LOSS: Section = Section {
    name: "loss",
    doc: "Where, and how much.",
    one: false,
    keys: &[
        needed("end", Takes::End, "The link's end."),
        needed("percent", Takes::Percent, "How many packets of a hundred are lost."),
    ],
};

pub(super) static EDIT: Section = Section {
    name: "edit",
    doc: "A change of a file.",
    one: false,
    keys: &[
        needed("node", Takes::Node, "The node."),
        needed("file", Takes::Text, "The file, as the node sees it."),
        needed("replace", Takes::Text, "The text to replace, everywhere in the file; it must be there."),
        needed("with", Takes::Text, "The new text; may be empty."),
    ],
};

pub(super) static RUN: Section = Section {
    name: "run",
    doc: "A command, split like shell words.",
    one: false,
    keys: &[
        needed("node", Takes::Place, "The node, or NODE/NETNS: a network namespace in it."),
        needed("command", Takes::Text, "The command and its arguments; nothing is expanded."),
    ],
};

pub(super) static RANDOM: Section = Section {
    name: "random",
    doc: "Events at random; the same ones for the same seed.",
    one: false,
    keys: &[
        needed("for", Takes::Time, "How long."),
        needed("every", Takes::Time, "The time between two events."),
        needed("events", Takes::List(&Takes::Words(&RANDOM_EVENTS)), "What may happen."),
        key("nodes", Takes::List(&Takes::Node), "To which nodes; default: all that run towpath."),
        key("links", Takes::List(&Takes::End), "To which links; default: all between these nodes."),
    ],
};

pub(super) static EXPECT: Section = Section {
    name: "expect",
    doc: "One thing that must hold.",
    one: true,
    keys: &[
        key("sessions", Takes::Section(&SESSIONS), "The BGP sessions of a node's routing program."),
        key("route", Takes::Section(&ROUTE), "A route in a node's kernel, in the main table."),
        key("ping", Takes::Section(&PING), "An ICMP echo is answered."),
        key("transfer", Takes::Section(&TRANSFER), "Bytes arrive over TCP, and unchanged."),
        key("command", Takes::Section(&COMMAND), "A command in a node ends and prints as expected."),
        key("paths", Takes::Section(&PATHS), "Packets went through all of these nodes since the step began."),
        key(
            "same",
            Takes::Words(&SAME),
            "RIB, kernel and neighbours agree on every node that runs towpath: sessions at both ends, paths in use and routes, what is told and what is heard.",
        ),
    ],
};

pub(super) static SESSIONS: Section = Section {
    name: "sessions",
    doc: "How many sessions are Established, or the state of one.",
    one: false,
    keys: &[
        needed(
            "node",
            Takes::Either(&[Takes::Node, Takes::Words(&["*"])]),
            "The node; \"*\": every node with a routing program.",
        ),
        key(
            "established",
            Takes::Either(&[Takes::Count, Takes::Words(&["all"])]),
            "How many are Established, exactly; all: every session, and at least one.",
        ),
        key("neighbor", Takes::Text, "One session, by its name or the neighbour's address."),
        key("state", Takes::Text, "The state of that session."),
        key("not", Takes::Text, "A state that session is not in."),
    ],
};

pub(super) static ROUTE: Section = Section {
    name: "route",
    doc: "The route with the lowest metric that fits.",
    one: false,
    keys: &[
        needed("node", Takes::Place, "The node, or NODE/NETNS: a network namespace in it."),
        needed("prefix", Takes::Prefix, "The prefix, exactly."),
        key(
            "nexthops",
            Takes::Count,
            "How many next hops; 0: there is no such route. Default: at least one.",
        ),
        key("via", Takes::List(&Takes::Address), "Exactly these gateways."),
        key("dev", Takes::List(&Takes::Text), "Exactly these interfaces."),
        key("protocol", Takes::Count, "Only routes with this protocol number; towpath's is 199."),
    ],
};

pub(super) static PING: Section = Section {
    name: "ping",
    doc: "Who asks whom.",
    one: false,
    keys: &[
        needed("from", Takes::Place, "The node or pod (NODE/NETNS) that asks."),
        needed("to", Takes::Address, "The address that answers."),
        key("source", Takes::Address, "The source address; default: the kernel chooses."),
        key("size", Takes::Count, "Bytes after the ICMP header; default 32."),
    ],
};

pub(super) static TRANSFER: Section = Section {
    name: "transfer",
    doc: "Who sends what to whom.",
    one: false,
    keys: &[
        needed("from", Takes::Place, "The node or pod (NODE/NETNS) that sends."),
        needed("to", Takes::Address, "The address that receives."),
        needed("node", Takes::Place, "The node or pod (NODE/NETNS) that has this address."),
        key("source", Takes::Address, "The source address; default: the kernel chooses."),
        key("bytes", Takes::Count, "How many; default 1000000."),
    ],
};

pub(super) static COMMAND: Section = Section {
    name: "command",
    doc: "A command, split like shell words, and how it ends.",
    one: false,
    keys: &[
        needed("node", Takes::Place, "The node, or NODE/NETNS: a network namespace in it."),
        needed("run", Takes::Text, "The command and its arguments; nothing is expanded."),
        key("exit", Takes::Count, "Its exit code; default 0."),
        key("stdout", Takes::Text, "A text its output contains."),
        key("stderr", Takes::Text, "A text its standard error contains."),
    ],
};

pub(super) static PATHS: Section = Section {
    name: "paths",
    doc: "By the counters of the nodes' interfaces.",
    one: false,
    keys: &[
        needed("class", Takes::Class, "The class of flows; it must run in this step."),
        needed("through", Takes::List(&Takes::Node), "The nodes."),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_section_has_a_key_twice() {
        let sections = [
            &FILE, &CLASS, &STEP, &PROVE, &LOST, &EVENT, &LOSS, &EDIT, &RUN, &RANDOM, &EXPECT, &SESSIONS,
            &ROUTE, &PING, &TRANSFER, &COMMAND, &PATHS,
        ];
        for section in sections {
            let mut names: Vec<_> = section.keys.iter().map(|key| key.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), section.keys.len(), "{}", section.name);
        }
    }
}

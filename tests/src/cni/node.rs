//! A node's network namespace, namespaces for its pods, and what a kernel holds of the attachments.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::netns::Netns;

/// A node without uplink. Its state folder goes with it.
#[derive(Debug)]
pub struct Node {
    /// Where the plugins run.
    pub netns: Netns,
    /// Namespaces to be handed out as pods.
    pub pods: Vec<Netns>,
    folder: TempDir,
}

impl Node {
    /// A node with `pods` namespaces for pods and an empty state folder below `parent`.
    ///
    /// # Errors
    /// Without the rights to make namespaces.
    pub fn new(pods: usize, parent: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("towpath-node-")
            .tempdir_in(parent)
            .with_context(|| format!("a state folder in {}", parent.display()))?;
        let pods = (0..pods).map(|_| Netns::fresh()).collect::<anyhow::Result<_>>()?;
        Ok(Self { netns: Netns::fresh()?, pods, folder })
    }

    /// The folder for what plugins keep.
    pub fn state(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// The node's kernel state and that of all its pods.
    ///
    /// # Errors
    /// When `ip`, `tc` or `nft` fail.
    pub fn remains(&self) -> anyhow::Result<Remains> {
        let mut remains = Remains::of(&self.netns, "node")?;
        for (number, pod) in self.pods.iter().enumerate() {
            remains.0.extend(Remains::of(pod, &format!("pod {number}"))?.0);
        }
        Ok(remains)
    }
}

/// Links, addresses, routes, neighbours, queueing disciplines, filters and nf_tables rules of namespaces, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains(BTreeSet<String>);

impl Remains {
    /// What one namespace holds; each line starts with `name`.
    ///
    /// # Errors
    /// When `ip`, `tc` or `nft` fail.
    pub fn of(netns: &Netns, name: &str) -> anyhow::Result<Self> {
        let mut lines = BTreeSet::new();
        // `ip -batch` takes one family a process; without one, routes of both are shown.
        let questions: &[(&[&str], &str)] = &[
            (
                &["ip", "-o", "-batch", "-"],
                "link show\naddress show\nroute show table all\nneighbour show nud all\nneighbour show proxy\nrule show\n",
            ),
            (&["tc", "qdisc", "show"], ""),
            (&["nft", "--numeric", "list", "ruleset"], ""),
        ];
        for (argv, stdin) in questions {
            let text = output(netns, argv, stdin)?;
            for line in text.lines() {
                // What is there twice is a line of its own.
                let line =
                    format!("{name} {}: {}", argv.first().unwrap_or(&""), without_carrier(line.trim_end()));
                let times = (1..).find(|times| !lines.contains(&again(&line, *times))).unwrap_or(1);
                lines.insert(again(&line, times));
            }
        }
        Ok(Self(lines))
    }

    /// Only the lines for which `keep` is true.
    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|line| keep(line)).cloned().collect())
    }

    /// What `self` has and `other` has not, and the other way round, in lines that start with `+` and `-`.
    #[must_use]
    pub fn beyond(&self, other: &Self) -> String {
        let more = self.0.difference(&other.0).map(|line| format!("+ {line}\n"));
        let less = other.0.difference(&self.0).map(|line| format!("- {line}\n"));
        more.chain(less).collect()
    }

    /// The lines that `self` has and `other` has not.
    #[must_use]
    pub fn added_to(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).cloned().collect())
    }

    /// The lines, sorted.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for Remains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The kernel tells of a new link's carrier in its own time: that part of a line is no difference.
fn without_carrier(line: &str) -> String {
    let words =
        ["NO-CARRIER,", ",LOWER_UP", " state UP", " state DOWN", " state LOWERLAYERDOWN", " linkdown"];
    words.iter().fold(line.to_owned(), |line, word| line.replace(word, ""))
}

fn again(line: &str, times: usize) -> String {
    if times == 1 { line.to_owned() } else { format!("{line} ({times} times)") }
}

fn output(netns: &Netns, argv: &[&str], stdin: &str) -> anyhow::Result<String> {
    let (program, arguments) = argv.split_first().context("an empty command")?;
    netns.run(|| {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        child.stdin.take().context("no standard input")?.write_all(stdin.as_bytes())?;
        let output = child.wait_with_output()?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{argv:?}: {}: {words}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    })
}

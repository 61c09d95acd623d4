//! `towpath lab logs`: what the nodes' programs have printed.

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::path::Path;

use anyhow::Context;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use crate::Node;

/// Prints the logs of `nodes`, each line after its node's name where there are several; with
/// `follow` until the lab is down.
pub(super) fn logs(nodes: &[Node], follow: bool) -> anyhow::Result<()> {
    let width = nodes.iter().map(|node| node.name().len()).max().unwrap_or_default();
    let mut tails = Vec::new();
    for node in nodes {
        let path = node.log();
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let prefix = if nodes.len() > 1 { format!("{:width$} | ", node.name()) } else { String::new() };
        tails.push(Tail { file, prefix, rest: Vec::new() });
    }
    let folder = nodes.first().and_then(|node| node.log().parent());
    // Watched before the first look: what is written in between is seen.
    let changes = match folder.filter(|_| follow) {
        Some(folder) => Some(Changes::of(folder).context("watching the logs")?),
        None => None,
    };
    let mut out = io::stdout().lock();
    loop {
        for tail in &mut tails {
            tail.print(&mut out, changes.is_none())?;
        }
        out.flush()?;
        match &changes {
            Some(changes) if changes.wait()? => {}
            _ => break,
        }
    }
    for tail in &mut tails {
        tail.print(&mut out, true)?;
    }
    Ok(out.flush()?)
}

/// A log as far as it has been printed.
struct Tail {
    file: File,
    prefix: String,
    /// The begin of a line, where lines are prefixed.
    rest: Vec<u8>,
}

impl Tail {
    /// Prints what is new; a line without end only `at_the_end`.
    fn print(&mut self, out: &mut impl Write, at_the_end: bool) -> io::Result<()> {
        let mut new = Vec::new();
        self.file.read_to_end(&mut new)?;
        if self.prefix.is_empty() {
            return out.write_all(&new);
        }
        self.rest.extend(new);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            out.write_all(self.prefix.as_bytes())?;
            out.write_all(&self.rest.drain(..=end).collect::<Vec<u8>>())?;
        }
        if at_the_end && !self.rest.is_empty() {
            out.write_all(self.prefix.as_bytes())?;
            out.write_all(&std::mem::take(&mut self.rest))?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

/// Changes of the files in a lab's folder.
struct Changes {
    inotify: rustix::fd::OwnedFd,
}

impl Changes {
    fn of(folder: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC)?;
        let flags = WatchFlags::MODIFY | WatchFlags::DELETE | WatchFlags::ONLYDIR;
        inotify::add_watch(&inotify, folder, flags)?;
        Ok(Self { inotify })
    }

    /// Waits for the next ones; `false` when logs are removed, as they are when a lab goes down. (The
    /// end of the folder itself is not told of while its files are open here.)
    fn wait(&self) -> io::Result<bool> {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut space);
        let mut there = !ends(&events.next()?);
        while !events.is_buffer_empty() {
            there &= !ends(&events.next()?);
        }
        Ok(there)
    }
}

fn ends(event: &inotify::Event<'_>) -> bool {
    let log = event.file_name().is_some_and(|name| name.to_bytes().ends_with(b".log"));
    event.events().contains(ReadFlags::IGNORED) || (log && event.events().contains(ReadFlags::DELETE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_nodes_are_whole_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        std::fs::write(&path, "one\ntw").unwrap();
        let file = File::open(&path).unwrap();
        let mut tail = Tail { file, prefix: "a | ".to_owned(), rest: Vec::new() };
        let mut out = Vec::new();
        tail.print(&mut out, false).unwrap();
        std::fs::write(&path, "one\ntwo\nthree").unwrap();
        tail.print(&mut out, false).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), "a | one\na | two\n");
        tail.print(&mut out, true).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), "a | one\na | two\na | three\n");
    }
}

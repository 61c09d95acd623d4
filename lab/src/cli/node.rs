//! One node: programs in it, what they print, and its main process.

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::Context;
use rustix::process::Signal;

use super::{NodeAction, find_lab};
use crate::{Lab, Node};

pub(super) fn exec(lab: Option<&str>, node: &str, command: &[String]) -> anyhow::Result<ExitCode> {
    let node = find_lab(lab)?.find(node)?;
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let exit = node.exec_on(&words, [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
    Ok(ExitCode::from(u8::try_from(exit.shell_code()).unwrap_or(u8::MAX)))
}

pub(super) fn logs(node: &Node, follow: bool) -> anyhow::Result<()> {
    let path = node.log();
    let mut file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut out = std::io::stdout().lock();
    loop {
        let mut text = Vec::new();
        let at = file.stream_position()?;
        file.read_to_end(&mut text)?;
        out.write_all(&text)?;
        out.flush()?;
        if !follow || !path.exists() {
            return Ok(());
        }
        file.seek(SeekFrom::Start(at + text.len() as u64))?;
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

pub(super) fn act(lab: &Lab, action: NodeAction, name: &str) -> anyhow::Result<()> {
    let node = lab.find(name)?;
    match action {
        NodeAction::Kill => node.kill(Signal::KILL)?,
        NodeAction::Stop => node.stop()?,
        NodeAction::Start => node.start()?,
        NodeAction::Pause => node.kill(Signal::STOP)?,
        NodeAction::Resume => node.kill(Signal::CONT)?,
        NodeAction::Die => lab.kill_and_isolate(name)?,
        NodeAction::Isolate => node.stop_forwarding()?,
        NodeAction::Restore => node.restore_forwarding()?,
    }
    Ok(())
}

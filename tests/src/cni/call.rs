//! One execution of a plugin: what goes in and what comes out, as the specification's section 3 has it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::Context;

/// What a plugin is started with.
#[derive(Clone, Debug)]
pub struct Call {
    /// The program.
    pub plugin: PathBuf,
    /// `CNI_COMMAND` and the others, added to the environment of this process as libcni does.
    pub environment: Vec<(&'static str, String)>,
    /// The network configuration.
    pub stdin: Vec<u8>,
}

/// What a plugin said.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How it ended.
    pub status: ExitStatus,
    /// A result or an error, as JSON; empty where the command has none.
    pub stdout: Vec<u8>,
    /// Its log.
    pub stderr: Vec<u8>,
}

impl Call {
    /// Starts the plugin in the network namespace of this thread and gives it its configuration.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(&self) -> anyhow::Result<Child> {
        self.start(Command::new(&self.plugin))
    }

    /// Runs the plugin to its end.
    ///
    /// # Errors
    /// When the program cannot be started. What it answers is in the answer.
    pub fn run(&self) -> anyhow::Result<Answer> {
        let output = self.spawn()?.wait_with_output().context("waiting for a plugin")?;
        Ok(Answer { status: output.status, stdout: output.stdout, stderr: output.stderr })
    }

    /// Starts `command` as this call's plugin.
    pub(super) fn start(&self, mut command: Command) -> anyhow::Result<Child> {
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {}", self.plugin.display()))?;
        let mut stdin = child.stdin.take().context("no standard input of a plugin")?;
        match stdin.write_all(&self.stdin) {
            // A plugin need not read it: VERSION does not.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            written => written.context("writing a plugin's configuration")?,
        }
        Ok(child)
    }
}

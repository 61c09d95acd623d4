//! One program of Kubernetes in a network namespace, with its log in a file.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};

use crate::netns::Netns;

/// Lines of a log that explain why a program ended.
const LAST_LINES: usize = 30;

/// The folder that `tests/setup/cluster.sh` made: `bin/` and `image.tar`.
///
/// # Errors
/// When `TOWPATH_CLUSTER` is unset and `make setup` has not run to its end.
pub fn folder() -> anyhow::Result<PathBuf> {
    let Some(folder) = std::env::var_os("TOWPATH_CLUSTER").map(PathBuf::from) else {
        return crate::tools::cluster();
    };
    ensure!(
        folder.join("bin").is_dir(),
        "TOWPATH_CLUSTER={}: there is no bin/ in it; run: make setup",
        folder.display()
    );
    Ok(folder)
}

/// The path of one of the built programs.
///
/// # Errors
/// When it is not there.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = folder()?.join("bin").join(name);
    ensure!(path.is_file(), "{}: no such program; run: make setup", path.display());
    Ok(path)
}

/// A running program. It dies with the value, and when this process is killed.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    /// Waits for the end of its input, which comes when this process ends however it does; then kills.
    guard: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `name` of the built programs in `netns`; what it prints is appended to `log`.
    ///
    /// # Errors
    /// When it is not there or cannot be executed.
    pub fn start(netns: &Netns, name: &str, args: &[String], log: &Path) -> anyhow::Result<Self> {
        let path = program(name)?;
        let output = File::options().create(true).append(true).open(log)?;
        let child = netns.run(|| {
            Command::new(&path)
                .args(args)
                .stdin(Stdio::null())
                .stdout(output.try_clone()?)
                .stderr(output)
                .process_group(0)
                .spawn()
                .with_context(|| format!("starting {}", path.display()))
        })?;
        let guard = Command::new("sh")
            .args(["-c", "cat >/dev/null; kill -9 $1", "guard", &child.id().to_string()])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("starting the guard of a program")?;
        Ok(Self { name: name.to_owned(), child, guard, log: log.to_owned() })
    }

    /// Fails when the program has ended; with what it printed last.
    ///
    /// # Errors
    /// See above.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let status = self.child.try_wait()?;
        let ended = status.map(|status| format!("{} ended with {status}:\n{}", self.name, self.last_words()));
        ended.map_or(Ok(()), |words| Err(anyhow::anyhow!(words)))
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last lines of its log.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let skipped = text.lines().count().saturating_sub(LAST_LINES);
        text.lines().skip(skipped).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The guard first: afterwards the number it would kill may belong to somebody else. What is gone already
        // needs no killing.
        drop(self.guard.kill());
        drop(self.guard.wait());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

//! Configuration from files: read, watched, and kept when it breaks.
//!
//! In: paths. Out: the latest good [`DesiredState`] on a watch channel, and how the files stand. A broken
//! file changes nothing that runs; after a restart the last good files are used until they are mended.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use anyhow::{Context, bail};
use api::DesiredState;
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use crate::status::ConfigStatus;

/// Folder below the state folder with the files of the last good state.
const LAST_GOOD: &str = "last-good";

/// A good state and how the files stand.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// In force.
    pub desired: Arc<DesiredState>,
    /// For `towpath status`.
    pub status: ConfigStatus,
}

/// Reads and watches this node's configuration.
pub struct Source {
    files: Vec<PathBuf>,
    node: String,
    last_good: PathBuf,
}

impl Source {
    /// Configuration from `files` for `node`; copies of good files go below `state_dir`.
    pub fn new(files: Vec<PathBuf>, node: String, state_dir: &Path) -> Self {
        Self { files, node, last_good: state_dir.join(LAST_GOOD) }
    }

    /// Reads the files, or those of the last good state when they are broken.
    ///
    /// # Errors
    /// All problems of the files when there is no last good state either.
    pub fn load_first(&self) -> anyhow::Result<Loaded> {
        let problems = match api::load(&self.files, &self.node) {
            Ok(desired) => {
                self.remember();
                return Ok(self.loaded(Arc::new(desired), 1, Vec::new()));
            }
            Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        };
        for problem in &problems {
            error!(%problem, "configuration");
        }
        if self.last_good.is_dir()
            && let Ok(desired) = api::load(std::slice::from_ref(&self.last_good), &self.node)
        {
            warn!(folder = %self.last_good.display(), "the configuration is broken: starting with the last good one");
            return Ok(self.loaded(Arc::new(desired), 1, problems));
        }
        bail!(
            "the configuration has {} problem(s) and there is no earlier good one:\n{}",
            problems.len(),
            problems.join("\n")
        )
    }

    /// Follows the files for ever, and reads them again when `reload` says so. Blocking work runs on threads.
    ///
    /// # Errors
    /// The folders cannot be watched.
    pub async fn follow(
        self,
        loaded: watch::Sender<Loaded>,
        mut reload: mpsc::Receiver<()>,
    ) -> anyhow::Result<()> {
        // Holds one: several changes before the next reading are one reading.
        let (changed, mut changes) = mpsc::channel(1);
        let mut files = api::watch::Watch::new(&self.files).context("watching the configuration")?;
        std::thread::Builder::new().name("config-watch".to_owned()).spawn(move || {
            loop {
                if let Err(error) = files.wait() {
                    error!(%error, "configuration files are no longer watched; SIGHUP still reads them");
                    return;
                }
                if let Err(mpsc::error::TrySendError::Closed(())) = changed.try_send(()) {
                    return;
                }
            }
        })?;
        loop {
            tokio::select! {
                Some(()) = changes.recv() => {}
                Some(()) = reload.recv() => {}
                () = loaded.closed() => return Ok(()),
            }
            self.reload(&loaded);
        }
    }

    fn reload(&self, loaded: &watch::Sender<Loaded>) {
        let current = loaded.borrow().clone();
        match api::load(&self.files, &self.node) {
            Ok(desired) if desired == *current.desired => {
                if !current.status.problems.is_empty() {
                    info!("configuration is good again, unchanged");
                    loaded.send_replace(self.loaded(current.desired, current.status.generation, Vec::new()));
                }
                self.remember();
            }
            Ok(desired) => {
                let generation = current.status.generation + 1;
                info!(generation, "configuration changed");
                self.remember();
                loaded.send_replace(self.loaded(Arc::new(desired), generation, Vec::new()));
            }
            Err(problems) => {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                if problems != current.status.problems {
                    for problem in &problems {
                        error!(%problem, "configuration; the last good state stays in force");
                    }
                    loaded.send_replace(self.loaded(current.desired, current.status.generation, problems));
                }
            }
        }
    }

    fn loaded(&self, desired: Arc<DesiredState>, generation: u64, problems: Vec<String>) -> Loaded {
        let files = self.files.iter().map(|path| path.display().to_string()).collect();
        Loaded { desired, status: ConfigStatus { files, generation, problems } }
    }

    /// Keeps copies of the files, readable by root only: they may hold passwords.
    fn remember(&self) {
        if let Err(error) = self.copy_files() {
            warn!(%error, folder = %self.last_good.display(), "the good configuration could not be kept for the next start");
        }
    }

    fn copy_files(&self) -> io::Result<()> {
        let fresh = self.last_good.with_extension("new");
        remove_folder(&fresh)?;
        fs::DirBuilder::new().mode(0o700).recursive(true).create(&fresh)?;
        let documents =
            self.files.iter().map(|path| api::file::yaml_files(path)).collect::<io::Result<Vec<_>>>()?;
        for (index, path) in documents.iter().flatten().enumerate() {
            let copy = fresh.join(format!("{index:03}.yaml"));
            let mut to = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(copy)?;
            io::copy(&mut fs::File::open(path)?, &mut to)?;
            to.sync_all()?;
        }
        remove_folder(&self.last_good)?;
        fs::rename(&fresh, &self.last_good)
    }
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

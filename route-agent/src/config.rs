//! Configuration from files: read, watched, and kept when it breaks.
//!
//! In: paths. Out: the latest good [`DesiredState`] on a watch channel, and how the files stand. A broken
//! file changes nothing that runs; after a restart the last good files are used until they are mended. Files
//! that cannot be watched are read every [`POLL`] instead. Reading, parsing and writing happen on threads.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use api::DesiredState;
use api::file::Documents;
use api::watch::Watch;
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use crate::cluster::ClusterView;
use crate::state;
use crate::status::ConfigStatus;

/// File in the state folder with the bytes of the last good state.
const LAST_GOOD: &str = "last-good.yaml";
/// How often files are read that cannot be watched.
const POLL: Duration = Duration::from_secs(5);

/// A good state and how the files stand.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// In force.
    pub desired: Arc<DesiredState>,
    /// For `towpath status`.
    pub status: ConfigStatus,
    /// What the API server said; `None`: the configuration comes from files.
    pub(crate) cluster: Option<Arc<ClusterView>>,
}

/// Reads and watches this node's configuration.
pub struct Source {
    files: Vec<PathBuf>,
    node: String,
    last_good: PathBuf,
}

impl Source {
    /// Configuration from `files` for `node`; a copy of the good files goes into `state_dir`.
    pub fn new(files: Vec<PathBuf>, node: String, state_dir: &Path) -> Self {
        Self { files, node, last_good: state_dir.join(LAST_GOOD) }
    }

    /// Reads the files, or those of the last good state when they are broken. Blocking. Good files are kept with the first
    /// reading of [`Source::follow`]: the first route does not wait for a disk.
    ///
    /// # Errors
    /// All problems of the files when there is no last good state either.
    pub fn load_first(&self) -> anyhow::Result<Loaded> {
        let problems = match self.read() {
            Ok((desired, _)) => return Ok(self.loaded(Arc::new(desired), 1, Vec::new())),
            Err(problems) => problems,
        };
        for problem in &problems {
            error!(%problem, "configuration");
        }
        if let Some(desired) = self.recall() {
            warn!(file = %self.last_good.display(), "the configuration is broken: starting with the last good one");
            return Ok(self.loaded(Arc::new(desired), 1, problems));
        }
        bail!(
            "the configuration has {} problem(s) and there is no earlier good one:\n{}",
            problems.len(),
            problems.join("\n")
        )
    }

    /// Follows the files for ever, and reads them again when `reload` says so.
    ///
    /// # Errors
    /// The system has no thread left.
    pub async fn follow(
        self,
        loaded: watch::Sender<Loaded>,
        mut reload: mpsc::Receiver<()>,
    ) -> anyhow::Result<()> {
        let source = Arc::new(self);
        // Each value sent asks for a reading: why the files are not watched, if so.
        let (changed, mut changes) = watch::channel(None);
        let files = source.files.clone();
        thread::Builder::new()
            .name("config-watch".to_owned())
            .spawn(move || watch_files(&files, POLL, &changed))
            .context("a thread to watch the configuration")?;
        loop {
            tokio::select! {
                Ok(()) = changes.changed() => {}
                Some(()) = reload.recv() => {}
                () = loaded.closed() => return Ok(()),
            }
            let unwatched: Option<String> = changes.borrow().clone();
            let (source, current) = (Arc::clone(&source), loaded.borrow().clone());
            let reading = tokio::task::spawn_blocking(move || source.reload(&current, unwatched));
            if let Some(fresh) = reading.await.context("reading the configuration")? {
                loaded.send_replace(fresh);
            }
        }
    }

    /// What is new; `unwatched`: why the files are not watched.
    fn reload(&self, current: &Loaded, unwatched: Option<String>) -> Option<Loaded> {
        let (old, mut problems) = (&current.status, Vec::new());
        let (mut desired, mut generation) = (Arc::clone(&current.desired), old.generation);
        let read = self.read().map(|(fresh, documents)| {
            self.remember(&documents, &fresh);
            fresh
        });
        match read {
            Ok(fresh) if fresh == *current.desired => {}
            Ok(fresh) => {
                generation += 1;
                info!(generation, "configuration changed");
                desired = Arc::new(fresh);
            }
            Err(found) => {
                for problem in found.iter().filter(|problem| !old.problems.contains(problem)) {
                    error!(%problem, "configuration; the last good state stays in force");
                }
                problems = found;
            }
        }
        problems.extend(unwatched);
        if problems.is_empty() && !old.problems.is_empty() && generation == old.generation {
            info!("configuration is good again, unchanged");
        }
        let news = generation != old.generation || problems != old.problems;
        news.then(|| self.loaded(desired, generation, problems))
    }

    fn read(&self) -> Result<(DesiredState, Documents), Vec<String>> {
        let documents = api::file::read(&self.files);
        match documents.build(&self.node) {
            Ok(desired) => Ok((desired, documents)),
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
        }
    }

    fn loaded(&self, desired: Arc<DesiredState>, generation: u64, problems: Vec<String>) -> Loaded {
        let files = self.files.iter().map(|path| path.display().to_string()).collect();
        let status = ConfigStatus { files, generation, problems, cluster: None };
        Loaded { desired, status, cluster: None }
    }

    /// Keeps the bytes that were judged, readable by root only: they may hold passwords.
    fn remember(&self, documents: &Documents, desired: &DesiredState) {
        let kept = if self.parse(documents.stream()).as_ref() == Some(desired) {
            state::replace(&self.last_good, documents.stream())
        } else {
            Err(io::Error::other("put together, the files say something else"))
        };
        if let Err(error) = kept {
            warn!(%error, file = %self.last_good.display(), "the good configuration could not be kept for the next start");
        }
    }

    fn recall(&self) -> Option<DesiredState> {
        self.parse(&fs::read(&self.last_good).ok()?)
    }

    fn parse(&self, stream: &[u8]) -> Option<DesiredState> {
        let mut documents = Documents::default();
        documents.add(LAST_GOOD, stream);
        documents.build(&self.node).ok()
    }
}

/// Asks for a reading at each change, or every `poll` while there is no watch. Ends with the receiver.
fn watch_files(files: &[PathBuf], poll: Duration, changed: &watch::Sender<Option<String>>) {
    let mut told = None;
    loop {
        let ended = match Watch::new(files) {
            Ok(mut watch) => {
                if told.take().is_some() {
                    info!("configuration files are watched again");
                }
                loop {
                    // The first asks for what changed between the last reading and the watch.
                    changed.send_replace(None);
                    if let Err(error) = watch.wait() {
                        break error;
                    }
                    if changed.is_closed() {
                        return;
                    }
                }
            }
            Err(error) => error,
        };
        let seconds = poll.as_secs();
        let why = format!(
            "configuration files are not watched ({ended}); they are read every {seconds} s, and on SIGHUP"
        );
        if told.as_ref() != Some(&why) {
            warn!("{why}");
        }
        told = Some(why);
        changed.send_replace(told.clone());
        if changed.is_closed() {
            return;
        }
        thread::sleep(poll);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
apiVersion: towpath.io/v1alpha1
kind: NodeNetwork
metadata: { name: node1 }
spec: { asn: 65001, routerID: 10.0.0.11 }
";

    struct Bench {
        root: tempfile::TempDir,
        loaded: watch::Receiver<Loaded>,
        _reload: mpsc::Sender<()>,
    }

    fn source(root: &Path) -> Source {
        Source::new(vec![root.join("conf")], "node1".into(), root)
    }

    fn bench(first: impl FnOnce(&Path)) -> Bench {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("conf")).unwrap();
        fs::write(root.path().join("conf/node.yaml"), GOOD).unwrap();
        let source = source(root.path());
        let (loaded, receiver) = watch::channel(source.load_first().unwrap());
        first(root.path());
        let (_reload, reloads) = mpsc::channel(1);
        tokio::spawn(source.follow(loaded, reloads));
        Bench { root, loaded: receiver, _reload }
    }

    async fn until(bench: &mut Bench, what: &str, done: impl FnMut(&Loaded) -> bool) {
        let waiting = bench.loaded.wait_for(done);
        let _ = tokio::time::timeout(Duration::from_secs(20), waiting)
            .await
            .unwrap_or_else(|_| panic!("{what}"))
            .unwrap();
    }

    #[tokio::test]
    async fn a_change_between_the_first_reading_and_the_watch_is_seen() {
        let write =
            |root: &Path| fs::write(root.join("conf/node.yaml"), GOOD.replace("65001", "65002")).unwrap();
        let mut bench = bench(write);
        until(&mut bench, "the early change", |loaded| loaded.desired.node.asn == 65002).await;
    }

    #[tokio::test]
    async fn files_that_cannot_be_watched_are_a_problem_and_are_read_nevertheless() {
        let mut bench = bench(|root| fs::rename(root.join("conf"), root.join("away")).unwrap());
        // A folder that is not there is no file of that name either: the parent is watched, and it is broken.
        until(&mut bench, "the loss", |loaded| !loaded.status.problems.is_empty()).await;
        fs::rename(bench.root.path().join("away"), bench.root.path().join("conf")).unwrap();
        until(&mut bench, "the return", |loaded| loaded.status.problems.is_empty()).await;
        assert_eq!(bench.loaded.borrow().status.generation, 1);
    }

    #[tokio::test]
    async fn without_a_watch_every_poll_asks_for_a_reading_and_says_why() {
        let root = tempfile::tempdir().unwrap();
        let files = vec![root.path().join("none/x.yaml")];
        let (changed, mut changes) = watch::channel(None);
        let made = root.path().join("none");
        thread::spawn(move || watch_files(&files, Duration::from_millis(10), &changed));
        for _ in 0..3 {
            changes.changed().await.unwrap();
            let why = changes.borrow_and_update().clone();
            assert!(why.is_some_and(|why| why.contains("not watched")));
        }
        fs::create_dir(made).unwrap();
        let _ = changes.wait_for(Option::is_none).await.unwrap();
    }

    #[test]
    fn the_last_good_files_serve_a_start_with_broken_ones() {
        let root = tempfile::tempdir().unwrap();
        let (conf, kept) = (root.path().join("conf"), root.path().join(LAST_GOOD));
        fs::create_dir(&conf).unwrap();
        assert!(source(root.path()).load_first().is_err(), "nothing good, now or before");
        // A byte order mark, a directive, no newline at the end, and a file that is empty.
        fs::write(conf.join("a.yaml"), format!("\u{feff}%YAML 1.2\n---\n{}", GOOD.trim_end())).unwrap();
        fs::write(conf.join("b.yaml"), "").unwrap();
        fs::write(conf.join("c.yaml"), "apiVersion: towpath.io/v1alpha1\nkind: IPPool\nmetadata: { name: p }\nspec: { cidrs: [10.244.0.0/16] }\n").unwrap();
        let good = source(root.path()).load_first().unwrap();
        assert!(!kept.exists(), "nobody has waited for that");
        assert!(source(root.path()).reload(&good, None).is_none());
        assert!(kept.is_file());
        fs::write(conf.join("a.yaml"), "nonsense: [").unwrap();
        let again = source(root.path()).load_first().unwrap();
        assert_eq!(again.desired, good.desired);
        assert!(!again.status.problems.is_empty());
    }
}

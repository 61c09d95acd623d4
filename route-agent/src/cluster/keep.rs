//! What is in force, on the node's disk: a daemon that starts while the API server is away begins with it.
//!
//! The objects as the server gave them, Secrets included: readable by root only, never half written.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::state;

/// File in the state folder.
const LAST_GOOD: &str = "last-good.json";

#[derive(Serialize, Deserialize)]
struct Content {
    /// Whose it is.
    node: String,
    objects: Vec<Value>,
}

/// The file, and what is to be in it.
pub(super) struct Keep {
    path: PathBuf,
    node: String,
}

impl Keep {
    pub(super) fn new(state_dir: &Path, node: &str) -> Self {
        Self { path: state_dir.join(LAST_GOOD), node: node.to_owned() }
    }

    /// What an earlier daemon of this node kept; nothing when there was none. Blocking.
    pub(super) fn load(&self) -> Vec<Value> {
        let file = self.path.display();
        match state::read_json::<Content>(&self.path) {
            Ok(None) => Vec::new(),
            Ok(Some(content)) if content.node == self.node => content.objects,
            Ok(Some(content)) => {
                warn!(%file, node = content.node, "what was kept is another node's; it is not used");
                Vec::new()
            }
            Err(error) => {
                warn!(%file, %error, "what was in force cannot be read: without the API server there is nothing to start with");
                Vec::new()
            }
        }
    }

    /// Writes what comes, the latest only, until the sender is gone.
    ///
    /// # Errors
    /// The thread that writes ended in a panic.
    pub(super) async fn save(self, mut objects: watch::Receiver<Vec<Value>>) -> anyhow::Result<()> {
        let mut failing = false;
        while objects.changed().await.is_ok() {
            let content = Content { node: self.node.clone(), objects: objects.borrow_and_update().clone() };
            let path = self.path.clone();
            let wrote = tokio::task::spawn_blocking(move || state::write_json(&path, &content));
            let wrote = wrote.await.context("writing what is in force")?;
            let file = self.path.display();
            match wrote {
                Ok(()) if std::mem::take(&mut failing) => info!(%file, "what is in force is kept again"),
                Ok(()) => {}
                Err(error) => {
                    failing = true;
                    warn!(%file, %error, "what is in force cannot be kept for a start without the API server");
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn what_is_in_force_is_kept_for_this_node_and_for_root_only() {
        let folder = tempfile::tempdir().unwrap();
        let keep = |node: &str| Keep::new(folder.path(), node);
        assert_eq!(keep("node1").load(), Vec::<Value>::new());
        let (sender, receiver) = watch::channel(Vec::new());
        let saving = tokio::spawn(keep("node1").save(receiver));
        sender.send_replace(vec![json!({"kind": "BGPPeer"})]);
        drop(sender);
        saving.await.unwrap().unwrap();
        assert_eq!(keep("node1").load(), [json!({"kind": "BGPPeer"})]);
        assert_eq!(keep("node2").load(), Vec::<Value>::new());
        let path = folder.path().join(LAST_GOOD);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(keep("node1").load(), Vec::<Value>::new());
    }
}

//! The runner as a user without rights.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const NOBODY: u32 = 65534;

/// Runs the lab runner as nobody, with a run folder of its own.
pub(crate) struct Nobody {
    runner: PathBuf,
    pub(crate) run_dir: PathBuf,
}

impl Nobody {
    /// Keeps what is needed in `folder`, which becomes readable for everybody.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        // The build folder may be closed to other users.
        let runner = folder.join("towpath-lab");
        fs::copy(env!("CARGO_BIN_EXE_towpath-lab"), &runner).unwrap();
        fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
        let run_dir = folder.join("run");
        fs::create_dir(&run_dir).unwrap();
        chown(&run_dir, Some(NOBODY), Some(NOBODY)).unwrap();
        Self { runner, run_dir }
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&self.runner);
        command.args(args).env("XDG_RUNTIME_DIR", &self.run_dir).env("D", "{kind: linux, image: alpine}");
        command.env_remove("TOWPATH_BIN").env_remove("TOWPATH_CNI").env_remove("TOWPATH_TOOLS");
        command.uid(NOBODY).gid(NOBODY).current_dir("/").output().unwrap()
    }
}

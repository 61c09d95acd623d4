//! A topology file as it is given to containerlab, brought up by the command line.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use lab::Lab;

/// What the file calls `$D`.
const DEFAULTS: &str = "{kind: linux, image: alpine, cmd: sleep infinity}";

/// A file, brought up by the command line; down when dropped.
pub(crate) struct Written {
    folder: tempfile::TempDir,
    pub(crate) name: String,
}

impl Written {
    /// The file `text`, whose lab is called `short` there and has a name of its own here.
    pub(crate) fn new(short: &str, text: &str) -> Self {
        // Names that no other run of this test uses: several may share the machine.
        let name = format!("{short}-{}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        assert!(text.starts_with(&format!("name: {short}")), "{text}");
        fs::write(folder.path().join("topo.clab.yml"), text.replacen(short, &name, 1)).unwrap();
        Self { folder, name }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_towpath-lab"));
        command.env("TOWPATH_BIN", env!("CARGO_BIN_EXE_towpath-lab"));
        command.args(args).env("D", DEFAULTS).current_dir(self.path()).output().unwrap()
    }

    /// Brings it up; what the runner said comes along.
    pub(crate) fn up(&self) -> (Lab, String) {
        let up = self.run(&["up", "."]);
        let said = String::from_utf8_lossy(&up.stderr).into_owned();
        assert!(up.status.success(), "{said}");
        (Lab::running(&self.name).unwrap(), said)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let down = self.run(&["down", &self.name]);
        let said = String::from_utf8_lossy(&down.stderr);
        let unknown = said.contains("there is no lab");
        if !down.status.success() && !unknown && !std::thread::panicking() {
            panic!("{said}");
        }
    }
}

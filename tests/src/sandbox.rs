//! Runs a routing daemon in a namespace with a private file system, apart from the lab runner.
//!
//! For benchmarks and for checks of the other speakers themselves, where nothing of ours should be
//! measured or trusted. The root is an overlay of the machine's with the unpacked packages of
//! [`crate::tools`] on top and a memory file system for what is written. Everything dies with the
//! [`Sandbox`], also when this process is killed.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context, bail, ensure};

use crate::netns::Netns;
use crate::speakers::{Router, daemons};
use crate::usage;

/// $1: folder of the packages, $2: folder with `files` for the new root, rest: the command.
/// The packages are laid over /usr, /etc and /var one by one: overlayfs refuses a layer that lies
/// inside another, as the cache folder lies inside "/".
const SETUP: &str = r#"
set -e
packages=$1 folder=$2; shift 2
mkdir "$folder/top"
mount -t tmpfs towpath-sandbox "$folder/top"
cd "$folder/top"
mkdir root upper work
mount -t overlay overlay -o "lowerdir=/,upperdir=upper,workdir=work" root
for name in usr etc var; do
    [ -d "$packages/$name" ] || continue
    mkdir "upper-$name" "work-$name"
    mount -t overlay overlay -o "lowerdir=$packages/$name:/$name,upperdir=upper-$name,workdir=work-$name" "root/$name"
done
mount -t proc proc root/proc
mount --rbind /dev root/dev
for name in run tmp; do mount -t tmpfs "$name" "root/$name"; done
cp -r "$folder/files/." root/
mkdir -p root/run/frr root/run/bird root/run/openbgpd root/run/exabgp
chroot root chown -R frr:frr /run/frr /etc/frr
# From inside: whoever enters the sandbox after this word finds its root, not the machine's.
exec chroot root sh -c 'echo ready; exec "$@" 2>&1' sandbox "$@"
"#;

/// A running daemon with its private root.
#[derive(Debug)]
pub struct Sandbox {
    unshare: Child,
    /// Waits for the end of its input, which comes when this process ends however it does; then kills
    /// `unshare` and removes the files.
    guard: Child,
    netns: Netns,
    inside: u32,
    /// When the daemon's command was started, all else being ready.
    pub started: Instant,
    _files: tempfile::TempDir,
}

impl Sandbox {
    /// zebra and bgpd.
    ///
    /// # Errors
    /// When the packages are missing or the root cannot be made.
    pub fn frr(netns: &Netns, router: &Router) -> anyhow::Result<Self> {
        let start = "/usr/lib/frr/zebra -d -A 127.0.0.1 -s 90000000 && /usr/lib/frr/bgpd -d -A 127.0.0.1 && vtysh -b && exec sleep infinity";
        let files = [
            ("etc/frr/frr.conf", router.frr_conf()),
            ("etc/frr/daemons", daemons()),
            ("etc/frr/vtysh.conf", "service integrated-vtysh-config\n".to_owned()),
        ];
        Self::start(netns, &files, &[], &["sh", "-c", start])
    }

    /// bird.
    ///
    /// # Errors
    /// When the packages are missing or the root cannot be made.
    pub fn bird(netns: &Netns, router: &Router) -> anyhow::Result<Self> {
        Self::start(
            netns,
            &[("etc/bird/bird.conf", router.bird_conf())],
            &[],
            &["bird", "-f", "-c", "/etc/bird/bird.conf"],
        )
    }

    /// Any command, with files put into the new root: (path without a leading slash, text), and
    /// programs copied to /usr/local/bin.
    ///
    /// # Errors
    /// When the packages are missing or the root cannot be made.
    pub fn start(
        netns: &Netns,
        files: &[(&str, String)],
        programs: &[&Path],
        argv: &[&str],
    ) -> anyhow::Result<Self> {
        let packages = crate::tools::folder()?;
        let folder = tempfile::Builder::new().prefix("towpath-sandbox-").tempdir()?;
        for (path, text) in files {
            let path = folder.path().join("files").join(path);
            std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        let bin = folder.path().join("files/usr/local/bin");
        std::fs::create_dir_all(&bin)?;
        for program in programs {
            let name = program.file_name().with_context(|| format!("{} is no program", program.display()))?;
            std::fs::copy(program, bin.join(name))
                .with_context(|| format!("copying {}", program.display()))?;
        }
        let mut unshare = netns.run(|| {
            Command::new("unshare")
                .args([
                    "--mount",
                    "--pid",
                    "--fork",
                    "--kill-child",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    SETUP,
                    "sandbox",
                ])
                .args([&packages, folder.path()])
                .args(argv)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .process_group(0)
                .spawn()
                .context("starting unshare")
        })?;
        let output = unshare.stdout.take().context("no output of the sandbox")?;
        let mut lines = BufReader::new(output).lines();
        if !lines.next().is_some_and(|line| line.is_ok_and(|line| line == "ready")) {
            // Both may fail when it is gone already, which is what is reported.
            drop(unshare.kill());
            bail!("the sandbox could not be made (see above): {:?}", unshare.wait()?);
        }
        let started = Instant::now();
        // What the daemon prints would fill the pipe and stop it.
        let log = std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        drop(log);
        let task = format!("/proc/{0}/task/{0}/children", unshare.id());
        let children = std::fs::read_to_string(&task).with_context(|| format!("reading {task}"))?;
        let inside = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        let Some(inside) = inside else {
            drop(unshare.kill());
            bail!("the daemon ended at once: {:?}", unshare.wait()?);
        };
        let guard = Command::new("sh")
            .args(["-c", "cat >/dev/null; kill -9 $1; rm -rf \"$2\"", "guard", &unshare.id().to_string()])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("starting the guard of a sandbox")?;
        Ok(Self { unshare, guard, netns: netns.clone(), inside, started, _files: folder })
    }

    /// Runs a command beside the daemon: same files, processes and network.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn exec(&self, argv: &[&str]) -> anyhow::Result<Output> {
        let pid = self.inside.to_string();
        let enter = ["nsenter", "--target", &pid, "--mount", "--pid", "--root", "--wdns=/", "--"];
        self.netns.exec(&[&enter, argv].concat())
    }

    /// As [`Sandbox::exec`], and expects success: what the command prints.
    ///
    /// # Errors
    /// When it cannot be started, or fails; with its words.
    pub fn run(&self, argv: &[&str]) -> anyhow::Result<String> {
        let output = self.exec(argv)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{argv:?}: {}: {text}{error}", output.status);
        Ok(text)
    }

    /// The daemon's processes, without the shell and the sleep that keep the sandbox.
    ///
    /// # Errors
    /// When it has ended.
    pub fn processes(&self) -> anyhow::Result<Vec<u32>> {
        usage::family(self.inside, &["sh", "sleep"])
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The guard first: afterwards the number it would kill may belong to somebody else. Process 1
        // of the sandbox takes all others with it. What is gone already needs no killing.
        drop(self.guard.kill());
        drop(self.guard.wait());
        drop(self.unshare.kill());
        drop(self.unshare.wait());
    }
}

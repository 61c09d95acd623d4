//! Network namespaces by file descriptor: made anonymous, entered by threads, never named on disk.
//!
//! A namespace lives as long as someone holds a [`Netns`] of it or a process or socket is in it, so
//! a test that panics leaves nothing behind. Sockets and child processes made inside
//! [`Netns::run`] stay in the namespace wherever they are used later.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// A handle of a network namespace. Clones share it.
#[derive(Clone, Debug)]
pub struct Netns(Arc<OwnedFd>);

impl Netns {
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// When /proc is not mounted.
    pub fn current() -> anyhow::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// The namespace of a process, for example of a lab node.
    ///
    /// # Errors
    /// When the process is gone or may not be looked at.
    pub fn of_process(pid: u32) -> anyhow::Result<Self> {
        Self::open(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The namespace behind a path such as `/run/netns/X`.
    ///
    /// # Errors
    /// When the path cannot be opened.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("opening the namespace {}", path.display()))?;
        Ok(Self(Arc::new(file.into())))
    }

    /// A path of the namespace for other programs, such as a CNI plugin; good while this process holds it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()))
    }

    /// A new namespace without a name, with `lo` up.
    ///
    /// # Errors
    /// Without the right to create one (CAP_SYS_ADMIN).
    pub fn fresh() -> anyhow::Result<Self> {
        let made = std::thread::spawn(|| {
            unshare_network().context("creating a network namespace (root is needed)")?;
            Self::current()
        });
        let netns = made.join().map_err(|_| anyhow::anyhow!("the thread that makes a namespace died"))??;
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// Runs `work` on a thread of its own inside this namespace and waits for its result.
    ///
    /// # Errors
    /// Those of `work`, and when the namespace cannot be entered. A panic in `work` goes on here.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter()?;
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into the namespace, for good.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN in the user namespace that owns it.
    pub fn enter(&self) -> anyhow::Result<()> {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
            .context("entering a network namespace")
    }

    /// Runs a program inside and collects its output. The file system is the caller's.
    ///
    /// # Errors
    /// When the program cannot be started; its exit status is in the output.
    pub fn exec(&self, argv: &[&str]) -> anyhow::Result<Output> {
        let (program, arguments) = argv.split_first().context("an empty command")?;
        self.run(|| {
            Command::new(program)
                .args(arguments)
                .stdin(Stdio::null())
                .output()
                .with_context(|| format!("starting {program}"))
        })
    }

    /// Runs `ip ARGUMENTS`, split at white space, and expects success.
    ///
    /// # Errors
    /// With the words of `ip` when it fails.
    pub fn ip(&self, arguments: &str) -> anyhow::Result<String> {
        let argv: Vec<&str> = std::iter::once("ip").chain(arguments.split_whitespace()).collect();
        let output = self.exec(&argv)?;
        if !output.status.success() {
            bail!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Connects this namespace with another by a veth pair, both ends up
    /// and with carrier.
    ///
    /// `ours` and `theirs` are interface name and addresses with prefix length. The two ends get
    /// different interface indexes: with equal ones the kernel delays carrier events by up to a second.
    ///
    /// # Errors
    /// With the words of `ip`.
    pub fn link(&self, ours: (&str, &[&str]), other: &Self, theirs: (&str, &[&str])) -> anyhow::Result<()> {
        let index = NEXT_IFINDEX.fetch_add(2, std::sync::atomic::Ordering::Relaxed);
        let place = other.path();
        self.ip(&format!(
            "link add {} index {index} type veth peer name {} index {} netns {}",
            ours.0,
            theirs.0,
            index + 1,
            place.display()
        ))?;
        for (netns, (name, addresses)) in [(self, ours), (other, theirs)] {
            for address in addresses {
                let nodad = if address.contains(':') { "nodad" } else { "" };
                netns.ip(&format!("address add {address} dev {name} {nodad}"))?;
            }
            netns.ip(&format!("link set {name} up"))?;
        }
        // The kernel notices the carrier in its own time; routes are marked linkdown until then.
        for (netns, name) in [(self, ours.0), (other, theirs.0)] {
            crate::wait::until(Duration::from_secs(5), &format!("the carrier of {name}"), || {
                Ok(netns.ip(&format!("link show {name}"))?.contains("state UP").then_some(()))
            })?;
        }
        Ok(())
    }

    /// Writes a sysctl of this namespace, given as in /proc/sys: `net/ipv4/ip_forward`.
    ///
    /// # Errors
    /// When the kernel does not have it or refuses the value.
    pub fn sysctl(&self, path: &str, value: &str) -> anyhow::Result<()> {
        self.run(|| {
            std::fs::write(Path::new("/proc/sys").join(path), value)
                .with_context(|| format!("writing {value} to the sysctl {path}"))
        })
    }
}

static NEXT_IFINDEX: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1001);

#[expect(unsafe_code, reason = "rustix marks unshare as unsafe for the sake of one of its flags")]
fn unshare_network() -> rustix::io::Result<()> {
    // SAFETY: only UnshareFlags::FILES can break I/O safety (descriptors of a table not shared with
    // other threads); this call gives the thread a network namespace and nothing else.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
}

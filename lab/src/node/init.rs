//! Process 1 of a node: keeps the main process running, reaps orphans, serves requests.
//!
//! A main process that ends is started again after a second, with links and addresses untouched,
//! unless it was killed or stopped on request.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::file::kind::Kind;
use crate::file::lifecycle::Healthcheck;
use crate::kernel::nft;
use crate::node::control::{self, Request, Response};
use crate::node::health::{Health, Watch};
use crate::node::launch::Program;
use crate::node::main_process::MainProcess;
use crate::node::namespaces::{NodeEvent, say};
use crate::node::programs::Programs;
use crate::node::reaper::Reaper;
use crate::node::{boot, device_requests, root};
use crate::start::state::StateDir;

/// The node, as its requests see it.
struct Init {
    main: Arc<MainProcess>,
    programs: Programs,
    /// It died, and has not been started since.
    dead: AtomicBool,
}

pub(crate) fn run(state: &StateDir, name: &str) -> anyhow::Result<()> {
    let mut plan = state.plan().context("reading the lab's plan")?;
    let spec = plan.topology.nodes.remove(name).context("no such node")?;
    let log = File::options().append(true).open(state.log(name)).context("opening its log")?;
    let socket = state.socket(name);
    let listener =
        UnixListener::bind(&socket).with_context(|| format!("listening on {}", socket.display()))?;
    match spec.kind {
        Kind::ExtContainer => {
            mount("proc", "/proc", "proc", MountFlags::empty(), None).context("mounting /proc")?;
        }
        Kind::Linux | Kind::Bridge | Kind::Host => {
            enter(&state.root(name).join("root"))?;
            boot::begin().context("giving it a boot id of its own")?;
        }
    }
    // Tables of the file system are looked at when a program starts, so after the root is in place.
    let reaper = Reaper::start();
    let programs = Programs::new(Arc::clone(&reaper));
    let command = spec.command.join(" ");
    let main = MainProcess::start(spec, reaper, programs.groups(), log)
        .with_context(|| format!("cannot start `{command}`"))?;
    let init = Arc::new(Init { main, programs, dead: AtomicBool::new(false) });
    if let Some(check) = init.main.spec().healthcheck.clone() {
        let init = Arc::clone(&init);
        std::thread::spawn(move || init.watch_health(&check));
    }
    say(&NodeEvent::Ready)?;
    // The holder waits for the end of this output; what follows belongs in the log.
    rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
    for stream in listener.incoming() {
        let stream = stream?;
        let init = Arc::clone(&init);
        std::thread::spawn(move || {
            if let Err(error) = init.serve(&stream) {
                eprintln!("[lab] request: {error}");
            }
        });
    }
    Ok(())
}

/// Makes `new_root` the root, with its own `/proc`, and forgets the machine's.
fn enter(new_root: &Path) -> anyhow::Result<()> {
    mount("proc", new_root.join("proc"), "proc", MountFlags::empty(), None).context("mounting /proc")?;
    std::env::set_current_dir(new_root)?;
    // The old root lands on top of the new one, and is taken away from there.
    rustix::process::pivot_root(".", ".").context("changing the root")?;
    unmount(".", UnmountFlags::DETACH).context("leaving the machine's root")?;
    Ok(std::env::set_current_dir("/")?)
}

impl Init {
    fn serve(&self, stream: &UnixStream) -> io::Result<()> {
        let Some((request, fds)) = control::receive(stream)? else { return Ok(()) };
        let response = match request {
            Request::Exec(program) => self.programs.run(&program, fds, stream),
            request => self.handle(request),
        };
        control::reply(stream, &response)
    }

    fn handle(&self, request: Request) -> Response {
        match request {
            Request::Exec(_) => Response::default(), // served above, it needs the connection
            Request::AwaitHealthy => {
                Response::about(self.main.wait_until(|status| status.health == Some(Health::Healthy)))
            }
            Request::AwaitExit => Response::about(self.main.wait_until(|status| status.last_exit.is_some())),
            Request::Status => Response::about(self.main.status()),
            Request::Signal { signal } => Response::of(self.main.signal(signal)),
            Request::Stop { grace_ms } => {
                Response::of(self.main.stop(std::time::Duration::from_millis(grace_ms)))
            }
            Request::Start => {
                let forgotten = if self.dead.swap(false, Ordering::Relaxed) { boot::again() } else { Ok(()) };
                self.main.resume();
                Response::of(forgotten)
            }
            Request::StopForwarding => Response::of(nft::stop()),
            Request::RestoreForwarding => Response::of(nft::restore()),
            Request::KillAndIsolate => Response::of(self.kill_and_isolate()),
            Request::Write { path, text } => Response::of(write(&path, &text)),
            Request::Read { path } => match std::fs::read_to_string(&path) {
                Ok(text) => Response { text: Some(text), ..Response::default() },
                Err(error) => Response::of(Err(error)),
            },
            about_a_device => device_requests::answer(about_a_device),
        }
    }

    /// Runs the health check while the main process runs; the first time at once.
    fn watch_health(&self, check: &Healthcheck) {
        let spec = self.main.spec();
        let program = Program {
            argv: check.argv.clone(),
            env: spec.env.clone(),
            user: spec.user.clone(),
            ..Program::default()
        };
        loop {
            let status = self.main.wait_until(|status| status.pid.is_some() || spec.command.is_empty());
            let (started, mut watch) = (Instant::now(), Watch::new());
            let mut same = true;
            while same {
                let success = self.programs.succeeds(&program, check.timeout).unwrap_or(false);
                self.main.found(watch.checked(check, success, started.elapsed()), &status);
                same = self.main.lasts(&status, check.interval);
            }
        }
    }

    /// Forwarding first: a packet that a killed router still forwards would hide the loss.
    fn kill_and_isolate(&self) -> io::Result<()> {
        let stopped = nft::stop();
        self.dead.store(true, Ordering::Relaxed);
        self.main.signal(libc::SIGKILL).and(stopped)
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let path = root::inside(Path::new("/"), path)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    root::replace(&path, text)
}

/// A line in the node's log, apart from what its programs print.
pub(crate) fn note(log: &File, text: &str) {
    let mut log = log;
    // A log that cannot be written must not stop a node.
    let _ = writeln!(log, "[lab] {text}");
}

//! One node of a running lab: programs in it, its files, its main process, its kernel.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};

use crate::file::topology::NodeSpec;
use crate::kernel::netns::inside;
use crate::lab::{LabError, PATIENCE};
use crate::node::control::{self, Request, Response, Status};
use crate::node::launch::Program;
use crate::node::reaper::Exit;
use crate::start::netns_names;
use crate::start::state::StateDir;

/// Longest run of a program whose caller names no other time.
const EXEC_PATIENCE: Duration = Duration::from_secs(60);

/// What a program in a node printed, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Its standard output; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// It ended by itself with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.exit == Exit::Code(0)
    }
}

/// How a program runs in a node, where that differs from root in `/` with the node's environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOptions {
    /// Variables on top of the node's.
    pub env: Vec<(String, String)>,
    /// `user[:group]`, by name or number.
    pub user: Option<String>,
    /// Working folder.
    pub folder: Option<PathBuf>,
    /// Its standard input is a terminal of the node, and becomes its controlling one.
    pub terminal: bool,
}

/// A node of a running lab. Cheap to make and to clone; it holds no descriptor.
#[derive(Debug, Clone)]
pub struct Node {
    lab: String,
    name: String,
    spec: NodeSpec,
    /// A named network namespace inside.
    netns: Option<String>,
    socket: PathBuf,
    log: PathBuf,
}

impl Node {
    pub(crate) fn new(lab: &str, name: &str, spec: &NodeSpec, state: &StateDir) -> Self {
        Self {
            lab: lab.to_owned(),
            name: name.to_owned(),
            spec: spec.clone(),
            netns: None,
            socket: state.socket(name),
            log: state.log(name),
        }
    }

    /// Its name in the topology.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The network namespace `name` in this node (`/run/netns/NAME`), such as a pod of `towpath pod add`:
    /// programs run there and sockets are opened there, everything else is the node's.
    ///
    /// That there is none shows when it is used: namespaces come and go.
    #[must_use]
    pub fn netns(&self, name: &str) -> Self {
        Self { netns: Some(name.to_owned()), ..self.clone() }
    }

    /// What it was made from.
    #[must_use]
    pub fn spec(&self) -> &NodeSpec {
        &self.spec
    }

    /// Where its main process and its `exec` write what they print.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Runs a program as root in the node and collects what it prints; at most a minute.
    ///
    /// # Errors
    /// When the node is gone or the time is over; the program is killed then. A program that fails,
    /// or that does not exist (code 126), is no error: see [`Output::exit`].
    pub fn exec(&self, argv: &[&str]) -> Result<Output, LabError> {
        self.exec_within(EXEC_PATIENCE, argv)
    }

    /// [`Node::exec`] with another limit.
    ///
    /// # Errors
    /// As [`Node::exec`].
    pub fn exec_within(&self, patience: Duration, argv: &[&str]) -> Result<Output, LabError> {
        let what = format!("running `{}`", argv.join(" "));
        self.collect(patience, argv).map_err(|error| self.failed(&what, error))
    }

    fn collect(&self, patience: Duration, argv: &[&str]) -> io::Result<Output> {
        let null = File::open("/dev/null")?;
        let (out_reader, out_writer) = io::pipe()?;
        let (err_reader, err_writer) = io::pipe()?;
        let out = std::thread::spawn(move || drain(out_reader));
        let err = std::thread::spawn(move || drain(err_reader));
        let fds = [null.as_fd(), out_writer.as_fd(), err_writer.as_fd()];
        let outcome = self.run(argv, fds, &ExecOptions::default(), patience);
        // Only then can the readers see the end.
        drop((out_writer, err_writer));
        let exit = outcome?;
        let text = |reader: std::thread::JoinHandle<io::Result<Vec<u8>>>| -> io::Result<String> {
            let bytes = reader.join().map_err(|_| io::Error::other("the reader panicked"))??;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Output { exit, stdout: text(out)?, stderr: text(err)? })
    }

    /// Runs a program in the node on the three given descriptors, such as this process' own.
    ///
    /// # Errors
    /// When the node is gone; the program's own failure is in the [`Exit`].
    pub fn exec_on(&self, argv: &[&str], fds: [BorrowedFd<'_>; 3]) -> Result<Exit, LabError> {
        self.exec_with(argv, fds, &ExecOptions::default())
    }

    /// [`Node::exec_on`] as somebody else, somewhere else, with more in its environment, or with the
    /// first descriptor as its controlling terminal.
    ///
    /// # Errors
    /// As [`Node::exec_on`]; an unknown user or folder is code 126.
    pub fn exec_with(
        &self,
        argv: &[&str],
        fds: [BorrowedFd<'_>; 3],
        options: &ExecOptions,
    ) -> Result<Exit, LabError> {
        self.run(argv, fds, options, Duration::MAX)
            .map_err(|error| self.failed(&format!("running `{}`", argv.join(" ")), error))
    }

    fn run(
        &self,
        argv: &[&str],
        fds: [BorrowedFd<'_>; 3],
        options: &ExecOptions,
        patience: Duration,
    ) -> io::Result<Exit> {
        self.has_processes()?;
        if self.netns.is_some() {
            self.find_netns()?;
        }
        let mut env = self.spec.env.clone();
        env.extend(options.env.iter().cloned());
        let request = Request::Exec(Program {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            env,
            user: options.user.clone(),
            folder: options.folder.clone(),
            terminal: options.terminal,
            netns: self.netns.clone(),
        });
        let response = control::call(&self.socket, &request, &fds, patience)?;
        response.exit.ok_or_else(|| io::Error::other("the node did not say how it ended"))
    }

    /// Starts a program in the node on the three given descriptors; dropping the result ends it.
    ///
    /// # Errors
    /// When the node is gone.
    pub(crate) fn start_on(&self, argv: &[&str], fds: [BorrowedFd<'_>; 3]) -> Result<UnixStream, LabError> {
        let start = || {
            let stream = UnixStream::connect(&self.socket)?;
            let argv = argv.iter().map(|&word| word.to_owned()).collect();
            let (env, netns) = (self.spec.env.clone(), self.netns.clone());
            let program = Program { argv, env, netns, ..Program::default() };
            control::send(&stream, &Request::Exec(program), &fds)?;
            Ok(stream)
        };
        start().map_err(|error| self.failed(&format!("starting `{}`", argv.join(" ")), error))
    }

    /// A new terminal in the node's `/dev/pts`: the side to read and write, and that for programs.
    ///
    /// # Errors
    /// When the node is gone, or this user may not look into it.
    pub fn terminal(&self) -> Result<(OwnedFd, OwnedFd), LabError> {
        let open = || -> io::Result<_> {
            let path = format!("/proc/{}/root/dev/pts/ptmx", self.peer()?);
            let ours = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path)?;
            unlockpt(&ours)?;
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let programs = ioctl_tiocgptpeer(&ours, flags)?;
            Ok((ours.into(), programs))
        };
        open().map_err(|error| self.failed("opening a terminal in it", error))
    }

    /// The node's process 1, by its id on this machine: `/proc/<pid>/ns` are the node's namespaces.
    ///
    /// # Errors
    /// When the node is gone.
    pub fn init_pid(&self) -> Result<u32, LabError> {
        self.peer().map_err(|error| self.failed("looking for its process 1", error))
    }

    fn peer(&self) -> io::Result<u32> {
        self.has_processes()?;
        // The kernel translates the listener's id to what it is called here.
        let peer = rustix::net::sockopt::socket_peercred(UnixStream::connect(&self.socket)?)?;
        Ok(peer.pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// The main process, by its id on this machine, while it runs.
    ///
    /// # Errors
    /// When the node is gone, or the main process is not running.
    pub fn pid(&self) -> Result<u32, LabError> {
        let inner = self.status()?.pid;
        let pid = inner.and_then(|inner| host_pid(self.init_pid().ok()?, inner));
        pid.ok_or_else(|| {
            self.failed("looking for its main process", io::Error::from(io::ErrorKind::NotFound))
        })
    }

    /// What the main process is doing.
    ///
    /// # Errors
    /// When the node is gone.
    pub fn status(&self) -> Result<Status, LabError> {
        let status = self.ask(&Request::Status, "asking for its status")?.status;
        status.ok_or_else(|| self.failed("asking for its status", io::Error::other("no answer")))
    }

    /// Where this machine finds the network namespace: the node's own, or the one of [`Node::netns`].
    ///
    /// # Errors
    /// When the node is gone, or has no namespace of that name; those it has are named.
    pub fn netns_path(&self) -> Result<PathBuf, LabError> {
        self.find_netns().map_err(|error| self.failed("looking for its network namespace", error))
    }

    fn find_netns(&self) -> io::Result<PathBuf> {
        let init = self.peer()?;
        let Some(name) = &self.netns else { return Ok(format!("/proc/{init}/ns/net").into()) };
        let folder = PathBuf::from(format!("/proc/{init}/root{}", netns_names::FOLDER));
        let path = folder.join(name);
        // A name is one entry of the folder, and leads nowhere else.
        if path.file_name() == Some(name.as_ref()) && path.symlink_metadata().is_ok_and(|meta| meta.is_file())
        {
            return Ok(path);
        }
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut known: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        known.sort();
        let known = match known.as_slice() {
            [] => "it has none; make one with `towpath pod add` or `ip netns add`".to_owned(),
            known => format!("`ip netns` there lists {}", known.join(", ")),
        };
        Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no network namespace {name}; {known}")))
    }

    /// The network namespace, open.
    ///
    /// # Errors
    /// As [`Node::netns_path`], and when this user may not open it.
    pub fn open_netns(&self) -> Result<OwnedFd, LabError> {
        let open = || Ok(File::open(self.find_netns()?)?.into());
        open().map_err(|error: io::Error| self.failed("opening its network namespace", error))
    }

    /// Runs `work` on a thread of its own inside the network namespace: sockets it opens
    /// belong to the node and can be used anywhere afterwards. Needs root.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or `work` panics.
    pub fn in_netns<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let netns = self.open_netns()?;
        let outcome = inside(netns.as_fd(), work);
        outcome.map_err(|error| self.failed("entering its network namespace", error))
    }

    /// Sends a signal to the main process. SIGKILL, SIGSTOP and SIGCONT reach all it has started,
    /// and after a SIGKILL it is not restarted until [`Node::start`].
    ///
    /// # Errors
    /// When the node is gone, or the main process is not running.
    pub fn kill(&self, signal: Signal) -> Result<(), LabError> {
        self.ask(&Request::Signal { signal: signal.as_raw() }, "signalling its main process").map(|_| ())
    }

    /// Ends the main process, gently for up to ten seconds, and keeps it ended until [`Node::start`].
    ///
    /// # Errors
    /// When the node is gone.
    pub fn stop(&self) -> Result<(), LabError> {
        self.ask(&Request::Stop { grace_ms: 10_000 }, "stopping its main process").map(|_| ())
    }

    /// Starts the main process again after a stop or a SIGKILL.
    ///
    /// # Errors
    /// When the node is gone.
    pub fn start(&self) -> Result<(), LabError> {
        self.ask(&Request::Start, "starting its main process").map(|_| ())
    }

    /// From here on its kernel forwards nothing; what the node itself sends and receives is untouched.
    ///
    /// # Errors
    /// When the node is gone, or the kernel refuses.
    pub fn stop_forwarding(&self) -> Result<(), LabError> {
        self.ask(&Request::StopForwarding, "stopping its forwarding").map(|_| ())
    }

    /// Undoes [`Node::stop_forwarding`].
    ///
    /// # Errors
    /// As [`Node::stop_forwarding`].
    pub fn restore_forwarding(&self) -> Result<(), LabError> {
        self.ask(&Request::RestoreForwarding, "restoring its forwarding").map(|_| ())
    }

    /// Writes a file as the node sees it, whole or not at all. In a bind that is the machine's file.
    ///
    /// # Errors
    /// When the node is gone, or the file cannot be written.
    pub fn write_file(&self, path: impl AsRef<Path>, text: &str) -> Result<(), LabError> {
        let path = path.as_ref().to_owned();
        let what = format!("writing {}", path.display());
        self.ask(&Request::Write { path, text: text.to_owned() }, &what).map(|_| ())
    }

    /// Reads a file as the node sees it.
    ///
    /// # Errors
    /// When the node is gone, or the file cannot be read as text.
    pub fn read_file(&self, path: impl AsRef<Path>) -> Result<String, LabError> {
        let path = path.as_ref().to_owned();
        let what = format!("reading {}", path.display());
        let text = self.ask(&Request::Read { path }, &what)?.text;
        text.ok_or_else(|| self.failed(&what, io::Error::other("no answer")))
    }

    pub(crate) fn ask(&self, request: &Request, what: &str) -> Result<Response, LabError> {
        let outcome = self.has_processes().and_then(|()| control::call(&self.socket, request, &[], PATIENCE));
        outcome.map_err(|error| self.failed(what, error))
    }

    fn has_processes(&self) -> io::Result<()> {
        if self.spec.kind.has_processes() {
            return Ok(());
        }
        let remedy = "use the node whose network it is in, or one of `kind: host`";
        Err(io::Error::new(io::ErrorKind::Unsupported, format!("a bridge runs nothing; {remedy}")))
    }

    fn failed(&self, what: &str, error: io::Error) -> LabError {
        let inside = self.netns.as_ref().map_or(String::new(), |netns| format!("/{netns}"));
        LabError::Io { lab: self.lab.clone(), what: format!("node {}{inside}: {what}", self.name), error }
    }
}

fn drain(mut reader: io::PipeReader) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The process called `inner` inside the namespace whose process 1 is `init` here.
fn host_pid(init: u32, inner: u32) -> Option<u32> {
    // Threads start children too, so each thread's list is read.
    let threads = std::fs::read_dir(format!("/proc/{init}/task")).ok()?.flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let children: Vec<u32> = lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    children.into_iter().find(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        ids.and_then(|ids| ids.split_whitespace().last()).and_then(|id| id.parse().ok()) == Some(inner)
    })
}

//! A node's view of the file system: the machine's, with private edits.
//!
//! Each folder of `/` is the lower layer of an overlay whose upper layer is memory; `/run` and
//! `/tmp` are empty, `/proc` and `/sys` the node's own, `/dev` the machine's, and the binds of the
//! topology lie on top. Nothing a node writes outside a bind reaches the machine.
//!
//! Overlays are per folder of `/` and not over `/` as a whole, because without real root a layer
//! must not contain mounts; a folder that contains some is built from its own folders.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use anyhow::Context;
use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive, mount_remount};

use crate::file::hosts;
use crate::node::users;
use crate::start::state::Plan;

/// Folders of `/` that a node has of its own.
const OWN: [&str; 5] = ["proc", "sys", "dev", "run", "tmp"];

/// Where a node finds the program that runs the lab.
const TOWPATH: &str = "/usr/local/bin/towpath";

/// And the CNI plugin.
const TOWPATH_CNI: &str = "/usr/local/bin/towpath-cni";

/// Empty in every node, whatever the machine has there: its container runtime's networks are none of a node's.
const EMPTY: [&str; 4] = ["/etc/cni", "/opt/cni", "/var/lib/cni", "/var/lib/towpath"];

/// A folder with mounts inside is built from its entries, unless it has more than this.
const MAX_ENTRIES: usize = 200;

/// Files of folders that are built from their entries are copied up to this size, in bytes.
const MAX_COPY: u64 = 4 << 20;

/// How many links a path may lead through before it is a loop; the kernel's own limit.
const MAX_LINKS: usize = 40;

struct Builder<'a> {
    plan: &'a Plan,
    layers: PathBuf,
    root: PathBuf,
    mounts: Vec<PathBuf>,
    /// Folders that must be ours to write to, although the machine's belong to somebody else.
    writable: Vec<PathBuf>,
    overlays: usize,
}

/// Builds the root of a node below `place` and returns it; only `/proc` is left to be mounted.
///
/// Must run in the mount namespace of the node, with its network namespace entered (for `/sys`).
pub(crate) fn build(place: &Path, plan: &Plan, node: &str) -> anyhow::Result<PathBuf> {
    let spec = plan.topology.nodes.get(node).context("no such node")?;
    // A node inside another one's network has that one's names, as in Docker.
    let owner = plan.topology.nodes.get(&plan.topology.network_owner(node)).unwrap_or(spec);
    fs::create_dir_all(place).with_context(|| format!("creating {}", place.display()))?;
    mount("tmpfs", place, "tmpfs", MountFlags::empty(), c"mode=755")
        .context("mounting the node's private layer")?;
    let root = place.join("root");
    fs::create_dir(&root)?;
    mount_bind(&root, &root)?;
    // Real root may write everywhere; the root of a user namespace only where it owns the folder.
    let targets =
        spec.binds.iter().map(|bind| bind.target.clone()).chain([TOWPATH, TOWPATH_CNI].map(PathBuf::from));
    let parents = targets.filter_map(|target| target.parent().map(Path::to_owned));
    let daemons = users::folders().filter_map(|folder| folder.parent().map(Path::to_owned));
    let empty = EMPTY.map(PathBuf::from);
    let writable = if plan.rootless { parents.chain(daemons).chain(empty).collect() } else { Vec::new() };
    let layers = place.join("layers");
    let mut builder =
        Builder { plan, layers, root: root.clone(), mounts: mount_points()?, writable, overlays: 0 };
    fs::create_dir(&builder.layers)?;
    builder.entries(Path::new("/"), &OWN)?;
    builder.own_folders()?;
    users::provide(&root, plan.rootless).context("adding the users that routing daemons run as")?;
    // Not through links: the machine's resolv.conf may be one to a place that a node does not have.
    let etc = inside(&root, Path::new("/etc"))?;
    let names = [
        ("hosts", hosts::hosts(&plan.topology, node)),
        ("hostname", format!("{}\n", owner.hostname)),
        ("resolv.conf", hosts::resolv_conf(spec.dns.as_ref().or(owner.dns.as_ref()))),
    ];
    for (file, text) in names {
        replace(&etc.join(file), &text).with_context(|| format!("writing /etc/{file}"))?;
    }
    bind(&root, &plan.towpath, Path::new(TOWPATH), true)
        .with_context(|| format!("providing {} as towpath", plan.towpath.display()))?;
    if let Some(plugin) = &plan.towpath_cni {
        bind(&root, plugin, Path::new(TOWPATH_CNI), true)
            .with_context(|| format!("providing {} as towpath-cni", plugin.display()))?;
    }
    for folder in EMPTY {
        let place = inside(&root, Path::new(folder))?;
        fs::create_dir_all(&place)?;
        mount("tmpfs", &place, "tmpfs", MountFlags::empty(), c"mode=755")
            .with_context(|| format!("mounting an empty {folder}"))?;
    }
    for (target, options) in &spec.tmpfs {
        let place = inside(&root, target)?;
        fs::create_dir_all(&place)?;
        let options = std::ffi::CString::new(options.as_str())?;
        mount("tmpfs", &place, "tmpfs", MountFlags::empty(), options.as_c_str()).with_context(|| {
            format!("mounting tmpfs {} with `{}`", target.display(), options.to_string_lossy())
        })?;
    }
    for one in &spec.binds {
        bind(&root, &one.source, &one.target, one.read_only)
            .with_context(|| format!("binding {} to {}", one.source.display(), one.target.display()))?;
    }
    Ok(root)
}

/// For a node that keeps the machine's files: only `/proc` and `/sys` are its own.
///
/// `/proc` is mounted by its process 1, in the process namespace it shows.
pub(crate) fn keep_machine() -> anyhow::Result<()> {
    mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None).context("mounting /sys")
}

impl Builder<'_> {
    /// Provides every entry of `folder`, from the machine and from the tools, except those `left_out`.
    fn entries(&mut self, folder: &Path, left_out: &[&str]) -> anyhow::Result<()> {
        let mut names: Vec<_> =
            fs::read_dir(folder)?.filter_map(|entry| entry.ok().map(|e| e.file_name())).collect();
        if let Some(tools) = self.tools(folder) {
            names.extend(fs::read_dir(tools)?.filter_map(|entry| entry.ok().map(|e| e.file_name())));
        }
        names.sort();
        names.dedup();
        for name in names {
            if !left_out.iter().any(|own| *own == name) {
                let path = folder.join(&name);
                self.entry(&path).with_context(|| format!("providing {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path) -> anyhow::Result<()> {
        let target = self.root.join(path.strip_prefix("/")?);
        let Ok(meta) = fs::symlink_metadata(path) else {
            return match self.tools(path) {
                Some(_) => self.folder(path, &target),
                None => Ok(()),
            };
        };
        if meta.is_symlink() {
            symlink(fs::read_link(path)?, &target)?;
        } else if meta.is_dir() {
            self.folder(path, &target)?;
        } else if meta.is_file() && meta.len() <= MAX_COPY {
            // An unreadable file of another user stays out, as its content would.
            if fs::copy(path, &target).is_err() {
                fs::File::create(&target)?;
            }
        } else if meta.is_file() {
            fs::File::create(&target)?;
            mount_bind(path, &target)?;
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path, target: &Path) -> anyhow::Result<()> {
        fs::create_dir(target)?;
        let has_mounts = self.mounts.iter().any(|mount| mount != path && mount.starts_with(path));
        let few =
            || fs::read_dir(path).is_ok_and(|entries| entries.take(MAX_ENTRIES + 1).count() <= MAX_ENTRIES);
        if has_mounts && few() {
            copy_mode(path, target);
            return self.entries(path, &[]);
        }
        if self.overlay(path, target).is_ok() {
            return Ok(());
        }
        // A file system that cannot be a layer is at least readable.
        mount_bind_recursive(path, target)?;
        read_only(target)?;
        Ok(())
    }

    fn overlay(&mut self, path: &Path, target: &Path) -> anyhow::Result<()> {
        self.overlays += 1;
        let upper = self.layers.join(format!("{}u", self.overlays));
        let work = self.layers.join(format!("{}w", self.overlays));
        fs::create_dir(&upper)?;
        fs::create_dir(&work)?;
        copy_mode(path, &upper);
        for folder in self.writable.iter().filter_map(|folder| folder.strip_prefix(path).ok()) {
            skeleton(path, &upper, folder)?;
        }
        let machine = path.is_dir().then(|| path.to_owned());
        let lower: Vec<String> =
            self.tools(path).into_iter().chain(machine).map(|layer| escape(&layer)).collect();
        let xattr = if self.plan.rootless { ",userxattr" } else { "" };
        let options = format!(
            "lowerdir={},upperdir={},workdir={}{xattr}",
            lower.join(":"),
            escape(&upper),
            escape(&work)
        );
        let options = std::ffi::CString::new(options)?;
        mount("overlay", target, "overlay", MountFlags::empty(), options.as_c_str())?;
        Ok(())
    }

    /// The folder of the tools that lies over `path`.
    fn tools(&self, path: &Path) -> Option<PathBuf> {
        let below = self.plan.tools.as_ref()?.join(path.strip_prefix("/").ok()?);
        below.is_dir().then_some(below)
    }

    fn own_folders(&self) -> anyhow::Result<()> {
        for name in OWN {
            fs::create_dir(self.root.join(name))?;
        }
        mount("sysfs", self.root.join("sys"), "sysfs", MountFlags::empty(), None).context("mounting /sys")?;
        mount_bind_recursive("/dev", self.root.join("dev")).context("binding /dev")?;
        self.own_terminals().context("mounting /dev/pts")?;
        mount("tmpfs", self.root.join("run"), "tmpfs", MountFlags::empty(), c"mode=755")
            .context("mounting /run")?;
        mount("tmpfs", self.root.join("tmp"), "tmpfs", MountFlags::empty(), c"mode=1777")
            .context("mounting /tmp")?;
        Ok(())
    }

    /// Terminals and shared memory of the node's own in the machine's `/dev`.
    fn own_terminals(&self) -> anyhow::Result<()> {
        let dev = self.root.join("dev");
        let options = c"newinstance,ptmxmode=0666,mode=0620";
        mount("devpts", dev.join("pts"), "devpts", MountFlags::empty(), options)?;
        if !dev.join("ptmx").is_symlink() {
            mount_bind(dev.join("pts/ptmx"), dev.join("ptmx"))?;
        }
        if dev.join("shm").is_dir() {
            mount("tmpfs", dev.join("shm"), "tmpfs", MountFlags::empty(), c"mode=1777")?;
        }
        Ok(())
    }
}

/// Folders of the machine on which something is mounted; mounts on files do not matter here.
fn mount_points() -> io::Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let points = text.lines().filter_map(|line| line.split(' ').nth(4));
    // The kernel writes spaces and the like in octal.
    let points = points.map(|point| PathBuf::from(point.replace("\\040", " ").replace("\\011", "\t")));
    Ok(points.filter(|point| point.is_dir()).collect())
}

/// `\`, `:` and `,` separate the options of an overlay.
fn escape(path: &Path) -> String {
    let mut out = String::new();
    for c in path.to_string_lossy().chars() {
        if matches!(c, '\\' | ':' | ',') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn copy_mode(from: &Path, to: &Path) {
    let mode = fs::metadata(from).map_or(0o755, |meta| meta.permissions().mode());
    // Without real root some modes cannot be given; the default one then serves.
    let _ = fs::set_permissions(to, fs::Permissions::from_mode(mode & 0o7777));
}

/// Makes `folder` in the layer `upper` over `lower`, as far as no link leads elsewhere.
fn skeleton(lower: &Path, upper: &Path, folder: &Path) -> io::Result<()> {
    let (mut lower, mut upper) = (lower.to_owned(), upper.to_owned());
    for part in folder.components() {
        lower.push(part);
        upper.push(part);
        if lower.is_symlink() || lower.is_file() {
            break;
        }
        if !upper.exists() {
            fs::create_dir(&upper)?;
            copy_mode(&lower, &upper);
        }
    }
    Ok(())
}

/// Writes a file whole or not at all: a reader sees the old text or the new one.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.lab"));
    // Where the folder cannot be written to, the file itself may be.
    if fs::write(&draft, text).is_err() {
        return fs::write(path, text);
    }
    match fs::rename(&draft, path) {
        // A file that is itself a bind cannot be replaced, only rewritten.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            fs::remove_file(&draft)?;
            fs::write(path, text)
        }
        outcome => outcome,
    }
}

fn bind(root: &Path, source: &Path, target: &Path, protected: bool) -> io::Result<()> {
    let target = inside(root, target)?;
    if source.is_dir() {
        fs::create_dir_all(&target)?;
    } else {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        if !target.exists() {
            fs::File::create(&target)?;
        }
    }
    mount_bind_recursive(source, &target)?;
    if protected { read_only(&target) } else { Ok(()) }
}

fn read_only(target: &Path) -> io::Result<()> {
    let flags = MountFlags::BIND | MountFlags::RDONLY;
    // In a user namespace the flags of the machine's mount must be kept, and these are the usual ones.
    let strict = flags | MountFlags::NOSUID | MountFlags::NODEV;
    mount_remount(target, flags, c"").or_else(|_| mount_remount(target, strict, c""))?;
    Ok(())
}

/// Where `path` of the node is on the machine while the node's root is at `root`.
///
/// Links are followed as the node would see them: an absolute one starts at `root` again.
pub(crate) fn inside(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut links = 0;
    let mut resolved = root.to_owned();
    let mut queue: Vec<std::ffi::OsString> =
        path.components().rev().map(|part| part.as_os_str().to_owned()).collect();
    while let Some(part) = queue.pop() {
        match Path::new(&part).components().next() {
            Some(Component::RootDir) => resolved = root.to_owned(),
            Some(Component::ParentDir) if resolved != root => {
                resolved.pop();
            }
            Some(Component::Normal(name)) => {
                let next = resolved.join(name);
                match fs::read_link(&next) {
                    Ok(link) => {
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(io::Error::from_raw_os_error(libc::ELOOP));
                        }
                        queue.extend(link.components().rev().map(|part| part.as_os_str().to_owned()));
                    }
                    Err(_) => resolved = next,
                }
            }
            _ => {}
        }
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_a_node_never_lead_out_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("var")).unwrap();
        fs::create_dir_all(root.join("run")).unwrap();
        symlink("/run", root.join("var/run")).unwrap();
        symlink("../../../../run", root.join("var/up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let cases =
            [("/var/run/frr", "run/frr"), ("/var/up/x", "run/x"), ("/../etc", "etc"), ("/a/./b", "a/b")];
        for (path, expected) in cases {
            assert_eq!(inside(root, Path::new(path)).unwrap(), root.join(expected), "{path}");
        }
        assert!(inside(root, Path::new("/loop/x")).is_err());
    }

    #[test]
    fn separators_in_layer_paths_are_escaped() {
        assert_eq!(escape(Path::new("/a:b,c\\d")), "/a\\:b\\,c\\\\d");
    }
}

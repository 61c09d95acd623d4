//! Files put in place for others to find whole: a program or a configuration is the old one or the new one at every
//! moment, after a crash too.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The plugin's file name, as `type` of a conflist names it.
pub const PLUGIN: &str = "towpath-cni";
/// Runtimes set `lo` up by a plugin of this name.
pub const LOOPBACK: &str = "loopback";

/// Puts `bytes` in the place of `path`, readable by all, and says whether they were different. The folder is made
/// if there is none.
///
/// # Errors
/// What the file system answers, with the path.
pub fn text(path: &Path, bytes: &[u8]) -> anyhow::Result<bool> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    put(path, 0o644, |file| file.write_all(bytes))?;
    Ok(true)
}

/// Puts a copy of the program `from` in the place of `to`, and says whether it was different. By rename: a runtime may be
/// executing the old one.
///
/// # Errors
/// What the file system answers, with the path.
pub fn program(from: &Path, to: &Path) -> anyhow::Result<bool> {
    let mut source = File::open(from).with_context(|| format!("reading {}", from.display()))?;
    let executable = |mode: u32| mode & 0o111 != 0;
    let there = fs::metadata(to).is_ok_and(|there| executable(there.permissions().mode()));
    if there && same(&mut source, to).with_context(|| format!("reading {}", from.display()))? {
        return Ok(false);
    }
    let mut source = File::open(from).with_context(|| format!("reading {}", from.display()))?;
    put(to, 0o755, |file| io::copy(&mut source, file).map(drop))?;
    Ok(true)
}

/// Lets `loopback` in `folder` be our plugin, unless there is one; says whether there was none.
///
/// # Errors
/// What the file system answers, with the path.
pub fn loopback(folder: &Path) -> anyhow::Result<bool> {
    let path = folder.join(LOOPBACK);
    // A link that leads nowhere is none.
    if fs::metadata(&path).is_ok() {
        return Ok(false);
    }
    let fresh = beside(&path);
    remove(&fresh)?;
    std::os::unix::fs::symlink(PLUGIN, &fresh).with_context(|| format!("making {}", fresh.display()))?;
    fs::rename(&fresh, &path).with_context(|| format!("making {}", path.display()))?;
    sync_folder(folder)?;
    Ok(true)
}

/// Whether `loopback` in `folder` is a link to our plugin.
pub fn loopback_is_ours(folder: &Path) -> bool {
    fs::read_link(folder.join(LOOPBACK)).is_ok_and(|target| target == Path::new(PLUGIN))
}

/// Removes a file and says whether there was one.
///
/// # Errors
/// What the file system answers, with the path.
pub fn remove(path: &Path) -> anyhow::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => {
            if let Some(folder) = path.parent() {
                sync_folder(folder)?;
            }
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("removing {}", path.display())),
    }
}

/// The plugin that belongs to this program.
///
/// # Errors
/// There is none; with the remedy.
pub fn plugin(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        if !path.is_file() {
            bail!("--cni-plugin {}: no such program", path.display());
        }
        return Ok(path.to_owned());
    }
    let own = std::env::current_exe().context("finding this program")?;
    let path = own.with_file_name(PLUGIN);
    if !path.is_file() {
        bail!("there is no {}; put the plugin there, or name it with --cni-plugin", path.display());
    }
    Ok(path)
}

fn same(source: &mut File, to: &Path) -> io::Result<bool> {
    let Ok(mut there) = File::open(to) else { return Ok(false) };
    if source.metadata()?.len() != there.metadata()?.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let read = source.read(&mut a)?;
        if read == 0 {
            return Ok(true);
        }
        let part = b.get_mut(..read).unwrap_or_default();
        if there.read_exact(part).is_err() || a.get(..read) != Some(&*part) {
            return Ok(false);
        }
    }
}

/// A name beside `path` that no runtime reads.
fn beside(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

fn put(path: &Path, mode: u32, fill: impl FnOnce(&mut File) -> io::Result<()>) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
    let fresh = beside(path);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
        // Also where a crash left a file of that name, and whatever the umask is.
        file.set_permissions(Permissions::from_mode(mode))?;
        fill(&mut file)?;
        file.sync_all()
    })();
    written.with_context(|| format!("writing {}", fresh.display()))?;
    fs::rename(&fresh, path).with_context(|| format!("writing {}", path.display()))?;
    sync_folder(folder)
}

/// A new name is durable once the folder is.
fn sync_folder(folder: &Path) -> anyhow::Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("writing the folder {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_when_it_differs_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/net.d/10-towpath.conflist");
        assert!(text(&path, b"one").unwrap());
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let first = inode(&path);
        assert!(!text(&path, b"one").unwrap());
        assert_eq!(inode(&path), first, "the same bytes are not written again");
        // What a crash left.
        let torso = path.with_file_name(".10-towpath.conflist.new");
        fs::write(&torso, "rubbish that is longer").unwrap();
        fs::set_permissions(&torso, Permissions::from_mode(0o600)).unwrap();
        assert!(text(&path, b"two").unwrap());
        assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"two"[..], 0o644));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(remove(&path).unwrap() && !remove(&path).unwrap());
    }

    #[test]
    fn a_program_is_copied_when_it_differs_or_cannot_be_executed() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("bin/towpath-cni"));
        fs::write(&from, vec![7; 200_000]).unwrap();
        assert!(program(&from, &to).unwrap());
        assert_eq!((fs::read(&to).unwrap(), mode(&to)), (vec![7; 200_000], 0o755));
        assert!(!program(&from, &to).unwrap());
        fs::set_permissions(&to, Permissions::from_mode(0o644)).unwrap();
        assert!(program(&from, &to).unwrap());
        let mut other = vec![7; 200_000];
        other[150_000] = 8;
        fs::write(&from, other).unwrap();
        assert!(program(&from, &to).unwrap());
        fs::remove_file(&from).unwrap();
        let error = format!("{:#}", program(&from, &to).unwrap_err());
        assert!(error.contains("from") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn somebody_elses_loopback_stays() {
        let folder = tempfile::tempdir().unwrap();
        assert!(loopback(folder.path()).unwrap(), "a link to a plugin that is not there yet");
        fs::write(folder.path().join(PLUGIN), "").unwrap();
        assert!(!loopback(folder.path()).unwrap());
        assert!(loopback_is_ours(folder.path()));
        fs::remove_file(folder.path().join(LOOPBACK)).unwrap();
        fs::write(folder.path().join(LOOPBACK), "theirs").unwrap();
        assert!(!loopback(folder.path()).unwrap() && !loopback_is_ours(folder.path()));
    }
}

//! The users and folders that routing daemons expect, in a node's private files.
//!
//! Packages that are unpacked rather than installed have not run the scripts that create these.

use std::fs;
use std::io;
use std::path::Path;

use crate::root::{inside, replace};

/// Daemon users: name, id where the machine has no such user, further groups, folders they own.
const USERS: [(&str, u32, &[&str], &[&str]); 5] = [
    ("frr", 9101, &["frrvty"], &["/run/frr", "/etc/frr", "/var/lib/frr", "/var/log/frr"]),
    ("bird", 9102, &[], &["/run/bird"]),
    ("openbgpd", 9103, &[], &["/run/openbgpd"]),
    ("exabgp", 9104, &[], &["/run/exabgp"]),
    ("_bgpd", 9105, &[], &[]),
];

const FIRST_EXTRA_GROUP: u32 = 9150;

/// The folders above, for the view of a user who may not make them in the machine's own.
pub(crate) fn folders() -> impl Iterator<Item = &'static Path> {
    USERS.iter().flat_map(|(_, _, _, folders)| folders.iter().map(Path::new))
}

/// Adds what is missing to `/etc/passwd` and `/etc/group` below `root`, and makes the folders.
///
/// Without real root only one user exists, and every name stands for it.
pub(crate) fn provide(root: &Path, rootless: bool) -> io::Result<()> {
    let passwd_path = inside(root, Path::new("/etc/passwd"))?;
    let group_path = inside(root, Path::new("/etc/group"))?;
    let mut passwd = fs::read_to_string(&passwd_path).unwrap_or_default();
    let mut group = fs::read_to_string(&group_path).unwrap_or_default();
    let mut extra = FIRST_EXTRA_GROUP;
    for (user, id, groups, folders) in USERS {
        let id = if rootless { 0 } else { id };
        if rootless {
            // A machine's own frr user has an id that does not exist in the user namespace.
            passwd = without(&passwd, user);
            group = without(&group, user);
        }
        if entry(&group, user).is_none() {
            append(&mut group, &format!("{user}:x:{id}:"));
        }
        if entry(&passwd, user).is_none() {
            let gid = id_of(&group, user, 2).unwrap_or(id);
            append(&mut passwd, &format!("{user}:x:{id}:{gid}::/nonexistent:/usr/sbin/nologin"));
        }
        for name in groups {
            if entry(&group, name).is_none() {
                append(&mut group, &format!("{name}:x:{}:{user}", if rootless { 0 } else { extra }));
                extra += 1;
            }
        }
        let owner = (id_of(&passwd, user, 2), id_of(&passwd, user, 3));
        for folder in folders {
            let path = inside(root, Path::new(folder))?;
            fs::create_dir_all(&path)?;
            std::os::unix::fs::chown(&path, owner.0, owner.1)?;
        }
    }
    replace(&passwd_path, &passwd)?;
    replace(&group_path, &group)
}

fn append(text: &mut String, line: &str) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
    text.push('\n');
}

fn without(text: &str, name: &str) -> String {
    text.lines().filter(|line| line.split(':').next() != Some(name)).map(|line| format!("{line}\n")).collect()
}

/// The line of `name` in a file such as `/etc/passwd`.
fn entry<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find(|line| line.split(':').next() == Some(name))
}

/// Field `field` (from 0) of the line of `name`, as a number.
pub(crate) fn id_of(text: &str, name: &str, field: usize) -> Option<u32> {
    entry(text, name)?.split(':').nth(field)?.parse().ok()
}

//! The users, folders, pipes and scripts that routing daemons expect, in a node's private files.
//!
//! Packages that are unpacked rather than installed have not run the scripts that create these.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde::{Deserialize, Serialize};

use crate::node::root::{inside, replace};

/// Name, id where the machine has no such user, home, further groups, folders it owns.
type User = (&'static str, u32, &'static str, &'static [&'static str], &'static [&'static str]);

/// Users of daemons.
const USERS: [User; 4] = [
    ("frr", 9101, NO_HOME, &["frrvty"], &["/run/frr", "/etc/frr", "/var/lib/frr", "/var/log/frr"]),
    ("bird", 9102, NO_HOME, &[], &["/run/bird"]),
    // It locks itself into its home, which must not be its own.
    ("_openbgpd", 9103, "/run/openbgpd", &[], &[]),
    ("exabgp", 9104, NO_HOME, &[], &["/run/exabgp"]),
];

const NO_HOME: &str = "/nonexistent";

/// Folders of daemons that stay root's.
const FOLDERS: [&str; 1] = ["/run/openbgpd"];

/// Pipes by which `exabgpcli` talks to ExaBGP, which drops to a user of no rights.
const PIPES: [&str; 2] = ["/run/exabgp/exabgp.in", "/run/exabgp/exabgp.out"];

/// What the image of FRR starts with; its Debian package has none.
const DOCKER_START: &str = "/usr/lib/frr/docker-start";

const DOCKER_START_TEXT: &str =
    "#!/bin/bash\n. /usr/lib/frr/frrcommon.sh\nexec /usr/lib/frr/watchfrr $(daemon_list)\n";

const FIRST_EXTRA_GROUP: u32 = 9150;

/// The folders above, for the view of a user who may not make them in the machine's own.
pub(crate) fn folders() -> impl Iterator<Item = &'static Path> {
    let owned = USERS.iter().flat_map(|(_, _, _, _, folders)| folders.iter());
    owned.chain(&FOLDERS).chain([&DOCKER_START]).map(Path::new)
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
    for (user, id, home, groups, folders) in USERS {
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
            append(&mut passwd, &format!("{user}:x:{id}:{gid}::{home}:/usr/sbin/nologin"));
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
    replace(&group_path, &group)?;
    for folder in FOLDERS {
        fs::create_dir_all(inside(root, Path::new(folder))?)?;
    }
    for pipe in PIPES {
        let pipe = inside(root, Path::new(pipe))?;
        mknodat(CWD, &pipe, FileType::Fifo, Mode::empty(), 0)?;
        // Apart, because the file mode creation mask has no say here.
        fs::set_permissions(&pipe, fs::Permissions::from_mode(0o666))?;
    }
    let start = inside(root, Path::new(DOCKER_START))?;
    if start.with_file_name("frrcommon.sh").exists() && !start.exists() {
        fs::write(&start, DOCKER_START_TEXT)?;
        fs::set_permissions(&start, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
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

/// A user of a node, as a program needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// `user[:group]`, by name or number, as the node's own files know them.
pub(crate) fn account(user: &str) -> io::Result<Account> {
    account_of(user, &fs::read_to_string("/etc/passwd")?, &fs::read_to_string("/etc/group")?)
}

fn account_of(user: &str, passwd: &str, groups: &str) -> io::Result<Account> {
    let (user, group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let unknown = |what: &str, file: &str| {
        io::Error::new(io::ErrorKind::NotFound, format!("\"{what}\" is not in {file} of the node"))
    };
    let known = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
        fields.first().is_some_and(|name| *name == user) || fields.get(2).is_some_and(|id| *id == user)
    });
    let number = |at: usize| known.as_ref().and_then(|fields| fields.get(at)?.parse().ok());
    let uid = number(2).or_else(|| user.parse().ok()).ok_or_else(|| unknown(user, "/etc/passwd"))?;
    let gid = match group {
        Some(group) => id_of(groups, group, 2)
            .or_else(|| group.parse().ok())
            .ok_or_else(|| unknown(group, "/etc/group"))?,
        None => number(3).unwrap_or(0),
    };
    // A group that is named is the only one, as with Docker.
    let name = known.as_ref().and_then(|fields| fields.first().copied()).filter(|_| group.is_none());
    let member = |line: &&str| {
        name.is_some_and(|name| {
            line.rsplit(':').next().is_some_and(|all| all.split(',').any(|one| one == name))
        })
    };
    let supplementary = groups.lines().filter(member).filter_map(|line| line.split(':').nth(2)?.parse().ok());
    // What Docker takes for somebody without an entry.
    let home = known.as_ref().and_then(|fields| fields.get(5).copied()).unwrap_or("/").to_owned();
    Ok(Account { uid, gid, groups: supplementary.collect(), home })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nfrr:x:92:93::/var/frr:/bin/false\n";
        let groups = "root:x:0:\nfrr:x:93:\nfrrvty:x:85:x,frr\nwheel:x:10:frr\n";
        let row = |uid, gid, groups: &[u32], home: &str| Account {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
        };
        let cases = [
            ("frr", row(92, 93, &[85, 10], "/var/frr")),
            ("92", row(92, 93, &[85, 10], "/var/frr")),
            ("65534", row(65534, 0, &[], "/")),
            ("frr:wheel", row(92, 10, &[], "/var/frr")),
            ("7:8", row(7, 8, &[], "/")),
        ];
        for (user, expected) in cases {
            assert_eq!(account_of(user, passwd, groups).unwrap(), expected, "{user}");
        }
        assert!(account_of("nobody", passwd, groups).unwrap_err().to_string().contains("/etc/passwd"));
        assert!(account_of("frr:none", passwd, groups).unwrap_err().to_string().contains("/etc/group"));
    }
}

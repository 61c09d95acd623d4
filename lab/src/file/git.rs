//! `__gitBranch__` and `__gitHash__` in a lab's name, from the repository the file is in.
//!
//! Reads `.git` itself, so that no git program is needed: HEAD, the branch's file, `packed-refs`.

use std::fs;
use std::path::{Path, PathBuf};

const BRANCH: &str = "__gitBranch__";
const HASH: &str = "__gitHash__";

/// Length of a short commit name, as git prints it by default.
const SHORT: usize = 7;

/// `name` with the branch and the commit of the repository around `folder` put in.
///
/// # Errors
/// Why it cannot be known, with the remedy.
pub(crate) fn expand(name: &str, folder: &Path) -> Result<String, String> {
    if !name.contains(BRANCH) && !name.contains(HASH) {
        return Ok(name.to_owned());
    }
    let head = Head::read(folder).ok_or_else(|| {
        format!("{BRANCH} and {HASH} need a git repository around the file; write the name out")
    })?;
    let mut expanded = name.replace(BRANCH, &head.branch);
    if expanded.contains(HASH) {
        let hash =
            head.commit.ok_or_else(|| format!("{HASH} needs a commit; make one or write the name out"))?;
        expanded = expanded.replace(HASH, hash.get(..SHORT).unwrap_or(&hash));
    }
    Ok(expanded)
}

struct Head {
    /// `HEAD` when no branch is checked out; slashes become dashes.
    branch: String,
    /// Absent before the first commit.
    commit: Option<String>,
}

impl Head {
    fn read(folder: &Path) -> Option<Self> {
        let own = folder.ancestors().find_map(git_folder)?;
        let head = fs::read_to_string(own.join("HEAD")).ok()?;
        let Some(reference) = head.trim().strip_prefix("ref: ") else {
            return Some(Self { branch: "HEAD".to_owned(), commit: Some(head.trim().to_owned()) });
        };
        // A further work tree has a HEAD of its own; branches are with the first one.
        let common = fs::read_to_string(own.join("commondir")).map(|path| own.join(path.trim()));
        let common = common.unwrap_or_else(|_| own.clone());
        let loose = fs::read_to_string(common.join(reference)).ok().map(|commit| commit.trim().to_owned());
        let packed = || {
            let text = fs::read_to_string(common.join("packed-refs")).ok()?;
            text.lines().find_map(|line| line.strip_suffix(reference)?.strip_suffix(' ').map(str::to_owned))
        };
        let branch = reference.strip_prefix("refs/heads/").unwrap_or(reference).replace('/', "-");
        Some(Self { branch, commit: loose.or_else(packed) })
    }
}

/// `.git` of a folder: itself one, or a file that says where it is.
fn git_folder(folder: &Path) -> Option<PathBuf> {
    let git = folder.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let text = fs::read_to_string(git).ok()?;
    Some(folder.join(text.strip_prefix("gitdir: ")?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_and_commit_come_from_the_repository_around_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let below = root.join("labs/one");
        fs::create_dir_all(&below).unwrap();
        assert_eq!(expand("plain", &below).unwrap(), "plain");
        assert!(expand("x-__gitHash__", &below).unwrap_err().contains("write the name out"));

        let heads = root.join(".git/refs/heads/feature");
        fs::create_dir_all(&heads).unwrap();
        fs::write(root.join(".git/HEAD"), "ref: refs/heads/feature/a\n").unwrap();
        assert_eq!(expand("x-__gitBranch__", &below).unwrap(), "x-feature-a");
        assert!(expand("x-__gitHash__", &below).unwrap_err().contains("needs a commit"));
        fs::write(root.join(".git/packed-refs"), "# pack\n0123456789abcdef refs/heads/feature/a\n").unwrap();
        assert_eq!(expand("__gitHash__", &below).unwrap(), "0123456");
        fs::write(heads.join("a"), "fedcba9876543210\n").unwrap();
        assert_eq!(expand("__gitHash__-__gitBranch__", &below).unwrap(), "fedcba9-feature-a");

        let tree = root.join("tree");
        fs::create_dir_all(root.join(".git/worktrees/t")).unwrap();
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join(".git"), format!("gitdir: {}\n", root.join(".git/worktrees/t").display()))
            .unwrap();
        fs::write(root.join(".git/worktrees/t/HEAD"), "ref: refs/heads/feature/a\n").unwrap();
        fs::write(root.join(".git/worktrees/t/commondir"), "../..\n").unwrap();
        assert_eq!(expand("__gitHash__", &tree).unwrap(), "fedcba9");
        fs::write(root.join(".git/HEAD"), "00112233445566\n").unwrap();
        assert_eq!(expand("__gitBranch__-__gitHash__", &below).unwrap(), "HEAD-0011223");
    }
}

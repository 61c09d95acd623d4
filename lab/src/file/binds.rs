//! The `binds` of a node: files and folders of the machine that appear in it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::file::fields::At;
use crate::file::problem::{Findings, nearest};
use crate::file::topology::Bind;

/// What Docker takes behind the target; all but `ro` is how it is here anyway.
const OPTIONS: [&str; 14] = [
    "ro",
    "rw",
    "z",
    "Z",
    "nocopy",
    "cached",
    "delegated",
    "consistent",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "private",
    "rprivate",
];

/// Reads `source:target[:options]`; per target the last one given stays. Shorter targets come
/// first, so that a bind below another one's target lands on top of it.
pub(crate) fn read(
    place: &str,
    given: &[At],
    source: &dyn Fn(&str) -> PathBuf,
    findings: &mut Findings,
) -> Vec<Bind> {
    let mut by_target = BTreeMap::new();
    for at in given {
        match one(&at.text, source) {
            Ok(bind) => {
                by_target.insert(bind.target.clone(), bind);
            }
            Err(text) => findings.refuse(at.line, format!("{place}: bind {text}")),
        }
    }
    by_target.into_values().collect()
}

fn one(text: &str, source: &dyn Fn(&str) -> PathBuf) -> Result<Bind, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (from, target, options) = match parts.as_slice() {
        [from, target] => (*from, *target, ""),
        [from, target, options] => (*from, *target, *options),
        _ => return Err(format!("\"{text}\" is not complete; write source:target or source:target:ro")),
    };
    let target = Path::new(target);
    if !target.is_absolute()
        || target == Path::new("/")
        || target.components().any(|part| part == Component::ParentDir)
    {
        return Err(format!(
            "target \"{}\" is no place in the node; it must be an absolute path below \"/\"",
            target.display()
        ));
    }
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match nearest(option, OPTIONS) {
            _ if OPTIONS.contains(&option) => read_only |= option == "ro",
            Some(near) => return Err(format!("option \"{option}\" is unknown; did you mean \"{near}\"?")),
            None => return Err(format!("option \"{option}\" is unknown; use \"ro\", or none")),
        }
    }
    let source = source(from);
    if from.is_empty() || !source.exists() {
        return Err(format!("source {} does not exist; create it or correct the path", source.display()));
    }
    Ok(Bind { source, target: target.to_owned(), read_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_docker() {
        let read = |text: &str| one(text, &|source| PathBuf::from(source));
        for (text, read_only) in
            [("/:/x", false), ("/:/x:ro", true), ("/:/x:rw,z", false), ("/:/x:Z,ro", true)]
        {
            assert_eq!(read(text).map(|bind| bind.read_only), Ok(read_only), "{text}");
        }
        assert!(read("/:/x:r0").unwrap_err().contains("did you mean \"ro\"?"));
        assert!(read("/:/x:readonly").unwrap_err().contains("use \"ro\""));
    }
}

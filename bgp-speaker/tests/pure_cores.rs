//! `wire` and `rib` take values and give values: they name no runtime, no clock, no socket and no driver.
//! (`session` has the same test beside its tables.)

use std::path::{Path, PathBuf};

const FORBIDDEN: &[&str] = &[
    "tokio",
    "Instant::now",
    "SystemTime",
    "std::thread",
    "std::net::Tcp",
    "crate::transport",
    "crate::peer",
    "crate::speaker",
    "crate::connection",
];

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("a folder that can be read").path()).collect()
}

#[test]
fn the_cores_name_neither_a_runtime_nor_a_clock_nor_a_driver() {
    for core in ["src/wire", "src/rib"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(core);
        let files = files(&folder);
        assert!(files.len() > 5, "{core} has moved: this test looks at nothing");
        for file in files {
            let text = std::fs::read_to_string(&file).expect("a source file");
            let production = text.split("#[cfg(test)]").next().unwrap_or_default();
            let code = production.lines().filter(|line| !line.trim_start().starts_with("//"));
            for (number, line) in code.enumerate() {
                for word in FORBIDDEN {
                    assert!(!line.contains(word), "{}: code line {}: {line}", file.display(), number + 1);
                }
            }
        }
    }
}

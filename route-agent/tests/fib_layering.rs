//! The FIB core is pure: what tests and properties say about it holds wherever it runs.

use std::fs;
use std::path::Path;

#[test]
fn the_core_names_neither_the_runtime_nor_the_clock_nor_a_socket() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fib");
    let mut read = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() || name == "driver.rs" || name == "run.rs" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for word in ["tokio", "Instant::now", "netlink_sys", "async "] {
            assert!(!text.contains(word), "{name} names {word}");
        }
        read += 1;
    }
    assert!(read >= 9, "{read} files");
}

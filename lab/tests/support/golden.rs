//! Texts and pictures that a person has looked at, in `tests/golden/`.

use std::path::Path;

/// Compares with the file of that name; `UPDATE_GOLDEN=1` writes it anew, to be looked at again.
pub(crate) fn golden(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    assert!(text == expected, "{} differs; see the head of this test's file. Now:\n{text}", file.display());
}

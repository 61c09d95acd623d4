//! Measured tables in a Markdown file, each between two marks of its own.

use std::path::Path;

use anyhow::Context;

/// Puts `table` between `<!-- NAME -->` and `<!-- /NAME -->` of the file: in place of the one there, else at the end.
/// A file that is not there is begun.
///
/// # Errors
/// When the file cannot be read or written.
pub fn replace(path: &Path, name: &str, table: &str) -> anyhow::Result<()> {
    let old = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "# Benchmarks\n\n".to_owned(),
        old => old.with_context(|| format!("reading {}", path.display()))?,
    };
    std::fs::write(path, replaced(&old, name, table)).with_context(|| format!("writing {}", path.display()))
}

fn replaced(old: &str, name: &str, table: &str) -> String {
    let (start, end) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let (before, rest) = old.split_once(&start).unwrap_or((old, ""));
    let after = rest.split_once(&end).map_or("\n", |(_, after)| after);
    format!("{before}{start}\n{table}{end}{after}")
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn a_table_replaces_the_one_of_its_name_and_leaves_the_others() {
        let once = replaced("# Benchmarks\n\n", "a", "one\n");
        let both = replaced(&once, "b", "other\n");
        let again = replaced(&both, "a", "two\n");
        let expected = "# Benchmarks\n\n<!-- a -->\ntwo\n<!-- /a -->\n<!-- b -->\nother\n<!-- /b -->\n";
        assert_eq!(again, expected);
    }
}

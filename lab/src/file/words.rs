//! A command line as shell words: quotes, backslashes and comments, nothing expanded.

/// Splits `text` as a shell would, without expanding anything; `#` at the start of a word begins a comment.
///
/// # Errors
/// A quote that is never closed; the message says which.
pub(crate) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => quoted(&mut chars, '\'', word.get_or_insert_default())?,
            '"' => quoted(&mut chars, '"', word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().extend(chars.next()),
            '#' if word.is_none() => {
                chars.by_ref().find(|c| *c == '\n');
            }
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(chars: &mut std::str::Chars<'_>, quote: char, word: &mut String) -> Result<(), String> {
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return Ok(()),
            '\\' if quote == '"' => match chars.next() {
                // Inside double quotes only these lose their backslash (POSIX shell, 2.2.3).
                Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                Some(c) => word.extend(['\\', c]),
                None => break,
            },
            c => word.push(c),
        }
    }
    Err(format!("a {quote} is never closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_like_a_shell_without_expansion() {
        let cases: &[(&str, &[&str])] = &[
            ("ip addr add 10.0.0.1/31 dev eth1", &["ip", "addr", "add", "10.0.0.1/31", "dev", "eth1"]),
            (r#"echo "a  b" c\ d * # x"#, &["echo", "a  b", "c d", "*"]),
            ("sh -c 'echo $FOO; exit 3'", &["sh", "-c", "echo $FOO; exit 3"]),
            (r#"a"b"'c' "" "\"\n""#, &["abc", "", "\"\\n"]),
            ("a#b #c", &["a#b"]),
            ("", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(split(text).unwrap(), *expected, "{text}");
        }
        assert!(split("echo 'a").is_err());
    }
}

//! Environment variables in the text of a topology file, before it is YAML.
//!
//! Source: spelling and corner cases of containerlab 0.79 (the `a8m/envsubst` forms it uses).

/// Replaces `$V`, `${V}`, `${V:-d}`, `${V-d}`, `${V:=d}`, `${V=d}`, `${V:+d}`, `${V+d}` and `$$`.
///
/// A variable that is unset or empty and has no default stays as `$V`, so a shell command with
/// variables of its own survives. A default may itself be `$W`. Text that is no variable
/// (`$1`, `$(`, a lone `$`) stays as written.
pub(crate) fn substitute(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = from.get(1..).unwrap_or_default();
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((value, tail)) = braced(after, lookup).or_else(|| bare(after, lookup)) {
            out.push_str(&value);
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// The variable name `text` starts with. `$1` and `$_` are the shell's, not ours.
fn name(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    (name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name != "_").then_some((name, rest))
}

fn bare<'t>(after: &'t str, lookup: &dyn Fn(&str) -> Option<String>) -> Option<(String, &'t str)> {
    let (name, rest) = name(after)?;
    Some((plain(name, lookup), rest))
}

fn braced<'t>(after: &'t str, lookup: &dyn Fn(&str) -> Option<String>) -> Option<(String, &'t str)> {
    let (name, rest) = name(after.strip_prefix('{')?)?;
    let close = rest.find('}')?;
    let (form, tail) = rest.split_at(close);
    let tail = tail.strip_prefix('}')?;
    let set = lookup(name);
    let given = set.clone().filter(|value| !value.is_empty());
    let other = |default: &str| substitute(default, lookup);
    let value = if form.is_empty() {
        plain(name, lookup)
    } else if let Some(default) = form.strip_prefix(":-").or_else(|| form.strip_prefix(":=")) {
        given.unwrap_or_else(|| other(default))
    } else if let Some(default) = form.strip_prefix('-').or_else(|| form.strip_prefix('=')) {
        set.unwrap_or_else(|| other(default))
    } else {
        let instead = form.strip_prefix(":+").or_else(|| form.strip_prefix('+'))?;
        set.map(|_| other(instead)).unwrap_or_default()
    };
    Some((value, tail))
}

fn plain(name: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    lookup(name).filter(|value| !value.is_empty()).unwrap_or_else(|| format!("${name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_as_containerlab_does() {
        let lookup = |name: &str| match name {
            "V" => Some("v".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let cases = [
            ("$V ${V}", "v v"),
            ("$NO ${NO} $EMPTY ${EMPTY}", "$NO $NO $EMPTY $EMPTY"),
            ("${NO:-d} ${NO:=d} ${EMPTY:-d} ${V:-d}", "d d d v"),
            ("${NO-d} ${NO=d} ${EMPTY-d}", "d d "),
            ("${NO:+d}|${V:+d}|${NO+d}|${V+d}", "|d||d"),
            ("${NO:-$V}", "v"),
            ("$$ $$V $1 ${1} $_ $( $", "$ $V $1 ${1} $_ $( $"),
            ("${NO:-e f}", "e f"),
            ("${V", "${V"),
            ("größe $V", "größe v"),
        ];
        for (text, expected) in cases {
            assert_eq!(substitute(text, &lookup), expected, "{text}");
        }
    }
}

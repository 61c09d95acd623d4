//! YAML as a tree that remembers its lines.
//!
//! In: text. Out: one [`Yaml`] with anchors and merge keys resolved, every scalar in its own
//! spelling (`010` and `yes` stay what was written), or the first syntax error. A key given twice
//! is reported. Alias expansion and depth are bounded, so that no file can exhaust the memory.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::file::problem::{Findings, Problem};

/// Anchors copy what they name; a file that copies more than this is not a topology.
const MAX_VALUES: usize = 200_000;
const MAX_DEPTH: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Yaml {
    pub(crate) line: usize,
    pub(crate) value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Scalar(String),
    Seq(Vec<Yaml>),
    Map(Vec<(Key, Yaml)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Yaml {
    /// What this is, in the words of an error message.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a text",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    fn values(&self) -> usize {
        1 + match &self.value {
            Value::Null | Value::Scalar(_) => 0,
            Value::Seq(items) => items.iter().map(Yaml::values).sum(),
            Value::Map(entries) => entries.iter().map(|(_, value)| value.values()).sum(),
        }
    }
}

/// Parses the one document of `text`. Doubled keys go to `findings`; the first one given stays.
pub(crate) fn parse(text: &str, findings: &mut Findings) -> Result<Yaml, Problem> {
    let mut reader =
        Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), values: 0, findings };
    reader.document()
}

struct Reader<'t, 'f> {
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    anchors: HashMap<usize, Yaml>,
    values: usize,
    findings: &'f mut Findings,
}

impl<'t> Reader<'t, '_> {
    fn document(&mut self) -> Result<Yaml, Problem> {
        let mut root = None;
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(problem(
                        line,
                        "a second YAML document starts here; put each topology in a file of its own",
                    ));
                }
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                other => root = Some(self.value(other, line, 0)?),
            }
        }
        Ok(root.unwrap_or(Yaml { line: 1, value: Value::Null }))
    }

    fn next(&mut self) -> Result<(Event<'t>, usize), Problem> {
        match self.parser.next() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            Some(Err(error)) => {
                let text = format!("not YAML: {}; {}", error.info(), remedy(error.info()));
                Err(problem(error.marker().line(), &text))
            }
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    fn value(&mut self, event: Event<'t>, line: usize, depth: usize) -> Result<Yaml, Problem> {
        self.values += 1;
        if depth > MAX_DEPTH || self.values > MAX_VALUES {
            return Err(problem(
                line,
                "the file nests or repeats too much to be a topology; make it smaller",
            ));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (scalar(&text, style), anchor),
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd | Event::StreamEnd, _) => break,
                        (item, line) => items.push(self.value(item, line, depth + 1)?),
                    }
                }
                (Value::Seq(items), anchor)
            }
            Event::MappingStart(anchor, _) => (self.mapping(depth)?, anchor),
            Event::Alias(id) => {
                let Some(named) = self.anchors.get(&id) else {
                    return Err(problem(
                        line,
                        "this alias names no anchor above it; define it with & above this line",
                    ));
                };
                self.values += named.values();
                // The line of the use, not of the anchor: that is where the reader must look.
                return Ok(Yaml { line, value: named.value.clone() });
            }
            _ => return Err(problem(line, "not YAML: a value is missing here; add one")),
        };
        let yaml = Yaml { line, value };
        if anchor > 0 {
            self.anchors.insert(anchor, yaml.clone());
        }
        Ok(yaml)
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut entries: Vec<(Key, Yaml)> = Vec::new();
        let mut merged: Vec<(Key, Yaml)> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                break;
            }
            let key = self.value(event, line, depth + 1)?;
            let (event, value_line) = self.next()?;
            let value = self.value(event, value_line, depth + 1)?;
            let text = match key.value {
                Value::Scalar(text) => text,
                Value::Null => String::new(),
                Value::Seq(_) | Value::Map(_) => {
                    self.findings.refuse(line, "a key must be a text; quote it");
                    continue;
                }
            };
            if text == "<<" {
                merge(value, &mut merged)?;
            } else if let Some((first, _)) = entries.iter().find(|(known, _)| known.text == text) {
                let first = first.line;
                self.findings.refuse(
                    line,
                    format!("\"{text}\" is given twice, first in line {first}; keep one of them"),
                );
            } else {
                entries.push((Key { line, text }, value));
            }
        }
        for (key, value) in merged {
            if !entries.iter().any(|(known, _)| known.text == key.text) {
                entries.push((key, value));
            }
        }
        Ok(Value::Map(entries))
    }
}

/// `<<`: a mapping or a list of mappings, whose keys count where the mapping itself has none.
fn merge(value: Yaml, merged: &mut Vec<(Key, Yaml)>) -> Result<(), Problem> {
    match value.value {
        Value::Map(entries) => merged.extend(entries),
        Value::Seq(items) => items.into_iter().try_for_each(|item| merge(item, merged))?,
        Value::Null | Value::Scalar(_) => {
            return Err(problem(
                value.line,
                "\"<<\" takes a mapping; name one with an anchor, such as *base",
            ));
        }
    }
    Ok(())
}

/// What people do about the parser's more common complaints.
fn remedy(complaint: &str) -> &'static str {
    const REMEDIES: [(&str, &str); 11] = [
        ("unprintable character", "remove it"),
        ("tab", "indent with spaces"),
        (
            "mapping values are not allowed",
            "put a space after a key's colon, and quote a text with a colon in it",
        ),
        ("unknown anchor", "define it with & above this line"),
        ("end of stream", "close the quote"),
        ("quoted scalar", "close the quote, and double a backslash inside double quotes"),
        ("did not find expected ',' or '}'", "close the brace, and quote a text with a colon or comma in it"),
        ("expected ',' or ']'", "close the bracket, and quote a text with a colon or comma in it"),
        ("recursion limit", "nest less deep"),
        ("simple key", "put a colon and a space after the key"),
        ("plain scalar cannot start", "quote it"),
    ];
    let found = REMEDIES.iter().find(|(part, _)| complaint.contains(part));
    found.map_or("check quotes, brackets and the indentation here and above", |(_, remedy)| remedy)
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" if matches!(style, ScalarStyle::Plain) => Value::Null,
        text => Value::Scalar(text.to_owned()),
    }
}

fn problem(line: usize, text: &str) -> Problem {
    Problem { line, text: text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Result<Yaml, Problem>, Vec<Problem>) {
        let mut findings = Findings::default();
        let yaml = parse(text, &mut findings);
        (yaml, findings.problems)
    }

    #[test]
    fn scalars_keep_their_spelling_and_their_line() {
        let (yaml, problems) = read("a: 010\nb: yes\nc:\nd: \"\"\n");
        assert_eq!(problems, []);
        let Value::Map(entries) = yaml.unwrap().value else { panic!("a mapping") };
        let seen: Vec<_> = entries.iter().map(|(key, value)| (key.line, &value.value)).collect();
        let text = |text: &str| Value::Scalar(text.to_owned());
        assert_eq!(seen, [(1, &text("010")), (2, &text("yes")), (3, &Value::Null), (4, &text(""))]);
    }

    #[test]
    fn anchors_and_merge_keys_are_resolved() {
        let (yaml, problems) = read("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\n");
        assert_eq!(problems, []);
        let Value::Map(entries) = yaml.unwrap().value else { panic!("a mapping") };
        let Value::Map(y) = &entries[1].1.value else { panic!("a mapping") };
        let y: Vec<_> = y.iter().map(|(key, value)| (key.text.as_str(), value.value.clone())).collect();
        assert_eq!(y, [("b", Value::Scalar("3".into())), ("a", Value::Scalar("1".into()))]);
    }

    #[test]
    fn a_doubled_key_names_both_lines() {
        let (_, problems) = read("a: 1\nb: 2\na: 3\n");
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].line, 3);
        assert!(problems[0].text.contains("first in line 1"), "{}", problems[0].text);
    }

    #[test]
    fn aliases_that_multiply_are_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let below = format!("*a{}", level - 1);
            text += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 10].join(", "));
        }
        assert!(read(&text).0.unwrap_err().text.contains("too much"));
    }

    #[test]
    fn broken_yaml_names_its_line() {
        assert_eq!(read("a: 1\nb: [1, 2\nc: 3\n").0.unwrap_err().line, 3);
        assert!(read("- a\n---\n- b\n").0.unwrap_err().text.contains("second YAML document"));
    }
}

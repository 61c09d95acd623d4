//! XML by elements: what pictures and JUnit files are written with.
//!
//! In: names, attributes and text. Out: well-formed XML 1.0 (W3C, section 2.2 for the characters), one
//! element a line. Names are constants of ours and not checked.

use std::fmt::{self, Display, Write as _};

/// One element, its attributes in the order they were given.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Node>,
}

#[derive(Debug, Clone)]
enum Node {
    Element(Element),
    Text(String),
}

impl Element {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, attributes: Vec::new(), children: Vec::new() }
    }

    /// With an attribute; the value is escaped.
    pub(crate) fn with(mut self, name: &'static str, value: impl Display) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// With an attribute that is a length in pixels, to a tenth.
    pub(crate) fn at(self, name: &'static str, pixels: f64) -> Self {
        let rounded = (pixels * 10.0).round() / 10.0;
        // Negative zero would be written with its sign.
        self.with(name, if rounded == 0.0 { 0.0 } else { rounded })
    }

    /// With text in it; escaped.
    pub(crate) fn text(mut self, text: impl Into<String>) -> Self {
        self.children.push(Node::Text(text.into()));
        self
    }

    /// With another element in it.
    pub(crate) fn child(mut self, child: Element) -> Self {
        self.push(child);
        self
    }

    /// With other elements in it.
    pub(crate) fn children(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.children.extend(children.into_iter().map(Node::Element));
        self
    }

    /// Adds an element to the end of what is in it.
    pub(crate) fn push(&mut self, child: Element) {
        self.children.push(Node::Element(child));
    }

    fn write(&self, out: &mut String, depth: usize) {
        let indent = "  ".repeat(depth);
        out.push_str(&indent);
        out.push('<');
        out.push_str(self.name);
        for (name, value) in &self.attributes {
            write!(out, " {name}=\"{}\"", escape(value, Place::Attribute))
                .expect("a string takes everything");
        }
        if self.children.is_empty() {
            out.push_str("/>\n");
            return;
        }
        out.push('>');
        let mut broken = false;
        for child in &self.children {
            match child {
                Node::Text(text) => out.push_str(&escape(text, Place::Text)),
                Node::Element(element) => {
                    if !broken {
                        out.push('\n');
                        broken = true;
                    }
                    element.write(out, depth + 1);
                }
            }
        }
        if broken {
            out.push_str(&indent);
        }
        writeln!(out, "</{}>", self.name).expect("a string takes everything");
    }
}

/// The whole document, declaration included.
impl Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        self.write(&mut out, 0);
        f.write_str(&out)
    }
}

/// Where text stands: a parser turns the line breaks of an attribute into spaces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Text,
    Attribute,
}

/// `text` with what XML gives a meaning written as entities. Characters that XML 1.0 has no way to write,
/// such as the escape that begins a terminal's colours, become U+FFFD.
fn escape(text: &str, place: Place) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' if place == Place::Attribute => out.push_str("&#10;"),
            '\t' if place == Place::Attribute => out.push_str("&#9;"),
            '\n' | '\t' => out.push(c),
            '\r' => out.push_str("&#13;"),
            '\u{0}'..' ' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_gives_a_meaning_is_escaped() {
        let text = "a<b> & \"c\"\n\x1b[31m";
        assert_eq!(escape(text, Place::Attribute), "a&lt;b&gt; &amp; &quot;c&quot;&#10;\u{fffd}[31m");
        assert_eq!(escape(text, Place::Text), "a&lt;b&gt; &amp; &quot;c&quot;\n\u{fffd}[31m");
    }

    #[test]
    fn elements_are_written_a_line_each() {
        let text = Element::new("text").at("x", 1.25).at("y", -0.01).text("a & b");
        let svg = Element::new("svg").with("id", "a\"b").child(text).child(Element::new("g"));
        let lines = "<svg id=\"a&quot;b\">\n  <text x=\"1.3\" y=\"0\">a &amp; b</text>\n  <g/>\n</svg>\n";
        assert_eq!(svg.to_string(), format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{lines}"));
    }
}

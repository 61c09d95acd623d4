//! SVG pictures: shapes and text in the few colours that all pictures of labs share.
//!
//! Plain attributes and no style sheet, script or foreign font, so that a picture looks the same in a
//! browser, in a README and converted to PNG. Lengths are pixels.

use crate::xml::Element;

pub(crate) const INK: &str = "#1e293b";
pub(crate) const MUTED: &str = "#64748b";
pub(crate) const LINE: &str = "#94a3b8";
pub(crate) const GRID: &str = "#e2e8f0";
pub(crate) const PAPER: &str = "#ffffff";
pub(crate) const BLUE: &str = "#60a5fa";
pub(crate) const GREEN: &str = "#15803d";
pub(crate) const RED: &str = "#dc2626";
pub(crate) const AMBER: &str = "#b45309";
pub(crate) const PALE_BLUE: &str = "#dbeafe";
pub(crate) const PALE_GREEN: &str = "#bbf7d0";
pub(crate) const PALE_RED: &str = "#fecaca";
pub(crate) const PALE_AMBER: &str = "#fde68a";
pub(crate) const PALE_GREY: &str = "#f1f5f9";

const FONT: &str = "'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif";

/// Where a text is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture of this size on white paper, with a title for those who cannot see it.
pub(crate) fn picture(width: f64, height: f64, title: &str) -> Element {
    Element::new("svg")
        .with("xmlns", "http://www.w3.org/2000/svg")
        .at("width", width)
        .at("height", height)
        .with("viewBox", format!("0 0 {width:.0} {height:.0}"))
        .with("font-family", FONT)
        .with("role", "img")
        .child(Element::new("title").text(title))
        .child(rect(0.0, 0.0, width, height, PAPER))
}

pub(crate) fn rect(x: f64, y: f64, width: f64, height: f64, fill: &str) -> Element {
    let rect = Element::new("rect").at("x", x).at("y", y);
    rect.at("width", width.max(0.0)).at("height", height.max(0.0)).with("fill", fill)
}

pub(crate) fn line(from: (f64, f64), to: (f64, f64), stroke: &str, width: f64) -> Element {
    let line = Element::new("line").at("x1", from.0).at("y1", from.1).at("x2", to.0).at("y2", to.1);
    line.with("stroke", stroke).at("stroke-width", width)
}

/// Text on one line; `at` is the anchor on its baseline.
pub(crate) fn text(at: (f64, f64), size: f64, anchor: Anchor, fill: &str, words: &str) -> Element {
    let text = Element::new("text").at("x", at.0).at("y", at.1).at("font-size", size).with("fill", fill);
    let text = match anchor {
        Anchor::Start => text,
        Anchor::Middle => text.with("text-anchor", "middle"),
        Anchor::End => text.with("text-anchor", "end"),
    };
    text.text(words)
}

pub(crate) fn bold(text: Element) -> Element {
    text.with("font-weight", "600")
}

/// How wide a text may be, at most: reckoned for DejaVu Sans, the widest of the fonts.
pub(crate) fn text_width(words: &str, size: f64) -> f64 {
    let ems = |c: char| match c {
        'i' | 'l' | 'j' | '.' | ',' | ':' | ';' | '|' | '\'' | ' ' | '/' | 'I' | '!' => 0.36,
        'f' | 't' | 'r' | '-' | '(' | ')' | '[' | ']' => 0.42,
        'm' | 'w' | 'W' | 'M' | '%' | '@' => 0.98,
        'A'..='Z' => 0.72,
        c if c.is_ascii() => 0.64,
        _ => 1.0,
    };
    words.chars().map(ems).sum::<f64>() * size
}

/// `words`, shortened in the middle if need be so that they fit in `width`: both ends of a name matter.
pub(crate) fn fit(words: &str, size: f64, width: f64) -> String {
    if text_width(words, size) <= width {
        return words.to_owned();
    }
    let chars: Vec<char> = words.chars().collect();
    for kept in (0..chars.len()).rev() {
        let (head, tail) = (kept.div_ceil(2), kept / 2);
        let short: String = chars[..head].iter().chain(&['…']).chain(&chars[chars.len() - tail..]).collect();
        if text_width(&short, size) <= width {
            return short;
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_does_not_fit_keeps_both_its_ends() {
        assert_eq!(fit("node1 eth0", 10.0, 100.0), "node1 eth0");
        let short = fit("a-node-with-a-very-long-name fd00:244:1::/64", 10.0, 120.0);
        assert!(short.starts_with("a-node") && short.ends_with("::/64"), "{short}");
        assert!(text_width(&short, 10.0) <= 120.0);
        assert_eq!(fit("anything", 10.0, 1.0), "");
    }
}

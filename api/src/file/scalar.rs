//! What a YAML scalar means, and what older readers take it for.
//!
//! Scalars are read as YAML 1.2's core schema does (section 10.3.2). YAML 1.1 readers, kubectl's among them,
//! read some plain ones as something else: [`Scalar::trap`] names those.

/// A scalar as written.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Not quoted, not a block, so that its form decides its type.
    pub(crate) plain: bool,
}

/// What a scalar means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Meaning<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// A number that is no whole number of 64 bits.
    Decimal,
    Text(&'a str),
}

impl Scalar {
    /// The type a YAML 1.2 reader gives it.
    pub(crate) fn meaning(&self) -> Meaning<'_> {
        if !self.plain {
            return Meaning::Text(&self.text);
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
            "true" | "True" | "TRUE" => Meaning::Bool(true),
            "false" | "False" | "FALSE" => Meaning::Bool(false),
            text => {
                if let Some(number) = whole_number(text) {
                    Meaning::Int(number)
                } else if is_decimal(text) {
                    Meaning::Decimal
                } else {
                    Meaning::Text(text)
                }
            }
        }
    }

    /// What a YAML 1.1 reader takes this plain scalar for, where that is not what it looks like.
    pub(crate) fn trap(&self) -> Option<&'static str> {
        if !self.plain {
            return None;
        }
        let text = self.text.as_str();
        let lower = text.to_ascii_lowercase();
        if matches!(lower.as_str(), "y" | "n" | "yes" | "no" | "on" | "off") {
            return Some("a boolean");
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if digits.len() > 1
            && digits.starts_with('0')
            && digits.bytes().all(|b| b.is_ascii_digit() || b == b'_')
        {
            return Some("an octal number");
        }
        if ["0b", "0o", "0x"].iter().any(|prefix| digits.starts_with(prefix))
            && digits.len() > 2
            && digits.bytes().skip(2).all(|b| b.is_ascii_hexdigit() || b == b'_')
        {
            return Some("a number");
        }
        if digits.contains('_')
            && digits.starts_with(|c: char| c.is_ascii_digit())
            && digits.bytes().all(|b| b.is_ascii_digit() || b == b'_' || b == b'.')
        {
            return Some("a number");
        }
        is_sexagesimal(digits).then_some("a number of base 60")
    }
}

fn whole_number(text: &str) -> Option<i64> {
    if let Some(octal) = text.strip_prefix("0o") {
        return i64::from_str_radix(octal, 8).ok().filter(|_| !octal.starts_with(['+', '-']));
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with(['+', '-']));
    }
    text.parse().ok()
}

/// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`, infinities and NaN.
fn is_decimal(text: &str) -> bool {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(body, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    body.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && body.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'))
        && body.parse::<f64>().is_ok()
}

/// `[1-9][0-9_]*(:[0-5]?[0-9])+`
fn is_sexagesimal(digits: &str) -> bool {
    let mut parts = digits.split(':');
    let first = parts.next().unwrap_or_default();
    let mut rest = 0;
    for part in parts {
        let short = part.len() == 1 || (part.len() == 2 && part.starts_with(|c| ('0'..='5').contains(&c)));
        if !short || !part.bytes().all(|b| b.is_ascii_digit()) {
            return false;
        }
        rest += 1;
    }
    rest > 0
        && first.starts_with(|c| ('1'..='9').contains(&c))
        && first.bytes().all(|b| b.is_ascii_digit() || b == b'_')
}

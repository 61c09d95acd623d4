//! What an API server checks by itself: rules in CEL on the resource types, in the words of `build`.
//!
//! A rule sees one object at a time. `build` stays the judge: it checks the same again, and what one object cannot
//! show. Text of messages is the same in both, which `api/tests/one_object.rs` compares; the path stands before it
//! (`spec.timers.hold: Invalid value: "2s": 2s is not allowed; ...`). Rules of what a single value may be are in
//! [`values`], those between the fields of an object in [`objects`].
//! Rules that read lists need the lists' limits in the schema, by which an API server bounds their cost.

pub(crate) mod objects;
pub(crate) mod values;

use serde_json::{Value, json};

/// One rule: what must hold, and what is said when it does not.
pub(crate) struct Rule {
    holds: String,
    says: Option<String>,
    message: &'static str,
    field: Option<&'static str>,
    reason: Option<&'static str>,
}

impl Rule {
    /// `holds`: CEL of what must be true. `message`: what is said when it is not.
    pub(crate) fn new(holds: impl Into<String>, message: &'static str) -> Self {
        Self { holds: holds.into(), says: None, message, field: None, reason: None }
    }

    /// CEL of a message with the value in it. The fixed one is then said only where this cannot be: an API server
    /// takes no line breaks in a message.
    pub(crate) fn saying(self, expression: impl Into<String>) -> Self {
        Self { says: Some(expression.into()), ..self }
    }

    /// The field below this one that is wrong, `.ttl.multihop`.
    pub(crate) fn at(self, field: &'static str) -> Self {
        Self { field: Some(field), ..self }
    }

    /// The field must be given.
    pub(crate) fn required(self) -> Self {
        Self { reason: Some("FieldValueRequired"), ..self }
    }

    /// The field has no place there, whatever its value.
    pub(crate) fn forbidden(self) -> Self {
        Self { reason: Some("FieldValueForbidden"), ..self }
    }
}

impl From<Rule> for Value {
    fn from(rule: Rule) -> Self {
        let mut value = json!({ "rule": rule.holds, "message": rule.message });
        let others =
            [("messageExpression", rule.says.as_deref()), ("fieldPath", rule.field), ("reason", rule.reason)];
        for (name, given) in others {
            if let Some(given) = given {
                value[name] = json!(given);
            }
        }
        value
    }
}

/// The value of `x-kubernetes-validations`.
pub(crate) fn validations(rules: impl IntoIterator<Item = Rule>) -> Value {
    rules.into_iter().map(Value::from).collect()
}

/// CEL of a text as a message shows it, never nothing.
fn shown(text: &str) -> String {
    format!("({text} == '' ? '\"\"' : {text})")
}

/// CEL of a number, address or prefix as text.
///
/// An API server bounds the cost of a message by the length of its parts. It knows none of what `string()` makes, and
/// takes it for endless; an entry of a list whose entries it knows nothing about counts as long as `self`.
fn text_of(value: &str) -> String {
    format!("(true ? [string({value})] : ''.split(''))[0]")
}

/// CEL of `holds`, asked only when `applies`, if that is given.
fn when(applies: Option<&str>, holds: &str) -> String {
    applies.map_or_else(|| holds.to_owned(), |applies| format!("!({applies}) || {holds}"))
}

/// CEL of a list of texts.
fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(|text| format!("'{text}'")).collect();
    format!("[{}]", quoted.join(", "))
}

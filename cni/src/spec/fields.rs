//! Values of a JSON object by key: every problem names key and value.
//!
//! `null` is as good as absent: that is how Go programs write an empty list or map.

use serde_json::{Map, Value};

use super::{CniError, Code};

/// Longest piece of a value that an error quotes, in characters.
const QUOTED_CHARACTERS: usize = 120;

/// An object of the configuration and where it stands in it.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    /// Empty at the top, else `runtimeConfig.` and the like.
    place: String,
    /// Whether keys are compared without regard to case, as Go's decoder does.
    any_case: bool,
}

impl<'a> Fields<'a> {
    /// The object at the top.
    #[must_use]
    pub fn new(object: &'a Map<String, Value>) -> Self {
        Self { object, place: String::new(), any_case: false }
    }

    /// The same object, with keys compared without regard to case. Runtimes written in Go write `HostPort` where the
    /// conventions write `hostPort`, and the reference plugins, written in Go as well, do not see the difference.
    #[must_use]
    pub fn any_case(mut self) -> Self {
        self.any_case = true;
        self
    }

    /// What stands behind `key`, if it is there and not `null`.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        let found = self.object.get(key).or_else(|| {
            let mut others = self.object.iter().filter(|_| self.any_case);
            others.find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
        });
        found.filter(|value| !value.is_null())
    }

    /// Keys and values as they stand.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        self.object.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Text.
    ///
    /// # Errors
    /// Code 6 when it is something else.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, CniError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong_type(key, value, "text"))
    }

    /// Text; the empty text counts as absent.
    ///
    /// # Errors
    /// Code 6 when it is something else.
    pub fn some_text(&self, key: &str) -> Result<Option<&'a str>, CniError> {
        Ok(self.text(key)?.filter(|text| !text.is_empty()))
    }

    /// A whole number from `least` to `most`.
    ///
    /// # Errors
    /// Code 6 when it is not a number, 7 when it is outside.
    pub fn number(&self, key: &str, least: u64, most: u64) -> Result<Option<u64>, CniError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        if !value.is_number() {
            return Err(self.wrong_type(key, value, "a number"));
        }
        let inside = value.as_u64().filter(|number| (least..=most).contains(number));
        let outside =
            || self.invalid(key, value.clone(), &format!("use a whole number from {least} to {most}"));
        inside.map(Some).ok_or_else(outside)
    }

    /// True or false.
    ///
    /// # Errors
    /// Code 6 when it is something else.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, CniError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.wrong_type(key, value, "true or false"))
    }

    /// A list.
    ///
    /// # Errors
    /// Code 6 when it is something else.
    pub fn list(&self, key: &str) -> Result<Option<&'a [Value]>, CniError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let list = value.as_array().ok_or_else(|| self.wrong_type(key, value, "a list"))?;
        Ok(Some(list))
    }

    /// A list of texts, each with the place it stands at; empty when absent.
    ///
    /// # Errors
    /// Code 6 when it, or one of its entries, is something else.
    pub fn texts(&self, key: &str) -> Result<Vec<(String, &'a str)>, CniError> {
        let entries = self.list(key)?.unwrap_or_default().iter().enumerate();
        entries
            .map(|(index, value)| {
                let place = format!("{key}[{index}]");
                let text = value.as_str().ok_or_else(|| self.wrong_type(&place, value, "text"))?;
                Ok((place, text))
            })
            .collect()
    }

    /// An object.
    ///
    /// # Errors
    /// Code 6 when it is something else.
    pub fn object(&self, key: &str) -> Result<Option<Self>, CniError> {
        self.value(key).map(|value| self.entry(key, value)).transpose()
    }

    /// A list of objects; empty when absent.
    ///
    /// # Errors
    /// Code 6 when it, or one of its entries, is something else.
    pub fn objects(&self, key: &str) -> Result<Vec<Self>, CniError> {
        let entries = self.list(key)?.unwrap_or_default().iter().enumerate();
        entries.map(|(index, value)| self.entry(&format!("{key}[{index}]"), value)).collect()
    }

    /// A value of this object, at `place` in it, as an object.
    ///
    /// # Errors
    /// Code 6 when it is something else.
    pub fn entry(&self, place: &str, value: &'a Value) -> Result<Self, CniError> {
        let object = value.as_object().ok_or_else(|| self.wrong_type(place, value, "an object"))?;
        Ok(Self { object, place: format!("{}{place}.", self.place), any_case: self.any_case })
    }

    /// Code 6: the value behind `key` has another type than `expected`.
    #[must_use]
    pub fn wrong_type(&self, key: &str, value: &Value, expected: &str) -> CniError {
        let msg = format!("{}{key} is {}, which is not {expected}", self.place, quoted(value));
        CniError::new(Code::Decode, msg)
    }

    /// Code 7: the value behind `key` makes no sense; `remedy` says what to do.
    #[must_use]
    pub fn invalid(&self, key: &str, value: impl Into<Value>, remedy: &str) -> CniError {
        let msg = format!("{}{key} is {}: {remedy}", self.place, quoted(&value.into()));
        CniError::new(Code::InvalidConfig, msg)
    }

    /// Code 7: `key` is needed and not there; `remedy` says what to do.
    #[must_use]
    pub fn missing(&self, key: &str, remedy: &str) -> CniError {
        CniError::new(Code::InvalidConfig, format!("{}{key} is missing: {remedy}", self.place))
    }
}

/// A value as JSON, cut where it gets long.
#[must_use]
pub fn quoted(value: &Value) -> String {
    let mut text = match value {
        // Whole lists and objects are not written out to be cut: they may be megabytes.
        Value::Array(entries) if entries.len() > 8 => return format!("a list of {} entries", entries.len()),
        Value::Object(entries) if entries.len() > 8 => return format!("an object of {} keys", entries.len()),
        value => value.to_string(),
    };
    if let Some((end, _)) = text.char_indices().nth(QUOTED_CHARACTERS) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_name_key_and_value() {
        let value = serde_json::json!({
            "mtu": "1500", "big": 70000, "list": ["a", 5], "inner": {"n": -1}, "none": null,
            "long": "x".repeat(1000),
        });
        let fields = Fields::new(value.as_object().unwrap());
        let message = |outcome: Result<(), CniError>| {
            let error = outcome.unwrap_err();
            (error.code, error.msg)
        };
        let decode = |text: &str| (Code::Decode, text.to_owned());
        let invalid = |text: &str| (Code::InvalidConfig, text.to_owned());
        let number = |key| fields.number(key, 68, 65535).map(drop);
        assert_eq!(message(number("mtu")), decode("mtu is \"1500\", which is not a number"));
        assert_eq!(message(number("big")), invalid("big is 70000: use a whole number from 68 to 65535"));
        assert_eq!(message(fields.texts("list").map(drop)), decode("list[1] is 5, which is not text"));
        let inner = fields.object("inner").unwrap().unwrap();
        let expected = invalid("inner.n is -1: use a whole number from 0 to 9");
        assert_eq!(message(inner.number("n", 0, 9).map(drop)), expected);
        assert_eq!(fields.text("none"), Ok(None));
        let long = fields.number("long", 0, 1).unwrap_err().msg;
        assert!(long.len() < 200 && long.contains("x..."), "{long}");
    }

    #[test]
    fn keys_that_go_programs_capitalise_are_found_where_asked() {
        let value = serde_json::json!({"outer": {"HostPort": 80}});
        let fields = Fields::new(value.as_object().unwrap());
        assert_eq!(fields.object("outer").unwrap().unwrap().number("hostPort", 1, 99), Ok(None));
        let outer = fields.any_case().object("outer").unwrap().unwrap();
        assert_eq!(outer.number("hostPort", 1, 99), Ok(Some(80)));
    }
}

//! JSON Schema (draft 2020-12) of `expect.yaml`, made from the reader's own table of keys.

use serde_json::{Map, Value, json};

use super::keys::{FILE, Section, Takes};

/// The schema as text.
#[must_use]
pub fn text() -> String {
    let mut definitions = Map::new();
    define(&FILE, &mut definitions);
    let root = definitions.remove(FILE.name);
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".to_owned(), "expect.yaml: the story of a towpath lab".into());
    if let Some(Value::Object(root)) = root {
        schema.extend(root);
    }
    schema.insert("$defs".to_owned(), definitions.into());
    format!("{:#}", Value::Object(schema))
}

/// Describes a section and all those its keys take.
fn define(section: &Section, definitions: &mut Map<String, Value>) {
    if definitions.contains_key(section.name) {
        return;
    }
    definitions.insert(section.name.to_owned(), Value::Null);
    let mut properties = Map::new();
    for key in section.keys {
        let mut taken = takes(&key.takes, definitions);
        if let Value::Object(taken) = &mut taken {
            taken.insert("description".to_owned(), key.doc.into());
        }
        properties.insert(key.name.to_owned(), taken);
    }
    let required: Vec<&str> = section.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut described = json!({
        "type": "object",
        "description": section.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        described["required"] = required.into();
    }
    if section.one {
        described["minProperties"] = 1.into();
        described["maxProperties"] = 1.into();
    }
    definitions.insert(section.name.to_owned(), described);
}

fn takes(takes_: &Takes, definitions: &mut Map<String, Value>) -> Value {
    match takes_ {
        Takes::Text | Takes::Node | Takes::Class => json!({"type": "string"}),
        Takes::Place => json!({"type": "string", "pattern": "^[^/]+(/[^/]+)?$"}),
        Takes::End => json!({"type": "string", "pattern": "^[^:]+:.+$"}),
        Takes::Address => json!({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
        Takes::Prefix => json!({"type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]+$"}),
        Takes::Time => json!({
            "anyOf": [{"type": "string", "pattern": "^([0-9]+(\\.[0-9]+)?(ms|s|m)|0)$"}, {"const": 0}]
        }),
        Takes::Count => json!({"type": "integer", "minimum": 0}),
        Takes::Percent => json!({"type": "number", "exclusiveMinimum": 0, "maximum": 100}),
        Takes::Words(words) => json!({"enum": words}),
        Takes::Section(section) => {
            define(section, definitions);
            json!({"$ref": format!("#/$defs/{}", section.name)})
        }
        Takes::List(item) => json!({"type": "array", "items": takes(item, definitions)}),
        Takes::Named(value) => json!({"type": "object", "additionalProperties": takes(value, definitions)}),
        Takes::Either(choices) => {
            let choices: Vec<Value> = choices.iter().map(|choice| takes(choice, definitions)).collect();
            json!({"anyOf": choices})
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_schema_in_the_docs_is_the_one_of_the_reader() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/expect.schema.json");
        let written = std::fs::read_to_string(&file).unwrap_or_default();
        let ours = super::text() + "\n";
        assert!(
            written == ours,
            "docs/expect.schema.json is not what the reader accepts; write it anew: towpath-lab test --schema > docs/expect.schema.json"
        );
    }
}

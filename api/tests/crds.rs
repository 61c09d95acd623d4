//! deploy/crds.yaml is what the types say, and an API server takes it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

#[test]
fn the_checked_in_crds_are_the_generated_ones() {
    let generated = api::crd::render().expect("generates");
    // kustomize and helm read no file outside of their own folder, so both have a copy.
    for file in ["deploy/crds.yaml", "deploy/base/crds.yaml", "deploy/helm/towpath/files/crds.yaml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
        let checked_in = fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(checked_in == generated, "{file} is stale; run: make crds");
    }
}

#[test]
fn every_kind_has_its_names_columns_and_a_status_of_its_own() {
    let expected = [
        ("NetworkConfig", "networkconfigs", "netcfg"),
        ("BGPPeer", "bgppeers", "bgpp"),
        ("Advertisement", "advertisements", "adv"),
        ("IPPool", "ippools", "ipp"),
        ("NodeNetwork", "nodenetworks", "nn"),
    ];
    let definitions = api::crd::definitions();
    assert_eq!(definitions.len(), expected.len());
    for (definition, (kind, plural, short)) in definitions.iter().zip(expected) {
        let at = |path: &str| definition.pointer(path).unwrap_or_else(|| panic!("{kind} has no {path}"));
        assert_eq!(at("/metadata/name"), &Value::from(format!("{plural}.towpath.io")));
        assert_eq!(at("/spec/group"), "towpath.io");
        assert_eq!(at("/spec/scope"), "Cluster");
        assert_eq!(at("/spec/names/kind"), kind);
        assert_eq!(at("/spec/names/shortNames/0"), short);
        assert_eq!(at("/spec/names/categories/0"), "towpath");
        assert_eq!(at("/spec/versions/0/name"), "v1alpha1");
        assert!(at("/spec/versions/0/subresources/status").is_object());
        assert!(
            at("/spec/versions/0/additionalPrinterColumns")
                .as_array()
                .is_some_and(|columns| columns.len() > 1)
        );
    }
}

/// The rules of structural schemas, and of the dialect of JSON schema that Kubernetes knows.
#[test]
fn every_schema_is_structural() {
    for definition in api::crd::definitions() {
        let kind = definition.pointer("/spec/names/kind").and_then(Value::as_str).unwrap();
        let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap();
        assert_structural(schema, kind);
    }
}

fn assert_structural(schema: &Value, path: &str) {
    let known: BTreeSet<&str> = [
        "description",
        "type",
        "properties",
        "required",
        "items",
        "additionalProperties",
        "enum",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
        "maxLength",
        "maxProperties",
        "format",
        "title",
        "x-kubernetes-validations",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
    ]
    .into();
    let fields = schema.as_object().unwrap_or_else(|| panic!("{path} is no object"));
    for field in fields.keys() {
        // $ref, anyOf, oneOf, const, nullable, default and the rest have no place in it.
        assert!(known.contains(field.as_str()), "{path} has {field}");
    }
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        assert!(!fields.contains_key("type"), "{path} is a number or text, and has a type");
        return;
    }
    if let Some(format) = schema.get("format").and_then(Value::as_str) {
        assert!(["int32", "int64", "date-time"].contains(&format), "{path} has the format {format}");
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("object") => {
            assert!(
                !(fields.contains_key("properties") && fields.contains_key("additionalProperties")),
                "{path} has both properties and additionalProperties"
            );
            for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                assert_structural(inner, &format!("{path}.{name}"));
            }
            if let Some(inner) = schema.get("additionalProperties") {
                assert_structural(inner, &format!("{path}.*"));
            }
        }
        Some("array") => {
            let items = schema.get("items").unwrap_or_else(|| panic!("{path} has no items"));
            assert_structural(items, &format!("{path}[]"));
            assert_list(schema, items, path);
        }
        Some("string" | "integer" | "boolean") => {}
        other => panic!("{path} has the type {other:?}"),
    }
}

/// Lists say how they are merged; the keys of map lists are always there.
fn assert_list(schema: &Value, items: &Value, path: &str) {
    match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("atomic") => {}
        Some("set") => assert_eq!(items.get("type").and_then(Value::as_str), Some("string"), "{path}"),
        Some("map") => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array).expect("has keys");
            let required = items.get("required").and_then(Value::as_array).expect("needs fields");
            assert!(keys.iter().all(|key| required.contains(key)), "{path}: a key may be missing");
        }
        other => panic!("{path} has the list type {other:?}"),
    }
}

#[test]
fn every_rule_has_a_message_of_its_own() {
    let mut rules = 0;
    for definition in api::crd::definitions() {
        collect(definition, &mut |rule| {
            rules += 1;
            let message = rule.get("message").and_then(Value::as_str).unwrap();
            // Said where the expression cannot be; the path of the field stands before it.
            assert!(!message.is_empty() && !message.contains('\n') && message.len() < 100, "{message}");
        });
    }
    assert!(rules >= 90, "only {rules} rules are left");
}

/// `kubectl explain` shows them.
#[test]
fn every_field_is_described() {
    for definition in api::crd::definitions() {
        let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap();
        let kind = definition.pointer("/spec/names/kind").and_then(Value::as_str).unwrap();
        assert_described(schema, kind);
    }
}

fn assert_described(schema: &Value, path: &str) {
    for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        // What Kubernetes says of metadata takes the place of ours.
        if name == "metadata" {
            continue;
        }
        let path = format!("{path}.{name}");
        let text = inner.get("description").and_then(Value::as_str).unwrap_or_default();
        assert!(text.contains(['.', ':']) && text.len() > 8, "{path} is described as {text:?}");
        if let Some(words) = inner.get("enum").and_then(Value::as_array) {
            for word in words.iter().filter_map(Value::as_str) {
                assert!(text.contains(&format!("- `{word}`: ")), "{path} does not say what {word} means");
            }
        }
        assert_described(inner, &path);
    }
    if let Some(items) = schema.get("items") {
        assert_described(items, &format!("{path}[]"));
    }
}

#[test]
fn the_description_of_a_field_wins_over_that_of_its_type() {
    let peer =
        api::crd::definitions().iter().find(|definition| definition["spec"]["names"]["kind"] == "BGPPeer");
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let text = peer.and_then(|peer| peer.pointer(&format!("{spec}/nextHop/description")));
    let text = text.and_then(Value::as_str).unwrap();
    assert!(text.starts_with("Next hop we advertise. Default Auto: self on eBGP, kept on iBGP."), "{text}");
}

fn collect(value: &Value, visit: &mut impl FnMut(&Value)) {
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                match (name.as_str(), inner) {
                    ("x-kubernetes-validations", Value::Array(rules)) => rules.iter().for_each(&mut *visit),
                    _ => collect(inner, visit),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, visit)),
        _ => {}
    }
}

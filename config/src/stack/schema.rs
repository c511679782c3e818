//! The JSON Schema of `stack.toml`: that of the raw types, with what they cannot say: which keys of `proxy.toml` a
//! deployment sets itself, which kinds of service there are, and which options each of them has.

use serde_json::{Map, Value, json};

use super::catalogue::{CUSTOM, Catalogue, Choice, Definition, Takes};
use super::{model, raw};

/// The schema of `stack.toml` with these kinds of service.
pub(crate) fn file(catalogue: &Catalogue) -> Value {
    let mut schema = crate::schema::of::<raw::File>();
    if let Some(defs) = schema["$defs"].as_object_mut() {
        part_of_the_proxy(defs);
        services(defs, catalogue);
    }
    schema["properties"]["service"]["items"] = json!({ "$ref": "#/$defs/LoneService" });
    schema["$defs"]["Stack"]["properties"]["proxy"]["$ref"] = json!("#/$defs/StackProxy");
    schema["$defs"]["StackSite"]["properties"]["proxy"]["$ref"] = json!("#/$defs/SiteProxy");
    schema
}

/// The tables of `proxy.toml`, without what a deployment sets, under names of their own.
fn part_of_the_proxy(defs: &mut Map<String, Value>) {
    let mut without = |from: &str, to: &str, keys: &[&str], description: &str| {
        let mut table = defs.remove(from).unwrap_or_default();
        if let Some(properties) = table["properties"].as_object_mut() {
            properties.retain(|name, _| !keys.contains(&name.as_str()));
        }
        if let Some(table) = table.as_object_mut() {
            table.retain(|name, _| name != "required" && name != "title");
        }
        table["description"] = json!(description);
        defs.insert(to.to_owned(), table);
    };
    without(
        "Site",
        "SiteProxy",
        &["names", "upstream", "preset"],
        "What is added to a site's table of proxy.toml.",
    );
    without(
        "File",
        "StackProxy",
        &["state", "admin", "site"],
        "What is laid under every host's proxy.toml.",
    );
    defs["StackProxy"]["properties"]["program"] = json!({
        "type": "string",
        "title": "the path of a program",
        "description": "The program that is installed; a relative path counts from the folder of this file. Default: the one beside `sovereign`.",
    });
}

/// The kinds of service, and the options of each.
fn services(defs: &mut Map<String, Value>, catalogue: &Catalogue) {
    let custom = super::catalogue::custom();
    let mut kinds: Vec<(&str, &Definition)> = catalogue
        .iter()
        .map(|(name, definition)| (name.as_str(), definition))
        .collect();
    if !catalogue.contains_key(CUSTOM) {
        kinds.push((CUSTOM, &custom));
    }
    let names: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
    defs["Service"]["properties"]["use"]["enum"] = json!(names);
    let rules: Vec<Value> = kinds
        .iter()
        .map(|(name, definition)| rule(name, definition))
        .collect();
    defs["Service"]["allOf"] = json!(rules);
    let mut lone = defs["Service"].clone();
    lone["description"] = json!("A service that belongs to no site.");
    if let Some(properties) = lone["properties"].as_object_mut() {
        properties.remove("path");
    }
    defs.insert("LoneService".to_owned(), lone);
}

/// What a kind says of the options beside it.
fn rule(name: &str, definition: &Definition) -> Value {
    let mut required: Vec<&str> = Vec::new();
    let needed: Vec<&str> = definition
        .options
        .iter()
        .filter(|(_, choice)| choice.default.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    let options: Map<String, Value> = definition
        .options
        .iter()
        .map(|(name, choice)| (name.clone(), option(choice)))
        .collect();
    let mut table = json!({
        "type": "object",
        "description": format!("The options of {name}: {}.", definition.about),
        "properties": options,
        "additionalProperties": false,
    });
    if !needed.is_empty() {
        table["required"] = json!(needed);
        table["title"] = json!(format!("a table with {}", needed.join(", ")));
        required.push("options");
    }
    if name == CUSTOM {
        required.push("compose");
    }
    let mut then = json!({ "properties": { "options": table } });
    if !required.is_empty() {
        then["required"] = json!(required);
    }
    json!({
        "if": { "properties": { "use": { "const": name } }, "required": ["use"] },
        "then": then,
    })
}

fn option(choice: &Choice) -> Value {
    let secret = json!({ "$ref": "#/$defs/Reference" });
    let mut schema = match &choice.takes {
        Takes::Text => json!({ "anyOf": [{ "type": "string" }, secret] }),
        Takes::Secret => json!({ "anyOf": [secret], "writeOnly": true }),
        Takes::Number { least, most } => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Takes::Switch => json!({ "type": "boolean" }),
        Takes::Choice(values) => json!({ "type": "string", "enum": values }),
        Takes::List => json!({
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }],
        }),
    };
    schema["description"] = json!(choice.about);
    if let Takes::Number { most: i64::MAX, .. } = choice.takes
        && let Some(table) = schema.as_object_mut()
    {
        table.remove("maximum");
    }
    match &choice.default {
        Some(model::Value::Text(text)) => schema["default"] = json!(text),
        Some(model::Value::Number(number)) => schema["default"] = json!(number),
        Some(model::Value::Switch(switch)) => schema["default"] = json!(switch),
        Some(model::Value::List(list)) => schema["default"] = json!(list),
        Some(model::Value::Secret(_)) | None => {}
    }
    schema
}

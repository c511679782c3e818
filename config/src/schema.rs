//! The JSON Schema of the file, made from the types of `raw`. Stands alone because editors use it
//! as it is, and `shape` walks files against it.

use serde_json::{Map, Value};

use crate::raw;

/// The schema of `proxy.toml`.
pub(crate) fn file() -> Value {
    of::<raw::File>()
}

/// The schema of a preset.
pub(crate) fn preset() -> Value {
    of::<raw::Preset>()
}

/// The schema of a type of ours.
pub(crate) fn of<T: schemars::JsonSchema>() -> Value {
    let generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    without_null(&mut schema);
    schema
}

/// Takes `null` out: TOML has none, a key that is not wanted is simply not there.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(without_null),
        Value::Object(table) => {
            drop_null_type(table);
            drop_null_branch(table);
            table.values_mut().for_each(without_null);
        }
        _ => {}
    }
}

fn drop_null_type(table: &mut Map<String, Value>) {
    let Some(Value::Array(types)) = table.get_mut("type") else {
        return;
    };
    types.retain(|name| name != "null");
    if let [only] = types.as_slice() {
        let only = only.clone();
        table.insert("type".to_owned(), only);
    }
    if let Some(Value::Array(values)) = table.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
}

fn drop_null_branch(table: &mut Map<String, Value>) {
    let Some(Value::Array(branches)) = table.get_mut("anyOf") else {
        return;
    };
    branches.retain(|branch| branch.get("type").is_none_or(|name| name != "null"));
    if branches.len() == 1
        && let Some(Value::Object(only)) = branches.pop()
    {
        table.remove("anyOf");
        for (key, value) in only {
            table.entry(key).or_insert(value);
        }
    }
}

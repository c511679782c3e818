//! Where a key belongs that was written in the wrong table. Stands alone because it only looks at the schema, and
//! only makes a hint of it.

use serde_json::{Map, Value};

use super::{branches, takes_tables};

/// Where a key that was written in the wrong table belongs: in a table below this one, or else further up.
pub(super) fn home(
    root: &Value,
    name: &str,
    is_table: bool,
    known: Option<&Map<String, Value>>,
    here: &str,
) -> Option<String> {
    let below = |known, here: &str| {
        tables(root, known, here)
            .into_iter()
            .find_map(holds(root, name))
    };
    if let Some(found) = known
        .filter(|_| !here.is_empty())
        .and_then(|known| below(known, here))
    {
        return Some(found);
    }
    let properties = root.get("properties").and_then(Value::as_object)?;
    let top = at_home(root, properties, name, "").map(|home| match home {
        Home::Table(table) => format!("in a table of its own: {table}"),
        Home::Tables(table) => format!("in tables of its own: {table}"),
        Home::Value => "at the top of the file, before the first [table]".to_owned(),
    });
    top.or_else(|| below(properties, "")).or_else(|| {
        let all = tables(root, properties, "");
        let deeper = all
            .into_iter()
            .flat_map(|(properties, way, _)| tables(root, properties, &way));
        let homes: Vec<String> = deeper.filter_map(holds(root, name)).collect();
        // What is written as a table probably is one where it belongs.
        let as_table = homes
            .iter()
            .find(|home| is_table && home.contains(&format!(".{name}]")));
        as_table.or(homes.first()).cloned()
    })
}

/// How a key is written that a table has.
enum Home {
    Table(String),
    Tables(String),
    Value,
}

fn at_home(root: &Value, properties: &Map<String, Value>, name: &str, way: &str) -> Option<Home> {
    let branch = *branches(root, properties.get(name)?).first()?;
    let dot = if way.is_empty() { "" } else { "." };
    Some(if branch["type"] == "object" {
        Home::Table(format!("[{way}{dot}{name}]"))
    } else if takes_tables(root, branch) {
        Home::Tables(format!("[[{way}{dot}{name}]]"))
    } else {
        Home::Value
    })
}

/// A table: its keys, the way to it, and its header.
type Table<'s> = (&'s Map<String, Value>, String, String);

/// The tables that are directly below one.
fn tables<'s>(root: &'s Value, properties: &'s Map<String, Value>, way: &str) -> Vec<Table<'s>> {
    let dot = if way.is_empty() { "" } else { "." };
    let one = |(name, schema): (&String, &'s Value)| -> Option<Table<'s>> {
        let branch = *branches(root, schema)
            .iter()
            .find(|branch| branch["type"] == "object" || branch["type"] == "array")?;
        let way = format!("{way}{dot}{name}");
        let (inner, header) = match branch.get("items") {
            Some(items) => (*branches(root, items).first()?, format!("[[{way}]]")),
            None => (branch, format!("[{way}]")),
        };
        Some((inner.get("properties")?.as_object()?, way, header))
    };
    properties.iter().filter_map(one).collect()
}

/// Says, of a table that holds `name`, where that is.
fn holds<'s>(root: &'s Value, name: &'s str) -> impl Fn(Table<'s>) -> Option<String> {
    move |(properties, way, header)| {
        Some(match at_home(root, properties, name, &way)? {
            Home::Table(table) | Home::Tables(table) if way.contains('.') => format!("in {table}"),
            _ => format!("in {header}"),
        })
    }
}

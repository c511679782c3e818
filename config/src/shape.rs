//! Reads TOML and holds it against the schema: syntax, unknown keys, types, bounds, missing keys.
//! Stands alone so that the checks of `check` meet only values of the right type. What is wrong is
//! noted and left out, and the rest is read on.

// Where a key belongs that is in the wrong table.
mod home;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::problem::{Key, Problems, did_you_mean, one_of, quoted};
use crate::syntax;

/// The tables of `text` that fit the schema, as the raw type it was made from. `refused` names keys that the
/// schema does not have for a reason.
pub(crate) fn read<T: DeserializeOwned + Default>(
    schema: &Value,
    text: &str,
    refused: &[Refused],
    problems: &mut Problems<'_>,
) -> T {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut walk = Walk {
        root: schema,
        refused,
        problems,
        tables: Vec::new(),
        missing: Vec::new(),
    };
    let root = Ways {
        clean: Key::root(),
        written: Key::root(),
    };
    walk.problems.place(Key::root(), Key::root(), 0);
    walk.tables.push((0, Key::root()));
    let value = walk.table(schema, table.get_ref(), &root);
    let Walk {
        tables, missing, ..
    } = walk;
    syntax::note(text, table.get_ref(), &errors, tables, problems);
    for (key, wanted) in missing {
        let table = key.parent();
        if !problems.is_incomplete(&key) && !problems.is_incomplete(&table) {
            problems.add(&key, "nothing", wanted);
        }
    }
    serde_json::from_value(value).unwrap_or_else(|error| {
        // The schema and the type come from one definition; were they ever to differ, this says so.
        problems.add(
            &Key::root(),
            format!("a file that cannot be read ({error})"),
            "a known shape",
        );
        T::default()
    })
}

/// A key that is told apart from mistakes: somebody had a reason to write it, and there is one not to take it.
pub(crate) struct Refused {
    /// The way to it, without the numbers in brackets.
    pub(crate) way: &'static str,
    /// What was found.
    pub(crate) found: &'static str,
    /// What should be there.
    pub(crate) wanted: &'static str,
    /// What to do.
    pub(crate) hint: &'static str,
}

impl Refused {
    /// A key that a later version will know.
    pub(crate) const fn later(way: &'static str, hint: &'static str) -> Self {
        Self {
            way,
            found: "a setting that is not in this version",
            wanted: "a configuration without it",
            hint,
        }
    }
}

/// Where a value is: among the values that are kept, and as written in the file.
#[derive(Clone)]
struct Ways {
    clean: Key,
    written: Key,
}

struct Walk<'a, 't> {
    root: &'a Value,
    refused: &'a [Refused],
    problems: &'a mut Problems<'t>,
    /// Where each table starts, to tell in which one a syntax error lies.
    tables: Vec<(usize, Key)>,
    /// Required keys that were not found, and what they should hold.
    missing: Vec<(Key, String)>,
}

impl Walk<'_, '_> {
    /// The value as JSON, or nothing where it had to be left out.
    fn value(
        &mut self,
        schema: &Value,
        found: &Spanned<DeValue<'_>>,
        ways: &Ways,
    ) -> Option<Value> {
        let offset = found.span().start;
        self.problems
            .place(ways.clean.clone(), ways.written.clone(), offset);
        let branches = branches(self.root, schema);
        let fitting: Vec<&Value> = branches
            .iter()
            .copied()
            .filter(|branch| fits(branch, found.get_ref()))
            .collect();
        let Some(branch) = fitting.first() else {
            return self.misfit(schema, &branches, found, ways);
        };
        match found.get_ref() {
            DeValue::String(text) => self.text(schema, &fitting, text, ways),
            DeValue::Integer(number) => {
                let number = i128::from_str_radix(number.as_str(), number.radix()).ok();
                self.number(schema, branch, number, ways)
            }
            DeValue::Boolean(flag) => Some(Value::Bool(*flag)),
            DeValue::Array(list) => Some(self.list(branch, list.iter(), ways)),
            DeValue::Table(table) => {
                self.tables.push((offset, ways.clean.clone()));
                Some(self.table(branch, table, ways))
            }
            DeValue::Float(_) | DeValue::Datetime(_) => None,
        }
    }

    fn text(
        &mut self,
        schema: &Value,
        fitting: &[&Value],
        text: &str,
        ways: &Ways,
    ) -> Option<Value> {
        let allowed: Option<Vec<&str>> = fitting
            .iter()
            .map(|branch| words(branch))
            .collect::<Option<Vec<_>>>()
            .map(|all| all.concat());
        match allowed {
            Some(allowed) if !allowed.contains(&text) => {
                let hint =
                    did_you_mean(text, allowed).map(|word| format!("did you mean {word:?}?"));
                self.leave_out(ways, quoted(text), wanted(self.root, schema), hint)
            }
            _ => Some(Value::String(text.to_owned())),
        }
    }

    fn number(
        &mut self,
        schema: &Value,
        branch: &Value,
        number: Option<i128>,
        ways: &Ways,
    ) -> Option<Value> {
        let bound = |name| branch.get(name).and_then(Value::as_i64).map(i128::from);
        let inside = number
            .and_then(|number| i64::try_from(number).ok())
            .filter(|number| {
                let number = i128::from(*number);
                bound("minimum").is_none_or(|least| number >= least)
                    && bound("maximum").is_none_or(|most| number <= most)
                    && branch
                        .get("enum")
                        .and_then(Value::as_array)
                        .is_none_or(|list| {
                            list.iter()
                                .any(|value| value.as_i64().map(i128::from) == Some(number))
                        })
            });
        match (inside, number) {
            (Some(number), _) => Some(Value::from(number)),
            (None, Some(number)) => {
                self.leave_out(ways, number.to_string(), wanted(self.root, schema), None)
            }
            (None, None) => self.leave_out(
                ways,
                "a number too large to read".to_owned(),
                wanted(self.root, schema),
                None,
            ),
        }
    }

    fn list<'v>(
        &mut self,
        schema: &Value,
        list: impl Iterator<Item = &'v Spanned<DeValue<'v>>>,
        ways: &Ways,
    ) -> Value {
        let items = schema.get("items").unwrap_or(&Value::Null);
        let mut kept = Vec::new();
        for (index, item) in list.enumerate() {
            let item_ways = Ways {
                clean: ways.clean.item(kept.len()),
                written: ways.written.item(index),
            };
            match self.value(items, item, &item_ways) {
                Some(value) => kept.push(value),
                None => self.problems.leave_out(&ways.clean),
            }
        }
        Value::Array(kept)
    }

    fn table(&mut self, schema: &Value, table: &DeTable<'_>, ways: &Ways) -> Value {
        let mut kept = Map::new();
        let known = schema.get("properties").and_then(Value::as_object);
        let narrower = narrower(schema, table);
        let others = schema
            .get("additionalProperties")
            .filter(|others| others.is_object());
        for (name, found) in table {
            let inner = Ways {
                clean: ways.clean.key(name.get_ref()),
                written: ways.written.key(name.get_ref()),
            };
            let name_here = name.get_ref().as_ref();
            let schema = narrower
                .iter()
                .find_map(|then| then.get("properties")?.get(name_here))
                .or_else(|| known?.get(name_here))
                .or(others);
            match schema {
                Some(schema) => {
                    if let Some(value) = self.value(schema, found, &inner) {
                        kept.insert(name.get_ref().to_string(), value);
                    }
                }
                None => self.unknown(name, found.get_ref().is_table(), known, &inner),
            }
        }
        let required = |schema: &&Value| schema.get("required").and_then(Value::as_array).cloned();
        let needed = std::iter::once(schema).chain(narrower.iter().copied());
        for name in needed.filter_map(|schema| required(&schema)).flatten() {
            let Some(name) = name.as_str() else { continue };
            if !table.contains_key(name) {
                let schema = narrower
                    .iter()
                    .find_map(|then| then.get("properties")?.get(name))
                    .or_else(|| known?.get(name))
                    .unwrap_or(&Value::Null);
                self.missing
                    .push((ways.clean.key(name), wanted(self.root, schema)));
            }
        }
        Value::Object(kept)
    }

    fn unknown(
        &mut self,
        name: &Spanned<DeString<'_>>,
        is_table: bool,
        known: Option<&Map<String, Value>>,
        ways: &Ways,
    ) {
        let offset = name.span().start;
        let name = name.get_ref().as_ref();
        self.problems
            .place(ways.clean.clone(), ways.written.clone(), offset);
        let way = indexless(&ways.written);
        if let Some(refused) = self.refused.iter().find(|refused| refused.way == way) {
            self.problems.leave_out(&ways.clean);
            let Refused {
                found,
                wanted,
                hint,
                ..
            } = refused;
            self.problems
                .add_with_hint(&ways.clean, *found, *wanted, *hint);
            return;
        }
        let names = || known.into_iter().flat_map(Map::keys).map(String::as_str);
        let here = indexless(&ways.written.parent()).replace("[]", "");
        let home = home::home(self.root, name, is_table, known, &here);
        let hint = match (did_you_mean(name, names()), home) {
            (Some(meant), _) => {
                // Taken for the key it was meant to be, so that this one is not called missing too.
                self.problems.leave_out(&ways.clean.parent().key(meant));
                format!("did you mean `{meant}`?")
            }
            (None, Some(home)) => format!("`{name}` belongs {home}"),
            (None, None) if names().next().is_none() => "there are no keys here".to_owned(),
            (None, None) => format!("known here: {}", names().collect::<Vec<_>>().join(", ")),
        };
        self.problems
            .add_with_hint(&ways.clean, "an unknown key", "a known one", hint);
    }

    /// No branch of the schema takes a value of this type.
    fn misfit(
        &mut self,
        schema: &Value,
        branches: &[&Value],
        found: &Spanned<DeValue<'_>>,
        ways: &Ways,
    ) -> Option<Value> {
        let takes = |name: &str| branches.iter().any(|branch| branch["type"] == name);
        let secret = schema["writeOnly"] == true
            || branches.iter().any(|branch| branch["writeOnly"] == true);
        let shown = match found.get_ref() {
            DeValue::String(text) if !secret => quoted(text),
            DeValue::String(_) => "text".to_owned(),
            DeValue::Integer(_) | DeValue::Float(_) if secret => "a number".to_owned(),
            DeValue::Integer(number) => format!("the number {number}"),
            DeValue::Float(number) => format!("the number {number}"),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::Datetime(_) => "a date or time".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        let name = &ways.written;
        let tables = branches.iter().find(|branch| branch["items"].is_object());
        let hint = match found.get_ref() {
            DeValue::Table(_) if tables.is_some_and(|list| takes_tables(self.root, list)) => {
                Some(format!(
                    "write [[{0}]] with two brackets",
                    indexless(name).replace("[]", "")
                ))
            }
            DeValue::Array(_) if takes("object") && !takes("array") => {
                Some("there is only one of it: write it with one pair of brackets".to_owned())
            }
            DeValue::Integer(number) if takes("string") && !secret => {
                let wanted = wanted(self.root, schema);
                Some(if wanted.starts_with("a duration") {
                    format!("write \"{number}s\"")
                } else if wanted.starts_with("a size") {
                    format!("write \"{number}B\"")
                } else {
                    "put it in quotes".to_owned()
                })
            }
            DeValue::String(_) if secret && takes("object") => {
                Some("a secret stands in a file of its own, and only its name here".to_owned())
            }
            DeValue::String(text) if takes("integer") || takes("boolean") => {
                let plain = text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok();
                plain.then(|| "write it without quotes".to_owned())
            }
            _ => None,
        };
        self.leave_out(ways, shown, wanted(self.root, schema), hint);
        // One table where a list of them was wanted is still read, for what else may be wrong in it.
        let (DeValue::Table(table), Some(list)) = (found.get_ref(), tables) else {
            return None;
        };
        let branch = *self::branches(self.root, &list["items"]).first()?;
        let inner = Ways {
            clean: ways.clean.item(0),
            written: ways.written.clone(),
        };
        self.problems.place(
            inner.clean.clone(),
            inner.written.clone(),
            found.span().start,
        );
        fits(branch, found.get_ref()).then(|| Value::Array(vec![self.table(branch, table, &inner)]))
    }

    fn leave_out(
        &mut self,
        ways: &Ways,
        found: String,
        wanted: String,
        hint: Option<String>,
    ) -> Option<Value> {
        self.problems.leave_out(&ways.clean);
        match hint {
            Some(hint) => self
                .problems
                .add_with_hint(&ways.clean, found, wanted, hint),
            None => self.problems.add(&ways.clean, found, wanted),
        }
        None
    }
}

/// The schemas that a value may fit: references followed, alternatives laid side by side.
fn branches<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let schema = resolve(root, schema);
    match schema
        .get("anyOf")
        .or_else(|| schema.get("oneOf"))
        .and_then(Value::as_array)
    {
        Some(list) => list
            .iter()
            .flat_map(|branch| branches(root, branch))
            .collect(),
        None => vec![schema],
    }
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|way| way.strip_prefix('#'))
        .and_then(|way| root.pointer(way))
        .unwrap_or(schema)
}

fn fits(branch: &Value, found: &DeValue<'_>) -> bool {
    let name = match found {
        DeValue::String(_) => "string",
        DeValue::Integer(_) => "integer",
        DeValue::Boolean(_) => "boolean",
        DeValue::Array(_) => "array",
        DeValue::Table(_) => "object",
        DeValue::Float(_) | DeValue::Datetime(_) => return false,
    };
    branch["type"] == name
}

fn takes_tables(root: &Value, list: &Value) -> bool {
    branches(root, &list["items"])
        .iter()
        .any(|branch| branch["type"] == "object")
}

/// The words that a schema takes, or nothing where it takes any text.
fn words(branch: &Value) -> Option<Vec<&str>> {
    if let Some(word) = branch.get("const").and_then(Value::as_str) {
        return Some(vec![word]);
    }
    let list = branch.get("enum").and_then(Value::as_array)?;
    Some(list.iter().filter_map(Value::as_str).collect())
}

/// What a schema takes, in words.
fn wanted(root: &Value, schema: &Value) -> String {
    let target = resolve(root, schema);
    if let Some(title) = schema
        .get("title")
        .or_else(|| target.get("title"))
        .and_then(Value::as_str)
    {
        return title.to_owned();
    }
    let mut all = Vec::new();
    for branch in branches(root, schema) {
        if let Some(title) = branch.get("title").and_then(Value::as_str) {
            all.push(title.to_owned());
        } else if let Some(words) = words(branch).filter(|words| !words.is_empty()) {
            all.extend(words.iter().map(|word| format!("{word:?}")));
        } else {
            all.push(kind(branch));
        }
    }
    one_of(&all)
}

fn kind(branch: &Value) -> String {
    if let Some(list) = branch.get("enum").and_then(Value::as_array) {
        return one_of(&list.iter().map(Value::to_string).collect::<Vec<_>>());
    }
    match branch["type"].as_str() {
        Some("string") => "text".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("array") => "a list".to_owned(),
        Some("object") => "a table".to_owned(),
        Some("integer") => match (branch["minimum"].as_i64(), branch["maximum"].as_i64()) {
            (Some(least), Some(most)) => format!("a whole number from {least} to {most}"),
            _ => "a whole number".to_owned(),
        },
        _ => "something else".to_owned(),
    }
}

/// What a schema says further of a table in which a key has a certain value: `allOf` with `if` and `then`.
fn narrower<'s>(schema: &'s Value, table: &DeTable<'_>) -> Vec<&'s Value> {
    let holds = |condition: &Value| {
        let properties = condition.get("properties").and_then(Value::as_object);
        properties.is_some_and(|properties| {
            properties.iter().all(|(name, value)| {
                let found = table.get(name.as_str()).map(Spanned::get_ref);
                matches!(found, Some(DeValue::String(text)) if value["const"] == text.as_ref())
            })
        })
    };
    let rules = schema.get("allOf").and_then(Value::as_array);
    rules
        .into_iter()
        .flatten()
        .filter(|rule| rule.get("if").is_some_and(holds))
        .filter_map(|rule| rule.get("then"))
        .collect()
}

/// The way without the numbers in brackets.
fn indexless(key: &Key) -> String {
    key.as_str()
        .chars()
        .filter(|c| !c.is_ascii_digit())
        .collect()
}

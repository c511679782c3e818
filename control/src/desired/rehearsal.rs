//! Rendering without secrets, digests and a program: what only rendering finds is found before any of them is there.
//! Stands alone because what comes of it is never placed anywhere.

use std::collections::BTreeMap;

use sovereign_config::stack::catalogue::Catalogue;
use sovereign_config::stack::model::{Service, Stack, Value};

use super::{Image, Inputs, Program, RenderError, Sources, render, run};
use crate::catalogue::{images, secret_key};

/// What stands in for a secret: any will do.
const SECRET: &str = "0000000000000000";

/// Renders a stack with stand-ins, and says what is wrong with it.
pub fn rehearse(
    stack: &Stack,
    catalogue: &Catalogue,
    sources: &Sources,
) -> Result<(), RenderError> {
    let program = Program {
        path: "sovereign-proxy".into(),
        version: String::new(),
        digest: "0".repeat(64),
    };
    render(Inputs {
        stack,
        catalogue,
        secrets: &secrets(stack, catalogue),
        lock: &lock(stack, catalogue, sources)?,
        program: &program,
        sources,
    })
    .map(drop)
}

fn secrets(stack: &Stack, catalogue: &Catalogue) -> BTreeMap<String, String> {
    let of_service = |service: &Service| {
        let kind = catalogue.get(&service.kind);
        let own = kind.into_iter().flat_map(|kind| kind.secrets.keys());
        let own = own.map(|name| secret_key(&service.name, name));
        let chosen = service.options.values().filter_map(|value| match value {
            Value::Secret(name) => Some(name.clone()),
            _ => None,
        });
        own.chain(chosen).collect::<Vec<_>>()
    };
    let names = stack.services.iter().flat_map(of_service);
    names.map(|name| (name, SECRET.to_owned())).collect()
}

fn lock(
    stack: &Stack,
    catalogue: &Catalogue,
    sources: &Sources,
) -> Result<BTreeMap<String, Image>, RenderError> {
    let mut references = vec![run::IMAGE.to_owned()];
    for service in &stack.services {
        references.extend(sources.images(&service.name));
        if let Some(kind) = catalogue.get(&service.kind) {
            references.extend(images(kind, service)?.into_values());
        }
    }
    let pinned = |reference: String| {
        let image = Image {
            pinned: reference.clone(),
            id: None,
            sent: false,
            reference: reference.clone(),
        };
        (reference, image)
    };
    Ok(references.into_iter().map(pinned).collect())
}

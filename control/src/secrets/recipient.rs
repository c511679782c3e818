//! Who may read: age recipients as `stack.toml` writes them. Stands alone because each of the four kinds of key has a
//! form of its own, and those of one plugin are asked together.

use std::path::Path;

use age::plugin::RecipientPluginV1;
use age::{EncryptError, Recipient, plugin, tag, tagpq, x25519};

use super::Error;
use super::prompts::Prompts;

/// Reads recipients. A plugin that one of them needs is looked for now.
pub(super) fn read(
    texts: &[String],
    path: &Path,
    prompts: &Prompts,
) -> Result<Vec<Box<dyn Recipient + Send>>, Error> {
    let mut native: Vec<Box<dyn Recipient + Send>> = Vec::new();
    let mut plugins: Vec<plugin::Recipient> = Vec::new();
    for text in texts {
        if let Some(recipient) = builtin(text) {
            native.push(recipient);
        } else if let Ok(recipient) = text.parse() {
            plugins.push(recipient);
        } else {
            return Err(Error::BadRecipient { text: text.clone() });
        }
    }
    for name in names(&plugins) {
        let recipient = RecipientPluginV1::new(name, &plugins, &[], prompts.clone());
        let missing = |error| Error::Encrypt {
            path: path.to_owned(),
            source: Box::new(EncryptError::PluginResolve(error)),
        };
        native.push(Box::new(recipient.map_err(missing)?));
    }
    Ok(native)
}

/// Those that need no plugin.
fn builtin(text: &str) -> Option<Box<dyn Recipient + Send>> {
    if let Ok(recipient) = text.parse::<x25519::Recipient>() {
        return Some(Box::new(recipient));
    }
    if let Ok(recipient) = text.parse::<tag::Recipient>() {
        return Some(Box::new(recipient));
    }
    let recipient = text.parse::<tagpq::Recipient>().ok()?;
    Some(Box::new(recipient))
}

fn names(plugins: &[plugin::Recipient]) -> Vec<&str> {
    let mut names: Vec<&str> = plugins.iter().map(plugin::Recipient::plugin).collect();
    names.sort_unstable();
    names.dedup();
    names
}

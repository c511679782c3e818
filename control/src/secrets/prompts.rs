//! What age asks the operator: the passphrase of an identity, and what plugins of hardware keys say and want.

use age::Callbacks;
use age::secrecy::SecretString;

use crate::printer::{Printer, Unasked};

/// Asks at the terminal, on the thread that decrypts.
#[derive(Debug, Clone)]
pub(super) struct Prompts(pub(super) Printer);

impl Callbacks for Prompts {
    fn display_message(&self, message: &str) {
        self.0.say(message);
    }

    fn confirm(&self, message: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        let no = no.unwrap_or("no");
        let question = format!("{message}\n[y] {yes}  [n] {no}: ");
        let answer = self.0.line_now(&question, "").ok()?.to_ascii_lowercase();
        Some(answer == "y" || answer == "yes")
    }

    fn request_public_string(&self, description: &str) -> Option<String> {
        self.0.line_now(&format!("{description}: "), "").ok()
    }

    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        match self.0.secret_now(&format!("{description}: "), "") {
            Ok(passphrase) => Some(passphrase),
            Err(error @ Unasked::NoTerminal { .. }) => {
                self.0.warn(&error.to_string());
                None
            }
            Err(_) => None,
        }
    }
}

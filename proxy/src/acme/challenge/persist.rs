//! `dns-persist-01` (draft-ietf-acme-dns-persist): a record that stays, and says which account of which
//! authority may have certificates for a name. The daemon puts it there once where it can change the DNS;
//! where it cannot, the operator does, and is told what to write.

use hickory_proto::rr::{RData, RecordType};

use super::resolver::{self, Resolver};

/// Where it lies, below the name.
pub(super) const LABEL: &str = "_validation-persist";

/// What the record says: the authority by its own name, the account, and whether wildcards are meant too.
/// `None`: what the authority gave cannot stand there.
pub(super) fn value(issuers: &[String], account: &str, wildcard: bool) -> Option<String> {
    let host = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    let issuer = issuers
        .iter()
        .find(|issuer| (1..=253).contains(&issuer.len()) && issuer.bytes().all(host))?;
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b';';
    if account.is_empty() || account.len() > 512 || !account.bytes().all(plain) {
        return None;
    }
    let policy = if wildcard { "; policy=wildcard" } else { "" };
    Some(format!("{issuer}; accounturi={account}{policy}"))
}

/// Whether a record that is there says what ours would: whatever its spaces, and no less than ours.
pub(super) fn says(there: &str, ours: &str) -> bool {
    let parts = |text: &str| -> Vec<String> {
        let parts = text.split(';').map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let (there, ours) = (parts(there), parts(ours));
    // One that ends by itself may have ended.
    let ends = there
        .iter()
        .any(|part| part.to_ascii_lowercase().starts_with("persistuntil"));
    !ends && there.first() == ours.first() && ours.iter().all(|part| there.contains(part))
}

/// Whether the operator has put it there, as far as the resolver knows.
pub(super) async fn is_there(host: &str, value: &str, resolver: Resolver) -> bool {
    let Ok(name) = resolver::fqdn(&format!("{LABEL}.{host}")) else {
        return false;
    };
    let Ok(answer) = resolver.ask(&name, RecordType::TXT).await else {
        return false;
    };
    // Below whatever name an alias leads to.
    answer.answers.iter().any(|record| match &record.data {
        RData::TXT(text) => says(&String::from_utf8_lossy(&text.txt_data.concat()), value),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_names_authority_and_account() {
        let issuers = ["ca.example".to_owned(), "other.example".to_owned()];
        let account = "https://ca.example/account/1";
        let short = value(&issuers, account, false);
        let short = short.as_deref();
        assert_eq!(
            short,
            Some("ca.example; accounturi=https://ca.example/account/1")
        );
        let wide = value(&issuers, account, true);
        let wide = wide.unwrap_or_default();
        assert!(wide.ends_with("/1; policy=wildcard"));
        assert!(says(&wide, short.unwrap_or_default()));
        assert!(!says(short.unwrap_or_default(), &wide));
        let spaced = "ca.example;accounturi=https://ca.example/account/1 ; policy=wildcard";
        assert!(says(spaced, &wide));
        assert!(!says(&format!("{spaced}; persistUntil=1"), &wide));
        assert!(!says(
            "other.example; accounturi=https://ca.example/account/1",
            &wide
        ));
        for bad in ["", "a b", "x;policy=wildcard", "é"] {
            assert_eq!(value(&issuers, bad, false), None, "{bad}");
        }
        assert_eq!(value(&["a;b".to_owned()], account, false), None);
        assert_eq!(value(&[], account, false), None);
    }
}

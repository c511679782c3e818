//! Names of people on Nostr (NIP-05): what `/.well-known/nostr.json` answers. Stands alone because keys are written
//! in two ways, and a mistyped one must not be published.

use std::collections::BTreeMap;

/// The answer for names such as `alice=npub1...` or `alice=` and 64 hexadecimal digits. The error is what is wrong.
pub(super) fn answer(names: &[String], relay: &str) -> Result<String, String> {
    let mut keys = BTreeMap::new();
    for entry in names {
        let Some((name, key)) = entry.split_once('=') else {
            return Err(format!("{entry:?} is not NAME=KEY"));
        };
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            return Err(format!("{name:?} is not a name of a-z, 0-9, -, _ and ."));
        }
        let key = public_key(key).ok_or_else(|| format!("{name}: {key:?} is not a public key"))?;
        keys.insert(name.to_owned(), key);
    }
    let relays: BTreeMap<&str, [&str; 1]> =
        keys.values().map(|key| (key.as_str(), [relay])).collect();
    Ok(serde_json::json!({ "names": keys, "relays": relays }).to_string())
}

/// A public key as 64 hexadecimal digits, from those or from `npub1...`.
pub(super) fn public_key(text: &str) -> Option<String> {
    let hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex {
        return Some(text.to_ascii_lowercase());
    }
    let bytes = bech32(text.strip_prefix("npub1")?, b"npub")?;
    (bytes.len() == 32).then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The bytes of a Bech32 text (BIP 173), where its checksum is right.
fn bech32(data: &str, prefix: &[u8]) -> Option<Vec<u8>> {
    let value = |byte: u8| ALPHABET.iter().position(|letter| *letter == byte);
    let digits: Option<Vec<u8>> = data
        .bytes()
        .map(|byte| value(byte).map(|at| at as u8))
        .collect();
    let digits = digits?;
    let high = prefix.iter().map(|byte| byte >> 5);
    let low = prefix.iter().map(|byte| byte & 31);
    let all = high.chain([0]).chain(low).chain(digits.iter().copied());
    if polymod(all) != 1 {
        return None;
    }
    let payload = &digits[..digits.len().checked_sub(6)?];
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for digit in payload {
        held = (held << 5 | u32::from(*digit)) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits & 0xff) as u8);
        }
    }
    Some(bytes)
}

fn polymod(values: impl Iterator<Item = u8>) -> u32 {
    const GENERATOR: [u32; 5] = [
        0x3b6a_57b2,
        0x2650_8e6d,
        0x1ea1_19fa,
        0x3d42_33dd,
        0x2a14_62b3,
    ];
    values.fold(1, |check, value| {
        let top = check >> 25;
        let next = (check & 0x1ff_ffff) << 5 ^ u32::from(value);
        let chosen = (0..5).filter(|bit| top >> bit & 1 == 1);
        chosen.fold(next, |sum, bit| sum ^ GENERATOR[bit])
    })
}

const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

#[cfg(test)]
mod tests {
    use super::*;

    // The example of NIP-19.
    const NPUB: &str = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg";
    const HEX: &str = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e";

    #[test]
    fn keys_are_read_in_both_ways() {
        assert_eq!(public_key(NPUB).as_deref(), Some(HEX));
        assert_eq!(public_key(&HEX.to_uppercase()).as_deref(), Some(HEX));
        let mistyped = NPUB.replace("elfcs", "elfcq");
        for bad in ["", "npub1", &mistyped, &HEX[1..], "nsec1qqq"] {
            assert_eq!(public_key(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_answer_names_keys_and_relays() {
        let answer = answer(&[format!("alice={NPUB}")], "wss://relay.example.org").expect("one");
        let wanted = format!(
            r#"{{"names":{{"alice":"{HEX}"}},"relays":{{"{HEX}":["wss://relay.example.org"]}}}}"#
        );
        assert_eq!(answer, wanted);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for bad in ["alice", "Alice=00", "=00", "alice=00"] {
            assert!(answer(&[bad.to_owned()], "").is_err(), "{bad}");
        }
    }
}

//! A firewall that is not ours: where something else already decides what comes in, that stays in charge. Pure; stands
//! alone because it has to read what nftables and iptables print.

use serde_json::Value;

use super::firewall::TABLE;

/// Reads what `nft -j list ruleset` prints: the table that turns away what it does not know.
pub(super) fn nftables(printed: &str) -> Option<String> {
    let ruleset: Value = serde_json::from_str(printed).ok()?;
    let all = || ruleset["nftables"].as_array().into_iter().flatten();
    let chains = all().filter_map(|one| one.get("chain"));
    let mut inputs = chains.filter(|chain| chain["hook"] == "input" && chain["table"] != TABLE);
    let closed = inputs.find(|chain| {
        let rules = all().filter_map(|one| one.get("rule"));
        let is_its = |rule: &Value| {
            let same = |key: &str, of: &str| rule[key] == chain[of];
            same("family", "family") && same("table", "table") && same("chain", "name")
        };
        chain["policy"] == "drop" || rules.into_iter().any(|rule| is_its(rule) && shuts(rule))
    })?;
    let word = |key: &str| closed[key].as_str().unwrap_or_default();
    Some(format!(
        "the nftables table {} {}",
        word("family"),
        word("table")
    ))
}

/// Turns away whatever comes to it.
fn shuts(rule: &Value) -> bool {
    let asks = |part: &Value| part.get("match").is_some() || part.get("xt").is_some();
    let ends = |part: &Value| part.get("drop").is_some() || part.get("reject").is_some();
    let parts = || rule["expr"].as_array().into_iter().flatten();
    parts().any(ends) && !parts().any(asks)
}

/// Reads what `iptables -S INPUT` prints.
pub(super) fn iptables(printed: &str) -> Option<String> {
    let shuts = ["-P INPUT DROP", "-A INPUT -j DROP", "-A INPUT -j REJECT"];
    let closed = printed
        .lines()
        .any(|line| shuts.iter().any(|shut| line.starts_with(shut)));
    closed.then(|| "iptables".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_turns_away_what_it_does_not_know_is_in_charge() {
        let ruleset = |table: &str, hook: &str, policy: &str, expr: Value| {
            json!({ "nftables": [
                { "metainfo": { "json_schema_version": 1 } },
                { "chain": { "family": "inet", "table": table, "name": "in", "type": "filter", "hook": hook, "policy": policy } },
                { "rule": { "family": "inet", "table": table, "chain": "in", "expr": expr } },
            ] })
            .to_string()
        };
        let asks = json!({ "match": { "op": "==", "left": {}, "right": 22 } });
        let drop = json!({ "drop": null });
        let own = Some("the nftables table inet filter".to_owned());
        for (rules, found) in [
            (ruleset("filter", "input", "drop", json!([])), own.clone()),
            (
                ruleset(
                    "filter",
                    "input",
                    "accept",
                    json!([{ "counter": {} }, drop]),
                ),
                own,
            ),
            // As that of fail2ban: it turns some away.
            (ruleset("f2b", "input", "accept", json!([asks, drop])), None),
            (ruleset("filter", "input", "accept", json!([])), None),
            (ruleset("filter", "forward", "drop", json!([])), None),
            (ruleset(TABLE, "input", "drop", json!([])), None),
            (String::new(), None),
        ] {
            assert_eq!(nftables(&rules), found, "{rules}");
        }
    }

    #[test]
    fn rules_of_iptables() {
        for (rules, found) in [
            (
                "-P INPUT ACCEPT\n-A INPUT -p tcp --dport 25 -j DROP\n",
                false,
            ),
            ("-P INPUT DROP\n", true),
            (
                "-P INPUT ACCEPT\n-A INPUT -j REJECT --reject-with icmp-port-unreachable\n",
                true,
            ),
            ("", false),
        ] {
            assert_eq!(iptables(rules).is_some(), found, "{rules}");
        }
    }
}

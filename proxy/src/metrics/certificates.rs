//! Certificates, for Prometheus. Written anew each time from what is known, so that one that is gone
//! leaves nothing behind.

use std::collections::BTreeMap;

use prometheus::{
    Counter, CounterVec, Encoder, Gauge, GaugeVec, Opts, Registry, TextEncoder, core::Collector,
};

use crate::certs::Overview;

/// All of it, in Prometheus' text format.
pub fn text(overview: &Overview) -> String {
    let registry = match Registry::new_custom(Some("sovereign".to_owned()), None) {
        Ok(registry) => registry,
        Err(_) => return String::new(),
    };
    let mut text = Vec::new();
    let filled = certificates(&registry, overview)
        .and_then(|()| attempts(&registry, overview))
        .and_then(|()| whole(&registry, overview))
        .and_then(|()| TextEncoder::new().encode(&registry.gather(), &mut text));
    if let Err(error) = filled {
        tracing::error!(%error, "the metrics of certificates cannot be written");
    }
    String::from_utf8(text).unwrap_or_default()
}

/// Each by its first name and where it comes from.
fn certificates(registry: &Registry, overview: &Overview) -> prometheus::Result<()> {
    let days = GaugeVec::new(
        Opts::new(
            "certificate_days_left",
            "Whole days until a certificate that is served lapses; negative once it has.",
        ),
        &["name", "source"],
    )?;
    let errors = GaugeVec::new(
        Opts::new(
            "certificate_last_error",
            "1 where the last attempt to have a certificate failed, else 0.",
        ),
        &["name"],
    )?;
    let mut soonest = BTreeMap::new();
    for certificate in &overview.certificates {
        let name = certificate.names.first().map_or("", String::as_str);
        if !certificate.not_after.is_empty() {
            // Of several under one label, what ends first.
            let left = soonest.entry((name, source(&certificate.source)));
            let left = left.or_insert(certificate.days_left);
            *left = certificate.days_left.min(*left);
        }
        if let Some(order) = &certificate.order {
            let name = order.names.first().map_or("", String::as_str);
            let failed = f64::from(u8::from(order.last_error.is_some()));
            errors.with_label_values(&[name]).set(failed);
        }
    }
    for ((name, source), left) in soonest {
        days.with_label_values(&[name, source]).set(left as f64);
    }
    register(registry, days)?;
    register(registry, errors)
}

/// Paths and authorities make no label: one that changes would begin another series.
fn source(source: &str) -> &'static str {
    match source {
        "local CA" => "local",
        "temporary" => "temporary",
        acme if acme.starts_with("acme ") => "acme",
        _ => "file",
    }
}

fn attempts(registry: &Registry, overview: &Overview) -> prometheus::Result<()> {
    let attempts = CounterVec::new(
        Opts::new(
            "certificate_attempts_total",
            "Attempts to have a certificate, by authority, challenge and outcome.",
        ),
        &["ca", "challenge", "outcome"],
    )?;
    let issued = Counter::with_opts(Opts::new(
        "certificate_renewals_total",
        "Certificates that were issued: first ones, renewals and replacements.",
    ))?;
    for one in &overview.attempts {
        let labels = [&*one.authority, &*one.challenge, &*one.outcome];
        let count = one.count as f64;
        attempts.with_label_values(&labels).inc_by(count);
        if one.outcome == "issued" {
            issued.inc_by(count);
        }
    }
    register(registry, attempts)?;
    register(registry, issued)
}

/// What holds up all of them.
fn whole(registry: &Registry, overview: &Overview) -> prometheus::Result<()> {
    let acme = &overview.acme;
    let gauge = |name: &str, help: &str, value: f64| {
        let gauge = Gauge::with_opts(Opts::new(name, help))?;
        gauge.set(value);
        register(registry, gauge)
    };
    if let Some(skew) = acme.clock_skew_seconds {
        let help = "Seconds by which this machine's clock is ahead of the authorities'.";
        gauge("clock_skew_seconds", help, skew as f64)?;
    }
    let waiting = acme
        .authorities
        .iter()
        .filter(|authority| !authority.agreed);
    gauge(
        "certificate_authorities_unagreed",
        "Authorities that are asked for nothing until their terms are agreed to.",
        waiting.count() as f64,
    )?;
    gauge(
        "certificate_store_healthy",
        "1 where the store that proxies share can be reached, or nothing is shared; else 0.",
        f64::from(u8::from(acme.store_trouble.is_none())),
    )
}

fn register(registry: &Registry, metric: impl Collector + 'static) -> prometheus::Result<()> {
    registry.register(Box::new(metric))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::Attempts;
    use crate::status::{AcmeStatus, CertificateStatus, OrderStatus};

    #[test]
    fn each_certificate_and_what_holds_them_up() {
        let certificate = |name: &str, source: &str, days_left, order| CertificateStatus {
            names: vec![name.to_owned(), "b.example".to_owned()],
            source: source.to_owned(),
            not_after: "2026-01-01T00:00:00Z".to_owned(),
            days_left,
            order,
            ..CertificateStatus::default()
        };
        let order = |last_error: Option<&str>| {
            Some(OrderStatus {
                names: vec!["a.example".to_owned()],
                last_error: last_error.map(str::to_owned),
                ..OrderStatus::default()
            })
        };
        let attempts = |outcome: &str, count| Attempts {
            authority: "ca.example".to_owned(),
            challenge: "http-01".to_owned(),
            outcome: outcome.to_owned(),
            count,
        };
        let overview = Overview {
            certificates: vec![
                certificate("a.example", "acme ca.example", 60, order(Some("no"))),
                certificate("c.example", "/etc/c.pem", 9, None),
                certificate("c.example", "/etc/d.pem", -2, None),
                certificate("d.example", "temporary", 0, None),
            ],
            acme: AcmeStatus {
                clock_skew_seconds: Some(-7200),
                store_trouble: Some("etcd is down".to_owned()),
                ..AcmeStatus::default()
            },
            attempts: vec![attempts("issued", 3), attempts("refused", 1)],
            events: Vec::new(),
        };
        let expected = "\
# HELP sovereign_certificate_attempts_total Attempts to have a certificate, by authority, challenge and outcome.
# TYPE sovereign_certificate_attempts_total counter
sovereign_certificate_attempts_total{ca=\"ca.example\",challenge=\"http-01\",outcome=\"issued\"} 3
sovereign_certificate_attempts_total{ca=\"ca.example\",challenge=\"http-01\",outcome=\"refused\"} 1
# HELP sovereign_certificate_authorities_unagreed Authorities that are asked for nothing until their terms are agreed to.
# TYPE sovereign_certificate_authorities_unagreed gauge
sovereign_certificate_authorities_unagreed 0
# HELP sovereign_certificate_days_left Whole days until a certificate that is served lapses; negative once it has.
# TYPE sovereign_certificate_days_left gauge
sovereign_certificate_days_left{name=\"a.example\",source=\"acme\"} 60
sovereign_certificate_days_left{name=\"c.example\",source=\"file\"} -2
sovereign_certificate_days_left{name=\"d.example\",source=\"temporary\"} 0
# HELP sovereign_certificate_last_error 1 where the last attempt to have a certificate failed, else 0.
# TYPE sovereign_certificate_last_error gauge
sovereign_certificate_last_error{name=\"a.example\"} 1
# HELP sovereign_certificate_renewals_total Certificates that were issued: first ones, renewals and replacements.
# TYPE sovereign_certificate_renewals_total counter
sovereign_certificate_renewals_total 3
# HELP sovereign_certificate_store_healthy 1 where the store that proxies share can be reached, or nothing is shared; else 0.
# TYPE sovereign_certificate_store_healthy gauge
sovereign_certificate_store_healthy 0
# HELP sovereign_clock_skew_seconds Seconds by which this machine's clock is ahead of the authorities'.
# TYPE sovereign_clock_skew_seconds gauge
sovereign_clock_skew_seconds -7200
";
        assert_eq!(text(&overview), expected);
    }
}

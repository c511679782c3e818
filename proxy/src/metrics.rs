//! What is counted, for Prometheus and for `status`. Handles are looked up when a configuration is
//! taken, so that a request only adds to atomics.

// What is written anew each time.
pub mod certificates;

use std::time::Duration;

use crate::cache::{Health, Usage};
use parking_lot::Mutex;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

/// From what a hit takes (well under a millisecond) to what an upstream's timeout allows.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0,
];
/// The cache's words, in the order of [`word_index`].
const WORDS: [&str; 9] = [
    "hit",
    "bypass",
    "method",
    "uri-miss",
    "vary-miss",
    "request",
    "stale",
    "partial",
    "none",
];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    cache: IntCounterVec,
    stored: IntCounterVec,
    collapsed: IntCounterVec,
    bytes: IntCounterVec,
    seconds: HistogramVec,
    refused: IntCounterVec,
    connection_failures: IntCounterVec,
    /// Open client connections.
    pub connections: IntGauge,
    /// Client connections accepted.
    pub accepted: IntCounter,
    /// Requests received, of all sites and none.
    pub total: IntCounter,
    /// Access log lines dropped because the log could not be written fast enough.
    pub log_dropped: IntCounter,
    cache_tiers: CacheTiers,
    /// Purges, by operators and applications.
    pub purges: IntCounter,
    /// Configurations taken.
    pub reloads: IntCounter,
    /// Configurations refused.
    pub reloads_refused: IntCounter,
}

/// What the cache holds; set when it is asked for.
struct CacheTiers {
    bytes: IntGauge,
    objects: IntGauge,
    disk_bytes: IntGauge,
    disk_objects: IntGauge,
    disk_healthy: IntGauge,
    disk_not_stored: IntCounter,
    disk_corrupt: IntCounter,
    /// One writes at a time, or two scrapes at once would add the same twice.
    writing: Mutex<()>,
}

/// The counters of one site.
#[derive(Debug)]
pub struct SiteMetrics {
    classes: [IntCounter; CLASSES.len()],
    words: [IntCounter; WORDS.len()],
    stored: IntCounter,
    collapsed: IntCounter,
    bytes: IntCounter,
    seconds: Histogram,
}

impl Metrics {
    /// Registers everything.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("sovereign".to_owned()), None)?;
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "request_seconds",
                "From a request's head to the end of its response.",
            )
            .buckets(SECONDS.to_vec()),
            &["site"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            requests: counters(
                "requests_total",
                "Requests answered, by class of status.",
                &["site", "status"],
            )?,
            cache: counters(
                "cache_total",
                "Requests by the cache's word (RFC 9211).",
                &["site", "word"],
            )?,
            stored: counters("cache_stored_total", "Responses stored.", &["site"])?,
            collapsed: counters(
                "cache_collapsed_total",
                "Requests that shared another one's fetch.",
                &["site"],
            )?,
            bytes: counters(
                "response_bytes_total",
                "Bytes of response bodies sent.",
                &["site"],
            )?,
            refused: counters(
                "requests_refused_total",
                "Requests refused before they were routed.",
                &["reason"],
            )?,
            connection_failures: counters(
                "connection_failures_total",
                "Connections that came to no request.",
                &["reason"],
            )?,
            connections: gauge("connections", "Open client connections.")?,
            accepted: counter("connections_total", "Client connections accepted.")?,
            total: counter("requests_received_total", "Requests received.")?,
            log_dropped: counter("access_log_dropped_total", "Access log lines dropped.")?,
            cache_tiers: CacheTiers {
                bytes: gauge("cache_bytes", "Bytes of memory that stored responses take.")?,
                objects: gauge("cache_objects", "URIs stored in memory.")?,
                disk_bytes: gauge(
                    "cache_disk_bytes",
                    "Bytes of disk that stored responses take.",
                )?,
                disk_objects: gauge("cache_disk_objects", "Responses stored on disk.")?,
                disk_healthy: gauge(
                    "cache_disk_healthy",
                    "1 where the disk takes what is to be stored, or there is none; else 0.",
                )?,
                disk_not_stored: counter(
                    "cache_disk_not_stored_total",
                    "Responses that the disk did not take.",
                )?,
                disk_corrupt: counter(
                    "cache_disk_corrupt_total",
                    "Stored responses that were damaged, and dropped.",
                )?,
                writing: Mutex::default(),
            },
            purges: counter("purges_total", "Purges, by operators and applications.")?,
            reloads: counter("reloads_total", "Configurations taken.")?,
            reloads_refused: counter("reloads_refused_total", "Configurations refused.")?,
            seconds,
            registry,
        })
    }

    /// The counters of a site; the same ones for the same name, over any number of reloads.
    pub fn site(&self, name: &str) -> SiteMetrics {
        SiteMetrics {
            classes: CLASSES.map(|class| self.requests.with_label_values(&[name, class])),
            words: WORDS.map(|word| self.cache.with_label_values(&[name, word])),
            stored: self.stored.with_label_values(&[name]),
            collapsed: self.collapsed.with_label_values(&[name]),
            bytes: self.bytes.with_label_values(&[name]),
            seconds: self.seconds.with_label_values(&[name]),
        }
    }

    /// A request was refused before it was routed.
    pub fn request_refused(&self, reason: &str) {
        self.total.inc();
        self.refused.with_label_values(&[reason]).inc();
    }

    /// A connection came to no request.
    pub fn connection_failed(&self, reason: &str) {
        self.connection_failures.with_label_values(&[reason]).inc();
    }

    /// Takes what the cache holds now.
    pub fn cache(&self, usage: &Usage) {
        let tiers = &self.cache_tiers;
        let _writing = tiers.writing.lock();
        tiers.bytes.set(usage.memory as i64);
        tiers.objects.set(usage.objects as i64);
        let disk = usage.disk.as_ref();
        let healthy = disk.is_none_or(|disk| disk.health == Health::Good);
        tiers.disk_healthy.set(i64::from(healthy));
        tiers
            .disk_bytes
            .set(disk.map_or(0, |disk| disk.bytes as i64));
        tiers
            .disk_objects
            .set(disk.map_or(0, |disk| disk.records as i64));
        for (counter, now) in [
            (
                &tiers.disk_not_stored,
                disk.map_or(0, |disk| disk.not_stored),
            ),
            (&tiers.disk_corrupt, disk.map_or(0, |disk| disk.corrupt)),
        ] {
            counter.inc_by(now.saturating_sub(counter.get()));
        }
    }

    /// Everything, in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory does not fail, and names and labels are UTF-8.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}

impl SiteMetrics {
    /// Counts a request that has been answered; `word` is the cache's.
    pub fn answered(&self, status: u16, word: &str, bytes: u64, took: Duration) {
        let class = usize::from(status / 100).clamp(1, CLASSES.len()) - 1;
        self.classes[class].inc();
        self.words[word_index(word)].inc();
        self.bytes.inc_by(bytes);
        self.seconds.observe(took.as_secs_f64());
    }

    /// Counts a response that was stored.
    pub fn stored(&self) {
        self.stored.inc();
    }

    /// Counts a request that shared another one's fetch.
    pub fn collapsed(&self) {
        self.collapsed.inc();
    }

    /// Requests answered so far.
    pub fn requests(&self) -> u64 {
        self.classes.iter().map(IntCounter::get).sum()
    }

    /// Requests by the cache's word: hits; misses; stale ones; bypassed ones.
    pub fn cache(&self) -> [u64; 4] {
        let of = |word: &str| self.words[word_index(word)].get();
        [
            of("hit"),
            of("uri-miss") + of("vary-miss") + of("partial") + of("request"),
            of("stale"),
            of("bypass") + of("method"),
        ]
    }
}

fn word_index(word: &str) -> usize {
    WORDS
        .iter()
        .position(|known| *known == word)
        .unwrap_or(WORDS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::status::Forward;

    #[test]
    fn every_word_of_the_cache_is_counted() {
        for forward in Forward::ALL {
            assert_eq!(WORDS[word_index(forward.as_str())], forward.as_str());
        }
    }
}

//! The request path through the real handler, over a socket: a route that answers by itself stands
//! for all that a request costs without the cache; then a hit, a revalidation and a miss.

use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sovereign_benches::Bench;
use sovereign_config::model::PathPattern;
use tokio::runtime::Runtime;

fn request_path(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime starts");
    let bench = runtime.block_on(Bench::start()).expect("the daemon starts");
    let mut client = runtime
        .block_on(bench.client())
        .expect("the daemon accepts");
    let mut group = criterion.benchmark_group("request_path");
    group.throughput(Throughput::Elements(1));
    let mut asked = 0_u64;
    for (name, wanted) in [
        ("hit", "hit"),
        ("revalidation", "fwd=stale"),
        ("miss", "fwd=uri-miss"),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                runtime.block_on(async {
                    let begun = Instant::now();
                    for round in 0..rounds {
                        let path = match name {
                            "hit" => "/fresh/same".to_owned(),
                            "revalidation" => "/stale/same".to_owned(),
                            _ => {
                                asked += 1;
                                format!("/fresh/{asked}")
                            }
                        };
                        let (status, word) = client.get(&path).await.expect("it answers");
                        assert_eq!(status, 200, "{path}");
                        // The very first one has to fill the store.
                        assert!(word.contains(wanted) || round == 0, "{path}: {word}");
                    }
                    begun.elapsed()
                })
            });
        });
    }
    group.finish();
}

fn route(criterion: &mut Criterion) {
    let patterns: Vec<_> = (0..50)
        .map(|number| PathPattern::Prefix(format!("/part-{number}/")))
        .chain([PathPattern::Glob("/*/feed/*.xml".into())])
        .collect();
    criterion.bench_function("route/51_patterns", |bencher| {
        bencher.iter(|| {
            patterns
                .iter()
                .filter(|pattern| pattern.matches(std::hint::black_box("/blog/feed/rss.xml")))
                .count()
        });
    });
}

criterion_group!(benches, request_path, route);
criterion_main!(benches);

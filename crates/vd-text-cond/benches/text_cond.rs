//! Encoding prompts.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{Criterion, criterion_group, criterion_main};
use tch::Device;
use vd_text_cond::{Hashed, TextEncoder};

fn hashed(c: &mut Criterion) {
    let encoder = Hashed::new(512).unwrap();
    let prompts: Vec<_> = (0..64)
        .map(|i| format!("clip {i}: two bursts over the water, green then gold, seen from below"))
        .collect();
    let prompts: Vec<_> = prompts.iter().map(String::as_str).collect();
    c.bench_function("hashed, 64 prompts of 12 words, width 512", |b| {
        b.iter(|| encoder.encode(&prompts, Device::Cpu).unwrap());
    });
}

criterion_group!(benches, hashed);
criterion_main!(benches);

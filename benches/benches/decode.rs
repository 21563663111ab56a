//! Bytes per second of the decoder, against finding the newlines and copying the bytes of the same buffer.
//!
//! `cargo bench -p taffrail-benches --bench decode`. `memchr` visits each newline, `memcpy` copies the block. Each block is copied afresh before it is decoded, since decoding
//! overwrites it; that copy is not measured.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use taffrail_logs::decode::{Decoder, Format, Limits};
use taffrail_record::FileId;

/// As the follower reads.
const BLOCK: usize = 128 * 1024;
const LIMITS: Limits = Limits { max_line_bytes: 1 << 20 };

/// Lines of about `length` bytes until a block is full, the last one whole.
fn block(line: impl Fn(usize) -> String) -> Vec<u8> {
    let mut block = String::new();
    for n in 0.. {
        let line = line(n);
        if block.len() + line.len() > BLOCK {
            break;
        }
        block.push_str(&line);
    }
    block.into_bytes()
}

/// Text whose length and words vary around 190 bytes.
fn message(n: usize) -> String {
    let path = ["/api/v1/orders", "/api/v1/orders/items", "/healthz", "/static/main.css"][n % 4];
    let tail = "user agent of some browser, version and platform as they write it nowadays";
    let varied = &tail[..tail.len() - n * 7 % 40];
    format!(
        "level=info component=http method=GET path={path} status=200 bytes={} duration_ms={} request_id={n:016x} ua={varied}",
        n * 7919 % 100_000,
        n * 31 % 977,
    )
}

fn time(n: usize) -> String {
    format!("2026-03-14T09:26:{:02}.{:09}Z", n / 200 % 60, n * 4_999_999 % 1_000_000_000)
}

fn cases() -> Vec<(&'static str, Format, Vec<u8>)> {
    let cri = |n: usize| format!("{} stdout F {}\n", time(n), message(n));
    let json = |n: usize| {
        format!("{{\"log\":\"{}\\n\",\"stream\":\"stdout\",\"time\":\"{}\"}}\n", message(n), time(n))
    };
    let escaped = |n: usize| {
        let log = message(n).replace('=', "=\\\"").replace(' ', "\\\" ");
        format!("{{\"log\":\"{{{log}\\\"}}\\u003c\\n\",\"stream\":\"stderr\",\"time\":\"{}\"}}\n", time(n))
    };
    let parts = |n: usize| {
        let tag = if n % 4 == 3 { "F" } else { "P" };
        format!("{} stdout {tag} {}\n", time(n), "0123456789abcdef".repeat(1024))
    };
    vec![
        ("cri", Format::Container, block(cri)),
        ("cri, a new second every other line", Format::Container, block(|n| cri(n * 100))),
        (
            "cri, 60-byte lines",
            Format::Container,
            block(|n| format!("{} stdout F {}\n", time(n), &message(n)[..20])),
        ),
        ("cri, 16 KiB parts", Format::Container, block(parts)),
        ("json-file", Format::Container, block(json)),
        ("json-file, many escapes", Format::Container, block(escaped)),
        ("plain", Format::Plain, block(|n| format!("{} {}\n", time(n), message(n)))),
    ]
}

/// Time of `decode` alone over copies of a block.
fn decode(format: Format, block: &[u8], times: u64) -> Duration {
    let mut decoder = Decoder::new(format, LIMITS);
    let (mut data, mut records) = (Vec::with_capacity(4 * BLOCK), Vec::new());
    let mut spent = Duration::ZERO;
    for turn in 0..times {
        data.clear();
        data.extend_from_slice(block);
        records.clear();
        let began = Instant::now();
        let consumed = decoder.decode(&mut data, FileId(1), turn * BLOCK as u64, 0, &mut records);
        spent += began.elapsed();
        assert_eq!(black_box(consumed), block.len());
        black_box(&records);
    }
    spent
}

fn bench(criterion: &mut Criterion) {
    for (name, format, block) in cases() {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(block.len() as u64));
        group.bench_function("decode", |bencher| bencher.iter_custom(|times| decode(format, &block, times)));
        group.bench_function("memchr", |b| {
            b.iter(|| memchr::memchr_iter(b'\n', black_box(&block)).fold(0, |sum, at| sum ^ at));
        });
        let mut copy = vec![0; block.len()];
        group
            .bench_function("memcpy", |b| b.iter(|| black_box(&mut copy).copy_from_slice(black_box(&block))));
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).without_plots();
    targets = bench
}
criterion_main!(benches);

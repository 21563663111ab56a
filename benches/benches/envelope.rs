//! The envelope: bytes per second of log text into JSON and raw, against a plain copy of the same bytes.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use taffrail_envelope::{Encoded, Encoder, Encoding, EnvelopeConfig, Fields};
use taffrail_record::{
    Batch, Container, FileId, Flags, Input, Ledger, Node, Origin, Payload, Pod, Receipt, Record, Source,
    Span, Stream,
};

const LINES: usize = 4000;

/// One batch of lines as they lie in a buffer of CRI lines.
fn batch(line: impl Fn(usize) -> Vec<u8>) -> Batch {
    let mut data = Vec::new();
    let mut records = Vec::new();
    for index in 0..LINES {
        data.extend_from_slice(b"2026-11-21T10:11:12.123456789Z stdout F ");
        let start = data.len() as u32;
        data.extend_from_slice(&line(index));
        let end = data.len() as u32;
        data.push(b'\n');
        records.push(Record {
            body: start..end,
            span: Span { start: u64::from(start) - 40, end: u64::from(end) + 1 },
            time: 1_795_255_872_123_456_789 + index as i64 * 20_000,
            stream: Stream::Stdout,
            flags: Flags::NONE,
            extra: None,
        });
    }
    let account = Ledger::new().account(["", "", ""]);
    account.read(records.iter().map(Record::length).sum());
    Batch {
        payload: Payload::Line,
        origin: Arc::new(origin()),
        source: Arc::new(Source {
            id: FileId(0x0123_4567_89ab_cdef),
            path: "/var/log/pods/shop_web-7d9f8b6c5-x2x4z_0a1b2c3d-1111-2222-3333-444455556666/web/0.log"
                .into(),
            device: 64768,
            inode: 123_456,
        }),
        receipt: Receipt::new(Vec::new(), account, &records, None),
        data,
        records,
    }
}

fn origin() -> Origin {
    Origin {
        node: Arc::new(Node { name: "node-1".into(), cluster: "prod".into(), ..Node::default() }),
        input: Input::Kubernetes,
        pod: Some(Pod {
            namespace: "shop".into(),
            name: "web-7d9f8b6c5-x2x4z".into(),
            uid: "0a1b2c3d-1111-2222-3333-444455556666".into(),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            ..Pod::default()
        }),
        container: Some(Container {
            name: "web".into(),
            id: "c0ffee".repeat(10),
            image: "registry/shop/web:1.2.3".into(),
            runtime: "containerd".into(),
            labels: [].into(),
        }),
    }
}

/// Varied plain text of about 160 bytes, which makes CRI lines of 200.
fn plain(index: usize) -> Vec<u8> {
    let mut line =
        format!("GET /api/v1/items/{} 200 {}ms user={} ", index * 7919, index % 977, index * 31).into_bytes();
    while line.len() < 160 {
        line.extend_from_slice(b"lorem ipsum dolor sit amet ");
    }
    line.truncate(160);
    line
}

/// A line that is JSON itself: a quote every few bytes.
fn json(index: usize) -> Vec<u8> {
    format!(
        "{{\"level\":\"info\",\"logger\":\"shop.web\",\"msg\":\"request served\",\"path\":\"/api/v1/items/{}\",\
         \"status\":200,\"ms\":{},\"user\":\"{}\",\"trace\":\"4bf92f35\"}}",
        index * 7919,
        index % 977,
        index * 31
    )
    .into_bytes()
}

/// Text beyond ASCII.
fn german(index: usize) -> Vec<u8> {
    format!("Anfrage {index} über Äpfel und Öl für Straße größer als müßig, ").repeat(3).into_bytes()
}

fn envelope(criterion: &mut Criterion) {
    let config = |encoding, fields| EnvelopeConfig { encoding, fields };
    let cases = [
        ("json/plain", config(Encoding::Json, Fields::Full), plain as fn(usize) -> Vec<u8>),
        ("json/minimal", config(Encoding::Json, Fields::Minimal), plain),
        ("json/escapes", config(Encoding::Json, Fields::Full), json),
        ("json/utf8", config(Encoding::Json, Fields::Full), german),
        ("raw/plain", config(Encoding::Raw, Fields::Full), plain),
    ];
    let mut group = criterion.benchmark_group("envelope");
    for (name, config, line) in cases {
        let batch = batch(line);
        let mut encoder = Encoder::new(config);
        let mut encoded = Encoded::default();
        let _ = encoder.encode(&batch, &mut encoded);
        println!(
            "{name}: {} bytes of log a line, {} encoded",
            batch.data.len() / LINES,
            encoded.data.len() / LINES
        );
        group.throughput(Throughput::Bytes(batch.data.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                encoded.clear();
                black_box(encoder.encode(black_box(&batch), &mut encoded));
            });
        });
        // What the output alone costs: the floor of any encoder that writes it.
        let copied = encoded.data.clone();
        group.bench_function(format!("{name}/copy of the output"), |bencher| {
            bencher.iter(|| {
                encoded.clear();
                encoded.data.extend_from_slice(black_box(&copied));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, envelope);
criterion_main!(benches);

//! Batches to ship, and what became of them.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use taffrail_envelope::EnvelopeConfig;
use taffrail_file::{FileConfig, FileShipper};
use taffrail_record::{
    Account, Batch, BufferPool, Changes, FileId, Flags, Gathered, Ledger, Origin, Payload, Receipt, Record,
    Source, Span, Stream, Tracker,
};

/// A file from which batches are cut.
pub(crate) struct Log {
    pub(crate) account: Arc<Account>,
    pub(crate) tracker: Arc<Tracker>,
    written: u64,
}

impl Log {
    pub(crate) fn new() -> Log {
        Log {
            account: Ledger::new().account(["", "", "c"]),
            tracker: Tracker::new(1, 0, &Changes::new()),
            written: 0,
        }
    }

    pub(crate) fn batch(&mut self, lines: &[String]) -> Batch {
        let hold = self.tracker.hold(self.written);
        let mut data = Vec::new();
        let mut records = Vec::new();
        for line in lines {
            let start = u32::try_from(data.len()).expect("small");
            data.extend_from_slice(line.as_bytes());
            let end = u32::try_from(data.len()).expect("small");
            let span = Span::at(self.written + u64::from(start), line.len() as u64);
            let (stream, flags) = (Stream::Stdout, Flags::NONE);
            records.push(Record { body: start..end, span, time: 0, stream, flags, extra: None });
        }
        self.written += data.len() as u64;
        self.account.read(data.len() as u64);
        self.tracker.attribute(self.written);
        Batch {
            payload: Payload::Line,
            origin: Arc::new(Origin::default()),
            source: Arc::new(Source { id: FileId(1), path: "/x".into(), device: 1, inode: 1 }),
            receipt: Receipt::new(vec![(FileId(1), hold)], Arc::clone(&self.account), &records, None),
            data,
            records,
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.tracker.is_settled() && self.tracker.position() == self.written
    }
}

pub(crate) fn config(directory: &Path) -> FileConfig {
    FileConfig { directory: directory.to_owned(), ..FileConfig::default() }
}

pub(crate) fn shipper(config: &FileConfig) -> FileShipper {
    FileShipper::new(config, EnvelopeConfig::default(), BufferPool::new(2, 1 << 20)).expect("shipper")
}

pub(crate) fn lines(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|number| format!("line {number:06}")).collect()
}

/// Names of the files of a kind, sorted.
pub(crate) fn names(directory: &Path, kind: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .expect("directory")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("text"))
        .filter(|name| name.starts_with(kind))
        .collect();
    names.sort();
    names
}

/// The messages of all log files in order; every line must be whole.
pub(crate) fn messages(directory: &Path) -> Vec<String> {
    let mut messages = Vec::new();
    for name in names(directory, "logs-") {
        let text = fs::read_to_string(directory.join(&name)).expect("text");
        assert!(text.is_empty() || text.ends_with('\n'), "{name} ends in half a line");
        for line in text.lines() {
            let record: serde_json::Value = serde_json::from_str(line).expect("json");
            messages.push(record["message"].as_str().expect("text").to_owned());
        }
    }
    messages
}

/// The value of one of the shipper's series.
pub(crate) fn metric(shipper: &FileShipper, name: &str) -> f64 {
    let mut gathered = Gathered::default();
    shipper.metrics().ask(&mut gathered).expect("asked");
    gathered.value(name, "").expect(name)
}

//! Records as lines of NDJSON for people and scripts.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use taffrail_record::{Batch, Record};

/// One record as `taffrail tap --json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapRecord<'a> {
    /// When it was written, RFC 3339 in UTC.
    pub time: String,
    /// `stdout`, `stderr`, or empty.
    pub stream: Cow<'a, str>,
    /// Namespace, or empty.
    pub namespace: Cow<'a, str>,
    /// Pod, or empty.
    pub pod: Cow<'a, str>,
    /// Container, or empty.
    pub container: Cow<'a, str>,
    /// The message; what is not UTF-8 is replaced.
    pub message: Cow<'a, str>,
    /// The file it was read from.
    pub file: Cow<'a, str>,
    /// Where in that file.
    pub offset: u64,
    /// What is special about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Cow<'a, str>>,
}

/// Appends one record and a newline.
pub(super) fn record(out: &mut Vec<u8>, batch: &Batch, record: &Record) {
    let [namespace, pod, container] = batch.origin.names();
    let line = TapRecord {
        time: time(record.time),
        stream: record.stream.as_str().into(),
        namespace: namespace.into(),
        pod: pod.into(),
        container: container.into(),
        message: String::from_utf8_lossy(batch.body(record)),
        file: batch.source.path.to_string_lossy(),
        offset: record.span.start,
        flags: record.flags.names().map(Cow::from).collect(),
    };
    let before = out.len();
    match serde_json::to_writer(&mut *out, &line) {
        Ok(()) => out.push(b'\n'),
        Err(_) => out.truncate(before),
    }
}

/// RFC 3339 in UTC; the number itself when it is no date.
fn time(nanoseconds: i64) -> String {
    Timestamp::from_nanosecond(i128::from(nanoseconds))
        .map_or_else(|_| nanoseconds.to_string(), |t| t.to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use taffrail_record::{
        Container, FileId, Flags, Ledger, Origin, Payload, Pod, Receipt, Source, Span, Stream,
    };

    use super::*;

    /// A batch of `lines`, of a pod when `names` has one.
    pub(in super::super) fn batch(names: [&str; 3], lines: &[&str]) -> Batch {
        let [namespace, pod, container] = names.map(str::to_owned);
        let pod = (!pod.is_empty()).then(|| Pod { namespace, name: pod, ..Pod::default() });
        let container = Some(Container { name: container, ..Container::default() });
        let (mut data, mut records) = (Vec::new(), Vec::new());
        for line in lines {
            let start = data.len();
            data.extend_from_slice(line.as_bytes());
            records.push(Record {
                body: start as u32..data.len() as u32,
                span: Span::at(start as u64, line.len() as u64),
                time: 1_700_000_000_123_456_789,
                stream: Stream::Stdout,
                flags: Flags::NONE,
                extra: None,
            });
        }
        let account = Ledger::new().account(["", "", ""]);
        account.read(data.len() as u64);
        Batch {
            payload: Payload::Line,
            origin: Arc::new(Origin { pod, container, ..Origin::default() }),
            source: Arc::new(Source {
                id: FileId(7),
                path: PathBuf::from("/log/0.log"),
                device: 1,
                inode: 2,
            }),
            receipt: Receipt::new(Vec::new(), account, &records, None),
            data,
            records,
        }
    }

    #[test]
    fn a_record_is_one_line_whatever_its_message() {
        let mut batch = batch(["ns", "web-1", "app"], &["first", "a\nb\"c\u{1}"]);
        batch.records[1].flags = Flags::TRUNCATED | Flags::PARTIAL;
        batch.data[5] = 0xff;
        let mut out = Vec::new();
        record(&mut out, &batch, &batch.records[1]);
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "{\"time\":\"2023-11-14T22:13:20.123456789Z\",\"stream\":\"stdout\",\"namespace\":\"ns\",\
             \"pod\":\"web-1\",\"container\":\"app\",\"message\":\"\u{fffd}\\nb\\\"c\\u0001\",\
             \"file\":\"/log/0.log\",\"offset\":5,\"flags\":[\"truncated\",\"partial\"]}\n"
        );
    }
}

//! Cutting an encoded record that the far side refuses for its size. A slow path on purpose: it works on what
//! was encoded, so that nobody has to keep the original for it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::escape::escape;
use crate::head::mark as mark_head;

/// A record made shorter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The new value.
    pub value: Vec<u8>,
    /// The new `taffrail.record` header; empty for JSON.
    pub head: Vec<u8>,
    /// Bytes of the message that were cut now.
    pub bytes: u64,
}

/// Cuts the end of a record's message until value and head together take at most `limit` bytes; flags it
/// `oversize` and adds to `log.truncated_bytes`. `head` is empty for JSON. None when what is not message is too
/// much already, when the record is not one of ours, or when it is small enough as it is.
#[must_use]
pub fn cut(value: &[u8], head: &[u8], limit: usize) -> Option<Cut> {
    if value.len() + head.len() <= limit {
        return None;
    }
    if head.is_empty() { cut_json(value, limit) } else { cut_raw(value, head, limit) }
}

fn cut_raw(value: &[u8], head: &[u8], limit: usize) -> Option<Cut> {
    let room = limit.checked_sub(mark_head(head, value.len() as u64)?.len())?;
    let kept = value.len().min(room);
    let bytes = (value.len() - kept) as u64;
    Some(Cut { value: value[..kept].to_vec(), head: mark_head(head, bytes)?, bytes })
}

fn cut_json(value: &[u8], limit: usize) -> Option<Cut> {
    let mut record: Map<String, Value> = serde_json::from_slice(value).ok()?;
    let text = record.get("message")?.as_str()?.to_owned();
    let log = record.get_mut("log")?.as_object_mut()?;
    let original = log.shift_remove("original").and_then(|o| STANDARD.decode(o.as_str()?).ok());
    record.insert("message".to_owned(), Value::from(""));

    let body: &[u8] = original.as_deref().unwrap_or(text.as_bytes());
    let room = limit.checked_sub(mark(&mut record.clone(), body.len())?.len())?;
    let kept = longest(body, room, original.is_some());

    let log = record.get_mut("log")?.as_object_mut()?;
    if original.is_some() {
        log.insert("original".to_owned(), Value::from(STANDARD.encode(&body[..kept])));
    }
    record.insert("message".to_owned(), Value::from(String::from_utf8_lossy(&body[..kept])));
    let bytes = body.len() - kept;
    Some(Cut { value: mark(&mut record, bytes)?, head: Vec::new(), bytes: bytes as u64 })
}

/// Flags the record, adds to its truncated bytes and writes it.
fn mark(record: &mut Map<String, Value>, cut: usize) -> Option<Vec<u8>> {
    let log = record.get_mut("log")?.as_object_mut()?;
    let flags = log.entry("flags").or_insert_with(|| Value::Array(Vec::new())).as_array_mut()?;
    let oversize = Value::from("oversize");
    if !flags.contains(&oversize) {
        flags.push(oversize);
    }
    let before = log.get("truncated_bytes").and_then(Value::as_u64).unwrap_or(0);
    log.insert("truncated_bytes".to_owned(), Value::from(before + cut as u64));
    serde_json::to_vec(record).ok()
}

/// How many bytes of `body` can stay when they may take `room` bytes as a JSON string (and again as base64).
fn longest(body: &[u8], room: usize, with_original: bool) -> usize {
    const ORIGINAL: usize = ",\"original\":\"\"".len();
    let mut out = Vec::new();
    let mut fits = |kept: usize| {
        out.clear();
        escape(&mut out, &body[..kept]);
        let original = if with_original { ORIGINAL + kept.div_ceil(3) * 4 } else { 0 };
        out.len() + original <= room
    };
    let (mut low, mut high) = (0, body.len());
    while low < high {
        let middle = (low + high).div_ceil(2);
        if fits(middle) { low = middle } else { high = middle - 1 }
    }
    // A cut inside of a character would make a new invalid sequence.
    match str::from_utf8(&body[..low]) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => low,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(message: &str, log: &str) -> Vec<u8> {
        format!("{{\"message\":{},\"log\":{log},\"x\":1}}", Value::from(message)).into_bytes()
    }

    fn parsed(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).expect("json")
    }

    #[test]
    fn a_cut_json_record_fits_and_says_what_is_missing() {
        for limit in 120..400 {
            let message = "ab\"ü\n".repeat(100);
            let cut = cut(&json(&message, r#"{"offset":5}"#), b"", limit).expect("cut");
            let value = parsed(&cut.value);
            let kept = value["message"].as_str().expect("text");
            assert!(cut.value.len() <= limit && cut.value.len() + 20 > limit, "{limit}: {}", cut.value.len());
            assert!(message.starts_with(kept));
            assert_eq!(message.len() - kept.len(), usize::try_from(cut.bytes).expect("small"));
            assert_eq!(value["log"]["flags"], serde_json::json!(["oversize"]));
            assert_eq!(value["log"]["truncated_bytes"], cut.bytes);
        }
    }

    #[test]
    fn an_earlier_cut_is_added_to() {
        let log = r#"{"flags":["truncated"],"truncated_bytes":1000}"#;
        let cut = cut(&json(&"x".repeat(500), log), b"", 300).expect("cut");
        assert_eq!(parsed(&cut.value)["log"]["truncated_bytes"], 1000 + cut.bytes);
        assert_eq!(parsed(&cut.value)["log"]["flags"], serde_json::json!(["truncated", "oversize"]));
    }

    #[test]
    fn invalid_utf8_is_cut_in_both_forms_at_the_same_byte() {
        let body = b"ab\xff".repeat(100);
        let log = format!(r#"{{"original":"{}"}}"#, STANDARD.encode(&body));
        let cut = cut(&json(&String::from_utf8_lossy(&body), &log), b"", 400).expect("cut");
        let value = parsed(&cut.value);
        let original = STANDARD.decode(value["log"]["original"].as_str().expect("text")).expect("base64");
        assert!(cut.value.len() <= 400 && !original.is_empty());
        assert!(body.starts_with(&original));
        assert_eq!(value["message"], String::from_utf8_lossy(&original).as_ref());
        assert_eq!(cut.bytes, (body.len() - original.len()) as u64);
    }

    #[test]
    fn a_raw_record_is_cut_to_the_byte() {
        let head = b"00000000000000000000000000000007 stdout 2026-11-21T10:11:12.000000001Z 5 501 flags=crlf";
        let cut = cut(&[b'x'; 500], head, 200).expect("cut");
        assert!(cut.value.len() + cut.head.len() <= 200);
        assert_eq!(cut.value.len() + usize::try_from(cut.bytes).expect("small"), 500);
        let text = String::from_utf8(cut.head).expect("text");
        assert!(text.contains(" 5 501 flags=crlf,oversize "), "{text}");
        assert!(text.ends_with(&format!(" truncated_bytes={}", cut.bytes)), "{text}");
    }

    #[test]
    fn what_fits_or_cannot_be_cut_is_left_alone() {
        assert_eq!(cut(&json("x", "{}"), b"", 1000), None);
        assert_eq!(cut(&json(&"x".repeat(100), "{}"), b"", 10), None);
        assert_eq!(cut(b"not json, and long enough to be over the limit", b"", 20), None);
    }
}

//! A recording, read from the documents of its session: what was shown and typed, in its order and with what is missing.
//!
//! Guarantee: each piece is there once, however often its document arrived; where pieces are missing, that stands in its place.

use std::cmp::Reverse;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::screen::{Manner, Screen};

/// As most terminals are when nothing says how large it was.
const USUAL: (u16, u16) = (80, 24);

/// What happened at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    /// Seconds since the session began.
    pub(crate) at: f64,
    /// What.
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    /// Shown on the terminal, or written to the standard output or error.
    Shown(Vec<u8>),
    /// Typed, or read from the standard input.
    Typed(Vec<u8>),
    /// So many bytes were, and only that is known.
    Withheld(u64),
    /// The terminal has so many columns and rows now.
    Resized(u16, u16),
    /// A remark, such as what is missing here.
    Remark(String),
}

/// A recording.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Recording {
    /// What happened, in its order.
    pub(crate) frames: Vec<Frame>,
    /// When the session began, seconds since the Unix epoch.
    pub(crate) begun: i64,
    /// What began it.
    pub(crate) command: String,
}

impl Recording {
    /// Of the documents of a session; none if nothing of it is recorded.
    pub(crate) fn of(documents: &[Value]) -> Option<Recording> {
        let mut parts: Vec<Part<'_>> = documents.iter().filter_map(Part::read).collect();
        if parts.is_empty() {
            return None;
        }
        // An agent that was killed between two steps has told the same beginning twice: the longer one has all of it.
        parts.sort_by_key(|part| (part.first, Reverse(part.count)));
        let (mut frames, mut next) = (Vec::new(), 0);
        for part in parts {
            if part.first < next {
                continue;
            }
            let begins = part.events.iter().find_map(|event| event["at"].as_f64()).unwrap_or(0.0);
            if part.first > next {
                let text = format!("{} pieces are missing here", part.first - next);
                frames.push(Frame { at: begins, what: What::Remark(text) });
            }
            next = part.first + part.count;
            frames.extend(part.events.iter().filter_map(frame));
        }
        let ended = documents.iter().find(|document| document["event"]["action"] == "session-ended");
        let told = ended.and_then(|ended| ended["audit"]["recording"]["pieces"].as_u64());
        if let Some(missing) = told.and_then(|told| told.checked_sub(next)).filter(|missing| *missing > 0) {
            let at = frames.last().map_or(0.0, |frame| frame.at);
            let what = What::Remark(format!("{missing} pieces are missing at the end"));
            frames.push(Frame { at, what });
        }
        let begun = documents.iter().filter_map(|document| document["@timestamp"].as_str()?.parse().ok());
        let begun = begun.min().map_or(0, jiff::Timestamp::as_second);
        let line = |document: &Value| Some(document["process"]["command_line"].as_str()?.to_owned());
        let command = documents.iter().find_map(line).unwrap_or_default();
        Some(Recording { frames, begun, command })
    }

    /// Columns and rows of the terminal at first.
    fn size(&self) -> (u16, u16) {
        let sizes = self.frames.iter().filter_map(|frame| match frame.what {
            What::Resized(columns, rows) => Some((columns, rows)),
            _ => None,
        });
        sizes.into_iter().next().unwrap_or(USUAL)
    }

    /// As asciinema's second format has it. Unless it is to be `raw`, nothing is in it that takes over a terminal.
    pub(crate) fn cast(&self, raw: bool) -> String {
        let (width, height) = self.size();
        let command = taffrail_exec::plain(&self.command);
        let head = json!({"version": 2, "width": width, "height": height, "timestamp": self.begun, "command": command});
        let mut text = format!("{head}\n");
        let mut screen = Screen::new(Manner::Screen);
        let mut carried: [Vec<u8>; 2] = Default::default();
        for Frame { at, what } in &self.frames {
            let (code, said) = match what {
                What::Shown(bytes) if raw => ("o", whole(&mut carried[0], bytes)),
                What::Shown(bytes) => ("o", screen.pass(bytes)),
                What::Typed(bytes) => ("i", whole(&mut carried[1], bytes)),
                What::Withheld(bytes) => ("m", format!("{bytes} bytes typed that were not echoed")),
                What::Resized(columns, rows) => ("r", format!("{columns}x{rows}")),
                What::Remark(remark) => ("m", remark.clone()),
            };
            if !said.is_empty() {
                text.push_str(&format!("{}\n", json!([at, code, said])));
            }
        }
        text
    }
}

/// What can be read as text of these bytes behind what was carried; the beginning of a character is carried on.
fn whole(carried: &mut Vec<u8>, bytes: &[u8]) -> String {
    carried.extend(bytes);
    let mut text = String::new();
    loop {
        match std::str::from_utf8(carried) {
            Ok(rest) => {
                text.push_str(rest);
                carried.clear();
                return text;
            }
            Err(error) => {
                let good = error.valid_up_to();
                text.push_str(&String::from_utf8_lossy(&carried[..good]));
                let Some(bad) = error.error_len() else {
                    carried.drain(..good);
                    return text;
                };
                text.push(char::REPLACEMENT_CHARACTER);
                carried.drain(..good + bad);
            }
        }
    }
}

struct Part<'a> {
    first: u64,
    count: u64,
    events: &'a [Value],
}

impl<'a> Part<'a> {
    fn read(document: &'a Value) -> Option<Part<'a>> {
        let recording = document.pointer("/audit/recording")?;
        let (first, count) = (recording.get("first")?.as_u64()?, recording.get("count")?.as_u64()?);
        first.checked_add(count)?;
        Some(Part { first, count, events: recording.get("events")?.as_array()? })
    }
}

fn frame(event: &Value) -> Option<Frame> {
    let at = event["at"].as_f64().filter(|at| at.is_finite() && *at >= 0.0)?;
    let text = event["text"].as_str();
    let bytes = || match text {
        Some(text) => Some(text.as_bytes().to_vec()),
        None => STANDARD.decode(event["base64"].as_str()?).ok(),
    };
    let what = match event["code"].as_str()? {
        "o" | "e" => What::Shown(bytes()?),
        "i" => match event["redacted"].as_u64() {
            Some(length) => What::Withheld(length),
            None => What::Typed(bytes()?),
        },
        "r" => {
            let (columns, rows) = text?.split_once('x')?;
            What::Resized(columns.parse().ok()?, rows.parse().ok()?)
        }
        "m" => What::Remark(text?.to_owned()),
        _ => return None,
    };
    Some(Frame { at, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(first: u64, count: u64, events: &Value) -> Value {
        json!({
            "@timestamp": "2026-11-23T00:00:05Z", "event": {"action": "recorded"},
            "audit": {"recording": {"first": first, "count": count, "events": events}},
        })
    }

    fn shown(at: f64, text: &str) -> Value {
        json!([{"at": at, "code": "o", "text": text}])
    }

    fn texts(recording: &Recording) -> Vec<String> {
        let text = |frame: &Frame| match &frame.what {
            What::Shown(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            What::Remark(remark) => format!("({remark})"),
            other => format!("{other:?}"),
        };
        recording.frames.iter().map(text).collect()
    }

    #[test]
    fn each_piece_is_there_once_and_what_is_missing_is_said_in_its_place() {
        let end = json!({"event": {"action": "session-ended"}, "audit": {"recording": {"pieces": 12}}});
        let documents = [
            part(7, 3, &shown(3.0, "c")),
            part(0, 2, &shown(1.0, "a")),
            part(2, 3, &shown(2.0, "bb")),
            part(2, 1, &shown(2.0, "b")),
            part(0, 2, &shown(1.0, "a")),
            end,
        ];
        let recording = Recording::of(&documents).expect("a recording");
        let expected = ["a", "bb", "(2 pieces are missing here)", "c", "(2 pieces are missing at the end)"];
        assert_eq!(texts(&recording), expected);
        assert_eq!(Recording::of(&documents[5..]), None);
    }

    #[test]
    fn a_cast_is_what_asciinema_reads_and_takes_over_no_terminal() {
        let events = json!([
            {"at": 0.0, "code": "r", "text": "100x30"},
            {"at": 0.5, "code": "o", "text": "\u{1b}]52;c;eA==\u{7}$ \u{1b}[1mx"},
            {"at": 0.6, "code": "o", "base64": "4oI="},
            {"at": 0.7, "code": "e", "base64": "rA=="},
            {"at": 1.0, "code": "i", "text": "ls\r"},
            {"at": 2.0, "code": "i", "redacted": 7},
            {"at": 3.0, "code": "?"},
        ]);
        let entry = json!({"process": {"command_line": "sh"}});
        let recording = Recording::of(&[entry, part(0, 9, &events)]).expect("a recording");
        let lines: Vec<Value> =
            recording.cast(false).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let head =
            json!({"version": 2, "width": 100, "height": 30, "timestamp": 1_795_392_005, "command": "sh"});
        assert_eq!(lines[0], head);
        assert_eq!(
            lines[1..],
            [
                json!([0.0, "r", "100x30"]),
                json!([0.5, "o", "$ \u{1b}[1mx"]),
                json!([0.7, "o", "\u{20ac}"]),
                json!([1.0, "i", "ls\r"]),
                json!([2.0, "m", "7 bytes typed that were not echoed"]),
            ]
        );
        assert!(
            recording.cast(true).contains("\\u001b]52;c;eA==") && recording.cast(true).contains('\u{20ac}')
        );
    }
}

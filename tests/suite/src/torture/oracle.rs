//! Knows what was printed, hears what arrived, and says what is wrong with it. Shares no code with the agent.
//!
//! A container's stream must arrive in order: whatever arrives is either the next line of its stream or one that was
//! there before (a repeat). Anything else is a loss or a disorder, and a finding.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::lines::{self, Lane};

/// Findings beyond this many are only counted.
const KEPT: usize = 20;

/// What arrived so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Each stream so far.
    streams: HashMap<Lane, Stream>,
    /// Records that arrived for the first time.
    pub(super) records: u64,
    /// Records that had arrived before.
    pub(super) repeats: u64,
    /// Bytes of log files that those stand for.
    pub(super) repeated_bytes: u64,
    /// What is wrong.
    pub(super) findings: Vec<String>,
    /// All that is wrong, also what is not kept.
    pub(super) wrong: u64,
}

/// One stream so far.
#[derive(Debug, Default)]
struct Stream {
    /// One past the highest line that arrived.
    next: u64,
    /// Lines before it that did not.
    missing: BTreeSet<u64>,
}

/// The listener.
#[derive(Debug)]
pub(super) struct Oracle {
    seed: u64,
    heard: Mutex<Heard>,
}

impl Oracle {
    /// Expects the lines of this seed.
    #[must_use]
    pub(super) fn new(seed: u64) -> Self {
        Oracle { seed, heard: Mutex::default() }
    }

    /// What arrived so far.
    pub(super) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many lines of a stream have arrived without a gap.
    #[must_use]
    pub(super) fn next(&self, lane: Lane) -> u64 {
        let heard = self.heard();
        heard.streams.get(&lane).map_or(0, |stream| stream.missing.first().copied().unwrap_or(stream.next))
    }

    /// How many lines of a stream of `count` lines never arrived, and the first of them.
    #[must_use]
    pub(super) fn lost(&self, lane: Lane, count: u64) -> Option<(u64, u64)> {
        let heard = self.heard();
        let (next, missing) =
            heard.streams.get(&lane).map_or((0, 0), |stream| (stream.next, stream.missing.len() as u64));
        let lost = missing + count.saturating_sub(next);
        drop(heard);
        (lost > 0).then(|| (lost, self.next(lane)))
    }

    /// Takes a record's value as it lies in the topic.
    pub(super) fn hear(&self, value: &[u8]) {
        let judged = self.judge(value);
        let heard = &mut *self.heard();
        let (lane, number, length) = match judged {
            Ok(judged) => judged,
            Err(what) => return heard.find(what),
        };
        let stream = heard.streams.entry(lane).or_default();
        let due = stream.next;
        if number >= due {
            stream.missing.extend(due..number);
            stream.next = number + 1;
            heard.records += 1;
            if number > due {
                heard.find(format!("{lane:?}: line {number} arrived where {due} was due"));
            }
        } else if stream.missing.remove(&number) {
            heard.records += 1;
        } else {
            heard.repeats += 1;
            heard.repeated_bytes += length;
        }
    }

    /// Checks one record by itself: it must be exactly a line that was printed.
    fn judge(&self, value: &[u8]) -> Result<(Lane, u64, u64), String> {
        let record: Value = serde_json::from_slice(value).map_err(|error| format!("not JSON: {error}"))?;
        let message = record["message"].as_str().ok_or("a record without message")?;
        let start = || message.chars().take(80).collect::<String>();
        let (lane, number) =
            lines::claimed(message).ok_or_else(|| format!("not a line of ours: {:?}", start()))?;
        let expected = lines::message(&lines::content(self.seed, lane, number));
        if message != expected {
            let at = message.bytes().zip(expected.bytes()).take_while(|(a, b)| a == b).count();
            let (found, due) = (message.len(), expected.len());
            return Err(format!(
                "{lane:?} line {number} differs from byte {at} on ({found} bytes instead of {due}), flags {}, {:?}",
                record["log"]["flags"],
                start()
            ));
        }
        if record["stream"] != lane.stream() {
            return Err(format!("{lane:?} line {number} came on stream {}", record["stream"]));
        }
        let pod = &record["kubernetes"]["pod"]["name"];
        if *pod != pod_name(lane) {
            return Err(format!("{lane:?} line {number} came from pod {pod}"));
        }
        let length = record["log"]["length"].as_u64().ok_or("a record without log.length")?;
        Ok((lane, number, length))
    }
}

impl Heard {
    fn find(&mut self, what: String) {
        self.wrong += 1;
        if self.findings.len() < KEPT {
            self.findings.push(what);
        }
    }
}

/// The name of a lane's pod.
#[must_use]
pub(super) fn pod_name(lane: Lane) -> String {
    format!("writer-{}-{}", lane.writer, lane.pod)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LANE: Lane = Lane { writer: 1, pod: 0, stderr: false };

    fn record(number: u64) -> Value {
        json!({"message": lines::message(&lines::content(5, LANE, number)), "stream": "stdout",
               "kubernetes": {"pod": {"name": pod_name(LANE)}}, "log": {"length": 10}})
    }

    #[test]
    fn order_repeats_and_gaps_are_told_apart() {
        let oracle = Oracle::new(5);
        for number in [0, 1, 0, 1, 2] {
            oracle.hear(record(number).to_string().as_bytes());
        }
        let heard = oracle.heard();
        assert_eq!((heard.records, heard.repeats, heard.repeated_bytes, heard.wrong), (3, 2, 20, 0));
        drop(heard);
        oracle.hear(record(4).to_string().as_bytes());
        assert_eq!(oracle.heard().findings.len(), 1, "out of order is wrong");
        assert_eq!((oracle.next(LANE), oracle.lost(LANE, 6)), (3, Some((2, 3))));
        for number in [3, 5] {
            oracle.hear(record(number).to_string().as_bytes());
        }
        assert_eq!((oracle.next(LANE), oracle.lost(LANE, 6)), (6, None), "late is not lost");
    }

    #[test]
    fn what_was_not_printed_is_found() {
        let changed = |change: fn(&mut Value)| {
            let mut value = record(0);
            change(&mut value);
            value.to_string()
        };
        let cases = [
            "{".to_owned(),
            changed(|value| {
                value["message"] = json!(value["message"].as_str().unwrap_or("").to_owned() + "x");
            }),
            changed(|value| value["message"] = json!("hello")),
            changed(|value| value["stream"] = json!("stderr")),
            changed(|value| value["kubernetes"]["pod"]["name"] = json!("other")),
        ];
        for case in cases {
            let oracle = Oracle::new(5);
            oracle.hear(case.as_bytes());
            assert_eq!(oracle.heard().wrong, 1, "{case}");
        }
    }
}

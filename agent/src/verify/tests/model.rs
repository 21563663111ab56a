//! A model made of arrays of bytes.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const SIZE: usize = 40;

/// One file as an array of bytes.
#[derive(Clone)]
struct Model {
    times: [u32; SIZE],
    lost: [Option<&'static str>; SIZE],
    from: Option<u64>,
    size: u64,
    confirmed: u64,
    finished: bool,
    vanished: Option<u64>,
}

#[derive(Debug, Clone)]
enum Event {
    Record(Vec<(u8, u64, u64)>),
    Statement { file: u8, kind: &'static str, from: u64, size: u64, confirmed: u64, lost: Option<(u64, u64)> },
}

fn range() -> impl Strategy<Value = (u64, u64)> {
    (0..SIZE as u64, 1..9_u64).prop_map(|(start, length)| (start, (start + length).min(SIZE as u64)))
}

fn event() -> impl Strategy<Value = Event> {
    let piece = (0..2_u8, range()).prop_map(|(file, (start, end))| (file, start, end));
    let kind = prop::sample::select(vec!["paused", "progress", "opened", "finished", "finished", "vanished"]);
    let bounds = (0..2_u8, kind, 0..4_u64, 0..=SIZE as u64, 0..=SIZE as u64);
    prop_oneof![
        6 => prop::collection::vec(piece, 1..3).prop_map(Event::Record),
        1 => (bounds, prop::option::of(range())).prop_map(|((file, kind, from, size, confirmed), lost)| {
            Event::Statement { file, kind, from, size, confirmed: confirmed.min(size.saturating_sub(from)), lost }
        }),
    ]
}

fn message(event: &Event) -> Value {
    match event {
        Event::Record(pieces) => {
            let (file, start, end) = *pieces.last().unwrap();
            let mut value = record(file, start, end);
            if pieces.len() > 1 {
                let fragments = pieces.iter().map(|(file, start, end)| {
                    json!({"fingerprint": id(*file), "offset": start, "length": end - start})
                });
                value["log"]["fragments"] = fragments.collect();
                value["log"]["length"] = json!(pieces.iter().map(|(_, start, end)| end - start).sum::<u64>());
            }
            value
        }
        Event::Statement { file, kind, from, size, confirmed, lost } => {
            let lost: Vec<_> = lost.iter().map(|(start, end)| ("quota", *start, *end)).collect();
            statement(kind, *file, *from, *size, *confirmed, &lost)
        }
    }
}

impl Model {
    fn missing(&self) -> u64 {
        let first = self.accounted(0..SIZE).next().unwrap_or(0);
        let last = self.accounted(0..SIZE).last().map_or(0, |at| at + 1);
        let from = self.from.map_or(first, |from| from as usize);
        let to = match self.from {
            None => last,
            Some(_) if self.finished || self.unseen() => self.size as usize,
            Some(_) => self.confirmed as usize,
        };
        (to.saturating_sub(from) - self.accounted(from..to.max(from)).count()) as u64
    }

    fn accounted(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = usize> {
        range.filter(|at| self.times[*at] > 0 || self.lost[*at].is_some())
    }

    /// Without times, only what is delivered tells that it was found again.
    fn unseen(&self) -> bool {
        let beyond = |size: u64| self.times[size as usize..].iter().any(|times| *times > 0);
        !self.finished && self.vanished.is_some_and(|size| !beyond(size))
    }

    fn state(&self) -> State {
        let beyond = self.finished && self.times[self.size as usize..].iter().any(|times| *times > 0);
        match self.from {
            _ if beyond => State::Conflicting,
            _ if self.missing() > 0 => State::Missing,
            None => State::Unstated,
            Some(_) if self.finished => State::Complete,
            Some(_) if self.unseen() => State::Vanished,
            Some(_) => State::Open,
        }
    }
}

proptest! {
    #[test]
    fn the_report_is_what_arrays_of_bytes_say(events in prop::collection::vec(event(), 0..40)) {
        let empty = Model {
            times: [0; SIZE], lost: [None; SIZE], from: None, size: 0, confirmed: 0, finished: false, vanished: None,
        };
        let mut models = [empty.clone(), empty];
        let mut kept = Vec::new();
        let mut repeats = 0;
        for event in &events {
            match event {
                Event::Record(pieces) => {
                    let mut new = 0;
                    for (file, start, end) in pieces {
                        for times in &mut models[usize::from(*file)].times[*start as usize..*end as usize] {
                            new += u32::from(*times == 0);
                            *times += 1;
                        }
                    }
                    if new > 0 { kept.push(message(event).to_string()) } else { repeats += 1 }
                }
                Event::Statement { file, kind, from, size, confirmed, lost } => {
                    let model = &mut models[usize::from(*file)];
                    model.from = Some(model.from.map_or(*from, |before| before.min(*from)));
                    model.size = model.size.max(*size);
                    model.confirmed = model.confirmed.max(from + confirmed);
                    model.finished |= *kind == "finished";
                    if *kind == "vanished" {
                        model.vanished = model.vanished.max(Some(*size));
                        model.confirmed = model.confirmed.max(*size);
                    }
                    if let Some((start, end)) = lost {
                        model.lost[*start as usize..*end as usize].fill(Some("quota"));
                    }
                }
            }
        }

        let messages: Vec<Value> = events.iter().map(message).collect();
        let (report, written) = verify(&messages, false);
        prop_assert_eq!(written.lines().collect::<Vec<_>>(), kept.iter().map(String::as_str).collect::<Vec<_>>());
        prop_assert_eq!(report.repeated.records, repeats);
        prop_assert_eq!(report.delivered.records, kept.len() as u64);
        for file in &report.files {
            let model = &models[usize::from(file.fingerprint.ends_with('1'))];
            let delivered = model.times.iter().filter(|times| **times > 0).count() as u64;
            prop_assert_eq!(file.delivered.bytes, delivered);
            prop_assert_eq!(file.repeated.bytes, model.times.iter().map(|t| u64::from(*t)).sum::<u64>() - delivered);
            prop_assert_eq!(file.repeated_ranges.bytes, model.times.iter().filter(|t| **t > 1).count() as u64);
            let lost = model.lost.iter().zip(model.times).filter(|(lost, times)| lost.is_some() && *times == 0);
            prop_assert_eq!(file.lost_bytes(), lost.count() as u64);
            prop_assert_eq!(file.missing.bytes, model.missing());
            prop_assert_eq!(file.state, model.state());
        }
        let touched = models.iter().filter(|m| m.from.is_some() || m.times.iter().any(|t| *t > 0)).count();
        prop_assert!(report.files.len() >= touched);
        prop_assert_eq!(report.complete, report.files.iter().all(|file| file.state < State::Missing));
    }
}

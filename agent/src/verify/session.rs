//! One run: messages from wherever they come are told apart, counted, and passed on without the repeats.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Deserialize;
use taffrail_envelope::{Located, locate_json, locate_raw};
use taffrail_record::Statement;

use super::places::{Place, Written};
use super::progress::Progress;
use super::verifier::{Novelty, Verifier};

/// A message as it was found.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Message<'a> {
    /// The value, or the line.
    pub(super) value: &'a [u8],
    /// The headers `taffrail.origin`, empty when there is none, and `taffrail.record`, when it has them.
    pub(super) raw: Option<(&'a [u8], &'a [u8])>,
    /// Where it was.
    pub(super) place: Place,
    /// When it was written there, in nanoseconds since the Unix epoch; else the time of the line counts.
    pub(super) time: Option<i64>,
}

/// Feeds the verifier and writes what is new.
pub(super) struct Session {
    verifier: Verifier,
    progress: Progress,
    out: Option<Box<dyn Write>>,
}

impl Session {
    /// Writes records that are no repeats to `out`, one a line, in the order of arrival.
    pub(super) fn new(verifier: Verifier, progress: Progress, out: Option<Box<dyn Write>>) -> Self {
        Session { verifier, progress, out }
    }

    /// Another place in which messages lie.
    pub(super) fn place(&mut self) -> Place {
        self.verifier.place()
    }

    /// As [`Verifier::truncate`].
    pub(super) fn truncate(&mut self, place: Place, oldest: Option<i64>) {
        self.verifier.truncate(place, oldest);
    }

    /// Takes one message in.
    ///
    /// # Errors
    /// Only those of the output.
    pub(super) fn message(&mut self, message: Message<'_>) -> io::Result<()> {
        let located = match message.raw {
            Some((origin, record)) => locate_raw(origin, record),
            None => locate_json(message.value),
        };
        match located {
            Ok(located) if is_possible(&located) => self.record(message, &located),
            _ => {
                self.other(message.value);
                Ok(())
            }
        }
    }

    fn record(&mut self, message: Message<'_>, located: &Located<'_>) -> io::Result<()> {
        let described = message.raw.map_or(message.value, |(origin, _)| origin);
        let printed = || if message.raw.is_none() { printed(message.value) } else { None };
        let time = message.time.or_else(printed);
        let written = Written { place: message.place, time };
        let novelty = self.verifier.record(located, written, || owner(described), || content(message));
        self.progress.show(self.verifier.seen());
        match &mut self.out {
            Some(out) if novelty != Novelty::Repeat => {
                out.write_all(message.value)?;
                out.write_all(b"\n")
            }
            _ => Ok(()),
        }
    }

    fn other(&mut self, value: &[u8]) {
        let said = serde_json::from_slice::<Said>(value).ok();
        let known = said.is_some_and(|said| {
            let time = said.time.as_deref().and_then(nanoseconds);
            self.verifier.statement(&said.ledger, time, || owner(value))
        });
        if !known {
            self.verifier.foreign();
        }
    }

    /// Ends the run: all that is new has been written.
    ///
    /// # Errors
    /// Those of the output.
    pub(super) fn finish(mut self) -> io::Result<Verifier> {
        self.progress.clear();
        if let Some(out) = &mut self.out {
            out.flush()?;
        }
        Ok(self.verifier)
    }
}

/// Whether its ranges are ranges: anybody can write to a topic.
fn is_possible(located: &Located<'_>) -> bool {
    located.offset.checked_add(located.length).is_some()
        && located.fragments.iter().all(|fragment| fragment.span.start <= fragment.span.end)
}

#[derive(Deserialize)]
struct Said {
    #[serde(rename = "@timestamp", default)]
    time: Option<String>,
    ledger: Statement,
}

/// `@timestamp` of a record. The agent writes it first, so that a whole parse is for records that passed through other
/// hands.
fn printed(value: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Printed<'a> {
        #[serde(borrow, rename = "@timestamp")]
        time: Cow<'a, str>,
    }
    const FIRST: &[u8] = b"{\"@timestamp\":\"";
    if let Some(rest) = value.strip_prefix(FIRST) {
        let end = rest.iter().position(|byte| *byte == b'"')?;
        return nanoseconds(str::from_utf8(&rest[..end]).ok()?);
    }
    nanoseconds(&serde_json::from_slice::<Printed<'_>>(value).ok()?.time)
}

fn nanoseconds(time: &str) -> Option<i64> {
    i64::try_from(time.parse::<jiff::Timestamp>().ok()?.as_nanosecond()).ok()
}

/// `namespace/pod/container`, or the container's name, out of the constant fields.
fn owner(fields: &[u8]) -> String {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Fields {
        kubernetes: Kubernetes,
        container: Named,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Kubernetes {
        namespace: String,
        pod: Named,
        container: Named,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Named {
        name: String,
    }
    let Fields { kubernetes, container } = serde_json::from_slice(fields).unwrap_or_default();
    let plain = if kubernetes.pod.name.is_empty() { container.name } else { String::new() };
    let names = [kubernetes.namespace, kubernetes.pod.name, kubernetes.container.name, plain];
    names.into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>().join("/")
}

/// What a repeat must have in common with its first: the stream and the message's own bytes.
fn content(message: Message<'_>) -> Option<Cow<'_, [u8]>> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        message: Cow<'a, str>,
        #[serde(borrow, default)]
        stream: Cow<'a, str>,
        #[serde(borrow)]
        log: Log<'a>,
    }
    #[derive(Deserialize)]
    struct Log<'a> {
        #[serde(borrow, default)]
        original: Cow<'a, str>,
    }
    if message.raw.is_some() {
        return Some(Cow::Borrowed(message.value));
    }
    let body: Body<'_> = serde_json::from_slice(message.value).ok()?;
    Some(Cow::Owned([&*body.stream, &*body.message, &*body.log.original].join("\0").into_bytes()))
}

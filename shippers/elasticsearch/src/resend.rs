//! Sending dead letters again, once what they were refused for has been mended.
//!
//! Guarantee: a letter is removed only when the engine has its document. The shipper may go on writing meanwhile.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::FlockArg;
use reqwest::Method;

use crate::answer::{FILTER, Verdict, Whole, read};
use crate::bulk::{self, Line};
use crate::client::{Connector, Question};
use crate::dead::{Letter, Segment, lock, put_back, take};
use crate::nodes::{Backoff, Nodes};
use crate::setup::{Refusal, contact};
use crate::shipper::{runtime, urls};
use crate::worker::shown;
use crate::{ElasticsearchConfig, ElasticsearchError};

/// How often something that can be mended by waiting is tried.
const TRIES: usize = 5;

/// What became of the dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResendSummary {
    /// Letters read.
    pub letters: u64,
    /// Stored now, and removed.
    pub stored: u64,
    /// Were there already, and removed.
    pub duplicates: u64,
    /// Refused for good once more, and kept.
    pub refused: u64,
    /// Not taken for now (the engine is busy, the index blocked), and kept.
    pub postponed: u64,
    /// Cannot be sent, because the document is no JSON object or the line is damaged; kept.
    pub unsendable: u64,
    /// The first reason of what is kept.
    pub reason: Option<String>,
}

impl ResendSummary {
    /// Letters that are still there.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.refused + self.postponed + self.unsendable
    }
}

/// Sends the dead letters in `directory` again and removes those that are stored. It may be called while a shipper
/// writes there.
///
/// # Errors
/// [`ElasticsearchError`] when no node can be used, or the directory cannot; letters not stored until then are kept.
pub fn resend(directory: &Path, config: &ElasticsearchConfig) -> Result<ResendSummary, ElasticsearchError> {
    let mut summary = ResendSummary::default();
    if !directory.exists() {
        return Ok(summary);
    }
    let Ok(_alone) = lock(directory, ".resend", FlockArg::LockExclusiveNonblock) else {
        return Err(ElasticsearchError::Busy(directory.to_owned()));
    };
    let sender = Sender { connector: Connector::new(config)?, config };
    let runtime = runtime()?;
    runtime.block_on(sender.reach())?;
    let segments = take(directory).map_err(ElasticsearchError::dead(directory))?;
    let mut failed = None;
    for segment in segments {
        let sent = match failed {
            None => runtime.block_on(sender.segment(&segment, &mut summary)),
            Some(_) => fs::read(&segment.path).map_err(ElasticsearchError::dead(&segment.path)),
        };
        let left = match sent {
            Ok(left) => left,
            Err(error) => {
                failed.get_or_insert(error);
                fs::read(&segment.path).map_err(ElasticsearchError::dead(&segment.path))?
            }
        };
        put_back(directory, &segment, &left).map_err(ElasticsearchError::dead(&segment.path))?;
    }
    failed.map_or(Ok(summary), Err)
}

struct Sender<'a> {
    connector: Connector,
    config: &'a ElasticsearchConfig,
}

/// A line of a file, and the letter in it.
struct Entry<'a> {
    line: &'a [u8],
    letter: Letter,
}

impl Sender<'_> {
    /// Whether there is an engine at all, before any file is touched.
    async fn reach(&self) -> Result<(), ElasticsearchError> {
        let mut problems = Vec::new();
        for url in urls(self.config)? {
            match contact(&self.connector, &url, self.config, true).await {
                Ok(_) => return Ok(()),
                Err(refusal) => {
                    problems.push(format!("{}: {}; {}", shown(&url), refusal.text, refusal.reason.advice()));
                }
            }
        }
        Err(ElasticsearchError::Unusable(problems.join("; ")))
    }

    /// Sends a file; the lines to be kept.
    async fn segment(
        &self,
        segment: &Segment,
        summary: &mut ResendSummary,
    ) -> Result<Vec<u8>, ElasticsearchError> {
        let text = fs::read(&segment.path).map_err(ElasticsearchError::dead(&segment.path))?;
        let mut kept = Vec::new();
        let mut entries = Vec::new();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            summary.letters += 1;
            match serde_json::from_slice::<Letter>(line) {
                Ok(letter) if is_sendable(&letter) => entries.push(Entry { line, letter }),
                _ => {
                    summary.unsendable += 1;
                    keep(&mut kept, line);
                }
            }
        }
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(self.portion(rest));
            let mut parts = vec![now];
            while let Some(part) = parts.pop() {
                if !self.portion_sent(part, &mut kept, summary).await? {
                    let (one, other) = part.split_at(part.len() / 2);
                    parts.extend([other, one]);
                }
            }
            rest = later;
        }
        Ok(kept)
    }

    /// How many of these go into one request.
    fn portion(&self, entries: &[Entry<'_>]) -> usize {
        let mut bytes = 0;
        let fits = |entry: &&Entry<'_>| {
            bytes += entry.line.len() as u64;
            bytes <= self.config.bulk_bytes
        };
        entries.iter().take(self.config.bulk_documents as usize).take_while(fits).count().max(1)
    }

    /// Sends these in one request; false when they have to be divided.
    async fn portion_sent(
        &self,
        entries: &[Entry<'_>],
        kept: &mut Vec<u8>,
        summary: &mut ResendSummary,
    ) -> Result<bool, ElasticsearchError> {
        let mut left: Vec<&Entry<'_>> = entries.iter().collect();
        let mut backoff = Backoff::new(Duration::from_millis(self.config.retry_max_ms.min(5000)));
        for attempt in 1..=TRIES {
            let verdicts = match self.ask(&left).await {
                Ok(Some(verdicts)) => verdicts,
                Ok(None) => return Ok(false),
                Err(refusal) if attempt == TRIES => {
                    return Err(ElasticsearchError::Unusable(format!(
                        "{}; {}",
                        refusal.text,
                        refusal.reason.advice()
                    )));
                }
                Err(refusal) => {
                    tokio::time::sleep(backoff.next(refusal.retry_after)).await;
                    continue;
                }
            };
            let mut again = Vec::new();
            for (entry, verdict) in left.into_iter().zip(verdicts) {
                match verdict {
                    Verdict::Stored => summary.stored += 1,
                    Verdict::Duplicate => summary.duplicates += 1,
                    Verdict::Retry(..) if attempt < TRIES => again.push(entry),
                    Verdict::Retry(reason, text) => {
                        summary.postponed += 1;
                        summary.reason.get_or_insert_with(|| format!("{text}; {}", reason.remedy()));
                        keep(kept, entry.line);
                    }
                    Verdict::Dead { kind, reason, .. } => {
                        summary.refused += 1;
                        summary.reason.get_or_insert_with(|| format!("{kind}: {reason}"));
                        keep(kept, entry.line);
                    }
                }
            }
            left = again;
            if left.is_empty() {
                break;
            }
            tokio::time::sleep(backoff.next(None)).await;
        }
        Ok(true)
    }

    /// A verdict for each of these, in order, by the first node that gives one; none when one of several makes the whole
    /// request impossible.
    async fn ask(&self, entries: &[&Entry<'_>]) -> Result<Option<Vec<Verdict>>, Refusal> {
        let lines = || {
            entries.iter().map(|entry| Line {
                index: &entry.letter.index,
                id: &entry.letter.id,
                document: entry.letter.document.get().as_bytes(),
            })
        };
        let ids: Vec<&str> = entries.iter().map(|entry| entry.letter.id.as_str()).collect();
        let urls = urls(self.config).unwrap_or_default();
        let mut nodes = Nodes::new(urls.clone(), Duration::from_secs(1));
        let mut last = Refusal::none();
        for _ in &urls {
            let Ok(at) = nodes.pick(std::time::Instant::now()) else { break };
            let question = Question {
                method: Method::POST,
                path: format!("_bulk?filter_path={FILTER}"),
                body: bulk::body(lines(), self.config.gzip),
                kind: "application/x-ndjson",
                gzip: self.config.gzip,
            };
            let refusal = match self.connector.ask(nodes.url(at), question).await {
                Err(failure) => Refusal::from(failure),
                Ok(answer) => match read(&answer, &ids) {
                    Whole::Each(verdicts) => return Ok(Some(verdicts)),
                    Whole::TooLarge(_) | Whole::Invalid { .. } if entries.len() > 1 => return Ok(None),
                    Whole::Again { reason, text, .. } => {
                        Refusal { reason, text, retry_after: answer.retry_after }
                    }
                    Whole::TooLarge(text) => return Ok(Some(refused(413, "too_large", &text))),
                    Whole::Invalid { kind, reason } => return Ok(Some(refused(400, &kind, &reason))),
                },
            };
            last = Refusal { text: format!("{}: {}", shown(nodes.url(at)), refusal.text), ..refusal };
        }
        Err(last)
    }
}

fn refused(status: u16, kind: &str, reason: &str) -> Vec<Verdict> {
    vec![Verdict::Dead { status, kind: kind.to_owned(), reason: reason.to_owned() }]
}

/// Whether an engine could take it, as far as that can be known here.
fn is_sendable(letter: &Letter) -> bool {
    let mut document = letter.document.get().as_bytes().to_vec();
    letter.encoding.is_none() && bulk::prepare(Some(&letter.id), &mut document).is_ok()
}

fn keep(kept: &mut Vec<u8>, line: &[u8]) {
    kept.extend_from_slice(line);
    kept.push(b'\n');
}

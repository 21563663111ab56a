//! Accounts are made up: after each cycle, while nobody prints for a moment, and at the end.
//!
//! After a cycle everything printed so far must have arrived, each stream in order; the agent's ledger must add up with
//! nothing under way and nothing lost (what a kill makes the agent take for lost, the topics prove delivered);
//! repeats must be within the bound, and memory too. `taffrail verify` reads the topics from their beginning, so it is
//! asked after cycles 1, 2, 4, 8, ...: then all of it costs no more than another reading or two. At the end it is asked
//! again, and everything is read once more by who has heard nothing.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::agent;
use super::lines::{self, Lane};
use super::oracle::Oracle;
use super::run::{LEDGER_TOPIC, Since, TOPIC, Torture};
use super::summary::Summary;

/// How long what was printed may take to arrive once nothing disturbs it.
const ARRIVAL: Duration = Duration::from_secs(180);
/// How long the agent may take from then on until nothing is under way.
const REST: Duration = Duration::from_secs(60);
/// A life this long has sent again whatever it sends again.
const SETTLED: Duration = Duration::from_secs(3);
/// So often in succession the ledger shows nothing under way before that is believed.
const QUIET: u32 = 4;
const LOOK: Duration = Duration::from_millis(100);

impl Torture<'_> {
    /// After a cycle. Returns whether it makes sense to go on.
    pub(super) fn reckon(&mut self) -> Result<bool> {
        let Some(printed) = self.pause() else {
            self.summary.find("a container prints no more");
            return Ok(false);
        };
        let arrived = self.await_arrival(&printed);
        if arrived {
            self.reckon_ledger()?;
            self.reckon_repeats();
            if self.summary.cycles.is_power_of_two() {
                self.verify(None)?;
            }
        }
        self.note_memory();
        self.reckon_memory();
        self.shared.pause.store(0, Ordering::Release);
        // What is lost stays lost, and each further cycle would wait for it.
        Ok(arrived)
    }

    /// Has nobody print; what was printed so far, or nothing when a writer does not answer.
    fn pause(&self) -> Option<Vec<(Lane, u64)>> {
        let pause = self.summary.cycles;
        self.shared.pause.store(pause, Ordering::Release);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) {
            let paused = self.shared.paused.lock().unwrap_or_else(PoisonError::into_inner);
            let answered = paused.values().filter(|(number, _)| *number == pause);
            let printed: Vec<_> = answered.map(|(_, printed)| printed).collect();
            if printed.len() == usize::from(self.options.writers) {
                return Some(printed.into_iter().flatten().copied().collect());
            }
            drop(paused);
            thread::sleep(LOOK);
        }
        None
    }

    fn await_arrival(&mut self, printed: &[(Lane, u64)]) -> bool {
        let start = Instant::now();
        let missing =
            |oracle: &Oracle| printed.iter().filter(|(lane, count)| oracle.next(*lane) < *count).count();
        while missing(&self.oracle) > 0 && start.elapsed() < ARRIVAL {
            thread::sleep(LOOK);
        }
        let missing = missing(&self.oracle);
        if missing > 0 {
            self.summary.find(format!("{missing} streams had not arrived after {ARRIVAL:?}"));
        }
        self.summary.slowest_arrival = self.summary.slowest_arrival.max(start.elapsed());
        if let Err(error) = self.agent.must_live() {
            self.summary.find(format!("undisturbed: {error}"));
        }
        missing == 0
    }

    /// Waits until the agent has nothing under way and all that it sent has been heard.
    fn reckon_ledger(&mut self) -> Result<()> {
        let start = Instant::now();
        let (mut quiet, mut read) = (0, Value::Null);
        let mut last = Err(anyhow::anyhow!("it was not asked"));
        while start.elapsed() < REST && quiet < QUIET {
            thread::sleep(LOOK);
            last = agent::ledger(&self.setup);
            let Ok((_, ledger)) = &last else { continue };
            let total = &ledger["total"];
            let rest = ["lag_bytes", "pending_bytes", "pending_records", "carried_bytes"];
            let at_rest = self.agent.age() > SETTLED
                && rest.iter().all(|key| total[key] == 0)
                && total["read_bytes"] == read
                && self.follower.has_heard(&self.broker.end_offsets(TOPIC)?);
            quiet = if at_rest { quiet + 1 } else { 0 };
            read = total["read_bytes"].clone();
        }
        match last {
            Err(error) => self.summary.find(format!("the ledger does not answer: {error:#}")),
            Ok((adds_up, ledger)) => {
                if !adds_up || ledger["adds_up"] != true {
                    self.summary.find(format!("the ledger does not add up: {}", ledger["total"]));
                }
                let lost = ledger["total"]["lost"].as_object();
                let mut reasons = lost.into_iter().flat_map(|lost| lost.keys());
                if reasons.any(|reason| !self.doubtful || reason != "deleted") {
                    self.summary.find(format!("the ledger says lost: {}", ledger["total"]["lost"]));
                }
                if quiet < QUIET {
                    self.summary.find(format!("not at rest after {REST:?}: {}", ledger["total"]));
                }
            }
        }
        Ok(())
    }

    /// Holds the repeats since the last time against the kills since then. What comes again after several kills in quick
    /// succession cannot be told apart: what one life was too short to send again, the next one sends for it. Their
    /// sum is held against the sum of their bounds; of a single kill, what it alone has caused. An orderly stop may
    /// repeat one line of each container: what the other stream printed between the parts of a line that had no end yet.
    fn reckon_repeats(&mut self) {
        let repeated = self.oracle.heard().repeated_bytes;
        let since = std::mem::take(&mut self.since);
        let new = repeated - since.repeated_bytes;
        self.since.repeated_bytes = repeated;
        let summary = &mut self.summary;
        if since.lost_positions {
            summary.most_repeated_without_positions = summary.most_repeated_without_positions.max(new);
            return;
        }
        if since.kills == 1 {
            summary.most_repeated = summary.most_repeated.max(new);
        }
        let between_parts = u64::from(self.options.writers) * lines::LONGEST;
        if new > since.kills * summary.repeat_bound + since.stops * between_parts {
            let Since { kills, stops, .. } = since;
            summary.find(format!("{new} bytes repeated after {kills} kills and {stops} stops"));
        }
    }

    fn reckon_memory(&mut self) {
        let (peak, bound) = (self.summary.peak_memory, self.options.memory_bound);
        let known = self.summary.findings.iter().any(|finding| finding.contains("bytes of memory"));
        if peak > bound && !known {
            self.summary.find(format!("the agent held {peak} bytes of memory, more than {bound}"));
        }
    }

    /// Once no more faults come.
    pub(super) fn finish(mut self) -> Result<Summary> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut printed = Vec::new();
        for writer in std::mem::take(&mut self.writers) {
            let ended = writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?;
            printed.extend(ended.context("a container could not print")?);
        }
        self.summary.bytes = self.shared.written.load(Ordering::Relaxed);
        self.summary.lines = printed.iter().map(|(_, count)| count).sum();
        self.say("all is printed, waiting for it to arrive");
        if self.await_arrival(&printed) {
            self.reckon_ledger()?;
            self.reckon_repeats();
        }
        self.say("the wait is over");
        self.note_memory();
        self.reckon_memory();
        self.stop_agent()?;
        self.read_again(&printed)?;
        self.verify(Some(self.summary.lines))?;
        if !self.summary.findings.is_empty() {
            self.keep_ledger()?;
        }
        self.summary.elapsed = self.start.elapsed();
        Ok(self.summary)
    }

    /// Everything once more from the topic's beginning, by Kafka's own consumer and a listener that has heard nothing.
    fn read_again(&mut self, printed: &[(Lane, u64)]) -> Result<()> {
        let oracle = Oracle::new(self.options.seed);
        self.broker.consume(TOPIC, |record| {
            oracle.hear(record.value.as_deref().unwrap_or_default());
            Ok(())
        })?;
        for (lane, count) in printed {
            if let Some((lost, first)) = oracle.lost(*lane, *count) {
                self.summary.find(format!("LOST {lane:?}: {lost} of {count} lines, the first is {first}"));
            }
        }
        let heard = oracle.heard();
        self.summary.repeats = heard.repeats;
        if heard.wrong > 0 {
            let findings = heard.findings.clone();
            let wrong = heard.wrong;
            drop(heard);
            self.summary.find(format!("{wrong} records are wrong:"));
            findings.into_iter().for_each(|finding| self.summary.find(finding));
        }
        Ok(())
    }

    /// What the agent claimed, for whoever looks for the cause.
    fn keep_ledger(&self) -> Result<()> {
        let mut kept = BufWriter::new(File::create(self.options.directory.join("ledger.ndjson"))?);
        self.broker.consume(LEDGER_TOPIC, |record| {
            kept.write_all(record.value.as_deref().unwrap_or_default())?;
            Ok(kept.write_all(b"\n")?)
        })?;
        Ok(kept.flush()?)
    }

    /// Holds what `taffrail verify` says of both topics against what was printed, `lines` of them when all have been counted.
    fn verify(&mut self, lines: Option<u64>) -> Result<()> {
        let report = self.options.directory.join("verify.json");
        let (status, value) = agent::verify(&self.setup, &self.settings, &report)?;
        self.summary.verified += 1;
        self.summary.verdict = value["verdict"].as_str().unwrap_or("no verdict").to_owned();
        if !status.success() {
            self.summary.find(format!("verify ended with {status}: {}", self.summary.verdict));
        }
        let lost = value["lost"].as_object().is_none_or(|lost| !lost.is_empty());
        if lost {
            self.summary.find(format!("verify says lost: {}", value["lost"]));
        }
        let delivered = value["delivered"]["records"].as_u64().unwrap_or(0);
        if lines.is_some_and(|lines| lines != delivered) {
            let printed = self.summary.lines;
            self.summary.find(format!("verify counts {delivered} records, {printed} lines were printed"));
        }
        Ok(())
    }
}

//! What came of it, for people.

use std::fmt;
use std::time::Duration;

use super::plan::Fault;

/// The numbers of a run and what it found.
#[derive(Debug, Default)]
pub struct Summary {
    /// How long it ran.
    pub elapsed: Duration,
    /// Faults, or several in quick succession, after each of which accounts were made up.
    pub cycles: u64,
    /// How often `taffrail verify` was asked, the end included.
    pub verified: u64,
    /// The longest that it took after a cycle until everything printed so far had arrived.
    pub slowest_arrival: Duration,
    /// Kills of the agent.
    pub kills: u64,
    /// How often each fault came.
    pub faults: Vec<(Fault, u64)>,
    /// Lines printed.
    pub lines: u64,
    /// Bytes of log files written.
    pub bytes: u64,
    /// Records that came again.
    pub repeats: u64,
    /// Most bytes repeated after one kill that kept the positions.
    pub most_repeated: u64,
    /// What that must not exceed.
    pub repeat_bound: u64,
    /// Most bytes repeated after positions were lost on purpose.
    pub most_repeated_without_positions: u64,
    /// Most memory the agent held, in bytes.
    pub peak_memory: u64,
    /// The last line of `taffrail verify`.
    pub verdict: String,
    /// What is wrong.
    pub findings: Vec<String>,
}

impl Summary {
    /// Counts a fault.
    pub fn count(&mut self, fault: Fault) {
        match self.faults.iter_mut().find(|(known, _)| *known == fault) {
            Some((_, count)) => *count += 1,
            None => self.faults.push((fault, 1)),
        }
    }

    /// Notes something wrong, and says it at once.
    pub fn find(&mut self, what: impl Into<String>) {
        let what = what.into();
        eprintln!("FINDING: {what}");
        self.findings.push(what);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let faults: Vec<String> =
            self.faults.iter().map(|(fault, count)| format!("{count} {fault:?}")).collect();
        writeln!(f, "time                 {:.0} s", self.elapsed.as_secs_f64())?;
        writeln!(
            f,
            "cycles               {}, each with the ledger made up; verified {} times",
            self.cycles, self.verified
        )?;
        writeln!(f, "faults               {}", faults.join(", "))?;
        writeln!(f, "kills of the agent   {}", self.kills)?;
        writeln!(f, "printed              {} lines, {:.0} MiB", self.lines, mib(self.bytes))?;
        writeln!(f, "repeated             {} records", self.repeats)?;
        writeln!(
            f,
            "most after a kill    {:.2} MiB (bound {:.2}); {:.2} MiB after lost positions",
            mib(self.most_repeated),
            mib(self.repeat_bound),
            mib(self.most_repeated_without_positions)
        )?;
        writeln!(f, "slowest arrival      {:.1} s", self.slowest_arrival.as_secs_f64())?;
        writeln!(f, "peak memory          {:.0} MiB", mib(self.peak_memory))?;
        writeln!(f, "verify               {}", self.verdict)?;
        for finding in &self.findings {
            writeln!(f, "FINDING              {finding}")?;
        }
        write!(f, "{} findings", self.findings.len())
    }
}

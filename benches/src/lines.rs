//! Logs to ship: varied CRI lines of about 200 bytes in kubelet's layout, the same for the same seed.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Bytes of a message, about; the CRI prefix is 40 more.
const MESSAGE: usize = 160;

const WORDS: [&str; 16] = [
    "request", "served", "cache", "user", "order", "payment", "timeout", "retry", "shard", "index", "commit",
    "lookup", "session", "token", "queue", "café",
];

/// A sequence of numbers without a pattern (xorshift).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// The sequence of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Dice(seed | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Appends one CRI line.
pub fn line(dice: &mut Dice, number: u64, out: &mut Vec<u8>) {
    let (second, fraction) = (number / 50_000 % 60, number * 19_997 % 1_000_000_000);
    let minute = number / 3_000_000 % 60;
    let stream = if dice.below(8) == 0 { "stderr" } else { "stdout" };
    let level = ["INFO", "DEBUG", "WARN", "ERROR"][dice.below(4) as usize];
    let (worker, id, took) = (dice.below(64), dice.below(1 << 40), dice.below(2000));
    // Vec<u8> takes everything.
    let _ = write!(
        out,
        "2026-11-21T10:{minute:02}:{second:02}.{fraction:09}Z {stream} F {level} [worker-{worker}] \
         c.e.s.OrderService - id={id} took {took}ms"
    );
    let end = out.len() + MESSAGE - 70;
    while out.len() < end {
        let (word, number) = (WORDS[dice.below(WORDS.len() as u64) as usize], dice.below(1 << 24));
        let _ = write!(out, " {word}={number}");
    }
    if dice.below(10) == 0 {
        out.extend_from_slice(br#" path="C:\tmp\x""#);
    }
    out.push(b'\n');
}

/// The pods' namespace.
pub const NAMESPACE: &str = "shop";

/// The container of each pod.
pub const CONTAINER: &str = "web";

/// Name and UID of a pod.
#[must_use]
pub fn pod(number: usize) -> (String, String) {
    (format!("web-7d9f8b6c5-x{number:05}"), format!("0a1b2c3d-1111-2222-3333-{number:012}"))
}

/// The file of container `number` below `root`; its folder is made.
pub fn container(root: &Path, number: usize) -> Result<PathBuf> {
    let (name, uid) = pod(number);
    let folder = root.join(format!("{NAMESPACE}_{name}_{uid}")).join(CONTAINER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder.join("0.log"))
}

/// What was written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written {
    /// Lines.
    pub lines: u64,
    /// Bytes of log files.
    pub bytes: u64,
}

/// Writes about `bytes` bytes of log in all, spread over `files` containers below `root`.
pub fn write(root: &Path, files: usize, bytes: u64) -> Result<Written> {
    let mut written = Written::default();
    let mut buffer = Vec::new();
    for number in 0..files {
        let path = container(root, number)?;
        let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        let mut dice = Dice::new(number as u64 * 7919 + 1);
        let share = bytes * (number as u64 + 1) / files as u64;
        while written.bytes < share {
            buffer.clear();
            line(&mut dice, written.lines, &mut buffer);
            file.write_all(&buffer).with_context(|| format!("cannot write {}", path.display()))?;
            written.lines += 1;
            written.bytes += buffer.len() as u64;
        }
        file.flush().with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(written)
}

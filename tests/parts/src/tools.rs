//! Running programs to their end and writing their files, saying well what went wrong when they fail.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};

/// Runs a program to its end; its standard output, or an error with the last lines it printed.
pub(crate) fn run(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name} failed with {}: {}", output.status, said(&output));
    }
    Ok(output.stdout)
}

fn said(output: &Output) -> String {
    last_lines(&output.stderr, 20).or(&output.stdout).to_string()
}

/// The last lines of a text, for error messages.
#[derive(Debug)]
pub(crate) struct LastLines(String);

impl LastLines {
    /// This text, or the last lines of another when this one is empty.
    pub(crate) fn or(self, other: &[u8]) -> Self {
        if self.0.is_empty() { last_lines(other, 20) } else { self }
    }
}

impl fmt::Display for LastLines {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.0.is_empty() { "(it printed nothing)" } else { &self.0 })
    }
}

/// The last `count` lines of a text.
pub(crate) fn last_lines(text: &[u8], count: usize) -> LastLines {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    LastLines(lines[lines.len().saturating_sub(count)..].join("\n"))
}

/// The last lines of a log file, empty when there is none.
pub(crate) fn tail(log: &Path) -> LastLines {
    const ENOUGH: u64 = 16 * 1024;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(ENOUGH)))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(text)
    };
    last_lines(&read().unwrap_or_default(), 30)
}

/// Writes a file of a part, which lives no longer than the part.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing of a part is read again after a crash: no need to write aside"
)]
pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The version that a program of the Prometheus family says it has: `<name>, version <version> (…`.
pub(crate) fn version_of(program: &str) -> Option<String> {
    let mut command = Command::new(program);
    crate::packages::with_programs_for_root(&mut command);
    let output = command.arg("--version").output().ok()?;
    // Older ones print it on the standard error.
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    Some(printed.split_once(", version ")?.1.split_whitespace().next()?.to_owned())
}

/// Creates a folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_named_with_what_it_said() {
        let error =
            run(Command::new("sh").args(["-c", "echo before; echo lost at sea >&2; exit 3"])).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("sh failed") && text.contains("exit status: 3") && text.contains("lost at sea"),
            "{text}"
        );
    }

    #[test]
    fn the_last_lines_are_kept() {
        let cases: [(&[u8], usize, &str); 4] = [
            (b"one\ntwo\nthree\n", 2, "two\nthree"),
            (b"one\n", 5, "one"),
            (b"", 5, "(it printed nothing)"),
            (b"bad \xff byte", 5, "bad \u{fffd} byte"),
        ];
        for (text, count, expected) in cases {
            assert_eq!(last_lines(text, count).to_string(), expected);
        }
    }
}

//! What a topic holds, read by Kafka's own client (`kafka/Records.java`), byte for byte.
//!
//! Independent of librdkafka, on which both taffrail and kcat stand; and kcat's JSON output replaces
//! bytes that are not UTF-8, so it proves nothing about raw logs.

use std::io::{BufReader, ErrorKind, Read};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::tools;

/// A record as the broker keeps it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The headers in their order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Record {
    /// The value as text, with a mark in place of bytes that are not UTF-8; empty when there is none.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.value.as_deref().unwrap_or_default()).into_owned()
    }

    /// The first header of this name that has a value.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.as_deref())
    }
}

/// Runs the reader and hands each record to `each`, in order within a partition.
pub(crate) fn read(mut reader: Command, mut each: impl FnMut(Record) -> Result<()>) -> Result<()> {
    let mut child = reader
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run java")?;
    let output = child.stdout.take().context("the reader has no output")?;
    let mut errors = child.stderr.take().context("the reader has no errors")?;
    // Read beside the records: a full pipe would stop the reader.
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        errors.read_to_end(&mut text).map(|_| text)
    });
    let mut output = BufReader::with_capacity(1 << 20, output);
    let copied = copy(&mut output, &mut each);
    drop(output);
    let status = child.wait().context("cannot wait for java")?;
    let errors =
        errors.join().map_err(|_| anyhow::anyhow!("the thread that reads errors has panicked"))??;
    copied.with_context(|| format!("the reader said: {}", tools::last_lines(&errors, 10)))?;
    if !status.success() {
        bail!("the reader ended with {status}: {}", tools::last_lines(&errors, 10));
    }
    Ok(())
}

fn copy(input: &mut impl Read, each: &mut impl FnMut(Record) -> Result<()>) -> Result<()> {
    while let Some(record) = decode(input)? {
        each(record)?;
    }
    Ok(())
}

/// The next record, or none at the end.
fn decode(input: &mut impl Read) -> Result<Option<Record>> {
    let partition = match number(input) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        partition => partition?,
    };
    let (offset, timestamp) = (long(input)?, long(input)?);
    let (key, value) = (bytes(input)?, bytes(input)?);
    let count = number(input)?;
    let headers = (0..count).map(|_| header(input)).collect::<Result<_>>()?;
    Ok(Some(Record { partition, offset, timestamp, key, value, headers }))
}

fn header(input: &mut impl Read) -> Result<(String, Option<Vec<u8>>)> {
    let name = bytes(input)?.unwrap_or_default();
    Ok((String::from_utf8(name).context("a header's name is not UTF-8")?, bytes(input)?))
}

fn number(input: &mut impl Read) -> std::io::Result<i32> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes)?;
    Ok(i32::from_be_bytes(bytes))
}

fn long(input: &mut impl Read) -> std::io::Result<i64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes)?;
    Ok(i64::from_be_bytes(bytes))
}

fn bytes(input: &mut impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let Ok(length) = usize::try_from(number(input)?) else { return Ok(None) };
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn null_is_not_empty_and_bytes_need_not_be_text() -> Result<()> {
        let mut input: Vec<u8> = Vec::new();
        input.extend(3_i32.to_be_bytes());
        input.extend(9_i64.to_be_bytes());
        input.extend((-1_i64).to_be_bytes());
        input.extend((-1_i32).to_be_bytes()); // no key
        input.extend(2_i32.to_be_bytes());
        input.extend(b"\xff\x00");
        input.extend(1_i32.to_be_bytes()); // one header
        input.extend(1_i32.to_be_bytes());
        input.extend(b"h");
        input.extend(0_i32.to_be_bytes()); // with an empty value
        let record = decode(&mut &input[..])?.unwrap();
        assert_eq!(record.key, None);
        assert_eq!(record.value.as_deref(), Some(&b"\xff\x00"[..]));
        assert_eq!(record.header("h"), Some(&b""[..]));
        assert_eq!(record.text(), "\u{fffd}\0");
        assert!(decode(&mut &[][..])?.is_none());
        Ok(())
    }

    #[test]
    fn a_reader_that_fails_is_an_error_even_after_whole_records() {
        let error = read(shell("echo ran aground >&2; exit 1"), |_| Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("ran aground"));
    }

    #[test]
    fn a_record_cut_short_is_an_error() {
        let error = read(shell("printf '\\0\\0\\0\\1\\0\\0'"), |_| Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("failed to fill whole buffer"), "{error:#}");
    }
}

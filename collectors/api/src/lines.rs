//! The lines of a body that comes in pieces, bounded in length.

use http_body_util::BodyExt as _;
use kube::client::Body;

use crate::ErrorKind;

/// Longer than any object that Kubernetes stores (1.5 MiB in etcd), with room for escapes.
const LONGEST: usize = 16 << 20;

/// Kept between lines; what one long line has taken beyond it is given back.
const KEPT: usize = 256 << 10;

/// Reads lines.
pub(crate) struct Lines {
    body: Body,
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Bytes that have no newline in them.
    searched: usize,
}

impl Lines {
    pub(crate) fn new(body: Body) -> Self {
        Lines { body, buffer: Vec::new(), start: 0, searched: 0 }
    }

    /// The next whole line; none at the end. A last line without its end is dropped: the server was cut off.
    pub(crate) async fn next(&mut self) -> Result<Option<&[u8]>, String> {
        loop {
            if let Some(length) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.start..self.searched + length;
                self.start = line.end + 1;
                self.searched = self.start;
                return Ok(Some(&self.buffer[line]));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            self.searched = self.buffer.len();
            if self.buffer.is_empty() && self.buffer.capacity() > KEPT {
                self.buffer = Vec::new();
            }
            if self.buffer.len() > LONGEST {
                return Err(format!("a line of more than {} MiB", LONGEST >> 20));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(crate::server::chain(&error)),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
            }
        }
    }
}

/// A whole body of at most `most` bytes.
pub(crate) async fn whole(mut body: Body, most: usize) -> Result<Vec<u8>, ErrorKind> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ErrorKind::Unreachable(crate::server::chain(&error)))?;
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(data);
        }
        if bytes.len() > most {
            return Err(ErrorKind::TooLarge(most));
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &'static str) -> Vec<String> {
        let mut lines = Lines::new(Body::from(text.as_bytes().to_vec()));
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.expect("lines") {
            found.push(String::from_utf8_lossy(line).into_owned());
        }
        found
    }

    #[tokio::test]
    async fn whole_lines_are_told_and_a_line_without_its_end_is_not() {
        assert_eq!(lines("a\n\nbc\nd").await, ["a", "", "bc"]);
        assert!(lines("").await.is_empty());
    }

    #[tokio::test]
    async fn a_body_beyond_the_bound_is_refused() {
        assert!(whole(Body::from(vec![b'x'; 11]), 10).await.is_err());
        assert_eq!(whole(Body::from(vec![b'x'; 10]), 10).await.expect("fits").len(), 10);
    }
}

//! Asking the running agent over its socket.
//!
//! HTTP/1.0, so that an answer is simply everything until the connection ends.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Why there is no answer; says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AskAgentError {
    /// Nobody listens.
    #[error("no agent answers on {path}: is `taffrail run` running on this machine? With another state directory or \
             socket, give the same --config, or --socket", path = .0.display())]
    NoAgent(PathBuf),
    /// The socket belongs to somebody else.
    #[error("{path} can be opened by its owner alone; run this as the user of the agent, usually with sudo", path = .0.display())]
    NotAllowed(PathBuf),
    /// The agent refuses.
    #[error("the agent says: {0}")]
    Refused(String),
    /// The connection broke or what came is no answer.
    #[error("talking to the agent on {path}: {cause}", path = path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
}

/// Asks for `target` (path and query) and returns the body, to be read as it comes.
///
/// # Errors
/// [`AskAgentError`].
pub fn get(socket: &Path, target: &str) -> Result<BufReader<UnixStream>, AskAgentError> {
    let broken = |cause| AskAgentError::Broken { path: socket.to_owned(), cause };
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskAgentError::NoAgent(socket.to_owned())
        }
        io::ErrorKind::PermissionDenied => AskAgentError::NotAllowed(socket.to_owned()),
        _ => broken(error),
    })?;
    write!(stream, "GET {target} HTTP/1.0\r\nHost: taffrail\r\n\r\n").map_err(broken)?;
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    let status = head(&mut reader).map_err(broken)?;
    if status == 200 {
        return Ok(reader);
    }
    let mut text = String::new();
    reader.read_to_string(&mut text).map_err(broken)?;
    Err(AskAgentError::Refused(text.trim().to_owned()))
}

/// Reads status line and headers.
fn head(reader: &mut BufReader<UnixStream>) -> io::Result<u16> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an answer in HTTP"))?;
    while !line.trim().is_empty() {
        line.clear();
        reader.read_line(&mut line)?;
    }
    Ok(status)
}

/// `name=value` pairs as a query, those without value left out.
#[must_use]
pub fn query(pairs: &[(&str, Option<&str>)]) -> String {
    let pairs = pairs.iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded((*value)?))));
    pairs.collect::<Vec<_>>().join("&")
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        assert_eq!(query(&[("a", Some("x y&é")), ("b", None), ("c", Some("*"))]), "a=x%20y%26%C3%A9&c=%2A");
        assert_eq!(query(&[]), "");
    }

    #[test]
    fn without_an_agent_it_says_what_to_do() {
        let directory = tempfile::tempdir().expect("directory");
        let error = get(&directory.path().join("tap.sock"), "/ledger").expect_err("nobody there");
        assert!(error.to_string().contains("is `taffrail run` running"), "{error}");
    }
}

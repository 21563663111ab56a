//! Questions to parts that answer over HTTP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

const PATIENCE: Duration = Duration::from_secs(60);

/// What is at `http://<address><path>`; an error unless the status is 200.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<String> {
    let at = || format!("http://{address}{path}");
    let (status, body) = ask(address, path).with_context(at)?;
    if status != 200 {
        bail!("{} answers {status}: {}", at(), body.trim());
    }
    Ok(body)
}

/// HTTP 1.0, so that the answer ends with the connection.
fn ask(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.context("an answer without a status")?, body.to_owned()))
}

/// A text as the value of a parameter in a path.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_could_not_hold_is_encoded() {
        assert_eq!(encode("up{job=\"a b\"}+1"), "up%7Bjob%3D%22a%20b%22%7D%2B1");
    }
}

//! What a peer says, and when it read it.
//!
//! What is no text of metrics is refused with what it is instead, and with what to write.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use taffrail_text::{Parsed, Times};

use crate::cli::console::plain;

/// A peer that does not answer for this long does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a peer may take to read everything once more: kubelet does so every 15 seconds at least.
const NEXT_READING: Duration = Duration::from_secs(20);

/// Where a peer's word comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Peer {
    StandardInput,
    File(String),
    /// Without `http://`.
    Http(String),
}

/// What a peer has said.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) families: Vec<Parsed>,
    /// When it read the oldest of it, as far as it says so.
    pub(super) read: SystemTime,
    /// When it read what has no time of its own.
    pub(super) written: SystemTime,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::StandardInput => f.write_str("standard input"),
            Peer::File(path) => f.write_str(&plain(path)),
            Peer::Http(address) => write!(f, "http://{}", plain(address)),
        }
    }
}

impl Peer {
    /// The one that is meant by a file's name, `-`, or an address with or without `http://`.
    pub(super) fn new(text: &str) -> anyhow::Result<Peer> {
        if text.starts_with("https://") {
            bail!(
                "for https, which may want a certificate or a token, use curl: curl -k -H \"Authorization: Bearer ...\" {text} | taffrail metrics --diff -"
            );
        }
        Ok(match text.strip_prefix("http://") {
            _ if text == "-" => Peer::StandardInput,
            Some(address) => Peer::Http(address.to_owned()),
            None if !Path::new(text).exists() && is_address(text) => Peer::Http(text.to_owned()),
            None => Peer::File(text.to_owned()),
        })
    }

    /// What it says.
    pub(super) fn tell(&self) -> anyhow::Result<Told> {
        let asked = SystemTime::now();
        let (text, written) = self.text(asked)?;
        let written = clock(&text).map_or(written, |read| read.min(written));
        let read = oldest(&text).map_or(written, |read| read.min(written));
        Ok(Told { families: self.parsed(&text)?, read, written })
    }

    /// What it says once all of it was read since then: cAdvisor reads on its own, every second to every minute. `told` is
    /// what it has said before, and all that standard input and files ever say.
    pub(super) fn tell_since(&self, told: Told, began: SystemTime) -> anyhow::Result<Told> {
        let Peer::Http(_) = self else { return Ok(told) };
        let start = Instant::now();
        loop {
            let told = self.tell()?;
            if told.read >= began || start.elapsed() >= NEXT_READING {
                return Ok(told);
            }
            thread::sleep(Duration::from_secs(1));
        }
    }

    fn text(&self, now: SystemTime) -> anyhow::Result<(String, SystemTime)> {
        let mut text = String::new();
        match self {
            Peer::StandardInput => drop(io::stdin().read_to_string(&mut text)?),
            Peer::Http(address) => text = get(address).with_context(|| format!("cannot ask {self}"))?,
            Peer::File(path) => {
                let read = File::open(path).and_then(|mut file| {
                    file.read_to_string(&mut text)?;
                    file.metadata()?.modified()
                });
                let remedy = || format!("cannot read {self}; an address is written HOST:PORT/metrics");
                return Ok((text, read.with_context(remedy)?));
            }
        }
        Ok((text, now))
    }

    fn parsed(&self, text: &str) -> anyhow::Result<Vec<Parsed>> {
        let begin = text.trim_start().as_bytes();
        ensure!(!begin.is_empty(), "{self} says nothing at all");
        ensure!(
            begin[0] != b'<',
            "{self} is a page for people, not metrics; their path is /metrics at most programs"
        );
        taffrail_text::parse(text, Times::Kept)
            .with_context(|| format!("{self} does not speak the text format of Prometheus"))
    }
}

/// Whether it is `HOST:PORT` with or without a path.
fn is_address(text: &str) -> bool {
    let host = text.split('/').next().unwrap_or(text);
    host.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Answers `HOST[:PORT][/PATH]`.
fn get(address: &str) -> anyhow::Result<String> {
    let (host, path) = address.split_once('/').unwrap_or((address, "metrics"));
    let place = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let mut stream =
        TcpStream::connect(&place).with_context(|| format!("nobody answers on {}", plain(&place)))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\nAccept: text/plain; version=0.0.4\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context("it broke off")?;
    let (head, body) = text.split_once("\r\n\r\n").context("it speaks no HTTP")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.split(' ').nth(1) == Some("200"), "it says {}", plain(status));
    Ok(body.to_owned())
}

/// The oldest time that stands behind a container's figure.
fn oldest(text: &str) -> Option<SystemTime> {
    let stamp = |line: &str| line.rsplit_once('}')?.1.split_whitespace().nth(1)?.parse::<f64>().ok();
    let figures = text.lines().filter(|line| line.starts_with("container_"));
    since_epoch(figures.filter_map(stamp).map(|millis| millis / 1000.0).min_by(f64::total_cmp)?)
}

/// The time that a node says it is.
fn clock(text: &str) -> Option<SystemTime> {
    let said =
        |line: &str| line.strip_prefix("node_time_seconds ")?.split_whitespace().next()?.parse::<f64>().ok();
    since_epoch(text.lines().find_map(said)?)
}

fn since_epoch(seconds: f64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_known_with_and_without_its_scheme() {
        let http = |address: &str| Peer::Http(address.to_owned());
        for (text, peer) in [
            ("-", Peer::StandardInput),
            ("http://127.0.0.1:9100/metrics", http("127.0.0.1:9100/metrics")),
            ("127.0.0.1:9100/metrics", http("127.0.0.1:9100/metrics")),
            ("node-1:9100", http("node-1:9100")),
            ("[::1]:9100/metrics", http("[::1]:9100/metrics")),
            ("page.txt", Peer::File("page.txt".to_owned())),
            ("a:b/page.txt", Peer::File("a:b/page.txt".to_owned())),
        ] {
            assert_eq!(Peer::new(text).expect("a peer"), peer, "{text}");
        }
        assert!(Peer::new("https://a/metrics").expect_err("curl does").to_string().contains("use curl"));
    }

    #[test]
    fn what_is_no_metrics_is_said_with_what_it_is() {
        let said = |text: &str| Peer::StandardInput.parsed(text).expect_err("no metrics").to_string();
        assert!(said("\n<!DOCTYPE html>\n<html>").contains("a page for people"), "{}", said("<html>"));
        assert!(said(" \n").contains("says nothing"));
        assert!(said("not found\n").contains("does not speak the text format"));
        let missing = Peer::File("/nowhere".to_owned()).tell().expect_err("missing").to_string();
        assert!(missing.contains("an address is written HOST:PORT/metrics"), "{missing}");
    }

    #[test]
    fn the_oldest_figure_says_when_a_peer_has_read() {
        let at = |millis| Some(UNIX_EPOCH + Duration::from_millis(millis));
        let stamped = "container_a{id=\"/\"} 1 1700000002000\ncontainer_b{id=\"/\"} 1 1700000001500\nx 1\n";
        assert_eq!(oldest(stamped), at(1_700_000_001_500));
        assert_eq!(
            clock("# TYPE node_time_seconds gauge\nnode_time_seconds 1.7e+09\n"),
            at(1_700_000_000_000)
        );
        assert_eq!(oldest("container_a{id=\"/\"} 1\nx 1\n"), None);
    }
}

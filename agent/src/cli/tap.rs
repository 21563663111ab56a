//! `taffrail tap`: live records for people, and for pipes.

use std::io::{self, BufRead as _, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use super::SocketArg;
use super::console::{colour_of, for_people, tamed};
use crate::client::{self, AskAgentError};
use crate::logging;
use crate::tap::TapRecord;

/// Which records to show, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Pod (or container without one, or path of a plain file): its name, the beginning of it up to a `-`, or a
    /// pattern with `*`
    #[arg(value_name = "POD")]
    name: Option<String>,
    /// The same, as an option
    #[arg(long, value_name = "POD", conflicts_with = "name")]
    pod: Option<String>,
    /// Namespace, or a pattern with `*`
    #[arg(short, long)]
    namespace: Option<String>,
    /// Container, or a pattern with `*`
    #[arg(short, long)]
    container: Option<String>,
    /// Only pods (or containers without one) with these labels: app=web,tier in (front, back),!canary
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Only records whose message matches this regular expression
    #[arg(short, long, value_name = "REGEX")]
    grep: Option<String>,
    /// Take the text of --grep as it stands
    #[arg(short = 'F', long, requires = "grep")]
    fixed: bool,
    /// Do not tell upper from lower case in --grep
    #[arg(short, long, requires = "grep")]
    ignore_case: bool,
    /// Show the time of each record, on a terminal too
    #[arg(short, long)]
    time: bool,
    /// End after this many records
    #[arg(short, long, value_name = "N")]
    max: Option<u64>,
    /// Print each record as one JSON object
    #[arg(long)]
    json: bool,
    /// End when the agent ends, instead of waiting for it to come back
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    socket: SocketArg,
}

/// A line from the agent: a record, how many are missing here, or that nothing that could match was read yet.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line<'a> {
    Missed {
        missed: u64,
    },
    Unknown {
        #[serde(rename = "unknown")]
        _unknown: bool,
    },
    #[serde(borrow)]
    Record(TapRecord<'a>),
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let socket = args.socket.path()?;
    let target = format!("/tap?{}", args.query());
    let mut printer = Printer::new(args);
    let mut body = client::get(&socket, &target)?;
    loop {
        if printer.copy(&mut body)? {
            return Ok(ExitCode::SUCCESS);
        }
        if args.no_wait {
            eprintln!("taffrail: the agent has ended");
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("taffrail: the agent has ended; waiting for it to come back (Ctrl-C ends)");
        body = wait_for(&socket, &target)?;
        eprintln!("taffrail: the agent is back; what passed in between is not shown");
    }
}

impl Args {
    fn query(&self) -> String {
        let grep = self.grep.as_ref().map(|text| {
            let expression = if self.fixed { regex::escape(text) } else { text.clone() };
            if self.ignore_case { format!("(?i){expression}") } else { expression }
        });
        client::query(&[
            ("namespace", self.namespace.as_deref()),
            ("pod", self.name.as_deref().or(self.pod.as_deref())),
            ("container", self.container.as_deref()),
            ("selector", self.selector.as_deref()),
            ("grep", grep.as_deref()),
        ])
    }
}

fn wait_for(socket: &Path, target: &str) -> Result<BufReader<UnixStream>, AskAgentError> {
    loop {
        match client::get(socket, target) {
            Err(AskAgentError::NoAgent(_) | AskAgentError::Broken { .. }) => {
                thread::sleep(Duration::from_millis(500));
            }
            answer => return answer,
        }
    }
}

struct Printer {
    style: Style,
    left: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Json,
    Pipe,
    Terminal { colour: bool, time: bool },
}

impl Printer {
    fn new(args: &Args) -> Printer {
        let style = match for_people() {
            _ if args.json => Style::Json,
            true => Style::Terminal { colour: logging::colour(), time: args.time },
            false => Style::Pipe,
        };
        Printer { style, left: args.max }
    }

    /// Prints until the agent ends (false) or enough has been printed (true).
    fn copy(&mut self, body: &mut BufReader<UnixStream>) -> io::Result<bool> {
        let mut line = Vec::new();
        let mut out = io::stdout().lock();
        while self.left != Some(0) {
            line.clear();
            // A line without its end was cut off by the agent's own end.
            if body.read_until(b'\n', &mut line)? == 0 || line.last() != Some(&b'\n') {
                return Ok(false);
            }
            self.print(&mut out, &line)?;
            if body.buffer().is_empty() {
                out.flush()?;
            }
        }
        out.flush()?;
        Ok(true)
    }

    fn print(&mut self, out: &mut impl Write, line: &[u8]) -> io::Result<()> {
        match serde_json::from_slice(line) {
            Ok(Line::Missed { missed }) => {
                out.flush()?;
                eprintln!(
                    "taffrail: {missed} records are missing here: this side is too slow; narrow it with filters"
                );
                if self.style == Style::Json { out.write_all(line) } else { Ok(()) }
            }
            Ok(Line::Unknown { .. }) => {
                eprintln!(
                    "taffrail: nothing that matches has been read since the agent began; waiting (`taffrail ledger` \
                     lists what has)"
                );
                Ok(())
            }
            Ok(Line::Record(record)) => {
                self.left = self.left.map(|left| left.saturating_sub(1));
                self.style.write(out, line, &record)
            }
            Err(error) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("a line of the agent: {error}")))
            }
        }
    }
}

impl Style {
    fn write(self, out: &mut impl Write, line: &[u8], record: &TapRecord<'_>) -> io::Result<()> {
        let names = names(record);
        let (time, message) = (&record.time, &record.message);
        match self {
            Style::Json => out.write_all(line),
            Style::Pipe => {
                let stream = if record.stream.is_empty() { "-" } else { record.stream.as_ref() };
                writeln!(out, "{time} {} {stream} {}", names.join("/"), message.replace('\n', "\\n"))
            }
            Style::Terminal { colour, time: with_time } => {
                // The namespace goes without saying where somebody follows one pod; the names that remain are short.
                let who = tamed(&names[names.len().saturating_sub(2)..].join(" "));
                let mark = if record.stream == "stderr" { '!' } else { '|' };
                let time = if with_time { format!("{time} ") } else { String::new() };
                let message = tamed(message);
                if colour {
                    let code =
                        colour_of(names.get(names.len().saturating_sub(2)).copied().unwrap_or_default());
                    writeln!(out, "\u{1b}[2m{time}\u{1b}[0;{code}m{who} {mark}\u{1b}[0m {message}\u{1b}[0m")
                } else {
                    writeln!(out, "{time}{who} {mark} {message}")
                }
            }
        }
    }
}

/// Namespace, pod and container as far as there are any; the path of a plain file.
fn names<'a>(record: &'a TapRecord<'_>) -> Vec<&'a str> {
    let names = [&record.namespace, &record.pod, &record.container].map(AsRef::as_ref);
    let names: Vec<&str> = names.into_iter().filter(|name: &&str| !name.is_empty()).collect();
    if names.is_empty() { vec![record.file.as_ref()] } else { names }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{"time":"2023-11-14T22:13:20Z","stream":"stderr","namespace":"shop","pod":"web-1","container":"app","message":"a\nb\u001b[2J","file":"/0.log","offset":7}"#;

    fn written(style: Style) -> String {
        let line = format!("{RECORD}\n");
        let mut out = Vec::new();
        let mut printer = Printer { style, left: None };
        printer.print(&mut out, line.as_bytes()).expect("written");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn each_style_is_one_line_per_record() {
        assert_eq!(written(Style::Json), format!("{RECORD}\n"));
        assert_eq!(written(Style::Pipe), "2023-11-14T22:13:20Z shop/web-1/app stderr a\\nb\u{1b}[2J\n");
        assert_eq!(written(Style::Terminal { colour: false, time: false }), "web-1 app ! a\\nb\\u{1b}[2J\n");
        let plain = RECORD.replace("shop", "").replace("web-1", "").replace("app", "").replace("stderr", "");
        let mut out = Vec::new();
        Printer { style: Style::Pipe, left: None }.print(&mut out, plain.as_bytes()).expect("written");
        assert!(out.starts_with(b"2023-11-14T22:13:20Z /0.log - a"), "a plain file goes by its path");
        assert_eq!(
            written(Style::Terminal { colour: true, time: true }),
            format!(
                "\u{1b}[2m2023-11-14T22:13:20Z \u{1b}[0;{}mweb-1 app !\u{1b}[0m a\\nb\\u{{1b}}[2J\u{1b}[0m\n",
                colour_of("web-1")
            )
        );
    }
}

//! `taffrail run` under measurement.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::process::{self, Measured};

/// The form of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// JSON in ECS names.
    Json,
    /// Bytes with their place in a header.
    Raw,
    /// Bytes with all metadata in headers.
    RawFull,
}

impl Form {
    fn envelope(self) -> &'static str {
        match self {
            Form::Json => "{}",
            Form::Raw => "{encoding: raw}",
            Form::RawFull => "{encoding: raw, fields: full}",
        }
    }
}

/// Where its records go.
#[derive(Debug, Clone, Copy)]
pub enum Output<'a> {
    /// Kafka: brokers and topic.
    Kafka(&'a str, &'a str),
    /// Nowhere.
    Discard,
}

impl Output<'_> {
    fn yaml(self) -> String {
        match self {
            Output::Kafka(brokers, topic) => {
                format!(
                    "{{kafka: {{brokers: ['{brokers}'], topic: '{topic}', ledger_topic: '{topic}.ledger'}}}}"
                )
            }
            Output::Discard => "{discard: {}}".to_owned(),
        }
    }
}

/// Starts the agent on container logs below `root`, with its own state, configuration and output in `place`. Its
/// metrics are served on `port`; 0 for none. `more` goes below its configuration.
pub fn start(
    program: &Path,
    place: &Path,
    root: &Path,
    form: Form,
    output: Output<'_>,
    port: u16,
    more: &str,
) -> Result<Measured> {
    fs::create_dir_all(place).with_context(|| format!("cannot make {}", place.display()))?;
    let config = place.join("taffrail.yaml");
    let text = format!(
        "node: {{name: node-1}}\nlogs: {{kubernetes: {{root: '{}', links: /none}}}}\ndocker: {{enabled: never}}\n\
         envelope: {}\noutput: {}\nstate: {{directory: '{}'}}\nhttp: {{enabled: {}, listen: '127.0.0.1:{port}'}}\n{more}",
        root.display(),
        form.envelope(),
        output.yaml(),
        place.join("state").display(),
        port != 0,
    );
    process::write(&config, &text)?;
    let mut command = Command::new(program);
    command.arg("run").arg("--config").arg(&config);
    Measured::start(command, &place.join("output"))
}

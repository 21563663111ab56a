//! What `taffrail run` says when it begins: what it reads, where it goes, and what to do when there is nothing to read.
//!
//! A person at a terminal gets a short table; a log gets one event with the same facts as fields.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use taffrail_docker::Enabled;
use taffrail_logs::find::{Globs, Naming};

use crate::config::{Config, Output};
use crate::events;
use crate::logging;
use crate::targets::{self, Engine};

/// What is read and where it goes, each in one line.
struct Facts {
    kubernetes: String,
    docker: String,
    files: usize,
    output: String,
    http: String,
    state: String,
}

/// Says it. `metrics` is where they are served, if anywhere.
pub(crate) fn announce(config: &Config, engine: &Engine, metrics: Option<String>) {
    let facts = Facts {
        kubernetes: kubernetes(config),
        docker: docker(config, engine),
        files: files_named(config),
        output: output(config),
        http: metrics.unwrap_or_else(|| "off".to_owned()),
        state: config.state_directory().display().to_string(),
    };
    if logging::for_people(&config.log) {
        eprint!("{}", facts.table(config));
    } else {
        facts.event();
    }
    if !has_containers(config, engine) && facts.files == 0 {
        tracing::warn!("{}", nothing_to_read(config));
    }
}

impl Facts {
    fn event(&self) {
        let Facts { kubernetes, docker, files, output, http, state } = self;
        let version = env!("CARGO_PKG_VERSION");
        tracing::info!(
            output,
            kubernetes,
            docker,
            files,
            metrics = http,
            state,
            version,
            "taffrail is running"
        );
    }

    fn table(&self, config: &Config) -> String {
        let socket = config.tap_socket();
        let option = match socket == Config::default().tap_socket() {
            true => String::new(),
            false => format!(" --socket {}", socket.display()),
        };
        format!(
            "taffrail {} is running on {}\n  kubernetes  {}\n  docker      {}\n  files       {}\n  output      {}\n  \
             metrics     {}\n  state       {}\nCtrl-C ends it in order. In another terminal:\n  \
             taffrail tap{option}     the records as they pass\n  \
             taffrail ledger{option}  where every byte is\n\n",
            env!("CARGO_PKG_VERSION"),
            config.node_name(),
            self.kubernetes,
            self.docker,
            files_line(config, self.files),
            self.output,
            self.http,
            self.state,
        )
    }
}

/// How many plain files the configured globs name now; rotated siblings belong to the file they were rotated from.
pub(crate) fn files_named(config: &Config) -> usize {
    paths_named(config).len()
}

/// Their paths.
pub(crate) fn paths_named(config: &Config) -> Vec<PathBuf> {
    let targets = config.logs.files.iter().flat_map(|input| Globs::new(input, Arc::default()).scan().targets);
    targets
        .filter_map(|target| match &target.naming {
            Naming::Base(name) => Some(target.directory.join(OsStr::from_bytes(name))),
            Naming::Kubernetes => None,
        })
        .collect()
}

/// One line about the plain files for people.
pub(crate) fn files_line(config: &Config, count: usize) -> String {
    match (config.logs.files.is_empty(), count) {
        (true, _) => "none named".to_owned(),
        (_, 0) => "none there yet".to_owned(),
        (_, 1) => "1 file".to_owned(),
        (_, count) => format!("{count} files"),
    }
}

/// What to do where nothing is found.
pub(crate) fn nothing_to_read(config: &Config) -> String {
    let root = config.logs.kubernetes.root.display();
    let files = match config.logs.files.is_empty() {
        true => "",
        false => ", and no file matches logs.files yet",
    };
    format!(
        "no containers on this machine: no pods below {root} and no Docker engine{files}. To try it, name some files: \
         taffrail run '/var/log/*.log'"
    )
}

fn has_containers(config: &Config, engine: &Engine) -> bool {
    let kubernetes = &config.logs.kubernetes;
    // A directory that cannot be listed is no empty one.
    let pods = || {
        targets::pods_below(&kubernetes.root).unwrap_or_else(|e| usize::from(e.kind() != ErrorKind::NotFound))
    };
    engine.is_connected() || kubernetes.enabled && pods() > 0
}

fn output(config: &Config) -> String {
    let output = match &config.output {
        Output::Kafka(kafka) => format!("Kafka at {}", kafka.brokers.join(",")),
        Output::File(file) => format!("files in {}", file.directory.display()),
        Output::Discard(_) => "nowhere (discard)".to_owned(),
    };
    match &config.elasticsearch {
        Some(engine) if events::are_wanted(config) => {
            format!("{output}; events to the search engine at {}", engine.hosts.join(","))
        }
        _ if events::are_wanted(config) => format!("{output}, events too"),
        _ => output,
    }
}

fn docker(config: &Config, engine: &Engine) -> String {
    let socket = config.docker.path();
    if config.docker.enabled == Enabled::Auto && !engine.is_connected() && !socket.exists() {
        return format!("none: {} is not there", socket.display());
    }
    engine.summary()
}

/// One line about the Kubernetes logs for people.
fn kubernetes(config: &Config) -> String {
    if !config.logs.kubernetes.enabled {
        return "off".to_owned();
    }
    let root = &config.logs.kubernetes.root;
    match targets::pods_below(root) {
        Ok(1) => format!("{}: 1 pod", root.display()),
        Ok(pods) => format!("{}: {pods} pods", root.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => format!("none: {} is not there", root.display()),
        Err(error) => format!("{}: {error}", root.display()),
    }
}

#[cfg(test)]
mod tests {
    use taffrail_logs::config::FileInput;

    use super::*;

    #[test]
    fn the_number_of_files_is_that_of_files_and_not_of_globs() {
        let directory = tempfile::tempdir().expect("directory");
        let mut config = Config::default();
        assert_eq!(files_line(&config, files_named(&config)), "none named");
        let paths = vec![format!("{}/*.log", directory.path().display())];
        config.logs.files = vec![FileInput { paths, ..FileInput::default() }];
        assert_eq!(files_line(&config, files_named(&config)), "none there yet");
        for name in ["a.log", "b.log", "a.log.1"] {
            std::fs::File::create(directory.path().join(name)).expect("made");
        }
        assert_eq!(files_line(&config, files_named(&config)), "2 files");
    }
}

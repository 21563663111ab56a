//! Are there containers here, and can they be read?

use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt as _;
use taffrail_docker::{Connection, ContainerInfo, DockerConfig, Enabled, Snapshot, is_sandbox, watch};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Finding, Status};
use crate::announce::{files_line, files_named};
use crate::config::Config;
use crate::targets::{pods_below, unread};

/// How long the engine may take to list its containers.
const PATIENCE: Duration = Duration::from_secs(10);
/// More containers without a log file than this are counted and not named.
const NAMED: usize = 10;

pub(super) fn all(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.logs.kubernetes.enabled {
        findings.push(kubernetes(&config.logs.kubernetes.root));
    }
    findings.extend(docker(&config.docker));
    findings.push(files(config));
    let found = |finding: &Finding| finding.status != Status::Note && finding.subject != "files";
    if !findings.iter().any(found) && files_named(config) == 0 {
        let remedy = "name some files: taffrail run '/var/log/*.log', or logs.files in the configuration";
        findings.push(Finding::warning("sources", "nothing to read here yet", remedy));
    }
    findings
}

fn files(config: &Config) -> Finding {
    const SUBJECT: &str = "files";
    let count = files_named(config);
    let line = files_line(config, count);
    match (config.logs.files.is_empty(), count) {
        (true, _) => Finding::note(SUBJECT, line),
        (_, 0) => Finding::warning(SUBJECT, line, "compare logs.files with what is there, if it should be"),
        (_, _) => Finding::good(SUBJECT, line),
    }
}

fn kubernetes(root: &Path) -> Finding {
    const SUBJECT: &str = "kubernetes logs";
    match pods_below(root) {
        Ok(0) => Finding::note(SUBJECT, format!("{}: no pods yet", root.display())),
        Ok(1) => Finding::good(SUBJECT, format!("{}: 1 pod", root.display())),
        Ok(pods) => Finding::good(SUBJECT, format!("{}: {pods} pods", root.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::note(SUBJECT, format!("none: {} is not there", root.display()))
        }
        Err(error) => Finding::bad(
            SUBJECT,
            format!("{}: {error}", root.display()),
            "run as root, or with the capability DAC_READ_SEARCH",
        ),
    }
}

fn docker(config: &DockerConfig) -> Vec<Finding> {
    const SUBJECT: &str = "docker";
    if config.enabled == Enabled::Never {
        return vec![Finding::note(SUBJECT, "docker.enabled is never")];
    }
    let snapshot = first_snapshot(config).unwrap_or_else(|reason| Snapshot {
        connection: Connection::Absent { reason },
        containers: Vec::new(),
    });
    match snapshot.connection {
        Connection::Connected { version } => containers(&version, &snapshot.containers),
        Connection::Absent { reason } => vec![absent(config, &reason)],
        Connection::Off => Vec::new(),
    }
}

fn absent(config: &DockerConfig, reason: &str) -> Finding {
    const SUBJECT: &str = "docker";
    const REMEDY: &str =
        "start the engine, run as root or as a member of the group docker, or set docker.socket";
    match (config.enabled, config.path().exists()) {
        (Enabled::Always, _) => Finding::bad(SUBJECT, reason, REMEDY),
        (_, true) => Finding::warning(SUBJECT, reason, REMEDY),
        (_, false) => Finding::note(SUBJECT, format!("none: {} is not there", config.path().display())),
    }
}

fn containers(version: &str, all: &[ContainerInfo]) -> Vec<Finding> {
    const SUBJECT: &str = "docker";
    let all: Vec<&ContainerInfo> = all.iter().filter(|container| !is_sandbox(container)).collect();
    let unread = all.iter().copied().filter_map(unread);
    let detail = format!(
        "engine {version}, {} containers, {} with a log file",
        all.len(),
        all.len() - unread.clone().count()
    );
    let mut findings = vec![Finding::good(SUBJECT, detail)];
    let named = unread.clone().take(NAMED);
    findings.extend(named.map(|unread| {
        let remedy = "use the log driver json-file, or ship it another way";
        Finding::warning(SUBJECT, format!("{} is not read: {}", unread.name, unread.reason), remedy)
    }));
    let more = unread.count().saturating_sub(NAMED);
    if more > 0 {
        findings.push(Finding::note(SUBJECT, format!("{more} more containers are not read")));
    }
    findings
}

/// The engine's containers now.
fn first_snapshot(config: &DockerConfig) -> Result<Snapshot, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let (sender, receiver) = oneshot::channel();
    let (stop, stopped) = oneshot::channel();
    let mut first = Some((sender, stop));
    let on_change = move |snapshot| {
        if let Some((sender, stop)) = first.take() {
            // Nobody waits any more once time is up.
            let _ = sender.send(snapshot);
            let _ = stop.send(());
        }
    };
    runtime.block_on(async {
        let stop = timeout(PATIENCE, stopped).map(drop);
        watch(config.clone(), stop, on_change).await;
        receiver.await.map_err(|_| format!("no answer on {} within {PATIENCE:?}", config.path().display()))
    })
}

#[cfg(test)]
mod tests {
    use taffrail_logs::config::FileInput;

    use super::*;

    #[test]
    fn a_machine_with_nothing_to_read_says_how_to_try_it() {
        let directory = tempfile::tempdir().expect("directory");
        let mut config = Config::default();
        config.logs.kubernetes.root = directory.path().join("pods");
        std::fs::create_dir(&config.logs.kubernetes.root).expect("made");
        config.docker.enabled = Enabled::Never;
        let remedy = |config: &Config| all(config).into_iter().find(|f| f.subject == "sources")?.remedy;
        assert!(remedy(&config).is_some_and(|remedy| remedy.contains("taffrail run '/var/log/*.log'")));
        let paths = vec![format!("{}/*.log", directory.path().display())];
        config.logs.files = vec![FileInput { paths, ..FileInput::default() }];
        assert!(remedy(&config).is_some(), "no file is there yet");
        std::fs::File::create(directory.path().join("a.log")).expect("made");
        assert_eq!(remedy(&config), None);
    }

    #[test]
    fn an_engine_that_must_be_there_and_is_not_is_bad() {
        let directory = tempfile::tempdir().expect("directory");
        let socket = directory.path().join("docker.sock");
        let statuses = [Enabled::Auto, Enabled::Always, Enabled::Never].map(|enabled| {
            let findings = docker(&DockerConfig { enabled, socket: socket.clone() });
            findings.iter().map(|finding| finding.status).collect::<Vec<_>>()
        });
        assert_eq!(statuses, [[Status::Note], [Status::Bad], [Status::Note]]);
    }

    #[test]
    fn a_container_without_a_log_file_is_named_with_the_reason() {
        let container = |name: &str, reason: Option<&str>| ContainerInfo {
            name: name.to_owned(),
            reason: reason.map(str::to_owned),
            ..ContainerInfo::default()
        };
        let findings =
            containers("29", &[container("web", None), container("db", Some("its log driver is journald"))]);
        let details: Vec<&str> = findings.iter().map(|finding| finding.detail.as_str()).collect();
        assert_eq!(
            details,
            ["engine 29, 2 containers, 1 with a log file", "db is not read: its log driver is journald"]
        );
    }
}

//! Are there containers here, and can they be read?

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::FutureExt as _;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};
use taffrail_docker::{Connection, ContainerInfo, DockerConfig, Enabled, Snapshot, is_sandbox, watch};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Finding, Status};
use crate::announce::{files_line, files_named, paths_named};
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
    // After the question whether there is anything to read: it only gives names.
    findings.push(super::cri::runtime(&config.cri));
    findings
}

fn files(config: &Config) -> Finding {
    const SUBJECT: &str = "files";
    let count = files_named(config);
    let line = files_line(config, count);
    match (config.logs.files.is_empty(), count) {
        (true, _) => Finding::note(SUBJECT, line),
        (_, 0) => Finding::warning(SUBJECT, line, "compare logs.files with what is there, if it should be"),
        (_, _) => {
            let denied = paths_named(config).into_iter().filter(|path| !is_granted(path, AccessFlags::R_OK));
            refused(SUBJECT, line, &denied.collect::<Vec<_>>())
        }
    }
}

fn kubernetes(root: &Path) -> Finding {
    const SUBJECT: &str = "kubernetes logs";
    match pods_below(root) {
        Ok(0) => Finding::note(SUBJECT, format!("{}: no pods yet", root.display())),
        Ok(pods) => {
            let line = format!("{}: {}", root.display(), counted(pods, "pod"));
            refused(SUBJECT, line, &unlisted(root))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::note(SUBJECT, format!("none: {} is not there", root.display()))
        }
        Err(error) => {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => GRANT,
                _ => {
                    "set logs.kubernetes.root to the directory that kubelet writes to, or logs.kubernetes.enabled to false"
                }
            };
            Finding::bad(SUBJECT, format!("{}: {error}", root.display()), remedy)
        }
    }
}

const GRANT: &str = "run as root, or with the capability DAC_READ_SEARCH";

/// Good, unless some of what was found may not be read.
fn refused(subject: &'static str, line: String, paths: &[PathBuf]) -> Finding {
    let Some(first) = paths.first() else { return Finding::good(subject, line) };
    let which = match paths.len() {
        1 => first.display().to_string(),
        count => format!("{} and {} more", first.display(), count - 1),
    };
    Finding::bad(subject, format!("{line}, and this user may not read {which}"), GRANT)
}

/// The directories of pods, and of their containers, that may not be listed.
fn unlisted(root: &Path) -> Vec<PathBuf> {
    let below = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let pods = below(root).filter(|path| path.is_dir());
    let all = pods.flat_map(|pod| {
        let containers: Vec<PathBuf> = below(&pod).filter(|path| path.is_dir()).collect();
        std::iter::once(pod).chain(containers)
    });
    all.filter(|path| !is_granted(path, AccessFlags::R_OK | AccessFlags::X_OK)).collect()
}

/// Whether this process, with the rights it has now, may use what is there so.
fn is_granted(path: &Path, how: AccessFlags) -> bool {
    faccessat(AT_FDCWD, path, how, AtFlags::AT_EACCESS) != Err(Errno::EACCES)
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
        "engine {version}, {}, {} with a log file",
        counted(all.len(), "container"),
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
        let rest = counted(more, "more container");
        findings.push(Finding::note(SUBJECT, format!("besides, the logs of {rest} are not read")));
    }
    findings
}

/// `1 pod`, `2 pods`.
pub(super) fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// The engine's containers now.
pub(super) fn first_snapshot(config: &DockerConfig) -> Result<Snapshot, String> {
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
        config.cri.enabled = taffrail_cri::Enabled::Never;
        let remedy = |config: &Config| all(config).into_iter().find(|f| f.subject == "sources")?.remedy;
        assert!(remedy(&config).is_some_and(|remedy| remedy.contains("taffrail run '/var/log/*.log'")));
        let paths = vec![format!("{}/*.log", directory.path().display())];
        config.logs.files = vec![FileInput { paths, ..FileInput::default() }];
        assert!(remedy(&config).is_some(), "no file is there yet");
        std::fs::File::create(directory.path().join("a.log")).expect("made");
        assert_eq!(remedy(&config), None);
    }

    #[test]
    fn a_root_that_is_a_file_is_bad_and_the_remedy_is_its_key() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let finding = kubernetes(file.path());
        assert_eq!(finding.status, Status::Bad, "{finding:?}");
        assert!(finding.remedy.is_some_and(|remedy| remedy.contains("logs.kubernetes.root")));
    }

    #[test]
    fn what_may_not_be_read_is_bad_and_named() {
        let line = || "2 pods".to_owned();
        let [one, two] = ["/a", "/b"].map(PathBuf::from);
        assert_eq!(refused("x", line(), &[]).status, Status::Good);
        assert_eq!(
            refused("x", line(), std::slice::from_ref(&one)).detail,
            "2 pods, and this user may not read /a"
        );
        let finding = refused("x", line(), &[one, two]);
        assert_eq!((finding.status, finding.remedy.as_deref()), (Status::Bad, Some(GRANT)));
        assert_eq!(finding.detail, "2 pods, and this user may not read /a and 1 more");
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

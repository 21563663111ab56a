//! What is known of one container, out of the engine's answers.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use bollard::models::{ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum};
use jiff::Timestamp;

/// The log driver that writes a file which others may read.
const JSON_FILE: &str = "json-file";

/// One container. Times are Unix nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerInfo {
    /// 64 hex digits.
    pub id: String,
    /// The engine's name for it, without the leading slash.
    pub name: String,
    /// Image reference as it was asked for.
    pub image: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `json-file`, `journald`, ...; empty when unknown.
    pub log_driver: String,
    /// The log file, which need not exist before the container starts.
    pub log_path: Option<PathBuf>,
    /// Why there is no file to read, for people. `None` when there is one.
    pub reason: Option<String>,
    /// Whether it runs now.
    pub running: bool,
    /// When it was created.
    pub created: Option<i64>,
    /// When it was last started; `None` before its first start.
    pub started: Option<i64>,
    /// When it last ended; `None` before that.
    pub finished: Option<i64>,
    /// How it last ended; `None` while it runs and before it ran.
    pub exit_code: Option<i64>,
}

impl ContainerInfo {
    /// Out of an inspection. `data_root` is the engine's own folder: a container that has not started has no path
    /// yet, but its place is known, and may be watched before the first line is written.
    pub(crate) fn inspected(answer: ContainerInspectResponse, data_root: Option<&Path>) -> ContainerInfo {
        let config = answer.config.unwrap_or_default();
        let state = answer.state.unwrap_or_default();
        let log = answer.host_config.and_then(|host| host.log_config);
        let running = state.running.unwrap_or_default();
        let finished = state.finished_at.as_deref().and_then(nanoseconds);
        let mut info = ContainerInfo {
            id: answer.id.unwrap_or_default(),
            name: bare(&answer.name.unwrap_or_default()),
            image: config.image.or(answer.image).unwrap_or_default(),
            labels: sorted(config.labels),
            log_driver: log.and_then(|log| log.typ).unwrap_or_default(),
            log_path: answer.log_path.filter(|path| !path.is_empty()).map(PathBuf::from),
            reason: None,
            running,
            created: answer.created.as_deref().and_then(nanoseconds),
            started: state.started_at.as_deref().and_then(nanoseconds),
            finished,
            exit_code: state.exit_code.filter(|_| !running && finished.is_some()),
        };
        if info.log_path.is_none() && info.log_driver == JSON_FILE {
            info.log_path = data_root.map(|root| file_below(root, &info.id));
        }
        info.reason = no_file(&info);
        info
    }

    /// One whose inspection could not be read, out of its listing where there is one.
    pub(crate) fn unreadable(id: String, listed: Option<&ContainerSummary>, problem: &str) -> ContainerInfo {
        let reason = Some(format!("the engine's answer about it could not be read: {problem}"));
        let Some(answer) = listed else { return ContainerInfo { id, reason, ..ContainerInfo::default() } };
        ContainerInfo {
            id,
            name: listed_name(answer),
            image: answer.image.clone().unwrap_or_default(),
            labels: sorted(answer.labels.clone()),
            reason,
            running: is_running(answer),
            created: answer.created.map(|seconds| seconds.saturating_mul(1_000_000_000)),
            ..ContainerInfo::default()
        }
    }

    /// Whether this was inspected, and a listing says the same as far as it goes.
    pub(crate) fn matches(&self, answer: &ContainerSummary) -> bool {
        !self.log_driver.is_empty() && self.running == is_running(answer) && self.name == listed_name(answer)
    }
}

fn file_below(data_root: &Path, id: &str) -> PathBuf {
    data_root.join("containers").join(id).join(format!("{id}-json.log"))
}

fn no_file(info: &ContainerInfo) -> Option<String> {
    let driver = &info.log_driver;
    Some(match driver.as_str() {
        JSON_FILE if info.log_path.is_some() => return None,
        JSON_FILE => "the engine does not say where its log file is".to_owned(),
        "" => "the engine does not say which log driver it has".to_owned(),
        "none" => "its log driver `none` discards its logs".to_owned(),
        "local" => {
            "its log driver `local` writes a format of Docker's own; run it with log driver `json-file`"
                .to_owned()
        }
        "journald" => "its log driver `journald` writes to the system's journal and to no file".to_owned(),
        _ => format!("its log driver `{driver}` sends its logs elsewhere and keeps no file here"),
    })
}

fn is_running(answer: &ContainerSummary) -> bool {
    // A paused container runs, as `inspect` has it.
    matches!(answer.state, Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::PAUSED))
}

/// A container linked to by others has several names, of which its own has no further slash.
fn listed_name(answer: &ContainerSummary) -> String {
    let names = answer.names.as_deref().unwrap_or_default();
    let own = names.iter().map(|name| bare(name)).find(|name| !name.contains('/'));
    own.unwrap_or_default()
}

fn bare(name: &str) -> String {
    name.strip_prefix('/').unwrap_or(name).to_owned()
}

fn sorted(labels: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    labels.into_iter().flatten().collect()
}

/// The engine writes the year 1 for what has not happened.
fn nanoseconds(text: &str) -> Option<i64> {
    let time: Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inspect(answer: serde_json::Value) -> ContainerInfo {
        ContainerInfo::inspected(
            serde_json::from_value(answer).expect("an inspection"),
            Some(Path::new("/data")),
        )
    }

    #[test]
    fn an_inspection_is_taken_over() {
        let info = inspect(serde_json::json!({
            "Id": "ab12",
            "Name": "/web",
            "Created": "1970-01-01T00:00:01.000000005Z",
            "Image": "sha256:0",
            "LogPath": "/data/containers/ab12/ab12-json.log",
            "Config": {"Image": "nginx:1.27", "Labels": {"app": "web"}},
            "HostConfig": {"LogConfig": {"Type": "json-file", "Config": {"max-size": "10m"}}},
            "State": {
                "Running": false,
                "ExitCode": 137,
                "StartedAt": "1970-01-01T00:00:02Z",
                "FinishedAt": "1970-01-01T00:00:03Z",
            },
        }));
        let expected = ContainerInfo {
            id: "ab12".to_owned(),
            name: "web".to_owned(),
            image: "nginx:1.27".to_owned(),
            labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
            log_driver: "json-file".to_owned(),
            log_path: Some(PathBuf::from("/data/containers/ab12/ab12-json.log")),
            reason: None,
            running: false,
            created: Some(1_000_000_005),
            started: Some(2_000_000_000),
            finished: Some(3_000_000_000),
            exit_code: Some(137),
        };
        assert_eq!(info, expected);
    }

    #[test]
    fn before_the_first_start_the_place_of_the_log_is_known_and_no_exit() {
        let info = inspect(serde_json::json!({
            "Id": "ab12",
            "HostConfig": {"LogConfig": {"Type": "json-file"}},
            "State": {"Running": false, "ExitCode": 0, "StartedAt": "0001-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z"},
        }));
        assert_eq!(info.log_path.as_deref(), Some(Path::new("/data/containers/ab12/ab12-json.log")));
        assert_eq!((info.started, info.finished, info.exit_code, info.reason), (None, None, None, None));
    }

    #[test]
    fn a_driver_that_keeps_no_file_is_said_to() {
        for (driver, words) in [
            ("none", "discards"),
            ("journald", "journal"),
            ("local", "json-file"),
            ("syslog", "`syslog` sends"),
            ("", "does not say which"),
        ] {
            let info = inspect(serde_json::json!({"Id": "a", "HostConfig": {"LogConfig": {"Type": driver}}}));
            assert_eq!(info.log_path, None);
            let reason = info.reason.expect("a reason");
            assert!(reason.contains(words), "{reason}");
        }
    }

    #[test]
    fn a_listing_tells_whether_to_look_again() {
        let log_driver = "none".to_owned();
        let info =
            ContainerInfo { name: "web".to_owned(), log_driver, running: true, ..ContainerInfo::default() };
        for (names, state, same) in [
            (vec!["/other/web", "/web"], "running", true),
            (vec!["/web"], "paused", true),
            (vec!["/web"], "exited", false),
            (vec!["/renamed"], "running", false),
        ] {
            let answer = serde_json::from_value(serde_json::json!({"Names": names, "State": state}));
            assert_eq!(info.matches(&answer.expect("a listing")), same, "{names:?} {state}");
        }
    }
}

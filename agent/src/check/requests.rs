//! Who would tell, here, who asks for sessions.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use super::Finding;
use crate::audit::requests::{Credentials, Validity};
use crate::config::Config;

const SUBJECT: &str = "audit requests";
const AGAIN: &str =
    "apply what `taffrail audit-webhook` makes; agents take it within seconds after kubelet has brought it";

pub(super) fn all(config: &Config) -> Vec<Finding> {
    let requests = &config.audit.requests;
    if !config.audit.enabled || !(requests.are_expected() || requests.user_variable.is_some()) {
        return Vec::new();
    }
    let mut findings: Vec<Finding> =
        requests.listen.map(|_| door(&requests.credentials_directory)).into_iter().collect();
    findings.extend(requests.log_file.as_deref().map(|path| log(path, requests.listen.is_some())));
    if let Some(variable) = &requests.user_variable {
        findings.push(Finding::note(
            SUBJECT,
            format!("the variable {variable} is believed where the container's own environment differs"),
        ));
    }
    if requests.are_expected() && !config.kubernetes.api.is_wanted() {
        findings.push(Finding::warning(
            SUBJECT,
            "which node a pod is on is not known: every request is taken for one of this node's, and none is passed on",
            "set kubernetes.api.kubeconfig, or mount a service account's token",
        ));
    }
    findings
}

fn door(credentials: &Path) -> Finding {
    match Credentials::read(credentials) {
        Ok(read) => {
            let detail = format!(
                "certificate and secret of the webhook in {}, good until {}",
                credentials.display(),
                read.until
            );
            match read.validity(jiff::Timestamp::now()) {
                Validity::Good => Finding::good(SUBJECT, detail),
                Validity::Days(_) => Finding::warning(SUBJECT, detail, AGAIN),
                Validity::Over => Finding::bad(SUBJECT, detail, AGAIN),
            }
        }
        Err(why) => Finding::bad(
            SUBJECT,
            format!("nobody can tell of requests: {why}"),
            "mount the Secret that `taffrail audit-webhook` makes at audit.requests.credentials_directory, readable for the agent's user",
        ),
    }
}

fn log(path: &Path, others_tell: bool) -> Finding {
    match File::open(path) {
        Err(error) if others_tell && error.kind() == ErrorKind::NotFound => Finding::note(
            SUBJECT,
            format!("no {}: this is no node of an API server, and others tell it", path.display()),
        ),
        Ok(_) => Finding::good(SUBJECT, format!("the API server's audit log {}", path.display())),
        Err(error) => Finding::warning(
            SUBJECT,
            format!("the API server's audit log cannot be read: {}: {error}", path.display()),
            "name the file of --audit-log-path, or leave audit.requests.log_file out where there is no API server",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;

    fn found(text: &str) -> Vec<(Status, String)> {
        let mut config = Config::default();
        config.audit.enabled = true;
        config.audit.requests = serde_json::from_str(text).expect("valid");
        config.kubernetes.api.enabled = taffrail_api::Wanted::Always;
        all(&config).into_iter().map(|finding| (finding.status, finding.detail)).collect()
    }

    #[test]
    fn what_keeps_requests_from_being_heard_is_told() {
        assert!(found("{}").is_empty());
        let nowhere = tempfile::tempdir().expect("a folder");
        let path = nowhere.path().display();
        let door = found(&format!(r#"{{"listen":"127.0.0.1:1","credentials_directory":"{path}"}}"#));
        assert!(door[0].0 == Status::Bad && door[0].1.contains("tls.crt"), "{door:?}");
        let log = found(&format!(r#"{{"log_file":"{path}/audit.log"}}"#));
        assert!(log[0].0 == Status::Warning && log[0].1.contains("audit.log"), "{log:?}");
        let both = found(&format!(
            r#"{{"listen":"127.0.0.1:1","credentials_directory":"{path}","log_file":"{path}/audit.log"}}"#
        ));
        assert!(both[1].0 == Status::Note, "{both:?}");
        let marker = found(r#"{"user_variable":"ASKED_BY"}"#);
        assert!(marker[0].0 == Status::Note && marker[0].1.contains("ASKED_BY"), "{marker:?}");
    }
}

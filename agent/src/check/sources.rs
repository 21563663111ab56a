//! Are there containers here, and can they be read?

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::Finding;
use crate::config::Config;

/// Where Docker engines listen.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

pub(super) fn all(config: &Config) -> Vec<Finding> {
    let mut findings = vec![docker(Path::new(DOCKER_SOCKET))];
    if config.logs.kubernetes.enabled {
        findings.insert(0, kubernetes(&config.logs.kubernetes.root));
    }
    findings
}

fn kubernetes(root: &Path) -> Finding {
    const SUBJECT: &str = "kubernetes logs";
    match std::fs::read_dir(root) {
        Ok(entries) => {
            let pods = entries.flatten().filter(|entry| entry.path().is_dir()).count();
            Finding::good(SUBJECT, format!("{}: {pods} pods", root.display()))
        }
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

fn docker(socket: &Path) -> Finding {
    const SUBJECT: &str = "docker";
    match UnixStream::connect(socket) {
        Ok(_) => Finding::good(SUBJECT, format!("an engine answers on {}", socket.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Finding::note(SUBJECT, format!("none: {} is not there", socket.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Finding::note(SUBJECT, format!("no engine answers on {}", socket.display()))
        }
        Err(error) => Finding::bad(
            SUBJECT,
            format!("{}: {error}", socket.display()),
            "run as root, or as a member of the group docker",
        ),
    }
}

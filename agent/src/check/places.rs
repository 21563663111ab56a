//! Where the agent keeps what it must not forget, and where it is asked.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::statfs::statfs;

use super::{Finding, Status};
use crate::config::{Config, Output};
use crate::http;
use crate::web::Web;

/// With less free space than this the checkpoint may soon not be written any more.
const SPACE: u64 = 256 << 20;

pub(super) fn all(config: &Config, web: Option<&Web>) -> Vec<Finding> {
    let running = UnixStream::connect(config.tap_socket()).is_ok();
    let mut findings = vec![state(&config.state_directory())];
    if let Output::File(file) = &config.output {
        findings.push(directory("output files", "output.file.directory", &file.directory));
    }
    findings.push(agent(&config.tap_socket(), running));
    if !running {
        findings.extend(socket(&config.tap_socket()));
    }
    if config.http.enabled && !running {
        findings.push(listener(config, web));
    }
    findings
}

/// The state directory and the one in it that the positions are in.
fn state(path: &Path) -> Finding {
    const SUBJECT: &str = "state directory";
    const KEY: &str = "state.directory";
    let finding = directory(SUBJECT, KEY, path);
    let checkpoint = path.join("checkpoint");
    if finding.status == Status::Bad || !checkpoint.exists() {
        return finding;
    }
    let within = directory(SUBJECT, KEY, &checkpoint);
    if within.status == Status::Bad { within } else { finding }
}

/// A directory that must outlive the process; `key` is what sets it.
fn directory(subject: &'static str, key: &str, directory: &Path) -> Finding {
    let shown = directory.display();
    if let Err(error) = writable(directory) {
        return Finding::bad(
            subject,
            format!("{shown} cannot be written: {error}"),
            format!("make it writable for the agent's user, or set {key}"),
        );
    }
    let Ok(system) = statfs(&existing(directory)) else {
        return Finding::good(subject, format!("{shown} can be written"));
    };
    let free = system.blocks_available() * u64::try_from(system.block_size()).unwrap_or(0);
    let kind = kind_of(system.filesystem_type().0);
    let detail = format!("{shown} can be written: {kind}, {} MiB free", free >> 20);
    match kind {
        _ if free < SPACE => {
            Finding::warning(subject, detail, "free some space: nothing can be written without it")
        }
        "tmpfs" => {
            Finding::warning(subject, detail, "choose a directory that outlives a restart of the machine")
        }
        "overlay" => Finding::warning(
            subject,
            detail,
            "mount a directory of the node there: an overlay does not outlive its container",
        ),
        _ => Finding::good(subject, detail),
    }
}

/// Does what the agent will do: makes a directory and writes and syncs a file in it, there or in the nearest directory
/// above that exists, and removes both.
fn writable(directory: &Path) -> Result<(), String> {
    let existing = existing(directory);
    let said = |error: io::Error| match existing == directory {
        true => error.to_string(),
        false => format!("{}: {error}", existing.display()),
    };
    let probe = existing.join(format!(".taffrail-check-{}", std::process::id()));
    fs::create_dir(&probe).map_err(said)?;
    let path = probe.join("x");
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(b"x")?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    fs::remove_dir(&probe).and(written).and(removed).map_err(said)
}

/// What is there under that name, or else under the nearest name above it.
fn existing(directory: &Path) -> PathBuf {
    let is_there = |path: &&Path| path.symlink_metadata().is_ok();
    directory.ancestors().find(is_there).unwrap_or(Path::new("/")).to_owned()
}

/// What stands in the way of the socket of `tap` and `ledger`, if anything does.
fn socket(path: &Path) -> Option<Finding> {
    const SUBJECT: &str = "socket";
    if let Err(error) = http::look_for_socket(path) {
        let text = error.to_string();
        let (detail, remedy) = text.split_once("; ").unwrap_or((&text, "set tap.socket to another path"));
        return Some(Finding::bad(SUBJECT, detail, remedy));
    }
    let parent = directory(SUBJECT, "tap.socket", path.parent().unwrap_or(Path::new("/")));
    (parent.status == Status::Bad).then_some(parent)
}

/// The file system's name, for those that are likely.
fn kind_of(magic: i64) -> &'static str {
    match magic {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlay",
        0x6969 => "nfs",
        0x2fc1_2fc1 => "zfs",
        _ => "other file system",
    }
}

fn agent(socket: &Path, running: bool) -> Finding {
    let detail = if running {
        format!("one answers on {}", socket.display())
    } else {
        format!("none answers on {}", socket.display())
    };
    Finding::note("running agent", detail)
}

fn listener(config: &Config, web: Option<&Web>) -> Finding {
    const SUBJECT: &str = "http";
    let listen = config.http.listen;
    match TcpListener::bind(listen) {
        Err(error) => Finding::bad(
            SUBJECT,
            format!("cannot listen on {listen}: {error}"),
            "set http.listen to a free address, or http.enabled to false",
        ),
        Ok(_) if listen.ip().is_loopback() => Finding::good(SUBJECT, format!("{listen} is free")),
        Ok(_) => exposed(&format!("{listen} is open to other machines"), web),
    }
}

/// A listener that others reach: who could come in, and who could read along.
fn exposed(open: &str, web: Option<&Web>) -> Finding {
    const SUBJECT: &str = "http";
    let (tls, authenticates) = web.map_or((false, false), |web| (web.has_tls(), web.authenticates()));
    match (tls, authenticates) {
        (true, true) => Finding::good(SUBJECT, format!("{open}, with TLS and authentication")),
        (false, true) => Finding::warning(
            SUBJECT,
            format!("{open}, and passwords come over the network as they are"),
            "set tls_server_config in the file of http.web_config",
        ),
        (_, false) => Finding::warning(
            SUBJECT,
            format!("{open}, and there is no authentication"),
            "keep others out by a firewall or a network policy, or set http.web_config",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_can_be_made_is_good_and_nothing_is_left_behind() {
        let root = tempfile::tempdir().expect("directory");
        let finding = directory("x", "y", &root.path().join("a/b"));
        assert_ne!(finding.status, Status::Bad, "{finding:?}");
        assert_eq!(fs::read_dir(root.path()).expect("read").count(), 0);
    }

    #[test]
    fn a_directory_that_is_a_file_is_bad() {
        let finding = directory("x", "state.directory", Path::new("/proc/self"));
        assert_eq!(finding.status, Status::Bad, "{finding:?}");
        assert!(finding.remedy.is_some_and(|remedy| remedy.contains("state.directory")));
    }

    #[test]
    fn a_directory_below_a_file_or_a_link_to_nowhere_is_bad() {
        let root = tempfile::tempdir().expect("directory");
        let (file, link) = (root.path().join("file"), root.path().join("link"));
        File::create(&file).expect("made");
        std::os::unix::fs::symlink("nowhere", &link).expect("linked");
        for path in [file.join("x/y"), file, link.join("x"), PathBuf::from("/dev/null/x")] {
            let finding = directory("x", "state.directory", &path);
            assert_eq!(finding.status, Status::Bad, "{finding:?}");
        }
        fs::create_dir(root.path().join("state")).expect("made");
        File::create(root.path().join("state/checkpoint")).expect("made");
        assert_eq!(state(&root.path().join("state")).status, Status::Bad, "positions cannot be written");
    }

    #[test]
    fn a_socket_that_could_not_be_made_is_bad_and_one_that_could_is_not_mentioned() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().expect("directory");
        let (open, file) = (root.path().join("open"), root.path().join("file"));
        fs::create_dir(&open).expect("made");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("opened up");
        File::create(&file).expect("made");
        for (path, says) in [
            (open.join("t.sock"), "by everybody"),
            (file.clone(), "no socket"),
            (file.join("t.sock"), "Not a directory"),
            (file.join("x/t.sock"), "Not a directory"),
        ] {
            let finding = socket(&path).expect("bad");
            assert!(finding.detail.contains(says) && finding.remedy.is_some(), "{finding:?}");
        }
        assert_eq!(socket(&root.path().join("new/t.sock")), None);
        assert_eq!(fs::read_dir(root.path()).expect("read").count(), 2, "nothing is left behind");
    }

    #[test]
    fn an_open_address_with_passwords_and_no_encryption_is_still_a_warning() {
        let folder = tempfile::tempdir().expect("directory");
        let path = folder.path().join("web.yml");
        let users = format!("basic_auth_users: {{a: {}}}", bcrypt::hash("right", 4).expect("hashed"));
        for (text, says) in [("", "no authentication"), (users.as_str(), "passwords come over the network")] {
            File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
            let mut config = Config::default();
            config.http.web_config = Some(path.clone());
            let web = Web::open(&config).expect("good");
            let finding = exposed("x", web.as_deref());
            assert_eq!(finding.status, Status::Warning);
            assert!(finding.detail.contains(says), "{finding:?}");
        }
    }

    #[test]
    fn an_address_in_use_is_bad_and_an_open_one_a_warning() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
        let mut config = Config::default();
        config.http.listen = taken.local_addr().expect("bound");
        assert_eq!(listener(&config, None).status, Status::Bad);
        config.http.listen = "0.0.0.0:0".parse().expect("address");
        assert_eq!(listener(&config, None).status, Status::Warning);
        config.http.listen = "127.0.0.1:0".parse().expect("address");
        assert_eq!(listener(&config, None).status, Status::Good);
    }
}

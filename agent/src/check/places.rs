//! Where the agent keeps what it must not forget, and where it is asked.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::statfs::statfs;

use super::Finding;
use crate::config::{Config, Output};

/// With less free space than this the checkpoint may soon not be written any more.
const SPACE: u64 = 256 << 20;

pub(super) fn all(config: &Config) -> Vec<Finding> {
    let running = UnixStream::connect(config.tap_socket()).is_ok();
    let mut findings = vec![directory("state directory", "state.directory", &config.state_directory())];
    if let Output::File(file) = &config.output {
        findings.push(directory("output files", "output.file.directory", &file.directory));
    }
    findings.push(agent(&config.tap_socket(), running));
    if config.http.enabled && !running {
        findings.push(http(config));
    }
    findings
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

/// Writes a file there and removes it; a directory that does not exist yet must be possible to make.
fn writable(directory: &Path) -> io::Result<()> {
    let existing = existing(directory);
    let path = existing.join(format!(".taffrail-check-{}", std::process::id()));
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(b"x")?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    written.and(removed)
}

/// The directory, or the nearest one above it that exists.
fn existing(directory: &Path) -> PathBuf {
    directory.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned()
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

fn http(config: &Config) -> Finding {
    const SUBJECT: &str = "http";
    let listen = config.http.listen;
    match TcpListener::bind(listen) {
        Err(error) => Finding::bad(
            SUBJECT,
            format!("cannot listen on {listen}: {error}"),
            "set http.listen to a free address, or http.enabled to false",
        ),
        Ok(_) if !listen.ip().is_loopback() => Finding::warning(
            SUBJECT,
            format!("{listen} is open to other machines, and there is no authentication"),
            "keep others out by a firewall or a network policy",
        ),
        Ok(_) => Finding::good(SUBJECT, format!("{listen} is free")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
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
    fn an_address_in_use_is_bad_and_an_open_one_a_warning() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
        let mut config = Config::default();
        config.http.listen = taken.local_addr().expect("bound");
        assert_eq!(http(&config).status, Status::Bad);
        config.http.listen = "0.0.0.0:0".parse().expect("address");
        assert_eq!(http(&config).status, Status::Warning);
        config.http.listen = "127.0.0.1:0".parse().expect("address");
        assert_eq!(http(&config).status, Status::Good);
    }
}

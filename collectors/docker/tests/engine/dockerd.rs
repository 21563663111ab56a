//! A Docker engine of its own below a temporary folder.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// An image with a static busybox as `sh`.
pub(crate) const IMAGE: &str = "taffrail-test/busybox:1";

pub(crate) struct Dockerd {
    folder: TempDir,
    process: Option<Child>,
}

impl Dockerd {
    /// Not started yet.
    pub(crate) fn new() -> Dockerd {
        Dockerd {
            folder: tempfile::Builder::new().prefix("taffrail-docker").tempdir().expect("a folder"),
            process: None,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.at("docker.sock")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts it, and the first time makes the image.
    pub(crate) fn start(&mut self) {
        let log = File::create(self.at("log")).expect("a log");
        let option = |name: &str, value: PathBuf| format!("--{name}={}", value.display());
        // It ends with the thread that starts it, however that ends.
        let process = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "TERM",
                "dockerd",
                "--bridge=none",
                "--iptables=false",
                "--ip6tables=false",
            ])
            .arg(option("data-root", self.at("data")))
            .arg(option("exec-root", self.at("exec")))
            .arg(option("pidfile", self.at("pid")))
            .arg(format!("--host=unix://{}", self.socket().display()))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("setpriv of util-linux");
        self.process = Some(process);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.command(&["version"]).output().expect("the docker command of docker.io").status.success()
        {
            let log = std::fs::read_to_string(self.at("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "dockerd of docker.io, as root, does not start: {log}");
            std::thread::sleep(Duration::from_millis(100));
        }
        if self.docker(&["images", "-q", IMAGE]).is_empty() {
            self.make_image();
        }
    }

    fn make_image(&self) {
        let bin = self.at("root/bin");
        std::fs::create_dir_all(&bin).expect("a folder");
        std::fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox of busybox-static");
        for name in ["sh", "echo", "sleep"] {
            std::os::unix::fs::symlink("busybox", bin.join(name)).expect("a link");
        }
        let archive = self.at("root.tar");
        let made =
            Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(self.at("root")).arg(".").status();
        assert!(made.expect("tar").success());
        self.docker(&["import", &archive.to_string_lossy(), IMAGE]);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(format!("unix://{}", self.socket().display())).args(arguments);
        command
    }

    /// Runs a command of the engine's own client; returns what it prints.
    pub(crate) fn docker(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().expect("the docker command of docker.io");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Stops the engine; its containers are kept on disk.
    pub(crate) fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let pid = Pid::from_raw(i32::try_from(process.id()).expect("a process id"));
        kill(pid, Signal::SIGTERM).expect("it runs");
        process.wait().expect("it ends");
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if self.process.is_none() {
            return;
        }
        let containers =
            self.command(&["ps", "-aq"]).output().map(|output| output.stdout).unwrap_or_default();
        let containers = String::from_utf8_lossy(&containers).into_owned();
        let mut remove = vec!["rm", "-f"];
        remove.extend(containers.split_whitespace());
        if remove.len() > 2 {
            drop(self.command(&remove).output());
        }
        self.stop();
    }
}

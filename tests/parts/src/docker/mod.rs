//! A real Docker engine, apart from the machine's own.
//!
//! It has its own data, socket, mount namespace and control groups, and leaves the machine's network
//! alone: containers have loopback only. Its json-file logs are below [`Docker::containers`].
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use taffrail_parts::docker::{Docker, IMAGE};
//!
//! let docker = Docker::start()?;
//! docker.run(&["--name", "talker", IMAGE, "echo", "ahoy"])?;
//! assert_eq!(docker.output(&["logs", "talker"])?, "ahoy\n");
//! # Ok(())
//! # }
//! ```

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::cgroup::Cgroup;
use crate::janitor::Place;
use crate::process::Process;
use crate::{image, packages, tools};

pub use crate::image::IMAGE;

const APART: &str = include_str!("../../scripts/apart.sh");
const SCRIPT: &str = include_str!("../../scripts/dockerd.sh");
const START: Duration = Duration::from_secs(240);
const STOP: Duration = Duration::from_secs(120);

/// An engine, running unless stopped; ends with its containers when dropped.
#[derive(Debug)]
pub struct Docker {
    // Before `place`: the engine has ended when its folder is removed.
    process: Option<Process>,
    /// The mount namespace of an engine that was killed: its containers go on in it, and only there are their file systems.
    left: Option<File>,
    arguments: Vec<String>,
    holder: PathBuf,
    place: Place,
}

impl Docker {
    /// Installs the engine if it is missing, starts it, and gives it [`IMAGE`].
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// The same with further arguments for `dockerd`.
    pub fn start_with(arguments: &[&str]) -> Result<Self> {
        Self::fetch()?;
        if !nix::unistd::geteuid().is_root() {
            bail!("a Docker engine needs root");
        }
        let mut place = Place::new("docker")?;
        let group = Cgroup::of(&mut place)?;
        group.create()?;
        let holder = group.create_holder("engine")?;
        let mut all = vec![format!("--cgroup-parent={}/containers", group.name())];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let mut docker = Self { process: None, left: None, arguments: all, holder, place };
        docker.start_again()?;
        docker.load_image()?;
        Ok(docker)
    }

    /// Installs what the engine needs.
    pub fn fetch() -> Result<()> {
        packages::ensure(&[("dockerd", "docker.io"), ("runc", "runc")])?;
        // Part of docker.io until Debian 12, a package of its own since.
        packages::ensure(&[("docker", "docker-cli")])?;
        packages::ensure_file(Path::new("/bin/busybox"), "busybox-static")
    }

    /// Starts the stopped or killed engine on its data, and waits until it answers. A killed one finds its containers as
    /// they are: it takes them up again with `--live-restore`, and ends them without.
    pub fn start_again(&mut self) -> Result<()> {
        if self.process.is_some() {
            bail!("docker is running already");
        }
        let mut apart = self.apart();
        apart.arg("dockerd").arg(self.place.path()).arg(&self.holder).args(&self.arguments);
        packages::with_programs_for_root(&mut apart);
        let mut process = Process::start("dockerd", apart, &self.log())?;
        let socket = self.socket();
        process.wait_until("answer", START, || answers(&socket))?;
        self.process = Some(process);
        self.left = None;
        Ok(())
    }

    /// What runs the script in a mount namespace: a new one, or that which a killed engine has left.
    fn apart(&self) -> Command {
        let Some(left) = &self.left else {
            let mut unshare = Command::new("unshare");
            unshare.args(["--mount", "--propagation", "private", "sh", "-c"]);
            unshare.arg(format!("{APART}\n{SCRIPT}"));
            return unshare;
        };
        let mut nsenter = Command::new("nsenter");
        nsenter.arg(format!("--mount=/proc/{}/fd/{}", std::process::id(), left.as_raw_fd()));
        nsenter.args(["sh", "-c"]).arg(format!("apart() {{ :; }}\n{SCRIPT}"));
        nsenter
    }

    /// The engine's address, as `DOCKER_HOST` takes it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The engine's socket.
    pub fn socket(&self) -> PathBuf {
        self.place.join("docker.sock")
    }

    /// The folder with a folder for each container, where its `<id>-json.log` is.
    pub fn containers(&self) -> PathBuf {
        self.place.join("data/containers")
    }

    /// The engine's own log.
    pub fn log(&self) -> PathBuf {
        self.place.join("dockerd.log")
    }

    /// The engine's process id while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// A `docker` command to this engine.
    pub fn docker<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut docker = Command::new("docker");
        docker
            .env("DOCKER_CONFIG", self.place.join("client"))
            .env_remove("DOCKER_CONTEXT")
            .args(["--host", &self.host()])
            .args(arguments);
        docker
    }

    /// Runs a `docker` command to its end; what it printed.
    pub fn output<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        Ok(String::from_utf8_lossy(&tools::run(&mut self.docker(arguments))?).into_owned())
    }

    /// Runs a container to its end: `docker run` with these arguments; what it printed.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        Ok(String::from_utf8_lossy(&tools::run(self.docker(&["run"]).args(arguments))?).into_owned())
    }

    /// Starts a container: `docker run --detach` with these arguments; its id.
    pub fn run_detached<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        let output = tools::run(self.docker(&["run", "--detach"]).args(arguments))?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    }

    /// The file to which the engine writes what a container prints.
    pub fn log_of(&self, container: &str) -> Result<PathBuf> {
        let path = self.output(&["inspect", "--format", "{{.LogPath}}", container])?;
        match path.trim() {
            "" => bail!("container {container} has no log file"),
            path => Ok(path.into()),
        }
    }

    /// Stops the engine and with it the containers, in order. Its data stays.
    pub fn stop(&mut self) -> Result<()> {
        self.process.take().context("docker is stopped already")?.stop(STOP)
    }

    /// Kills the engine. Containers go on, at least until it starts again.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            self.left = File::open(format!("/proc/{}/ns/mnt", process.id())).ok();
            process.kill();
            self.forget_containerd();
        }
    }

    /// The engine's containerd dies with it, a moment later, and may then lie unreaped: another engine must not take it for
    /// running, and wait for it to answer.
    fn forget_containerd(&self) {
        let note = self.place.join("exec/containerd/containerd.pid");
        let Ok(id) = fs::read_to_string(&note) else { return };
        let stat = Path::new("/proc").join(id.trim()).join("stat");
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            // `<id> (<name>) <state> ...`
            let stat = fs::read_to_string(&stat).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                let _ = fs::remove_file(&note);
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn load_image(&self) -> Result<()> {
        let archive = self.place.join("busybox.tar");
        image::busybox(&self.place.join("image"), &archive)?;
        self.output(&[OsStr::new("load"), OsStr::new("--input"), archive.as_os_str()])?;
        Ok(())
    }
}

/// The installed engine's version.
pub(crate) fn version() -> String {
    let mut dockerd = Command::new("dockerd");
    packages::with_programs_for_root(&mut dockerd);
    let printed = tools::run(dockerd.arg("--version")).unwrap_or_default();
    match String::from_utf8_lossy(&printed).split([' ', ',']).nth(2) {
        Some(version) => format!("Docker {version}"),
        None => "Docker, Debian's docker.io".to_owned(),
    }
}

/// True when the engine at this socket says that it is well.
fn answers(socket: &Path) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.split(' ').nth(1) == Some("200"))
}

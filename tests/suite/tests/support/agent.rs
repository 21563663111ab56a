//! The built agent, as a person runs it.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use taffrail_parts::Kafka;

/// An agent with a state of its own, running or not.
pub(crate) struct Agent {
    directory: tempfile::TempDir,
    child: Option<Child>,
    lives: usize,
}

impl Agent {
    /// Writes its configuration: `more` goes below what every agent here has.
    pub(crate) fn new(more: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let agent = Agent { directory, child: None, lives: 0 };
        agent.configure(more)?;
        Ok(agent)
    }

    /// Replaces its configuration.
    pub(crate) fn configure(&self, more: &str) -> Result<()> {
        let state = self.directory.path().join("state");
        let text = format!(
            "state: {{directory: {}}}\nhttp: {{listen: '127.0.0.1:0'}}\nlog: {{format: json}}\n{more}",
            state.display()
        );
        super::put(&self.config(), text.as_bytes())
    }

    /// Puts further sections below its configuration.
    pub(crate) fn configure_more(&self, more: &str) -> Result<()> {
        let text = fs::read_to_string(self.config())? + more;
        super::put(&self.config(), text.as_bytes())
    }

    /// What sends to a topic and its ledger beside it.
    pub(crate) fn output(kafka: &Kafka, topic: &str) -> String {
        format!(
            "output: {{kafka: {{brokers: ['{}'], topic: {topic}, ledger_topic: {topic}.ledger}}}}\n",
            kafka.bootstrap()
        )
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("taffrail.yaml")
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("agent.log")
    }

    /// A `taffrail` command with its configuration.
    pub(crate) fn command(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(taffrail_suite::program()?);
        command.arg(name).args(["--config".as_ref(), self.config().as_os_str()]).stdin(Stdio::null());
        Ok(command)
    }

    /// Starts it and waits until it says that it runs.
    pub(crate) fn start(&mut self) -> Result<()> {
        let command = self.command("run")?;
        self.start_by(command)
    }

    /// The same with a command of one's own.
    pub(crate) fn start_by(&mut self, mut command: Command) -> Result<()> {
        ensure!(self.child.is_none(), "it runs already");
        let log = OpenOptions::new().create(true).append(true).open(self.log_file())?;
        // SAFETY: one system call, which allocates nothing.
        unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
        self.child = Some(command.stdout(log.try_clone()?).stderr(log).spawn()?);
        self.lives += 1;
        super::until("the agent's announcement", || {
            self.must_live()?;
            Ok(self.said("taffrail is running")?.len() == self.lives)
        })
    }

    /// TERM; it must end well.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let mut child = self.child.take().context("it does not run")?;
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if start.elapsed() > Duration::from_secs(180) {
                child.kill()?;
                child.wait()?;
                bail!("it did not end within three minutes of a TERM:\n{}", self.log()?);
            }
            thread::sleep(Duration::from_millis(20));
        };
        ensure!(status.success(), "it ended with {status}:\n{}", self.log()?);
        Ok(())
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.must_live()?;
        let mut child = self.child.take().context("it does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// It does nothing until it is thawed.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// It goes on.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.id()?.cast_signed()), signal)?)
    }

    /// HUP: it reads its configuration again.
    pub(crate) fn reload(&self) -> Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// Its process id; that of an agent in namespaces of its own as the machine has it.
    pub(crate) fn id(&self) -> Result<u32> {
        let id = self.child.as_ref().context("it does not run")?.id();
        let name = fs::read_to_string(format!("/proc/{id}/comm"))?;
        if !["unshare", "nsenter"].contains(&name.trim()) {
            return Ok(id);
        }
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        Ok(children.split_whitespace().next().context("it was not started yet")?.parse()?)
    }

    /// `run` in mount and PID namespaces of its own, after a script that runs there as root. What it mounts ends with it.
    pub(crate) fn apart(&self, script: &str) -> Result<Command> {
        let run = self.command("run")?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec"]);
        command.arg(format!("{script}\nexec \"$@\"")).arg("sh");
        command.arg(run.get_program()).args(run.get_args()).stdin(Stdio::null());
        Ok(command)
    }

    fn must_live(&mut self) -> Result<()> {
        match self.child.as_mut().context("it does not run")?.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it ended by itself with {status}:\n{}", self.log()?),
        }
    }

    /// What it said.
    pub(crate) fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&fs::read(self.log_file())?).into_owned())
    }

    /// Lines of its log with this message.
    pub(crate) fn said(&self, message: &str) -> Result<Vec<Value>> {
        let log = self.log()?;
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(lines.filter(|line| line["message"] == message).collect())
    }

    /// Where it answers.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        let said = self.said("taffrail is running")?;
        let url = said.last().and_then(|line| line["metrics"].as_str()).context("no address")?;
        Ok(url.trim_start_matches("http://").trim_end_matches("/metrics").parse()?)
    }

    /// Its metrics.
    pub(crate) fn metrics(&self) -> Result<String> {
        self.ask("/metrics")
    }

    /// What is on one of its pages.
    pub(crate) fn page(&self, path: &str) -> Result<String> {
        page(self.address()?, path)
    }

    fn ask(&self, path: &str) -> Result<String> {
        ask(self.address()?, path)
    }

    /// The value of one series, when it is there.
    pub(crate) fn metric(&self, series: &str) -> Result<Option<f64>> {
        let metrics = self.metrics()?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(value.map(str::parse).transpose()?)
    }

    /// Its ledger.
    pub(crate) fn ledger(&self) -> Result<Value> {
        let output = self.command("ledger")?.arg("--json").output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Waits until everything that there is has been read and confirmed, and for a while nothing comes.
    pub(crate) fn settled(&mut self) -> Result<Value> {
        const QUIET: usize = 8;
        let (mut before, mut quiet) = (Value::Null, 0);
        super::until("everything read and confirmed", || {
            self.must_live()?;
            thread::sleep(Duration::from_millis(200));
            let ledger = self.ledger()?;
            let total = &ledger["total"];
            let rest = ["lag_bytes", "pending_bytes", "pending_records", "carried_bytes"];
            let at_rest =
                rest.iter().all(|key| total[key] == 0) && total["read_bytes"] == before["read_bytes"];
            quiet = if at_rest { quiet + 1 } else { 0 };
            before = total.clone();
            Ok(quiet >= QUIET)
        })?;
        let ledger = self.ledger()?;
        ensure!(ledger["adds_up"] == true, "the ledger does not add up: {ledger}");
        Ok(ledger)
    }

    /// `taffrail verify` on a topic and its ledger: how it ended, and its report.
    pub(crate) fn verify(kafka: &Kafka, topic: &str) -> Result<(Output, Value)> {
        let output = Command::new(taffrail_suite::program()?)
            .args(["verify", "--json", "--deep", "--brokers", &kafka.bootstrap()])
            .args(["--topic", topic, "--ledger-topic", &format!("{topic}.ledger")])
            .output()?;
        let report = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        Ok((output, report))
    }

    /// `taffrail verify` must find nothing missing and nothing lost.
    pub(crate) fn verify_complete(kafka: &Kafka, topic: &str) -> Result<Value> {
        let (output, report) = Self::verify(kafka, topic)?;
        let verdict = report["verdict"].as_str().context("no verdict")?;
        ensure!(
            output.status.success() && verdict.contains(" 0 missing") && verdict.contains(" 0 lost"),
            "{verdict}\n{report:#}"
        );
        Ok(report)
    }

    /// The folder with everything of this agent.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// What is on a page of an agent that listens there.
pub(crate) fn page(address: SocketAddr, path: &str) -> Result<String> {
    let answer = ask(address, path)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no body")?;
    ensure!(head.split(' ').nth(1) == Some("200"), "{path}: {answer}");
    Ok(body.to_owned())
}

fn ask(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

impl Drop for Agent {
    fn drop(&mut self) {
        // A test that succeeds stops its agent.
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
            eprintln!("the agent's log:\n{}", self.log().unwrap_or_default());
        }
    }
}

//! A real Prometheus server, and its promtool.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use taffrail_parts::{NodeExporter, Prometheus, Target};
//!
//! let exporter = NodeExporter::start(&[])?;
//! let target = Target::new("node", exporter.address(), "/metrics");
//! let prometheus = Prometheus::start(&[target], &[])?;
//! println!("{}", prometheus.query("up{job=\"node\"}")?);
//! # Ok(())
//! # }
//! ```

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::janitor::Place;
use crate::ports::Port;
use crate::process::Process;
use crate::{http, packages, tools};

const START: Duration = Duration::from_secs(240);
const NEEDS: [(&str, &str); 2] = [("prometheus", "prometheus"), ("promtool", "prometheus")];

/// What is scraped: one address and path, under the name of a job. Those of the same job differ in their addresses only.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// The value of the label `job`.
    pub job: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The page.
    pub path: String,
    /// How often it is scraped.
    pub interval: Duration,
    /// Whether the times in the samples are taken, where there are any.
    pub honor_timestamps: bool,
}

impl Target {
    /// A target that is scraped every second.
    pub fn new(job: &str, address: SocketAddr, path: &str) -> Self {
        let (job, path) = (job.to_owned(), path.to_owned());
        Self { job, address, path, interval: Duration::from_secs(1), honor_timestamps: true }
    }

    /// The job's settings, with whatever else of `all` belongs to the same job; nothing when one before it has said so.
    fn settings(&self, all: &[Target]) -> Option<Value> {
        let mut of_job = all.iter().filter(|target| target.job == self.job);
        let addresses: Vec<String> = of_job.clone().map(|target| target.address.to_string()).collect();
        (of_job.next() == Some(self)).then(|| self.job_settings(&addresses))
    }

    fn job_settings(&self, addresses: &[String]) -> Value {
        let interval = format!("{}ms", self.interval.as_millis());
        json!({
            "job_name": self.job,
            "metrics_path": self.path,
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "honor_timestamps": self.honor_timestamps,
            "static_configs": [{ "targets": addresses }],
        })
    }
}

/// A server with a database of its own; ends when dropped.
#[derive(Debug)]
pub struct Prometheus {
    // Before `place`: the server has ended when its folder is removed.
    process: Process,
    port: Port,
    place: Place,
}

impl Prometheus {
    /// Installs it if it is missing, starts it with these targets and rule files, and waits until it is ready.
    ///
    /// # Errors
    /// Also when promtool finds fault with the configuration or a rule file.
    pub fn start(targets: &[Target], rules: &[&Path]) -> Result<Self> {
        Self::fetch()?;
        let place = Place::new("prometheus")?;
        let port = Port::reserve()?;
        let config = place.join("prometheus.yml");
        let settings = json!({
            "global": { "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s" },
            "rule_files": rules,
            "scrape_configs": targets.iter().filter_map(|target| target.settings(targets)).collect::<Vec<_>>(),
        });
        // JSON is YAML.
        tools::write(&config, settings.to_string())?;
        tools::run(promtool().args(["check", "config"]).arg(&config))?;
        let mut command = Command::new("prometheus");
        packages::with_programs_for_root(&mut command);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", place.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", port.number()))
            // At other levels it keeps faults of a scrape to itself.
            .arg("--log.level=debug")
            .current_dir(place.path());
        let mut process = Process::start("prometheus", command, &place.join("prometheus.log"))?;
        let address = (Ipv4Addr::LOCALHOST, port.number()).into();
        process.wait_until("answer", START, || port.accepts() && http::get(address, "/-/ready").is_ok())?;
        Ok(Self { process, port, place })
    }

    /// Installs it if it is missing.
    pub fn fetch() -> Result<()> {
        packages::ensure(&NEEDS)
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its own log.
    pub fn log(&self) -> PathBuf {
        self.place.join("prometheus.log")
    }

    /// The page with its own metrics.
    pub fn metrics(&self) -> Result<String> {
        http::get(self.address(), "/metrics")
    }

    /// The `data` of its answer at this path below `/api/v1`.
    pub fn api(&self, path: &str) -> Result<Value> {
        let body = http::get(self.address(), &format!("/api/v1/{path}"))?;
        let mut answer: Value = serde_json::from_str(&body).context("an answer that is no JSON")?;
        if answer["status"] != "success" {
            bail!("{path}: {answer}");
        }
        Ok(answer["data"].take())
    }

    /// The result of an instant query: a list of `{"metric": {…}, "value": [time, text]}` for a vector.
    pub fn query(&self, expression: &str) -> Result<Value> {
        Ok(self.api(&format!("query?query={}", http::encode(expression)))?["result"].take())
    }

    /// The value of an instant query that has one result or none.
    pub fn number(&self, expression: &str) -> Result<Option<f64>> {
        let result = self.query(expression)?;
        let found = result.as_array().context("no vector")?;
        if found.len() > 1 {
            bail!("{expression} has {} results", found.len());
        }
        let value = found.first().and_then(|series| series["value"][1].as_str());
        Ok(value.map(str::parse).transpose()?)
    }
}

/// A `promtool` command.
pub fn promtool() -> Command {
    let mut promtool = Command::new("promtool");
    packages::with_programs_for_root(&mut promtool);
    promtool
}

/// What `promtool check metrics` finds in a page, a finding a line; empty when it is content.
///
/// # Errors
/// When it cannot be run, or the page cannot be parsed.
pub fn check_metrics(page: &str) -> Result<Vec<String>> {
    const FOUND_FAULT: i32 = 3;
    packages::ensure(&NEEDS)?;
    let mut child = promtool()
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run promtool")?;
    let mut input = child.stdin.take().context("no input")?;
    // It reads all before it says anything.
    input.write_all(page.as_bytes()).context("cannot hand the page to promtool")?;
    drop(input);
    let output = child.wait_with_output().context("cannot wait for promtool")?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    match output.status.code() {
        Some(0 | FOUND_FAULT) => Ok(said.lines().map(str::to_owned).collect()),
        _ => bail!("promtool ended with {}: {}", output.status, said.trim()),
    }
}

/// The installed server's version.
pub(crate) fn version() -> String {
    tools::version_of("prometheus").map_or_else(
        || "Prometheus, Debian's prometheus".to_owned(),
        |version| format!("Prometheus {version}"),
    )
}

//! A real Kafka broker in KRaft mode, and what its topics hold.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use taffrail_parts::{Kafka, KafkaOptions};
//!
//! let mut kafka = Kafka::start(KafkaOptions::default())?;
//! kafka.create_topic("logs", 4)?;
//! // ... send something to kafka.bootstrap() ...
//! kafka.stop()?; // an outage
//! kafka.start_again()?; // the same data, the same ports
//! for record in kafka.consume_all("logs")? {
//!     println!("{}", record.text());
//! }
//! # Ok(())
//! # }
//! ```

mod install;
mod records;
mod security;
mod settings;
mod wire;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use crate::janitor::Place;
use crate::ports::Port;
use crate::process::Process;
use crate::{packages, tools};
use install::Installed;
pub(crate) use install::{ENTRY, version};
pub use records::Record;
pub use security::{ADMIN, ClientFiles, USER, User};
use settings::Addresses;
pub use wire::Topic;

const START: Duration = Duration::from_secs(240);
const STOP: Duration = Duration::from_secs(120);

/// How a broker is to be.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// Lines for `server.properties`; they override what is there.
    pub properties: Vec<(String, String)>,
    /// The largest heap of the JVM, MiB.
    pub heap_mib: u32,
    /// Where the broker keeps its data; without it, in a folder that goes with the broker.
    pub data_dir: Option<PathBuf>,
    /// Also listens with TLS, with SASL (PLAIN and SCRAM-SHA-512, [`USER`] and [`ADMIN`]), and with both.
    ///
    /// A librdkafka before 2.6.1, such as kcat's in Debian 12, fails SCRAM with Kafka 4.
    pub secure: bool,
    /// Asks who is who: [`USER`] may do nothing until [`Kafka::allow`]; the plain listener everything.
    pub authorize: bool,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self { properties: Vec::new(), heap_mib: 512, data_dir: None, secure: false, authorize: false }
    }
}

/// A way to reach the broker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Listener {
    /// Neither encrypted nor asking who speaks.
    Plain,
    /// SASL without encryption, `security.protocol=SASL_PLAINTEXT`.
    Sasl,
    /// TLS; a client may show a certificate, `security.protocol=SSL`.
    Tls,
    /// SASL inside TLS, `security.protocol=SASL_SSL`.
    SaslTls,
}

impl Listener {
    /// Kafka's name for it, also the value of `security.protocol`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAINTEXT",
            Self::Sasl => "SASL_PLAINTEXT",
            Self::Tls => "SSL",
            Self::SaslTls => "SASL_SSL",
        }
    }
}

/// A broker, running unless stopped; ends when dropped.
#[derive(Debug)]
pub struct Kafka {
    // Before `place`: the broker has ended when its folder is removed.
    process: Option<Process>,
    installed: Installed,
    options: KafkaOptions,
    listeners: Vec<(Listener, Port)>,
    controller: Port,
    tls: Option<ClientFiles>,
    data: PathBuf,
    place: Place,
}

impl Kafka {
    /// Fetches Kafka unless the cache has it, starts a broker and waits until it answers.
    pub fn start(options: KafkaOptions) -> Result<Self> {
        let installed = Installed::get()?;
        let place = Place::new("kafka")?;
        let tls = options.secure.then(|| security::make(&place.join("pki"))).transpose()?;
        let data = options.data_dir.clone().unwrap_or_else(|| place.join("data"));
        let listeners = listeners(options.secure)?;
        let controller = Port::reserve()?;
        let mut kafka = Self { process: None, installed, options, listeners, controller, tls, data, place };
        kafka.configure()?;
        kafka.format()?;
        kafka.start_again()?;
        Ok(kafka)
    }

    /// Fetches Kafka unless the cache has it.
    pub fn fetch() -> Result<()> {
        Installed::get().map(drop)
    }

    /// Starts the stopped broker on its data and ports, and waits until it answers.
    pub fn start_again(&mut self) -> Result<()> {
        if self.process.is_some() {
            bail!("kafka is running already");
        }
        let mut java = self.installed.java();
        java.arg(format!("-Xmx{}m", self.options.heap_mib))
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-Dorg.slf4j.simpleLogger.showDateTime=true")
            .arg("kafka.Kafka")
            .arg(self.place.join("server.properties"));
        let mut process = Process::start("kafka", java, &self.log())?;
        let broker = self.broker();
        // The broker opens its listeners one after the other.
        process.wait_until("answer", START, || {
            self.listeners.iter().all(|(_, port)| port.accepts()) && wire::answers(broker)
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// The address of the plain listener, `host:port`.
    pub fn bootstrap(&self) -> String {
        self.broker().to_string()
    }

    /// The address of a listener, if the broker has it.
    pub fn bootstrap_of(&self, listener: Listener) -> Option<String> {
        let port = self.listeners.iter().find(|(known, _)| *known == listener)?.1.number();
        Some(format!("127.0.0.1:{port}"))
    }

    /// The certificates for the TLS listeners, if the broker has them.
    pub fn tls(&self) -> Option<&ClientFiles> {
        self.tls.as_ref()
    }

    /// The broker's process id while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The broker's own log.
    pub fn log(&self) -> PathBuf {
        self.place.join("kafka.log")
    }

    /// Stops the broker in order. Its data and ports stay.
    pub fn stop(&mut self) -> Result<()> {
        self.process.take().context("kafka is stopped already")?.stop(STOP)
    }

    /// Kills the broker. Its data and ports stay.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Lets the broker do nothing, with its connections open, until [`Self::thaw`].
    pub fn freeze(&self) -> Result<()> {
        self.process.as_ref().context("kafka is stopped")?.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen broker go on.
    pub fn thaw(&self) -> Result<()> {
        self.process.as_ref().context("kafka is stopped")?.signal(Signal::SIGCONT)
    }

    /// Creates a topic and waits until its partitions have leaders.
    pub fn create_topic(&self, name: &str, partitions: u16) -> Result<()> {
        self.create(&Topic { name, partitions, settings: &[] })
    }

    /// Creates a topic with settings of its own and waits until its partitions have leaders.
    pub fn create(&self, topic: &Topic<'_>) -> Result<()> {
        wire::create_topic(self.broker(), topic)?;
        let start = Instant::now();
        while wire::led_partitions(self.broker(), topic.name)?.len() != usize::from(topic.partitions) {
            if start.elapsed() > START {
                bail!("topic {} has no leaders; kafka's log ends:\n{}", topic.name, tools::tail(&self.log()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        wire::delete_topic(self.broker(), name)
    }

    /// Deletes the records of a partition that lie before `offset`, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        wire::delete_records(self.broker(), topic, partition, offset)
    }

    /// Allows a user of an authorizing broker everything on topics whose names begin so.
    pub fn allow(&self, user: User, prefix: &str) -> Result<()> {
        wire::allow(self.broker(), user.name, prefix)
    }

    /// The offset after the last record of each partition; none when there is no such topic.
    ///
    /// Their sum is the number of records that were ever written, and of transaction marks.
    pub fn end_offsets(&self, topic: &str) -> Result<Vec<i64>> {
        let partitions = wire::led_partitions(self.broker(), topic)?;
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        wire::end_offsets(self.broker(), topic, &partitions)
    }

    /// Every record that the topic holds now, in order within a partition, byte for byte.
    pub fn consume_all(&self, topic: &str) -> Result<Vec<Record>> {
        let mut all = Vec::new();
        self.consume(topic, |record| {
            all.push(record);
            Ok(())
        })?;
        Ok(all)
    }

    /// Hands every record that the topic holds now to `each`: for topics larger than memory.
    pub fn consume(&self, topic: &str, each: impl FnMut(Record) -> Result<()>) -> Result<()> {
        let mut java = self.installed.short_java();
        java.arg("Records").arg(self.bootstrap()).arg(topic);
        records::read(java, each).with_context(|| format!("cannot read topic {topic}"))
    }

    /// A `kcat` command to this broker. Its JSON output (`-J`) replaces bytes that are not UTF-8.
    pub fn kcat(&self) -> Result<Command> {
        packages::ensure(&[("kcat", "kcat")])?;
        let mut kcat = Command::new("kcat");
        kcat.args(["-q", "-b", &self.bootstrap()]);
        Ok(kcat)
    }

    fn broker(&self) -> SocketAddr {
        // The plain listener is always the first.
        SocketAddr::from(([127, 0, 0, 1], self.listeners[0].1.number()))
    }

    fn configure(&self) -> Result<()> {
        let addresses = Addresses {
            clients: self.listeners.iter().map(|(listener, port)| (*listener, port.number())).collect(),
            controller: self.controller.number(),
        };
        let text =
            settings::server_properties(&self.options, &addresses, &self.data, &self.place.join("pki"));
        tools::write(&self.place.join("server.properties"), text)
    }

    /// Gives new data its first metadata, with the SCRAM users in it.
    fn format(&self) -> Result<()> {
        if has_data(&self.data) {
            return Ok(());
        }
        const CLUSTER: &str = "dGFmZnJhaWwtdGVzdHMtMQ";
        let mut java = self.installed.short_java();
        java.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c"]);
        java.arg(self.place.join("server.properties"));
        for user in if self.options.secure { &[USER, ADMIN][..] } else { &[] } {
            let (name, password) = (user.name, user.password);
            java.arg("--add-scram").arg(format!("SCRAM-SHA-512=[name=\"{name}\",password=\"{password}\"]"));
        }
        tools::run(&mut java).with_context(|| format!("cannot format {}", self.data.display()))?;
        Ok(())
    }
}

fn listeners(secure: bool) -> Result<Vec<(Listener, Port)>> {
    let all = [Listener::Plain, Listener::Sasl, Listener::Tls, Listener::SaslTls];
    let wanted = if secure { all.len() } else { 1 };
    all.into_iter().take(wanted).map(|listener| Ok((listener, Port::reserve()?))).collect()
}

/// True when `folder` holds a broker's data.
pub fn has_data(folder: &Path) -> bool {
    folder.join("meta.properties").exists()
}

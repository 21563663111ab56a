//! Real search engines: OpenSearch and Elasticsearch, one node each.
//!
//! Both are put together from the jars that their projects publish, without the distributions around them. So this
//! Elasticsearch has no lifecycle policies, no security and no API for data streams (it makes them, and cannot
//! delete them), and its page at `/` is ours; this OpenSearch has no index state management.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use taffrail_parts::{SearchEngine, SearchOptions};
//!
//! let mut engine = SearchEngine::opensearch(SearchOptions::default())?;
//! // ... send something to engine.url() ...
//! engine.kill(); // an outage
//! engine.start_again()?; // the same data, the same port
//! println!("{}", engine.count("taffrail-events-*")?);
//! # Ok(())
//! # }
//! ```

mod ask;
mod install;
mod security;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::janitor::Place;
use crate::ports::Port;
use crate::process::Process;
use crate::tools;
pub use ask::Answer;
use install::Installed;
pub(crate) use install::{ELASTICSEARCH_ENTRY, OPENSEARCH_ENTRY, SECURE_ENTRY, version};
pub use security::{LOGIN, TlsFiles};

const START: Duration = Duration::from_secs(240);
const STOP: Duration = Duration::from_secs(120);

/// Which engine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Product {
    /// OpenSearch 2.
    OpenSearch,
    /// Elasticsearch 8.
    Elasticsearch,
}

impl Product {
    /// Both.
    pub const EACH: [Product; 2] = [Product::OpenSearch, Product::Elasticsearch];

    fn name(self) -> &'static str {
        match self {
            Self::OpenSearch => "opensearch",
            Self::Elasticsearch => "elasticsearch",
        }
    }
}

/// How an engine is to be.
#[derive(Clone, Debug)]
pub struct SearchOptions {
    /// Settings of the node; they override what is there.
    pub settings: Vec<(String, String)>,
    /// The largest heap of the JVM, MiB. Half of the default works as well, for little data.
    pub heap_mib: u32,
    /// Where the node keeps its data; without it, in a folder that goes with the node.
    pub data_dir: Option<PathBuf>,
    /// Only by TLS, and only for who logs in with [`LOGIN`]: OpenSearch with its security plugin.
    pub secure: bool,
}

impl Default for SearchOptions {
    fn default() -> Self {
        Self { settings: Vec::new(), heap_mib: 256, data_dir: None, secure: false }
    }
}

/// A search engine of one node, running unless stopped; ends when dropped.
#[derive(Debug)]
pub struct SearchEngine {
    // Before `place`: the node has ended when its folder is removed.
    process: Option<Process>,
    product: Product,
    installed: Installed,
    options: SearchOptions,
    http: Port,
    transport: Port,
    tls: Option<TlsFiles>,
    place: Place,
}

impl SearchEngine {
    /// Fetches an engine unless the cache has it, starts a node and waits until it answers.
    ///
    /// # Errors
    /// When it cannot be fetched or started; the end of its log is in the error.
    pub fn start(product: Product, options: SearchOptions) -> Result<Self> {
        ensure!(
            !options.secure || product == Product::OpenSearch,
            "the security of Elasticsearch is not published apart from its distribution"
        );
        let installed = Installed::get(product, options.secure)?;
        let place = Place::new(product.name())?;
        let (http, transport) = (Port::reserve()?, Port::reserve()?);
        let mut engine =
            Self { process: None, product, installed, options, http, transport, tls: None, place };
        tools::create_folder(&engine.config())?;
        if engine.options.secure {
            engine.tls = Some(security::make(&engine.certificates())?);
            engine.installed.copy_users(&engine.config().join("opensearch-security"))?;
        }
        engine.start_again()?;
        Ok(engine)
    }

    /// [`SearchEngine::start`] with OpenSearch.
    ///
    /// # Errors
    /// As there.
    pub fn opensearch(options: SearchOptions) -> Result<Self> {
        Self::start(Product::OpenSearch, options)
    }

    /// [`SearchEngine::start`] with Elasticsearch.
    ///
    /// # Errors
    /// As there.
    pub fn elasticsearch(options: SearchOptions) -> Result<Self> {
        Self::start(Product::Elasticsearch, options)
    }

    /// Fetches what an engine needs unless the cache has it.
    ///
    /// # Errors
    /// When it cannot be fetched.
    pub fn fetch(product: Product) -> Result<()> {
        Installed::get(product, false)?;
        if product == Product::OpenSearch {
            Installed::get(product, true)?;
        }
        Ok(())
    }

    /// Starts the stopped node on its data and port, and waits until it answers.
    ///
    /// # Errors
    /// When it runs, or cannot be started.
    pub fn start_again(&mut self) -> Result<()> {
        if self.process.is_some() {
            bail!("{} is running already", self.product.name());
        }
        let mut java = self.installed.java(self.options.heap_mib);
        java.arg(self.place.path());
        for (name, value) in self.settings()? {
            java.arg(format!("{name}={value}"));
        }
        let mut process = Process::start(self.product.name(), java, &self.log())?;
        // The plugin refuses everybody until its own index is there.
        process.wait_until("answer", START, || {
            self.http.accepts() && self.ask("GET", "/_cluster/health", None).is_ok_and(|it| it.status == 200)
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// `http://127.0.0.1:port`, or with `https` when it is secure.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.options.secure { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.http.number())
    }

    /// Which engine it is.
    #[must_use]
    pub fn product(&self) -> Product {
        self.product
    }

    /// The certificates for a client, if the node is secure.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsFiles> {
        self.tls.as_ref()
    }

    /// The node's process id while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// The node's own log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.place.join("node.log")
    }

    /// Stops the node in order. Its data and port stay.
    ///
    /// # Errors
    /// When it is stopped already, or had to be killed.
    pub fn stop(&mut self) -> Result<()> {
        self.process.take().context("the engine is stopped already")?.stop(STOP)
    }

    /// Kills the node. Its data and port stay.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Lets the node do nothing, with its connections open, until [`Self::thaw`].
    ///
    /// # Errors
    /// When it is stopped.
    pub fn freeze(&self) -> Result<()> {
        self.process.as_ref().context("the engine is stopped")?.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen node go on.
    ///
    /// # Errors
    /// When it is stopped.
    pub fn thaw(&self) -> Result<()> {
        self.process.as_ref().context("the engine is stopped")?.signal(Signal::SIGCONT)
    }

    /// Changes a setting of the whole cluster while it runs; null takes it back.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn set(&self, name: &str, value: &serde_json::Value) -> Result<()> {
        let body = serde_json::json!({"transient": {name: value}});
        self.json("PUT", "_cluster/settings", Some(&body)).map(drop)
    }

    fn settings(&self) -> Result<Vec<(String, String)>> {
        let data = self.options.data_dir.clone().unwrap_or_else(|| self.place.join("data"));
        let mut settings: Vec<(String, String)> = [
            ("node.name", "node"),
            ("cluster.name", "taffrail-tests"),
            ("network.host", "127.0.0.1"),
            ("discovery.type", "single-node"),
            ("node.processors", "2"),
            ("cluster.routing.allocation.disk.threshold_enabled", "false"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        settings.push(("path.data".to_owned(), data.display().to_string()));
        settings.push(("http.port".to_owned(), self.http.number().to_string()));
        settings.push(("transport.port".to_owned(), self.transport.number().to_string()));
        if self.options.secure {
            settings.extend(security::settings(&self.certificates())?);
        }
        // Later ones win.
        settings.extend(self.options.settings.iter().cloned());
        Ok(settings)
    }

    fn config(&self) -> PathBuf {
        self.place.join("config")
    }

    fn certificates(&self) -> PathBuf {
        self.config().join("pki")
    }
}

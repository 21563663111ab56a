//! The shipper: batches in, receipts settled by what the engine has stored.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use reqwest::Url;
use taffrail_record::{Ask, Batch, BufferPool, Ship, ShipStatus};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::client::Connector;
use crate::dead::DeadLetters;
use crate::metrics::Counters;
use crate::nodes::Nodes;
use crate::size::Size;
use crate::store::Store;
use crate::trouble::Troubles;
use crate::validate::host;
use crate::worker::{Order, State, Worker, shown};
use crate::{ElasticsearchConfig, ElasticsearchError};

/// Delivers events into Elasticsearch or OpenSearch.
///
/// It takes batches of [`taffrail_record::Payload::Event`]. Others are a mistake of who built the pipeline: they are left
/// unsettled, so that nothing is lost, and the status says so.
///
/// A thread of its own sends; it sleeps while nothing is queued. Memory is bounded by the batches' charges alone: while the
/// engine is away they fill the budget.
#[derive(Debug)]
pub struct ElasticsearchShipper {
    orders: Option<UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
    status: Arc<ShipStatus>,
    counters: Arc<Counters>,
}

impl ElasticsearchShipper {
    /// A shipper that keeps dead letters in `dead_letters`, which it makes, and gives buffers back to `pool`. It does not
    /// wait for the engine: one that cannot be reached is trouble to be seen in [`Ship::status`], not an error.
    ///
    /// # Errors
    /// [`ElasticsearchError`] when the configuration cannot be right or the directory cannot be used.
    pub fn new(
        config: &ElasticsearchConfig,
        dead_letters: &Path,
        pool: Arc<BufferPool>,
    ) -> Result<Self, ElasticsearchError> {
        let urls = urls(config)?;
        let counters = Arc::new(Counters::new(urls.iter().map(|url| shown(url).to_owned())));
        let status = ShipStatus::well();
        let longest = Duration::from_millis(config.retry_max_ms);
        let (orders, receiver) = unbounded_channel();
        let worker = Worker {
            connector: Arc::new(Connector::new(config)?),
            nodes: Nodes::new(urls, longest),
            orders: receiver,
            store: Store::new(config, pool),
            size: Size::new(config.bulk_bytes, config.bulk_documents as usize),
            dead: DeadLetters::open(dead_letters, config.dead_letter_bytes)?,
            troubles: Troubles::new(Arc::clone(&status)),
            counters: Arc::clone(&counters),
            state: State::new(longest),
            config: Arc::new(config.clone()),
        };
        let runtime = runtime()?;
        let thread = std::thread::Builder::new()
            .name("elasticsearch".to_owned())
            .spawn(move || {
                runtime.block_on(worker.run());
                // A name that is still being looked up need not be waited for.
                runtime.shutdown_background();
            })
            .map_err(ElasticsearchError::Thread)?;
        Ok(ElasticsearchShipper { orders: Some(orders), thread: Some(thread), status, counters })
    }

    /// Its counters, for scrapes.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn Ask> {
        Arc::clone(&self.counters) as Arc<dyn Ask>
    }

    /// Who feeds it makes a new one after a panic; what this one had is read again.
    fn check_thread(&self) {
        let ended = self.thread.as_ref().is_some_and(JoinHandle::is_finished);
        assert!(!ended, "the thread of elasticsearch has ended by a mistake of this program");
    }
}

impl Ship for ElasticsearchShipper {
    fn name(&self) -> &'static str {
        "elasticsearch"
    }

    fn ship(&mut self, batch: Batch) {
        self.check_thread();
        if let Some(orders) = &self.orders {
            // Fails only when the thread has ended in this moment: the batch is abandoned and read again.
            let _ = orders.send(Order::Ship(batch));
        }
    }

    fn idle(&mut self) {
        if self.orders.is_some() {
            self.check_thread();
        }
    }

    fn drain(&mut self, deadline: Instant) {
        if let Some(orders) = self.orders.take() {
            let _ = orders.send(Order::Drain(deadline));
            // The thread ends by itself at the deadline; a disk that hangs does not hold up more than that.
            let limit = deadline + Duration::from_secs(1);
            while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < limit {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn status(&self) -> Arc<ShipStatus> {
        Arc::clone(&self.status)
    }
}

/// The nodes' addresses.
pub(crate) fn urls(config: &ElasticsearchConfig) -> Result<Vec<Url>, ElasticsearchError> {
    let invalid = |problem| ElasticsearchError::Invalid { key: "hosts".to_owned(), problem };
    if config.hosts.is_empty() {
        return Err(invalid(
            "it is empty; name one or more nodes, such as `https://search-1:9200`".to_owned(),
        ));
    }
    config.hosts.iter().map(|text| host(text).map_err(invalid)).collect()
}

/// What one thread needs to speak to nodes.
pub(crate) fn runtime() -> Result<Runtime, ElasticsearchError> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(2).build().map_err(ElasticsearchError::Thread)
}

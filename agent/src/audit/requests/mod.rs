//! Who asks for sessions in this cluster: what API servers tell is taken in, and brought to the agent of the node that it is of.
//!
//! Guarantee: an API server is answered at once, and never refused what it asks about; a request that could not be brought where
//! it belongs is counted and said. Nobody is listened to who does not know the secret path, and nothing of that is written down.

mod courier;
mod credentials;
mod door;

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use taffrail_exec::request::{AuditLog, Refusal, Requests, RequestsConfig};
use taffrail_record::{Collector, Context};

use crate::config::Config;
use crate::http::Shipper;
use crate::kubernetes::Cluster;
use crate::pipeline::Shared;
use crate::supervise::{Make, Patience, supervise};
use crate::targets::until_raised;
use courier::Courier;
pub(crate) use credentials::{CA, CERTIFICATE, Credentials, KEY, TOKEN, Validity};

/// How often the audit log is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long to wait before what has failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Where the place in the audit log is remembered.
const LOG_PLACE: &str = "audit-log.json";

/// Starts it, where requests are expected.
///
/// # Errors
/// When the system grants no thread.
pub(super) fn start(
    config: &Config,
    requests: Requests,
    cluster: Option<&Cluster>,
    shared: &Shared,
) -> io::Result<Option<JoinHandle<()>>> {
    if !config.audit.requests.are_expected() {
        return Ok(None);
    }
    let listener = Listener {
        config: config.audit.requests.clone(),
        courier: Courier::new(config, requests.clone(), cluster),
        requests,
        kept: config.state_directory().join("audit").join(LOG_PLACE),
    };
    let make: Make = Box::new(move || Box::new(listener.clone()));
    let context = shared.context_without_records();
    supervise("audit-requests", make, context, Arc::clone(&shared.components), Patience::default()).map(Some)
}

/// What troubles it, for readiness.
pub(crate) fn standing(requests: &Requests) -> Shipper {
    Shipper { name: "audit requests".to_owned(), trouble: requests.trouble() }
}

/// Listens to API servers, and reads their log. A collector only in how it is kept running: it sends no records.
#[derive(Clone)]
struct Listener {
    config: RequestsConfig,
    courier: Courier,
    requests: Requests,
    kept: PathBuf,
}

impl Collector for Listener {
    fn name(&self) -> &'static str {
        "audit-requests"
    }

    fn run(&mut self, context: &Context) -> Result<(), Box<dyn Error + Send + Sync>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let told = until_raised(context.stop.clone(), context.beat.clone());
        runtime.block_on(async {
            tokio::select! {
                () = told => {}
                _ = futures_util::future::join(self.listen(), self.read_log()) => {}
            }
        });
        Ok(())
    }
}

impl Listener {
    /// At the address of the webhook, for ever.
    async fn listen(&self) {
        let Some(address) = self.config.listen else { return };
        loop {
            let error = door::serve(address, &self.courier, &self.requests).await;
            self.requests.set_trouble(Requests::DOOR, Some(error));
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The API server's audit log, for ever.
    async fn read_log(&self) {
        let Some(path) = &self.config.log_file else { return };
        let mut log = AuditLog::new(path, &self.kept);
        loop {
            // On a thread of its own: the disk may be slow.
            let read = tokio::task::spawn_blocking(move || {
                let mut told = Vec::new();
                let read = log.read(&mut |request| told.push(request));
                (log, told, read)
            });
            let Ok((back, told, read)) = read.await else {
                self.requests
                    .set_trouble(Requests::LOG, Some("reading it has panicked; see the log".to_owned()));
                tokio::time::sleep(AGAIN).await;
                log = AuditLog::new(path, &self.kept);
                continue;
            };
            log = back;
            let malformed = log.take_malformed();
            (0..malformed).for_each(|_| self.requests.refused(Refusal::Malformed));
            told.into_iter().for_each(|request| self.courier.bring(request));
            let pause = match read {
                Ok(has_more) => {
                    self.requests.set_trouble(Requests::LOG, None);
                    if has_more { Duration::ZERO } else { LOOK }
                }
                // All nodes are told the same; most have no API server, and are told by those that have.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        && self.config.listen.is_some()
                        && !log.was_there() =>
                {
                    self.requests.set_trouble(Requests::LOG, None);
                    AGAIN
                }
                Err(error) => {
                    let what = format!(
                        "{}: {error}; name the file of --audit-log-path in audit.requests.log_file, and let the agent read it",
                        path.display()
                    );
                    self.requests.set_trouble(Requests::LOG, Some(what));
                    AGAIN
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}

//! The web configuration: TLS, users and headers of the HTTP listener, from a file of their own.
//!
//! Guarantee: what is in force was read whole and found good, and what runs is never replaced by what is broken.
//! While the agent runs neither TLS nor authentication is taken away: a file that is being written may look as if
//! somebody had asked for that. No value of the file is ever shown.

mod curves;
mod file;
mod suites;
mod tls;
mod users;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use rustls::ServerConfig;

use crate::config::{Config, ConfigError};
use file::{Stamps, Taken};
pub(crate) use users::Verdict;
use users::{Checks, Users};

/// How often the files are looked at. A change is taken once it has stood for as long.
pub(crate) const PERIOD: Duration = Duration::from_secs(2);

/// What a file asks for.
pub(crate) struct Loaded {
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) users: Option<Users>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether a client that presents no certificate is turned away.
    pub(crate) certificates: bool,
}

/// The web configuration in force.
pub struct Web {
    path: PathBuf,
    current: ArcSwap<Loaded>,
    checks: Checks,
    seen: Mutex<Seen>,
}

/// The files as they were.
struct Seen {
    /// When they were read last, with success or without.
    taken: Stamps,
    /// When they were looked at last.
    last: Stamps,
}

impl Web {
    /// Reads the file that `config` names; nothing when it names none.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with every mistake, its file, key and remedy.
    pub fn open(config: &Config) -> Result<Option<Arc<Web>>, ConfigError> {
        let Some(path) = config.http.web_config.as_deref().filter(|_| config.http.enabled) else {
            return Ok(None);
        };
        let Taken { stamps, loaded } = file::take(path);
        let web = Web {
            path: path.to_owned(),
            current: ArcSwap::from_pointee(loaded.map_err(ConfigError::Invalid)?),
            checks: Checks::new(),
            seen: Mutex::new(Seen { taken: stamps.clone(), last: stamps }),
        };
        Ok(Some(Arc::new(web)))
    }

    /// Reads the files again and takes what they say.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`]; then what was in force stays so.
    pub fn reload(&self) -> Result<(), ConfigError> {
        self.take_anew(&mut self.seen.lock())
    }

    /// Whether connections are encrypted.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.current.load().tls.is_some()
    }

    /// Whether every client has to say who it is, by a password or a certificate.
    #[must_use]
    pub fn authenticates(&self) -> bool {
        let current = self.current.load();
        current.users.is_some() || current.certificates
    }

    /// What holds for connections and requests that begin now.
    pub(crate) fn current(&self) -> Arc<Loaded> {
        self.current.load_full()
    }

    /// Who may come in with what the header `Authorization` says; everybody when there are no users.
    pub(crate) async fn judge(&self, loaded: &Loaded, authorization: Option<&HeaderValue>) -> Verdict {
        match &loaded.users {
            None => Verdict::Right,
            Some(users) => users.judge(&self.checks, authorization).await,
        }
    }

    /// Takes the files anew when they have changed and have stood so for a while; says how that went.
    pub(crate) fn look(&self) {
        let mut seen = self.seen.lock();
        let now = seen.taken.again();
        let stands = now == seen.last;
        seen.last = now;
        if !stands || seen.last == seen.taken {
            return;
        }
        let path = self.path.display();
        match self.take_anew(&mut seen) {
            Ok(()) => {
                tracing::info!(%path, "the web configuration or a file that it names has changed and is in force");
            }
            Err(error) => {
                tracing::error!("web configuration refused, the old one stays in force: {error}");
            }
        }
    }

    fn take_anew(&self, seen: &mut Seen) -> Result<(), ConfigError> {
        let Taken { stamps, loaded } = file::take(&self.path);
        (seen.last, seen.taken) = (stamps.clone(), stamps);
        let loaded = loaded.map_err(ConfigError::Invalid)?;
        let lost = self.current.load().lost(&loaded);
        if let Some(lost) = lost {
            return Err(ConfigError::Invalid(vec![file::gone(&self.path, lost)]));
        }
        self.current.store(Arc::new(loaded));
        Ok(())
    }
}

impl Loaded {
    /// The section that would be gone with `new`, when that makes the listener more open.
    fn lost(&self, new: &Loaded) -> Option<&'static str> {
        let tls = self.tls.is_some() && new.tls.is_none();
        let users = self.users.is_some() && new.users.is_none();
        tls.then_some("tls_server_config").or(users.then_some("basic_auth_users"))
    }
}

/// A path of the file: relative to the folder that the file is in.
fn beside(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path)
}

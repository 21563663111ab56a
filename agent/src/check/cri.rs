//! Is there a CRI runtime, and does it say what its containers are called?

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use taffrail_cri::{Connection, CriConfig, Enabled, Snapshot, watch};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::Finding;
use super::sources::counted;

/// How long the runtime may take to list its containers.
const PATIENCE: Duration = Duration::from_secs(10);
const SUBJECT: &str = "cri";
const REMEDY: &str = "start the runtime, run as root, or set cri.socket";

pub(super) fn runtime(config: &CriConfig) -> Finding {
    let failed = |reason| Snapshot {
        connection: Connection::Failed { reason },
        containers: Vec::new(),
        errors: [].into(),
    };
    let snapshot = first_snapshot(config).unwrap_or_else(failed);
    let required = config.enabled == Enabled::Always;
    match snapshot.connection {
        Connection::Off => Finding::note(SUBJECT, "cri.enabled is never"),
        Connection::Connected { runtime, version } => {
            let sandboxes = snapshot.containers.iter().filter(|info| info.sandbox).count();
            let containers = counted(snapshot.containers.len() - sandboxes, "container");
            let pods = counted(sandboxes, "pod");
            Finding::good(SUBJECT, format!("{runtime} {version}, {containers} in {pods}"))
        }
        Connection::Absent { reason } | Connection::Failed { reason } if required => {
            Finding::bad(SUBJECT, reason, REMEDY)
        }
        Connection::Absent { reason } => Finding::note(SUBJECT, reason),
        Connection::Failed { reason } => Finding::warning(SUBJECT, reason, REMEDY),
    }
}

/// What the runtime lists now.
fn first_snapshot(config: &CriConfig) -> Result<Snapshot, String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let (sender, receiver) = oneshot::channel();
    let (stop, stopped) = oneshot::channel();
    let mut first = Some((sender, stop));
    let on_change = move |snapshot| {
        if let Some((sender, stop)) = first.take() {
            // Nobody waits any more once time is up.
            let _ = sender.send(snapshot);
            let _ = stop.send(());
        }
    };
    runtime.block_on(async {
        let stop = timeout(PATIENCE, stopped).map(drop);
        watch(config.clone(), stop, Arc::new(Notify::new()), on_change).await;
        receiver.await.map_err(|_| format!("the CRI runtime did not list its containers within {PATIENCE:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;

    fn statuses(socket: &std::path::Path) -> [Status; 3] {
        [Enabled::Auto, Enabled::Always, Enabled::Never].map(|enabled| {
            let config = CriConfig { enabled, socket: Some(socket.to_owned()), rootfs: None };
            runtime(&config).status
        })
    }

    #[test]
    fn a_runtime_that_must_be_there_and_is_not_is_bad() {
        let directory = tempfile::tempdir().expect("directory");
        let socket = directory.path().join("cri.sock");
        assert_eq!(statuses(&socket), [Status::Note, Status::Bad, Status::Note]);
    }

    #[test]
    fn one_that_answers_nonsense_is_a_warning() {
        let directory = tempfile::tempdir().expect("directory");
        let socket = directory.path().join("cri.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        std::thread::spawn(move || listener.incoming().for_each(drop));
        assert_eq!(statuses(&socket), [Status::Warning, Status::Bad, Status::Note]);
    }
}

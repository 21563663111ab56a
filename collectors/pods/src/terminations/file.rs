//! The counts on the disk: a line with the version and a checksum, and JSON.
//!
//! The file is written aside, fsynced and renamed. One that is not exactly what was written here is set aside and said; the
//! counts then begin anew, and what objects still show is counted again.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::account::OfPod;

const HEAD: &str = "taffrail-terminations 1";
/// Larger than what is ever written here.
const LARGEST: u64 = 64 << 20;

/// Where the counts are kept.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    /// Held by who writes.
    writing: Mutex<()>,
}

type Pods = BTreeMap<Arc<str>, OfPod>;

impl File {
    pub(super) fn new(path: PathBuf) -> Self {
        File { path, writing: Mutex::default() }
    }

    /// What it holds; nothing when it is missing or damaged.
    pub(super) fn load(&self, now: i64) -> Pods {
        let mut pods = match self.read() {
            Ok(pods) => pods,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Pods::new(),
            Err(error) => {
                let aside = beside(&self.path, "damaged");
                let moved = fs::rename(&self.path, &aside);
                tracing::error!(
                    "{}: {error}; the counts of terminations begin anew, and the file is {}",
                    self.path.display(),
                    moved.map_or_else(
                        |error| format!("left there ({error})"),
                        |()| format!("kept as {}", aside.display())
                    )
                );
                Pods::new()
            }
        };
        pods.values_mut().for_each(|pod| pod.begin(now));
        pods
    }

    fn read(&self) -> io::Result<Pods> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&self.path)?;
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes)?;
        let line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let (head, body) = bytes.split_at(line);
        let body = body.get(1..).unwrap_or_default();
        if head != head_of(body).as_bytes() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum does not fit its content"));
        }
        serde_json::from_slice::<BTreeMap<String, OfPod>>(body)
            .map(|pods| pods.into_iter().map(|(uid, pod)| (uid.into(), pod)).collect())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Writes what `pods` gives.
    pub(super) fn save(&self, pods: impl FnOnce() -> Pods) -> io::Result<()> {
        // Taken before the pods are: who writes last has the newest.
        let _writing = self.writing.lock();
        let pods = pods();
        let by_uid: BTreeMap<&str, &OfPod> = pods.iter().map(|(uid, pod)| (&**uid, pod)).collect();
        let body = serde_json::to_vec(&by_uid)?;
        let aside = beside(&self.path, "aside");
        let written = write(&aside, &body).and_then(|()| fs::rename(&aside, &self.path));
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        written.and_then(|()| fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()).map_err(|error| {
            io::Error::new(error.kind(), format!("writing {}: {error}", self.path.display()))
        })
    }
}

fn write(path: &Path, body: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(path)?;
    file.write_all(head_of(body).as_bytes())?;
    file.write_all(b"\n")?;
    file.write_all(body)?;
    file.sync_all()
}

fn head_of(body: &[u8]) -> String {
    format!("{HEAD} {:08x}", crc32fast::hash(body))
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{what}"));
    name.into()
}

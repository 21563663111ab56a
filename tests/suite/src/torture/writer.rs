//! One container that prints as fast as it is let, its log kept as kubelet and containerd keep it: CRI lines in parts
//! of 16 KiB, rotated by rename, the older ones compressed, the oldest deleted, restarts into the next `N.log`, and
//! after a while the whole pod replaced.
//!
//! What is deleted has always arrived before: a file that nobody could have read would be an honest loss and prove
//! nothing. So when much is waiting, the container waits too.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::lines::{self, Lane};
use super::oracle::{Oracle, pod_name};
use super::random::Random;

/// Rotated files that kubelet keeps (`containerLogMaxFiles` less the current one).
const KEPT: usize = 4;

/// The number of a pause, and how many lines each stream had when it began.
type Paused = (u64, Vec<(Lane, u64)>);

/// What all writers share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Where the pods' directories are.
    pub(super) root: PathBuf,
    /// What has arrived.
    pub(super) oracle: Arc<Oracle>,
    /// The seed of everything.
    pub(super) seed: u64,
    /// Bytes a second that one writer may print; without, as many as it can.
    pub(super) rate: Option<u64>,
    /// Bytes that may lie there without having arrived, per writer.
    pub(super) unread: u64,
    /// Raised to end it.
    pub(super) stop: AtomicBool,
    /// Bytes written to log files.
    pub(super) written: AtomicU64,
    /// While not 0, nobody prints; the number tells one pause from another.
    pub(super) pause: AtomicU64,
    /// What each writer had printed when it began a pause: the pause's number, and lines by stream.
    pub(super) paused: Mutex<HashMap<u16, Paused>>,
}

/// Lines written on each stream, standard output first.
type Counts = [u64; 2];

struct Written {
    path: PathBuf,
    bytes: u64,
    /// The stream's counts when its last byte was written: all lines of it are below.
    counts: Counts,
}

/// One container.
pub(super) struct Writer {
    shared: Arc<Shared>,
    random: Random,
    number: u16,
    pod: u32,
    restarts: u32,
    uid: u64,
    counts: Counts,
    file: File,
    bytes: u64,
    limit: u64,
    rotated: VecDeque<Written>,
    last_rotation: i64,
    /// Directories of pods that are gone, with what must have arrived before they go.
    leaving: Vec<(PathBuf, u32, Counts)>,
    /// Lines printed in all, by pod and stream.
    finished: Vec<(Lane, u64)>,
    /// The last pause that it has heard of.
    paused: u64,
}

impl Writer {
    /// Starts a container.
    ///
    /// # Errors
    /// When its files cannot be made.
    pub(super) fn new(shared: Arc<Shared>, number: u16) -> io::Result<Self> {
        let mut random = Random::new(shared.seed, &[u64::MAX, number.into()]);
        let uid = random.next();
        let directory = directory(&shared.root, number, 0, uid);
        let file = create(&directory, 0)?;
        let limit = limit(&mut random);
        Ok(Writer {
            shared,
            random,
            number,
            pod: 0,
            restarts: 0,
            uid,
            counts: [0; 2],
            file,
            bytes: 0,
            limit,
            rotated: VecDeque::new(),
            last_rotation: 0,
            leaving: Vec::new(),
            finished: Vec::new(),
            paused: 0,
        })
    }

    /// Prints until told to stop. Returns how many lines each stream has.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub(super) fn run(mut self) -> io::Result<Vec<(Lane, u64)>> {
        let start = SystemTime::now();
        let mut own = 0;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let since = start.elapsed().unwrap_or_default().as_millis() as u64;
            let ahead = self.shared.rate.is_some_and(|rate| own > since * rate / 1000);
            if self.is_paused() || ahead || self.unread() > self.shared.unread {
                thread::sleep(Duration::from_millis(5));
                self.delete_what_arrived()?;
                continue;
            }
            own += self.print()?;
            if self.bytes > self.limit {
                self.turn()?;
            }
        }
        self.close_pod();
        Ok(self.finished)
    }

    /// Whether nobody is to print now; says what it has printed so far when that is new.
    fn is_paused(&mut self) -> bool {
        let pause = self.shared.pause.load(Ordering::Acquire);
        if pause != 0 && pause != self.paused {
            self.paused = pause;
            let mut printed = self.finished.clone();
            printed.extend([(self.lane(false), self.counts[0]), (self.lane(true), self.counts[1])]);
            let mut paused = self.shared.paused.lock().unwrap_or_else(PoisonError::into_inner);
            paused.insert(self.number, (pause, printed));
        }
        pause != 0
    }

    /// Prints some lines in one write, or in two with a pause inside a line. Returns the bytes.
    fn print(&mut self) -> io::Result<u64> {
        let mut bytes = Vec::new();
        for _ in 0..self.random.within(1, 60) {
            bytes.extend(self.line().concat());
        }
        let cut = self.random.below(bytes.len() as u64) as usize;
        if self.random.once_in(20) {
            self.write(&bytes[..cut])?;
            thread::sleep(Duration::from_millis(self.random.below(30)));
            self.write(&bytes[cut..])?;
        } else {
            self.write(&bytes)?;
        }
        Ok(bytes.len() as u64)
    }

    /// The next line in its parts; between the parts of a long one the other stream may have a word.
    fn line(&mut self) -> Vec<Vec<u8>> {
        let stderr = self.random.once_in(4);
        let parts = self.line_of(stderr);
        let mut all = Vec::with_capacity(parts.len());
        for (index, part) in parts.into_iter().enumerate() {
            if index > 0 && self.random.once_in(3) {
                all.extend(self.line_of(!stderr));
            }
            all.push(part);
        }
        all
    }

    fn line_of(&mut self, stderr: bool) -> Vec<Vec<u8>> {
        let lane = self.lane(stderr);
        let number = self.counts[usize::from(stderr)];
        self.counts[usize::from(stderr)] += 1;
        lines::cri(&lines::content(self.shared.seed, lane, number), lane.stream(), &now())
    }

    fn lane(&self, stderr: bool) -> Lane {
        Lane { writer: self.number, pod: self.pod, stderr }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        self.shared.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// The file is full: rotate, and now and then restart the container or replace the pod instead.
    fn turn(&mut self) -> io::Result<()> {
        match self.random.below(20) {
            0 => self.replace_pod()?,
            1 | 2 => self.restart()?,
            _ => self.rotate()?,
        }
        self.limit = limit(&mut self.random);
        self.compress_older()?;
        self.delete_what_arrived()
    }

    /// Kubelet renames, then tells the runtime, which writes to the old file until it has opened the new one; a line
    /// may begin in one and end in the other.
    fn rotate(&mut self) -> io::Result<()> {
        let current = self.current();
        let rotated = self.rotated_name(&current);
        fs::rename(&current, &rotated)?;
        let mut late = Vec::new();
        for _ in 0..self.random.below(4) {
            late.extend(self.line());
        }
        let here = self.random.below(late.len() as u64 + 1) as usize;
        self.write(&late[..here].concat())?;
        self.put_away(rotated);
        self.file = create(&self.directory(), self.restarts)?;
        self.write(&late[here..].concat())
    }

    fn restart(&mut self) -> io::Result<()> {
        let current = self.current();
        self.put_away(current);
        self.restarts += 1;
        self.file = create(&self.directory(), self.restarts)?;
        Ok(())
    }

    fn replace_pod(&mut self) -> io::Result<()> {
        let directory = self.directory();
        self.leaving.push((pod_directory(&directory), self.pod, self.counts));
        self.close_pod();
        self.rotated.clear();
        (self.pod, self.restarts, self.counts, self.uid) = (self.pod + 1, 0, [0; 2], self.random.next());
        self.bytes = 0;
        self.file = create(&self.directory(), 0)?;
        Ok(())
    }

    fn close_pod(&mut self) {
        let counts = self.counts;
        self.finished.push((self.lane(false), counts[0]));
        self.finished.push((self.lane(true), counts[1]));
    }

    fn put_away(&mut self, path: PathBuf) {
        self.rotated.push_back(Written { path, bytes: self.bytes, counts: self.counts });
        self.bytes = 0;
    }

    /// All but the newest rotated file, as kubelet does: to a temporary name, renamed, the original removed.
    fn compress_older(&mut self) -> io::Result<()> {
        let older = self.rotated.len().saturating_sub(1);
        for written in self.rotated.iter_mut().take(older) {
            let name = written.path.to_string_lossy().into_owned();
            if name.ends_with(".gz") || name.ends_with(".log") {
                continue;
            }
            let (aside, packed) = (PathBuf::from(name.clone() + ".tmp"), PathBuf::from(name + ".gz"));
            let mut out = GzEncoder::new(File::create(&aside)?, Compression::fast());
            io::copy(&mut File::open(&written.path)?, &mut out)?;
            out.finish()?;
            fs::rename(&aside, &packed)?;
            fs::remove_file(&written.path)?;
            written.path = packed;
        }
        Ok(())
    }

    /// Deletes the oldest beyond what kubelet keeps, and the directories of pods that are gone, once their lines have
    /// arrived.
    fn delete_what_arrived(&mut self) -> io::Result<()> {
        while self.rotated.len() > KEPT && self.arrived(self.pod, self.rotated[0].counts) {
            if let Some(oldest) = self.rotated.pop_front() {
                fs::remove_file(oldest.path)?;
            }
        }
        let leaving = std::mem::take(&mut self.leaving);
        for (path, pod, counts) in leaving {
            if self.arrived(pod, counts) {
                fs::remove_dir_all(path)?;
            } else {
                self.leaving.push((path, pod, counts));
            }
        }
        Ok(())
    }

    fn arrived(&self, pod: u32, counts: Counts) -> bool {
        [false, true].into_iter().zip(counts).all(|(stderr, count)| {
            self.shared.oracle.next(Lane { writer: self.number, pod, stderr }) >= count
        })
    }

    /// Bytes of files that have not arrived as a whole.
    fn unread(&self) -> u64 {
        let waiting = self.rotated.iter().filter(|written| !self.arrived(self.pod, written.counts));
        let gone = self.leaving.len() as u64 * self.shared.unread / 4;
        self.bytes + waiting.map(|written| written.bytes).sum::<u64>() + gone
    }

    fn directory(&self) -> PathBuf {
        directory(&self.shared.root, self.number, self.pod, self.uid)
    }

    fn current(&self) -> PathBuf {
        self.directory().join(format!("{}.log", self.restarts))
    }

    /// `0.log.20261121-101112`; no two rotations of a container fall into one second.
    fn rotated_name(&mut self, current: &Path) -> PathBuf {
        let now = jiff::Timestamp::now().as_second();
        self.last_rotation = now.max(self.last_rotation + 1);
        let time = jiff::Timestamp::from_second(self.last_rotation).unwrap_or_default();
        PathBuf::from(format!("{}.{}", current.display(), time.strftime("%Y%m%d-%H%M%S")))
    }
}

fn limit(random: &mut Random) -> u64 {
    random.within(200_000, 4_000_000)
}

fn directory(root: &Path, number: u16, pod: u32, uid: u64) -> PathBuf {
    let name = pod_name(Lane { writer: number, pod, stderr: false });
    root.join(format!("torture_{name}_{uid:08x}-0000-4000-8000-{number:012x}")).join("main")
}

fn pod_directory(container: &Path) -> PathBuf {
    container.parent().unwrap_or(container).to_owned()
}

fn create(directory: &Path, restarts: u32) -> io::Result<File> {
    fs::create_dir_all(directory)?;
    OpenOptions::new().create(true).append(true).open(directory.join(format!("{restarts}.log")))
}

/// As containerd writes it, to the nanosecond.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = jiff::Timestamp::new(since.as_secs().cast_signed(), since.subsec_nanos().cast_signed());
    format!("{:.9}", time.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};

    use flate2::read::GzDecoder;

    use super::*;

    /// A pod's files in the order in which they were written: by restart, then rotated before current.
    fn in_order(directory: &Path) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort_by_key(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let (restart, rest) = name.split_once(".log").unwrap();
            (restart.parse::<u32>().unwrap(), rest.is_empty(), rest.to_owned())
        });
        files
    }

    fn text(path: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        let file = File::open(path).unwrap();
        let packed = path.extension().is_some_and(|extension| extension == "gz");
        let mut file: Box<dyn Read> = if packed { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_files_hold_every_line_in_order_whatever_became_of_them() {
        let root = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared {
            root: root.path().to_owned(),
            oracle: Arc::new(Oracle::new(3)),
            seed: 3,
            rate: None,
            unread: 20 << 20,
            stop: AtomicBool::new(false),
            written: AtomicU64::new(0),
            pause: AtomicU64::new(0),
            paused: Mutex::default(),
        });
        let mut writer = Writer::new(Arc::clone(&shared), 0).unwrap();
        writer.limit = 100_000;
        while shared.written.load(Ordering::Relaxed) < 12 << 20 {
            writer.print().unwrap();
            if writer.bytes > writer.limit {
                writer.turn().unwrap();
                writer.limit = 100_000;
            }
        }
        writer.close_pod();
        assert!(writer.pod > 0 && writer.finished.len() > 2, "a pod was replaced");

        let mut packed = 0;
        for entry in fs::read_dir(root.path()).unwrap() {
            let mut open: [Vec<u8>; 2] = Default::default();
            for path in in_order(&entry.unwrap().path().join("main")) {
                packed += usize::from(path.extension().is_some_and(|extension| extension == "gz"));
                for line in BufReader::new(text(&path).as_slice()).split(b'\n') {
                    let line = line.unwrap();
                    let mut fields = line.splitn(4, |byte| *byte == b' ').skip(1);
                    let stderr = fields.next().unwrap() == b"stderr";
                    let last = fields.next().unwrap() == b"F";
                    open[usize::from(stderr)].extend_from_slice(fields.next().unwrap());
                    if last {
                        let message = lines::message(&std::mem::take(&mut open[usize::from(stderr)]));
                        let (lane, _) = lines::claimed(&message).unwrap();
                        let record = serde_json::json!({
                            "message": message, "stream": if stderr { "stderr" } else { "stdout" },
                            "kubernetes": {"pod": {"name": pod_name(lane)}}, "log": {"length": 1},
                        });
                        shared.oracle.hear(record.to_string().as_bytes());
                    }
                }
            }
        }
        assert!(packed > 3, "{packed} files are compressed");
        assert!(shared.oracle.heard().findings.is_empty(), "{:?}", shared.oracle.heard().findings);
        for (lane, count) in &writer.finished {
            assert_eq!(shared.oracle.next(*lane), *count, "{lane:?}");
        }
    }
}

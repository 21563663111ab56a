//! What containers and applications do to their log files, and what must arrive of it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

/// A small generator of random numbers: a case is its seed.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// How a writer's files are laid out and rotated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// CRI lines in kubelet's layout: rename and create, gzip, a new number on restart.
    Kubelet,
    /// Plain lines, renamed to `.1`, `.2`, ...
    Renamed,
    /// Plain lines, copied to `.1` and truncated.
    Copied,
}

/// One writer and what it has written.
pub(crate) struct Writer {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    directory: PathBuf,
    file: File,
    restarts: u64,
    rotations: u64,
    number: u64,
    /// A line begun and not ended, with the number of its bytes that are written.
    begun: Option<(Vec<u8>, usize)>,
    /// Complete messages, per stream, in the order of their ends.
    pub(crate) expected: [Vec<Vec<u8>>; 2],
    parts: [Vec<u8>; 2],
    clock: u64,
}

impl Writer {
    pub(crate) fn new(kind: Kind, index: usize, root: &Path) -> Writer {
        let (name, directory) = match kind {
            Kind::Kubelet => {
                (format!("app{index}"), root.join(format!("pods/ns_pod{index}_uid{index}/app{index}")))
            }
            _ => (format!("app{index}.log"), root.join(format!("files/{index}"))),
        };
        fs::create_dir_all(&directory).expect("a directory");
        let live = if kind == Kind::Kubelet { "0.log".to_owned() } else { name.clone() };
        let file = append(&directory.join(live));
        Writer {
            kind,
            name,
            directory,
            file,
            restarts: 0,
            rotations: 0,
            number: 0,
            begun: None,
            expected: Default::default(),
            parts: Default::default(),
            clock: 0,
        }
    }

    /// How many lines it has begun.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    fn live(&self) -> PathBuf {
        match self.kind {
            Kind::Kubelet => self.directory.join(format!("{}.log", self.restarts)),
            _ => self.directory.join(&self.name),
        }
    }

    /// Writes a few lines, perhaps leaving the last one unfinished.
    pub(crate) fn write(&mut self, random: &mut Random) {
        self.finish_line();
        let mut bytes = Vec::new();
        for _ in 0..=random.below(20) {
            let line = self.line(random);
            bytes.extend(line);
        }
        if random.one_in(4) {
            let line = self.line(random);
            let cut = random.below(line.len() as u64) as usize;
            bytes.extend(&line[..cut]);
            self.begun = Some((line, cut));
        }
        self.file.write_all(&bytes).expect("written");
    }

    /// Ends the line that was left unfinished.
    pub(crate) fn finish_line(&mut self) {
        if let Some((line, cut)) = self.begun.take() {
            self.file.write_all(&line[cut..]).expect("written");
        }
    }

    /// One more line as it stands in the file; notes what must arrive.
    fn line(&mut self, random: &mut Random) -> Vec<u8> {
        self.number += 1;
        let length = if random.one_in(30) { random.below(6000) } else { random.below(120) };
        let filler: Vec<u8> =
            (0..length).map(|_| b"abc \xc3\xa9\"\\\t{}"[random.below(10) as usize]).collect();
        let mut content = format!("{}:{} ", self.name, self.number).into_bytes();
        content.extend(filler);
        if self.kind != Kind::Kubelet {
            self.expected[0].push(content.clone());
            content.push(b'\n');
            return content;
        }
        let stream = random.below(2) as usize;
        let partial = random.one_in(5);
        self.clock += 1 + random.below(1_000_000);
        let time = format!(
            "2026-01-02T03:{:02}:{:02}.{:09}Z",
            self.clock / 60_000_000_000 % 60,
            self.clock / 1_000_000_000 % 60,
            self.clock % 1_000_000_000
        );
        let tag = if partial { "P" } else { "F" };
        self.parts[stream].extend(&content);
        if !partial {
            let message = std::mem::take(&mut self.parts[stream]);
            self.expected[stream].push(message);
        }
        let mut line = format!("{time} {} {tag} ", ["stdout", "stderr"][stream]).into_bytes();
        line.extend(content);
        line.push(b'\n');
        line
    }

    /// Ends what was begun and the parts that wait, so that everything can arrive.
    pub(crate) fn end(&mut self, random: &mut Random) {
        self.finish_line();
        while self.parts.iter().any(|p| !p.is_empty()) {
            let line = self.line(random);
            self.file.write_all(&line).expect("written");
        }
    }

    /// Rotates in the way of its kind. The runtime ends the line it is at before it changes files.
    pub(crate) fn rotate(&mut self, random: &mut Random) {
        self.finish_line();
        self.rotations += 1;
        match self.kind {
            Kind::Kubelet => {
                let rotated =
                    self.directory.join(format!("{}.log.20260102-{:06}", self.restarts, self.rotations));
                fs::rename(self.live(), rotated).expect("renamed");
                if random.one_in(3) {
                    // Written to after the rename, before the runtime reopens.
                    self.write(random);
                    self.finish_line();
                }
                self.file = append(&self.live());
            }
            Kind::Renamed => {
                self.shift();
                fs::rename(self.live(), self.numbered(1)).expect("renamed");
                self.file = append(&self.live());
            }
            Kind::Copied => {
                self.shift();
                fs::copy(self.live(), self.numbered(1)).expect("copied");
                self.file.set_len(0).expect("truncated");
            }
        }
    }

    fn numbered(&self, number: u64) -> PathBuf {
        self.directory.join(format!("{}.{number}", self.name))
    }

    fn shift(&self) {
        for number in (1..20).rev().filter(|n| self.numbered(*n).exists()) {
            fs::rename(self.numbered(number), self.numbered(number + 1)).expect("renamed");
        }
    }

    /// The container starts again: the next number, the old file stays.
    pub(crate) fn restart(&mut self) {
        if self.kind == Kind::Kubelet {
            self.finish_line();
            self.restarts += 1;
            self.file = append(&self.live());
        }
    }

    /// Compresses the newest rotated file that is not compressed, as kubelet does: aside, then renamed, then removed.
    pub(crate) fn compress(&self) {
        let packable =
            |p: &PathBuf| p.to_string_lossy().contains(".log.") && p.extension().is_none_or(|e| e != "gz");
        let Some(path) = self.rotated().into_iter().rfind(packable) else { return };
        let with = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
        let mut packed = GzEncoder::new(File::create(with(".tmp")).expect("created"), Compression::fast());
        packed.write_all(&fs::read(&path).expect("read")).expect("packed");
        packed.finish().expect("packed");
        fs::rename(with(".tmp"), with(".gz")).expect("renamed");
        fs::remove_file(&path).expect("removed");
    }

    /// Removes every rotated file; only when everything in them has arrived.
    pub(crate) fn remove_rotated(&self) {
        for path in self.rotated() {
            fs::remove_file(path).expect("removed");
        }
    }

    fn rotated(&self) -> Vec<PathBuf> {
        let live = self.live();
        let entries = fs::read_dir(&self.directory).expect("listed").flatten().map(|e| e.path());
        let mut rotated: Vec<PathBuf> =
            entries.filter(|p| *p != live && !p.to_string_lossy().ends_with(".tmp")).collect();
        rotated.sort();
        rotated
    }
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("opened")
}

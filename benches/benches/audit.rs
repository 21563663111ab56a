//! What the probe of exec audit adds to programs that are begun and processes that are made: outside of sessions and inside of one,
//! beside the same without it, and beside what is installed today: Debian's auditd with a rule on execve, and a line of
//! bpftrace. Rounds take turns within one run, and medians count: machines are noisy.
//!
//! What the hooks themselves take is the kernel's own count (`kernel.bpf_stats_enabled`).
//!
//! And what recording adds to a byte that is read or written: beside a session that is recorded, and in one.

#[path = "audit/bytes.rs"]
mod bytes;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use taffrail_benches::agent::{self, Form, Output};
use taffrail_benches::meter::Meter;
use taffrail_benches::{build, ended};
use taffrail_exec::probe::{Cost, Options, Probe, costs};
use taffrail_parts::packages;

/// Measures what the probe costs, beside auditd and bpftrace. Takes root.
#[derive(Debug, Parser)]
#[command(name = "audit")]
struct Arguments {
    /// Rounds, of which the median counts
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Programs and processes in each
    #[arg(long, default_value_t = 4000)]
    count: usize,
    /// Leave auditd and bpftrace out
    #[arg(long)]
    no_peers: bool,
    /// Programs in the storm at the end
    #[arg(long, default_value_t = 60_000)]
    storm: usize,
    /// Seconds that the agent is looked at
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Bytes that are read and written in each round
    #[arg(long, default_value_t = 100_000)]
    bytes: usize,
    /// Profile that the agent is built with
    #[arg(long, default_value = "release")]
    profile: String,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    ended("audit", run(&Arguments::parse()))
}

/// What is measured: which way in, and what is done.
const CASES: [(&str, bool, &str); 4] = [
    ("exec, outside", false, "exec"),
    ("exec, in a session", true, "exec"),
    ("fork, outside", false, "fork"),
    ("fork, in a session", true, "fork"),
];

fn run(arguments: &Arguments) -> Result<()> {
    let bench = Bench::new()?;
    let watchers: &[Watcher] = match arguments.no_peers {
        true => &[Watcher::Nobody, Watcher::Probe],
        false => &[Watcher::Nobody, Watcher::Probe, Watcher::Auditd, Watcher::Bpftrace],
    };
    let mut measured = vec![vec![Vec::new(); CASES.len()]; watchers.len()];
    // Of each case, the nanoseconds of each hook.
    let mut hooks: Vec<BTreeMap<String, Vec<f64>>> = vec![BTreeMap::new(); CASES.len()];
    for _ in 0..arguments.rounds {
        for (watcher, results) in watchers.iter().zip(&mut measured) {
            let running = watcher.start(&bench)?;
            for (((_, inside, what), result), hooks) in CASES.iter().zip(results).zip(&mut hooks) {
                let before = costs();
                result.push(bench.spawn(*inside, what, arguments.count)? as f64);
                for (hook, taken) in between(before.as_deref(), costs().as_deref()) {
                    hooks.entry(hook).or_default().push(taken);
                }
            }
            running.end()?;
        }
    }
    println!(
        "{:<20} {:>10} {}",
        "ns",
        "without",
        watchers[1..].iter().map(|w| format!("{:>22}", w.name())).collect::<String>()
    );
    for (case, (name, ..)) in CASES.iter().enumerate() {
        let without = median(&measured[0][case]);
        let with = measured[1..].iter().map(|results| {
            let with = median(&results[case]);
            format!("{with:>12.0} ({:+7.0})", with - without)
        });
        println!("{name:<20} {without:>10.0} {}", with.collect::<String>());
    }
    println!("\nof it the hooks themselves, ns, by the kernel's count:");
    for ((name, ..), hooks) in CASES.iter().zip(&hooks) {
        let of: Vec<String> = hooks.iter().map(|(hook, ns)| format!("{hook} {:.0}", median(ns))).collect();
        println!("{name:<20} {}", of.join(", "));
    }
    storm(&bench, arguments.storm)?;
    agents(&bench, arguments)?;
    bytes::measure(&bench, arguments)
}

/// How many programs begin in a second where the agent is looked at.
const STEADY: u64 = 200;

/// What the agent takes, with the audit and without it: while nothing happens, and while programs begin, out of sessions and in one.
fn agents(bench: &Bench, arguments: &Arguments) -> Result<()> {
    let program = build::agent(&arguments.profile)?;
    println!("\nthe agent, {STEADY} programs a second:");
    let first = bench.first()?;
    for (name, audit) in [("without", "{}"), ("taffrail", "{enabled: true, pinned: false}")] {
        let place = bench.folder.path().join(name);
        let more = format!("audit: {audit}\n");
        let agent = agent::start(&program, &place, &place, Form::Json, Output::Discard, 0, &more)?;
        let meter = Meter::of(agent.id())?;
        thread::sleep(Duration::from_secs(5));
        print!("{name:<20} {:>6.1} MB resident", meter.resident()? as f64 / 1e6);
        let share = |what: &str, load: Option<bool>| -> Result<()> {
            let count = (STEADY * arguments.seconds) as usize;
            let pace = (1_000_000_000 / STEADY).to_string();
            let (began, before) = (Instant::now(), meter.cpu()?);
            match load {
                Some(inside) => drop(bench.command(inside, "exec", count).arg(pace).output()?),
                None => thread::sleep(Duration::from_secs(arguments.seconds)),
            }
            let taken = meter.cpu()?.saturating_sub(before);
            print!(", {what} {:.2} % of a core", taken.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0);
            Ok(())
        };
        share("at rest", None)?;
        share("outside", Some(false))?;
        share("in a session", Some(true))?;
        println!(", then {:.1} MB", meter.resident()? as f64 / 1e6);
        agent.stop(Duration::from_secs(20))?;
    }
    end(first)
}

/// Nanoseconds of each hook for each call between two looks.
fn between(before: Option<&[Cost]>, after: Option<&[Cost]>) -> Vec<(String, f64)> {
    let of = |costs: Option<&[Cost]>, hook: &str| {
        let cost = costs.unwrap_or_default().iter().find(|cost| cost.hook == hook);
        cost.map_or((0, Duration::ZERO), |cost| (cost.runs, cost.time))
    };
    let each = after.unwrap_or_default().iter().map(|cost| {
        let (runs, time) = of(before, &cost.hook);
        (
            cost.hook.clone(),
            cost.time.saturating_sub(time).as_nanos() as f64 / cost.runs.saturating_sub(runs).max(1) as f64,
        )
    });
    each.collect()
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// As many programs as the machine can begin, on all processors, in one session.
fn storm(bench: &Bench, count: usize) -> Result<()> {
    let options = Options { rate: u32::MAX / 4, burst: u32::MAX / 4, ..options() };
    let told = Arc::new(AtomicU64::new(0));
    let reader = Reader::start(&options, Arc::clone(&told))?;
    let first = bench.first()?;
    let each = count / 2;
    let begin = Instant::now();
    let children: Vec<Child> =
        (0..2).map(|_| bench.command(true, "exec", each).spawn()).collect::<Result<_, _>>()?;
    for mut child in children {
        ensure!(child.wait()?.success());
    }
    let seconds = begin.elapsed().as_secs_f64();
    end(first)?;
    thread::sleep(Duration::from_millis(500));
    let counts = reader.end()?;
    let told = told.load(Ordering::Relaxed);
    println!(
        "\nstorm: {} programs in {seconds:.1} s, {:.0} a second: {told} records read, {} lost, by the kernel's count; {} told",
        each * 2,
        (each * 2) as f64 / seconds,
        counts.lost,
        counts.told
    );
    ensure!(told == counts.told, "what was told was read");
    Ok(())
}

struct Bench {
    folder: tempfile::TempDir,
    /// The `cgroup.procs` of what looks like a container.
    container: PathBuf,
}

impl Bench {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        for (name, source) in [("spawner", Some("benches/audit/spawner.c")), ("nothing", None)] {
            let source = match source {
                Some(source) => Path::new(env!("CARGO_MANIFEST_DIR")).join(source),
                None => {
                    let source = folder.path().join("nothing.c");
                    fs::File::create(&source)?.write_all(b"int main(void) { return 0; }\n")?;
                    source
                }
            };
            let made = Command::new("cc")
                .args(["-O2", "-static", "-o"])
                .arg(folder.path().join(name))
                .arg(source)
                .status()?;
            ensure!(made.success(), "cc cannot make {name}");
        }
        let version_1 = Path::new("/sys/fs/cgroup/pids");
        let root = if version_1.is_dir() { version_1 } else { Path::new("/sys/fs/cgroup") };
        let container = root.join(format!("{:064x}", std::process::id()));
        fs::create_dir(&container).with_context(|| format!("{}: run it as root", container.display()))?;
        fs::File::create("/proc/sys/kernel/bpf_stats_enabled")?.write_all(b"1")?;
        Ok(Bench { folder, container })
    }

    fn command(&self, inside: bool, what: &str, count: usize) -> Command {
        let mut command = Command::new(self.folder.path().join("spawner"));
        let procs = if inside { self.container.join("cgroup.procs") } else { PathBuf::from("-") };
        command.arg(procs).arg(what).arg(count.to_string()).arg(self.folder.path().join("nothing"));
        command.stdout(Stdio::piped());
        command
    }

    /// The container's own first process; what comes in after it comes from outside.
    fn first(&self) -> Result<Child> {
        let child = self.command(true, "wait", 0).spawn()?;
        let procs = self.container.join("cgroup.procs");
        while fs::read_to_string(&procs)?.is_empty() {
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(100));
        Ok(child)
    }

    fn spawn(&self, inside: bool, what: &str, count: usize) -> Result<u64> {
        let output = self.command(inside, what, count).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.container);
        let _ =
            fs::File::create("/proc/sys/kernel/bpf_stats_enabled").and_then(|mut file| file.write_all(b"0"));
    }
}

#[derive(Clone, Copy)]
enum Watcher {
    Nobody,
    Probe,
    Auditd,
    Bpftrace,
}

enum Running {
    Nobody,
    Probe(Reader, Child),
    Auditd(Child),
    Bpftrace(Child),
}

const RULE: [&str; 6] = ["always,exit", "-F", "arch=b64", "-S", "execve", "-kbench"];

/// As the agent loads it.
fn options() -> Options {
    Options { wake_at: 64 << 10, ..Options::default() }
}

impl Watcher {
    fn name(self) -> &'static str {
        match self {
            Watcher::Nobody => "without",
            Watcher::Probe => "taffrail",
            Watcher::Auditd => "auditd",
            Watcher::Bpftrace => "bpftrace",
        }
    }

    fn start(self, bench: &Bench) -> Result<Running> {
        Ok(match self {
            Watcher::Nobody => Running::Nobody,
            Watcher::Probe => {
                let options = Options { rate: u32::MAX / 4, burst: u32::MAX / 4, ..options() };
                let reader = Reader::start(&options, Arc::default())?;
                Running::Probe(reader, bench.first()?)
            }
            Watcher::Auditd => {
                packages::ensure(&[("auditd", "auditd"), ("auditctl", "auditd")])?;
                let log = bench.folder.path().join("audit.log");
                let mut config = fs::File::create(bench.folder.path().join("auditd.conf"))?;
                writeln!(
                    config,
                    "log_file = {}\nlog_format = RAW\nflush = INCREMENTAL_ASYNC\nfreq = 50\nmax_log_file = 1000\nmax_log_file_action = ROTATE\nnum_logs = 2",
                    log.display()
                )?;
                let child = Command::new("auditd")
                    .args(["-n", "-c"])
                    .arg(bench.folder.path())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()?;
                thread::sleep(Duration::from_millis(800));
                quiet("auditctl", &["-b", "8192"])?;
                quiet("auditctl", &[&["-a"], &RULE[..]].concat())?;
                Running::Auditd(child)
            }
            Watcher::Bpftrace => {
                packages::ensure(&[("bpftrace", "bpftrace")])?;
                let mut command = Command::new("bpftrace");
                command.args([
                    "-e",
                    "tracepoint:syscalls:sys_enter_execve { printf(\"%s \", comm); join(args->argv); }",
                ]);
                let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
                thread::sleep(Duration::from_secs(2));
                Running::Bpftrace(child)
            }
        })
    }
}

fn quiet(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output()?;
    ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn end(mut child: Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn interrupt(mut child: Child) -> Result<()> {
    quiet("kill", &["-INT", &child.id().to_string()])?;
    thread::sleep(Duration::from_millis(300));
    let _ = child.kill();
    child.wait()?;
    Ok(())
}

impl Running {
    fn end(self) -> Result<()> {
        match self {
            Running::Nobody => {}
            Running::Probe(reader, first) => {
                end(first)?;
                reader.end()?;
            }
            Running::Auditd(mut child) => {
                quiet("auditctl", &[&["-d"], &RULE[..]].concat())?;
                quiet("auditctl", &["-e", "0"])?;
                quiet("kill", &["-TERM", &child.id().to_string()])?;
                child.wait()?;
            }
            Running::Bpftrace(child) => interrupt(child)?,
        }
        Ok(())
    }
}

/// Reads what the probe tells, as the agent does.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<taffrail_exec::probe::Counts, String>>,
}

impl Reader {
    fn start(options: &Options, told: Arc<AtomicU64>) -> Result<Self> {
        let mut probe = Probe::load(options)?;
        let stop = Arc::new(AtomicBool::new(false));
        let raised = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !raised.load(Ordering::Relaxed) {
                probe.read(Duration::from_millis(200), |_| {
                    told.fetch_add(1, Ordering::Relaxed);
                });
            }
            probe.read(Duration::ZERO, |_| {
                told.fetch_add(1, Ordering::Relaxed);
            });
            probe.counts()
        });
        Ok(Reader { stop, thread })
    }

    fn end(self) -> Result<taffrail_exec::probe::Counts> {
        self.stop.store(true, Ordering::Relaxed);
        let counts = self.thread.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        counts.map_err(anyhow::Error::msg)
    }
}

//! The probe in this machine's kernel, beside a real Docker engine: what is done in containers is what it tells.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use taffrail_exec::probe::{Options, Probe};
use taffrail_exec::wire::{Exec, Exit, Process, Record, Session, SessionKind, What, differences};
use taffrail_parts::docker::{Docker, IMAGE};
use taffrail_parts::packages;

const PATIENCE: Duration = Duration::from_secs(120);

/// The probe, and what it has told.
struct Watch {
    probe: Probe,
    records: Vec<Record>,
}

impl Watch {
    fn start(options: &Options) -> Result<Self> {
        Ok(Watch { probe: Probe::load(options)?, records: Vec::new() })
    }

    fn read(&mut self, patience: Duration) {
        let records = &mut self.records;
        self.probe.read(patience, |bytes| records.push(Record::read(bytes).expect("a record")));
    }

    /// What `look` finds in the records, as soon as it does.
    fn until<T>(&mut self, what: &str, look: impl Fn(&[Record]) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(&self.records) {
                return Ok(found);
            }
            let told = self.records.len();
            ensure!(
                Instant::now() < deadline,
                "{what} was not told, but {told} other records: {:?}",
                self.probe.counts()
            );
            self.read(Duration::from_millis(50));
        }
    }

    /// The session that began with these arguments.
    fn session(&mut self, arguments: &[&str]) -> Result<u64> {
        self.until(&format!("the beginning of {arguments:?}"), |records| {
            let begins = |record: &&Record| matches!(&record.what, What::Exec(_, exec) if record.flags.is_entry() && words(exec) == arguments);
            records.iter().find(begins).map(|record| record.session)
        })
    }

    /// A session that has ended, whole.
    fn ended(&mut self, arguments: &[&str]) -> Result<Told> {
        let id = self.session(arguments)?;
        let end = self.until(&format!("the end of {arguments:?}"), |records| {
            records.iter().filter(|record| record.session == id).find_map(|record| match record.what {
                What::End(session) => Some(session),
                _ => None,
            })
        })?;
        let records: Vec<Record> =
            self.records.iter().filter(|record| record.session == id).cloned().collect();
        Ok(Told { id, end, records })
    }
}

/// Everything of one session.
struct Told {
    id: u64,
    end: Session,
    records: Vec<Record>,
}

impl Told {
    /// Nothing is missing, by the probe's own numbers.
    fn is_whole(&self) -> Result<()> {
        let numbers: BTreeSet<u64> = self.records.iter().map(|record| record.number).collect();
        ensure!(numbers == (0..self.end.records).collect(), "{numbers:?} of {:?}", self.end);
        ensure!(
            (self.end.lost, self.end.limited, self.end.untracked, self.end.members) == (0, 0, 0, 0),
            "{:?}",
            self.end
        );
        Ok(())
    }

    fn execs(&self) -> impl Iterator<Item = (&Process, &Exec)> {
        self.records.iter().filter_map(|record| match &record.what {
            What::Exec(process, exec) => Some((&**process, &**exec)),
            _ => None,
        })
    }

    fn exits(&self) -> BTreeMap<u32, Exit> {
        let exit = |record: &Record| match &record.what {
            What::Exit(process, exit) => Some((process.pid, *exit)),
            _ => None,
        };
        self.records.iter().filter_map(exit).collect()
    }

    fn commands(&self) -> Vec<Vec<String>> {
        self.execs().map(|(_, exec)| words(exec)).collect()
    }
}

fn words(exec: &Exec) -> Vec<String> {
    let all = exec.arguments.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let mut all: Vec<String> = all.collect();
    all.pop();
    all
}

fn exits_of(told: &Told, arguments: &[&str]) -> Vec<Option<u8>> {
    let exits = told.exits();
    let of = told.execs().filter(|(_, exec)| words(exec) == arguments);
    of.map(|(process, _)| exits.get(&process.pid).and_then(|exit| exit.code())).collect()
}

/// A container that sleeps, with its first process's pid on this machine.
fn container(docker: &Docker, name: &str, options: &[&str]) -> Result<(String, String)> {
    let mut arguments = vec!["--name", name];
    arguments.extend(options);
    arguments.extend([IMAGE, "sleep", "100000"]);
    let id = docker.run_detached(&arguments)?.trim().to_owned();
    let pid = docker.output(&["inspect", "--format", "{{.State.Pid}}", name])?.trim().to_owned();
    Ok((id, pid))
}

#[test]
fn the_object_is_what_the_source_makes() -> Result<()> {
    if packages::ensure(&[("clang-14", "clang-14"), ("llvm-strip-14", "llvm-14")]).is_err() {
        // Past the test runner, which keeps what those print that pass.
        writeln!(
            std::io::stderr(),
            "!! SKIPPED: there is no clang-14 here, so nobody knows whether probe/audit.bpf.o is made of its source"
        )?;
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let made = folder.path().join("audit.bpf.o");
    let probe = Path::new(env!("CARGO_MANIFEST_DIR")).join("probe");
    let built = Command::new(probe.join("build")).arg(&made).output()?;
    ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    ensure!(
        std::fs::read(&made)? == std::fs::read(probe.join("audit.bpf.o"))?,
        "run collectors/exec/probe/build"
    );
    Ok(())
}

#[test]
fn what_is_done_in_a_container_is_told_as_sessions_of_who_came_in() -> Result<()> {
    let docker = Docker::start()?;
    let mut watch = Watch::start(&Options::default())?;
    let (id, pid) = container(&docker, "shop", &[])?;

    // The container's own first process is a session of its own kind.
    let init = watch.session(&["sleep", "100000"])?;
    let first = watch.until("the container's first process", |records| {
        records.iter().find(|record| record.session == init).cloned()
    })?;
    let What::Exec(process, exec) = &first.what else { anyhow::bail!("{first:?}") };
    ensure!(process.inner_pid == 1 && process.pid.to_string() == pid, "{process:?}");
    ensure!(exec.cgroup.first().map(Vec::as_slice) == Some(id.as_bytes()), "{exec:?}");
    ensure!(exec.path == b"/bin/busybox" && exec.session_kind == 1, "{exec:?}");

    // Programs one after the other, one that fails, one in the background, and one that is only forked.
    let script = "cd /tmp; true; (exit 7); /bin/ls /nowhere; sleep 0.2 & wait; exit 3";
    let status = docker
        .docker(&["exec", "--env", "WHO=ana", "--user", "1000:1001", "shop", "sh", "-c", script])
        .output()?;
    ensure!(status.status.code() == Some(3), "{status:?}");
    let told = watch.ended(&["sh", "-c", script])?;
    told.is_whole()?;
    ensure!(told.end.kind == SessionKind::Entered && told.end.container == first.container, "{:?}", told.end);
    ensure!(
        told.commands() == [vec!["sh", "-c", script], vec!["/bin/ls", "/nowhere"], vec!["sleep", "0.2"],],
        "{:?}",
        told.commands()
    );
    ensure!(
        exits_of(&told, &["sh", "-c", script]) == [Some(3)]
            && exits_of(&told, &["/bin/ls", "/nowhere"]) == [Some(1)]
    );
    let (root, entry) = told.execs().next().context("no entry")?;
    ensure!((root.user, root.group, root.effective_user) == (1000, 1001, 1000), "{root:?}");
    ensure!(
        entry.entered_by & differences::MOUNT_NAMESPACE != 0 && entry.entered_by & differences::CGROUP != 0
    );
    ensure!(entry.environment.split(|byte| *byte == 0).any(|pair| pair == b"WHO=ana"), "{entry:?}");
    ensure!(entry.cgroup.first().map(Vec::as_slice) == Some(id.as_bytes()) && entry.directory == b"/");
    let (_, ls) = told.execs().nth(1).context("no ls")?;
    ensure!(ls.directory == b"/tmp" && ls.path == b"/bin/busybox", "{ls:?}");
    // The subshell that only exits is told by its making and its end.
    let codes: Vec<Option<u8>> = told.exits().values().map(|exit| exit.code()).collect();
    ensure!(codes.contains(&Some(7)) && told.exits().len() == 4, "{codes:?}");

    // What was left behind belongs to the session; it ends with that.
    docker.output(&["exec", "shop", "sh", "-c", "(setsid sleep 1.5 &) ; exit 0"])?;
    let told = watch.ended(&["sh", "-c", "(setsid sleep 1.5 &) ; exit 0"])?;
    told.is_whole()?;
    ensure!(exits_of(&told, &["sleep", "1.5"]) == [Some(0)], "{:?}", told.commands());

    // A false name, a signal, and arguments beyond the bound.
    docker.output(&["exec", "shop", "sh", "-c", "exec -a innocent sleep 0.1"]).unwrap_or_default();
    let killed = docker.docker(&["exec", "shop", "sh", "-c", "kill -9 $$"]).output()?;
    ensure!(!killed.status.success());
    let told = watch.ended(&["sh", "-c", "kill -9 $$"])?;
    ensure!(told.exits().values().any(|exit| exit.signal() == Some(9)), "{:?}", told.exits());
    let long = "x".repeat(100_000);
    docker.output(&["exec", "shop", "true", &long])?;
    let (arguments, total) = watch.until("the long arguments", |records| {
        records.iter().find_map(|record| match &record.what {
            What::Exec(_, exec) if exec.arguments.starts_with(b"true\0xxx") => {
                Some((exec.arguments.len(), exec.arguments_total))
            }
            _ => None,
        })
    })?;
    ensure!(
        arguments > 8000 && arguments < 8192 && total as usize == long.len() + 6,
        "{arguments} of {total}"
    );

    // Nobody comes in when the container makes namespaces for itself, or its first process goes on.
    let before = watch.probe.counts().map_err(anyhow::Error::msg)?.sessions;
    docker.output(&["exec", "shop", "true"])?;
    watch.session(&["true"])?;
    ensure!(watch.probe.counts().map_err(anyhow::Error::msg)?.sessions == before + 1);
    Ok(())
}

#[test]
fn whoever_enters_by_a_namespace_is_in_a_session_of_that_container() -> Result<()> {
    packages::ensure(&[("nsenter", "util-linux")])?;
    let docker = Docker::start()?;
    let mut watch = Watch::start(&Options::default())?;
    let (id, pid) = container(&docker, "cart", &[])?;
    let init = watch.session(&["sleep", "100000"])?;
    let container_id = watch.until("its container", |records| {
        records.iter().find(|record| record.session == init).map(|record| record.container)
    })?;
    for (number, flags) in
        [&["-m"][..], &["-p"], &["-n"], &["-i"], &["-u"], &["-m", "-p"], &["-a"]].iter().enumerate()
    {
        let mark = format!("{number}");
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid]).args(*flags).args(["--", "sh", "-c", "exit 5", &mark]);
        let status = command.stdout(Stdio::null()).status()?;
        ensure!(status.code() == Some(5), "{flags:?}");
        let told = watch.ended(&["sh", "-c", "exit 5", &mark])?;
        told.is_whole()?;
        ensure!(
            told.end.kind == SessionKind::Entered && told.end.container == container_id,
            "{flags:?}: {:?} of {id}",
            told.end
        );
    }
    // A container that shares the machine's processes, and may do everything.
    let (own, _) = container(
        &docker,
        "root",
        &["--cap-add", "SYS_ADMIN", "--cap-add", "SYS_PTRACE", "--cap-add", "SYS_CHROOT", "--pid", "host"],
    )?;
    docker.output(&["exec", "root", "sh", "-c", "echo in"])?;
    let told = watch.ended(&["sh", "-c", "echo in"])?;
    told.is_whole()?;
    let (_, entry) = told.execs().next().context("no entry")?;
    ensure!(entry.cgroup.first().map(Vec::as_slice) == Some(own.as_bytes()), "{entry:?}");
    // From there into the other one is a session of the other one.
    docker.output(&["exec", "root", "nsenter", "-t", &pid, "-m", "sh", "-c", "exit 0", "across"])?;
    let told = watch.ended(&["sh", "-c", "exit 0", "across"])?;
    ensure!(told.end.container == container_id, "{:?}", told.end);
    Ok(())
}

/// A cgroup that is named as a container's, in the hierarchy that runtimes use.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make() -> Result<Self> {
        let pids = Path::new("/sys/fs/cgroup/pids");
        let hierarchy = if pids.exists() { pids } else { Path::new("/sys/fs/cgroup") };
        let cgroup = hierarchy.join(format!("{:064x}", std::process::id()));
        std::fs::create_dir(&cgroup)?;
        Ok(Cgroup(cgroup))
    }

    /// Begins a shell that goes there, and then on as `command`.
    fn run(&self, command: &str) -> Result<Child> {
        let line = format!("echo $$ > {}/cgroup.procs; exec {command}", self.0.display());
        Ok(Command::new("sh").args(["-c", &line]).spawn()?)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let emptied = Instant::now() + Duration::from_secs(10);
        while std::fs::remove_dir(&self.0).is_err() && Instant::now() < emptied {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn who_comes_is_who_has_arrived_however_often_the_runtime_is_begun_on_its_way() -> Result<()> {
    packages::ensure(&[("nsenter", "util-linux")])?;
    let mut watch = Watch::start(&Options::default())?;
    let cgroup = Cgroup::make()?;
    // In the container's cgroup, programs are begun that are in the machine's namespaces still.
    let mut first = cgroup.run("sh -c 'unshare -m -u -i -p --fork --kill-child sleep 100000; exit 0'")?;
    let init = watch.session(&["sleep", "100000"])?;
    let (pid, container) = watch.until("the first process", |records| {
        records.iter().find_map(|record| match &record.what {
            What::Exec(process, exec) if words(exec) == ["sleep", "100000"] => {
                Some((process.pid, record.container))
            }
            _ => None,
        })
    })?;
    let known = watch.probe.session(init).context("no session")?;
    ensure!((known.kind, known.root) == (SessionKind::Init, pid), "{known:?}");

    // What it made for itself is the container's: who enters by that is known.
    let status = Command::new("nsenter")
        .args(["-t", &pid.to_string(), "-u", "--", "sh", "-c", "exit 4", "by uts"])
        .status()?;
    ensure!(status.code() == Some(4));
    let told = watch.ended(&["sh", "-c", "exit 4", "by uts"])?;
    ensure!((told.end.kind, told.end.container) == (SessionKind::Entered, container), "{:?}", told.end);

    // A session, too, is who has arrived: how that one ends is how it ends, whoever went before.
    let status = cgroup.run(&format!("nsenter -t {pid} -a -- sh -c '(exit 6); exit 5' arrived"))?.wait()?;
    ensure!(status.code() == Some(5));
    let told = watch.ended(&["sh", "-c", "(exit 6); exit 5", "arrived"])?;
    told.is_whole()?;
    ensure!(told.end.kind == SessionKind::Entered && told.end.exit().and_then(Exit::code) == Some(5));
    let begins: Vec<Vec<String>> = told
        .records
        .iter()
        .filter(|record| record.flags.is_entry())
        .filter_map(|record| match &record.what {
            What::Exec(_, exec) => Some(words(exec)),
            _ => None,
        })
        .collect();
    ensure!(begins.len() == 2 && begins[0][0] == "nsenter" && begins[1][0] == "sh", "{begins:?}");
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL)?;
    first.wait()?;
    Ok(())
}

#[test]
fn a_storm_is_told_whole_or_what_is_missing_is_counted() -> Result<()> {
    let docker = Docker::start()?;
    // A ring that the storm does not fit while nobody reads.
    let mut watch = Watch::start(&Options {
        ring_bytes: 1 << 20,
        rate: 1_000_000,
        burst: 1_000_000,
        ..Options::default()
    })?;
    container(&docker, "storm", &[])?;
    let script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); /bin/true; done";
    docker.output(&["exec", "storm", "sh", "-c", script])?;
    let id = {
        watch.read(Duration::from_millis(1));
        watch.session(&["sh", "-c", script])?
    };
    let session = watch.probe.session(id).context("the probe has forgotten it")?;
    watch.read(Duration::from_millis(1));
    let told = watch.records.iter().filter(|record| record.session == id).count() as u64;
    // The shell's own beginning and end, 3,000 processes made, begun and ended, and the session's end.
    ensure!(session.records == 3 * 3000 + 3 && session.members == 0, "{session:?}");
    ensure!(session.lost > 0 && told + session.lost == session.records, "{told} told: {session:?}");
    let counts = watch.probe.counts().map_err(anyhow::Error::msg)?;
    ensure!(counts.lost >= session.lost, "{counts:?}");

    // The same with room for it.
    let mut watch = Watch::start(&Options { rate: 1_000_000, burst: 1_000_000, ..Options::default() })?;
    let storm = docker.docker(&["exec", "storm", "sh", "-c", &format!("{script}; exit 0")]).spawn()?;
    let told = watch.ended(&["sh", "-c", &format!("{script}; exit 0")])?;
    storm.wait_with_output()?;
    told.is_whole()?;
    ensure!(told.commands().len() == 3001 && told.id != 0, "{}", told.commands().len());
    Ok(())
}

#[test]
fn a_flood_from_one_container_costs_the_others_nothing() -> Result<()> {
    let docker = Docker::start()?;
    let mut watch = Watch::start(&Options { rate: 200, burst: 500, ..Options::default() })?;
    container(&docker, "flood", &[])?;
    container(&docker, "quiet", &[])?;
    let script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); /bin/true; done";
    let mut flood = docker.docker(&["exec", "flood", "sh", "-c", script]).spawn()?;
    for number in 0..5 {
        docker.output(&["exec", "quiet", "sh", "-c", &format!("exit 0 # {number}")])?;
    }
    flood.wait()?;
    for number in 0..5 {
        watch.ended(&["sh", "-c", &format!("exit 0 # {number}")])?.is_whole()?;
    }
    // A flood is told to have begun and ended, and how much of it was not told between.
    let flooded = watch.ended(&["sh", "-c", script])?;
    let (told, session) = (flooded.records.len() as u64, flooded.end);
    ensure!(session.limited > 1000 && told + session.limited == session.records, "{told} told: {session:?}");
    ensure!((session.execs, session.forks, session.exits) == (3001, 3000, 3001), "{session:?}");
    Ok(())
}

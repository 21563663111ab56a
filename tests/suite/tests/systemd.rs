//! The collector `systemd` beside node_exporter's, both before a real systemd: the first process of namespaces of its own,
//! with a bus, a service that runs, one that has failed, one that comes back, and a socket. The machine's own systemd, if
//! it has one, is not touched, and none of the machine's units is started.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use support::{Agent, Exposition, Series, put, until};
use taffrail_parts::packages;

/// Becomes systemd: the units are at $1, and $2 is a control group that is its own.
const SCRIPT: &str = r#"
echo $$ >"$2/cgroup.procs"
exec unshare --cgroup --pid --fork --kill-child --mount --mount-proc --uts --ipc sh -ec '
    kind=$(stat --file-system --format=%T "$2")
    mount -t tmpfs tmpfs /run
    mkdir -p /run/systemd/system /run/dbus
    umount --recursive --lazy /sys/fs/cgroup
    if [ "$kind" = cgroup2fs ]; then
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
    else
        mount -t tmpfs tmpfs /sys/fs/cgroup
        mkdir /sys/fs/cgroup/systemd
        mount -t cgroup -o none,name=systemd systemd /sys/fs/cgroup/systemd
    fi
    cp "$1"/* /run/systemd/system/
    exec env container=other /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no
' sh "$1" "$2"
"#;

/// Each has no dependencies by default: nothing of the machine is to come with it.
const UNITS: [(&str, &str); 6] = [
    ("test.target", "Wants=good.service bad.service again.service talk.socket"),
    ("good.service", "[Service]\nExecStart=/bin/sleep 600"),
    ("bad.service", "[Service]\nType=oneshot\nExecStart=/bin/false"),
    ("again.service", "StartLimitBurst=3\n[Service]\nRestart=always\nRestartSec=100ms\nExecStart=/bin/true"),
    ("talk.socket", "[Socket]\nListenStream=/run/talk\nAccept=yes"),
    ("talk@.service", "[Service]\nExecStart=/bin/sleep 600\nStandardInput=socket"),
];
const BUS: [(&str, &str); 2] = [
    ("dbus.socket", "[Socket]\nListenStream=/run/dbus/system_bus_socket"),
    (
        "dbus.service",
        "Requires=dbus.socket\nAfter=dbus.socket\n[Service]\nType=notify\nExecStart=/usr/bin/dbus-daemon \
         --config-file=/run/systemd/system/bus.conf --address=systemd: --nofork --nopidfile --systemd-activation",
    ),
];
const POLICY: &str = "<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>\
    <auth>EXTERNAL</auth><policy context='default'><allow send_destination='*'/><allow receive_sender='*'/>\
    <allow own='*'/><allow user='*'/></policy></busconfig>";

/// A running systemd.
struct Systemd {
    unshare: Child,
    group: PathBuf,
}

impl Systemd {
    fn start(scratch: &Path) -> Result<Self> {
        packages::ensure(&[("dbus-daemon", "dbus"), ("unshare", "util-linux")])?;
        packages::ensure_file(Path::new("/lib/systemd/systemd"), "systemd")?;
        let units = scratch.join("units");
        fs::create_dir(&units)?;
        for (name, text) in UNITS.iter().chain(&BUS) {
            put(&units.join(name), format!("[Unit]\nDefaultDependencies=no\n{text}\n").as_bytes())?;
        }
        put(&units.join("bus.conf"), POLICY.as_bytes())?;
        let named = Path::new("/sys/fs/cgroup/systemd");
        let hierarchy = if named.is_dir() { named } else { Path::new("/sys/fs/cgroup") };
        let group = hierarchy.join(format!("taffrail-systemd-{}", std::process::id()));
        fs::create_dir(&group)?;
        let mut command = Command::new("sh");
        command.args(["-ec", SCRIPT, "sh"]).args([&units, &group]).stdin(Stdio::null());
        // SAFETY: one system call, which allocates nothing.
        unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
        Ok(Self { unshare: command.spawn()?, group })
    }

    /// A command among its processes and files.
    fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let id = self.unshare.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let first = children.split_whitespace().next().context("it does not run")?;
        let mut command = Command::new("nsenter");
        command
            .args([&format!("--target={first}"), "--mount", "--pid", "--"])
            .arg(program)
            .stdin(Stdio::null());
        Ok(command)
    }

    fn control(&self, arguments: &[&str]) -> Result<String> {
        let output = self.inside("systemctl")?.args(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Waits until its units are as they are to be, and stay so.
    fn settled(&self) -> Result<()> {
        let wanted = [("good.service", "active"), ("bad.service", "failed"), ("again.service", "failed")];
        until("units at rest", || {
            Ok(wanted
                .iter()
                .all(|(unit, state)| self.control(&["is-active", unit]).is_ok_and(|is| is == *state)))
        })
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        // Its processes are ending, and groups with processes stay.
        for _ in 0..100 {
            remove(&self.group);
            if !self.group.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

fn remove(group: &Path) {
    for inner in fs::read_dir(group).into_iter().flatten().flatten() {
        if inner.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&inner.path());
        }
    }
    let _ = fs::remove_dir(group);
}

/// What is told of systemd.
fn told(page: &str) -> Result<BTreeMap<Series, f64>> {
    let samples = Exposition::parse(page)?.samples.into_iter();
    Ok(samples.filter(|(series, _)| series.name.starts_with("node_systemd_")).collect())
}

/// A program that is ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn units_are_told_as_node_exporter_tells_them_without_a_bus_and_with_one() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let systemd = Systemd::start(scratch.path())?;
    until("its socket", || {
        Ok(systemd.control(&["is-active", "good.service"]).is_ok_and(|is| is == "active"))
    })?;
    systemd.settled()?;
    let mut agent = Agent::new(&format!(
        "docker: {{enabled: never}}\nlogs: {{kubernetes: {{enabled: false}}}}\n\
         metrics: {{node: {{enable: [systemd], systemd: {{restarts: true}}}}}}\n\
         output: {{file: {{directory: {}/records}}}}\n",
        scratch.path().display()
    ))?;
    let run = agent.command("run")?;
    let mut inside = systemd.inside(run.get_program())?;
    inside.args(run.get_args());
    agent.start_by(inside)?;

    // Without a bus systemd is asked itself.
    let bad = |told: &BTreeMap<Series, f64>| {
        let its = told.iter().filter(|(series, _)| series.label("name") == "bad.service");
        its.map(|(series, value)| (series.clone(), *value)).collect::<Vec<_>>()
    };
    let alone = bad(&told(&agent.page("/metrics/node")?)?);
    systemd.control(&["start", "dbus.service"])?;
    assert_eq!(systemd.control(&["is-active", "dbus.service"])?, "active");

    packages::ensure(&[("prometheus-node-exporter", "prometheus-node-exporter")])?;
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut exporter = systemd.inside("prometheus-node-exporter")?;
    exporter.args([&format!("--web.listen-address={free}"), "--collector.disable-defaults"]);
    exporter.args(["--collector.systemd", "--collector.systemd.enable-restarts-metrics"]);
    // Debian's build leaves out more.
    exporter.arg(r"--collector.systemd.unit-exclude=.+\.(automount|device|mount|scope|slice)");
    let _exporter = Running(exporter.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    until("node_exporter", || Ok(page_of(free).is_ok()))?;

    std::thread::sleep(std::time::Duration::from_millis(1050));
    let ours = told(&agent.page("/metrics/node")?)?;
    let theirs = told(&page_of(free)?)?;
    let of = |told: &BTreeMap<Series, f64>| -> Vec<(Series, f64)> {
        // Timers are none of ours.
        let compared = told.iter().filter(|(series, _)| !series.name.starts_with("node_systemd_timer_"));
        compared.map(|(series, value)| (series.clone(), *value)).collect()
    };
    let differ: Vec<_> =
        of(&theirs).into_iter().filter(|(series, value)| ours.get(series) != Some(value)).collect();
    ensure!(differ.is_empty(), "only node_exporter tells: {differ:?}");
    let more: Vec<_> = of(&ours).into_iter().filter(|(series, _)| !theirs.contains_key(series)).collect();
    ensure!(more.is_empty(), "only the agent tells: {more:?}");
    let failed = |name: &str| {
        let is = |(series, value): (&Series, &f64)| {
            series.label("name") == name && series.label("state") == "failed" && *value == 1.0
        };
        ours.iter().any(is)
    };
    assert_eq!(alone, bad(&ours));
    assert_eq!(["good.service", "bad.service", "again.service"].map(failed), [false, true, true]);

    agent.stop()
}

fn page_of(address: std::net::SocketAddr) -> Result<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(stream, "GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").context("no body")?.1.to_owned())
}

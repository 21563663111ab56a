//! What the audit goes by where the probe is refused, beside a real Docker engine and the kernel's own audit.

#[path = "audit/support.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;
use support::{Auditor, Shop, drop_capabilities};
use taffrail_exec::{AuditConfig, Engines, Permits, Tier, TierChoice};
use taffrail_kernfs::Roots;
use taffrail_parts::packages;

fn of(tier: TierChoice) -> AuditConfig {
    AuditConfig { tier, ..AuditConfig::default() }
}

/// What auditctl prints.
fn auditctl(argument: &str) -> Result<String> {
    packages::ensure(&[("auditctl", "auditd")])?;
    let output = Command::new("auditctl").arg(argument).output()?;
    Ok(String::from_utf8(output.stdout)?)
}

/// How the kernel's audit stands: whether it is on, and the rules of agents.
fn kernel_audit() -> Result<(bool, Vec<String>)> {
    let rules = auditctl("-l")?;
    let own = rules.lines().filter(|rule| rule.contains("taffrail-")).map(str::to_owned).collect();
    Ok((auditctl("-s")?.lines().any(|line| line == "enabled 1"), own))
}

/// Leaves the kernel's audit as it was, also when a test fails.
struct Before(bool, Vec<String>);

impl Before {
    fn now() -> Result<Before> {
        kernel_audit().map(|(is_on, rules)| Before(is_on, rules))
    }

    /// How it is now is how it was then.
    fn is_now(&self) -> Result<()> {
        let now = kernel_audit()?;
        ensure!((now.0, &now.1) == (self.0, &self.1), "{now:?}");
        Ok(())
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        let Ok((is_on, rules)) = kernel_audit() else { return };
        for rule in rules.iter().filter(|rule| !self.1.contains(rule)) {
            let words = rule.replacen("-a", "-d", 1);
            let _ = Command::new("auditctl").args(words.split(' ')).output();
        }
        if is_on && !self.0 {
            let _ = Command::new("auditctl").args(["-e", "0"]).output();
        }
    }
}

#[test]
fn the_kernels_audit_tells_every_program_whole_however_soon_it_ends() -> Result<()> {
    let before = Before::now()?;
    let shop = Shop::open()?;
    let auditor = Auditor::start(&shop, of(TierChoice::Audit))?;
    ensure!(auditor.audit.view().tier == Tier::Audit, "{:?}", auditor.audit.view());
    let during = kernel_audit()?;
    ensure!(during.0 && during.1.len() == before.1.len() + 2, "{during:?}");
    shop.container("counter", &[])?;
    let script = "i=0; while [ $i -lt 200 ]; do i=$((i+1)); /bin/true $i; done; exit 3";
    shop.docker.docker(&["exec", "-u", "1000:1001", "-w", "/tmp", "counter", "sh", "-c", script]).status()?;
    let told = auditor.session(&["sh", "-c", script])?;
    let commands = told.commands();
    ensure!(commands.len() == 201, "{} programs", commands.len());
    for (number, command) in commands[1..].iter().enumerate() {
        ensure!(*command == ["/bin/true", (number + 1).to_string().as_str()], "{number}: {command:?}");
    }
    for exec in &told.execs()[1..] {
        ensure!(exec["process"]["working_directory"] == "/tmp" && exec["user"]["id"] == "1000", "{exec}");
        ensure!(exec["user"]["group"]["id"] == "1001" && exec["process"]["executable"] == "/bin/busybox");
        ensure!(exec["audit"]["exec"]["file"] == "/bin/true", "{}", exec["audit"]);
    }
    ensure!(told.end["process"]["exit_code"] == 3, "{}", told.end);
    told.is_whole()?;

    // What a program is called with is its own choice.
    shop.bring_doer("counter")?;
    let odd = ["/bin/echo", "a1=b a2=\"c\"", "audit(1.2:3): type=EXECVE", "\n\u{1b}[2J\"'", "", "ü"];
    let arguments: Vec<&str> = ["exec", "counter"].into_iter().chain(odd).collect();
    shop.docker.output(&arguments)?;
    let told = auditor.session(&odd)?;
    ensure!(told.commands()[0] == odd);
    // No UTF-8, and more than one record of the kernel's may hold.
    shop.docker.output(&["exec", "counter", "sh", "-c", "/bin/true $(printf '\\377\\376'); exit 0"])?;
    let told = auditor.session(&["sh", "-c", "/bin/true $(printf '\\377\\376'); exit 0"])?;
    let exec =
        told.execs().into_iter().find(|exec| exec["process"]["args"][0] == "/bin/true").context("true")?;
    ensure!(exec["audit"]["exec"]["args_base64"] == "L2Jpbi90cnVlAP/+AA==", "{}", exec["audit"]);
    let long = "x=$(head -c 100000 /dev/zero | tr '\\0' y); /bin/true $x $x $x $x $x $x $x $x $x $x; exit 0";
    shop.docker.output(&["exec", "counter", "sh", "-c", long])?;
    let told = auditor.session(&["sh", "-c", long])?;
    let is_long = |exec: &&serde_json::Value| exec["audit"]["exec"]["args_bytes"].as_u64() > Some(1_000_000);
    let exec = told.execs().into_iter().find(is_long).context("the long one")?;
    ensure!(exec["audit"]["exec"]["args_bytes"] == 10 + 10 * 100_001, "{}", exec["audit"]);
    ensure!(exec["audit"]["flags"] == json!(["args_truncated"]), "{}", exec["audit"]);
    ensure!(exec["process"]["args"][1].as_str().is_some_and(|it| it.starts_with("yyyy")));
    auditor.is_chained()?;
    auditor.stop()?;
    before.is_now()
}

/// Does something on a thread without these capabilities, and in no network that anybody else is in.
fn without<T: Send>(capabilities: &[u32], alone: bool, what: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let deprived = || {
        if alone {
            unshare(CloneFlags::CLONE_NEWNET)?;
        }
        drop_capabilities(capabilities)?;
        what()
    };
    std::thread::scope(|scope| scope.spawn(deprived).join().expect("no panic"))
}

const NET_ADMIN: u32 = 12;
const SYS_ADMIN: u32 = 21;
const AUDIT_CONTROL: u32 = 30;
const AUDIT_READ: u32 = 37;
const PERFMON: u32 = 38;
const BPF: u32 = 39;

#[test]
fn what_is_not_permitted_is_said_and_the_next_best_is_gone_by() -> Result<()> {
    let before = Before::now()?;
    let shop = Shop::open()?;
    shop.container("counter", &[])?;
    let no_probe = [BPF, PERFMON, SYS_ADMIN];
    for (lacking, alone, tier, said) in [
        (&[][..], false, Tier::Probe, ""),
        (&no_probe, false, Tier::Audit, "CAP_BPF"),
        (&[BPF, PERFMON, SYS_ADMIN, AUDIT_READ], false, Tier::Connector, "CAP_AUDIT_READ"),
        (&[BPF, PERFMON, SYS_ADMIN, AUDIT_CONTROL], false, Tier::Connector, "CAP_AUDIT_CONTROL"),
        (&[BPF, PERFMON, SYS_ADMIN, AUDIT_READ, NET_ADMIN], true, Tier::Runtime, "the process connector"),
    ] {
        without(lacking, alone, || {
            let auditor = Auditor::start(&shop, AuditConfig { pinned: false, ..AuditConfig::default() })?;
            let view = auditor.audit.view();
            ensure!(view.tier == tier && view.trouble.is_none(), "{tier:?}: {view:?}");
            ensure!(view.refused.unwrap_or_default().contains(said), "{:?}", auditor.audit.view());
            // Each is of use.
            let script = format!("sleep 0.3; exit 3 # {}", lacking.len() + usize::from(alone) + said.len());
            shop.docker.docker(&["exec", "counter", "sh", "-c", &script]).status()?;
            let told = auditor.session(&["sh", "-c", &script])?;
            ensure!(told.end["process"]["exit_code"] == 3, "{}", told.end);
            ensure!(told.end["container"]["name"] == "counter", "{}", told.end);
            auditor.stop()
        })?;
    }
    before.is_now()
}

#[test]
#[ignore = "it is a part of another test"]
fn asks_what_it_may() {
    let permits = Permits::of(&AuditConfig::default(), &Roots::default(), &Engines::none());
    println!("the connector: {:?}", permits.connector);
}

#[test]
fn the_connector_is_not_gone_by_where_it_tells_nothing() -> Result<()> {
    packages::ensure(&[("unshare", "util-linux")])?;
    let myself = std::env::current_exe()?;
    let asked = |command: &mut Command| -> Result<String> {
        command.arg(&myself).args(["--exact", "asks_what_it_may", "--ignored", "--nocapture"]);
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let own = asked(Command::new("unshare").args(["--pid", "--fork", "--mount-proc"]))?;
    ensure!(own.contains("the connector: Err(") && own.contains("pid namespace"), "{own}");
    let all = asked(&mut Command::new("env"))?;
    ensure!(all.contains("the connector: Ok(())"), "{all}");
    Ok(())
}

#[test]
fn an_engine_tells_what_it_was_asked_for_and_what_it_cannot_tell_is_said() -> Result<()> {
    let shop = Shop::open()?;
    let id = shop.container("counter", &[])?;
    let mut before = shop.docker.docker(&["exec", "counter", "sh", "-c", "sleep 3; exit 6"]).spawn()?;
    std::thread::sleep(Duration::from_millis(700));
    let auditor = Auditor::start(&shop, of(TierChoice::Runtime))?;
    ensure!(auditor.audit.view().tier == Tier::Runtime);

    let script = "sleep 0.5; exit 5";
    shop.docker.docker(&["exec", "-u", "1000:1001", "counter", "sh", "-c", script]).status()?;
    let told = auditor.session(&["sh", "-c", script])?;
    ensure!(told.commands() == [vec!["sh", "-c", script]], "{:?}", told.commands());
    ensure!(told.end["user"] == json!({"id": "1000", "group": {"id": "1001"}}), "{}", told.end["user"]);
    ensure!(told.end["process"]["exit_code"] == 5 && told.end["process"]["pid"].as_u64() > Some(0));
    ensure!(told.end["container"]["id"] == id.as_str() && told.end["container"]["name"] == "counter");
    let session = &told.end["audit"]["session"];
    ensure!(
        session["complete"] == false && session["origin"] == "exec" && session["records"] == 3,
        "{session}"
    );
    ensure!(session["gaps"].to_string().contains("tells of no others"), "{session}");
    ensure!(told.numbers().len() == 3 && told.only("exit")?["process"]["exit_code"] == 5);

    let users = "mkdir -p /etc; echo nobody:x:65534:65534::/: > /etc/passwd";
    shop.docker.output(&["exec", "counter", "sh", "-c", users])?;
    shop.with_terminal(&["exec", "-it", "-u", "nobody", "counter", "sh", "-c", "tty; exit 0"])?;
    let told = auditor.session(&["sh", "-c", "tty; exit 0"])?;
    ensure!(
        told.end["process"]["exit_code"] == 0 && told.end["process"]["tty"]["name"] == "pts",
        "{}",
        told.end
    );
    // The number of a name is the container's own affair.
    ensure!(told.end["user"] == json!({"name": "nobody"}), "{}", told.end["user"]);

    // Nobody waits for it, and it is over before anybody could ask.
    shop.docker.output(&["exec", "-d", "counter", "true", "\n\u{1b}[2J\"'", ""])?;
    let told = auditor.session(&["true", "\n\u{1b}[2J\"'", ""])?;
    ensure!(
        told.end["process"]["exit_code"] == 0 && told.end["user"] == serde_json::Value::Null,
        "{}",
        told.end
    );

    before.wait()?;
    let told = auditor.session(&["sh", "-c", "sleep 3; exit 6"])?;
    ensure!(told.end["process"]["exit_code"] == 6 && told.end["audit"]["session"]["adopted"] == true);

    // With the container.
    let mut killed = shop.docker.docker(&["exec", "counter", "sleep", "1000"]).spawn()?;
    auditor.until("its beginning", |documents| {
        documents.iter().any(|document| document["process"]["args"] == json!(["sleep", "1000"]))
    })?;
    shop.docker.output(&["kill", "counter"])?;
    killed.wait()?;
    auditor.session(&["sleep", "1000"])?;
    auditor.is_chained()?;
    auditor.stop()
}

#[test]
fn an_engine_that_was_away_is_heard_again_and_sessions_say_so() -> Result<()> {
    let mut shop = Shop::open()?;
    shop.container("counter", &["--restart", "always"])?;
    let auditor = Auditor::start(&shop, of(TierChoice::Runtime))?;
    let mut over = shop.docker.docker(&["exec", "counter", "sleep", "1000"]).spawn()?;
    auditor.until("its beginning", |documents| {
        documents.iter().any(|document| document["process"]["args"] == json!(["sleep", "1000"]))
    })?;
    shop.docker.stop()?;
    over.wait()?;
    auditor.until("its trouble", |_| auditor.trouble().is_some_and(|it| it.contains("engine")))?;
    shop.docker.start_again()?;
    let told = auditor.session(&["sleep", "1000"])?;
    ensure!(told.end["audit"]["session"]["complete"] == false, "{}", told.end);
    auditor.until("well again", |_| auditor.trouble().is_none())?;
    std::thread::sleep(Duration::from_millis(500));
    let script = "sleep 0.2; exit 5 # after";
    shop.docker.docker(&["exec", "counter", "sh", "-c", script]).status()?;
    let told = auditor.session(&["sh", "-c", script])?;
    ensure!(told.end["process"]["exit_code"] == 5, "{}", told.end);
    auditor.is_chained()?;
    auditor.stop()
}

const FOLDER: &str = "TAFFRAIL_TEST_AUDIT_FOLDER";

/// Of the next test, in a process that is killed.
#[test]
#[ignore = "it is a part of another test"]
fn hears_the_kernels_audit_until_it_is_killed() -> Result<()> {
    let folder = std::env::var_os(FOLDER).context("no folder")?;
    support::run_in(folder.as_ref(), of(TierChoice::Audit))
}

#[test]
fn what_was_changed_of_the_kernels_audit_is_taken_back_by_the_next_life() -> Result<()> {
    let before = Before::now()?;
    let shop = Shop::open()?;
    let mut killed = Command::new(std::env::current_exe()?)
        .args(["--ignored", "--exact", "hears_the_kernels_audit_until_it_is_killed"])
        .env(FOLDER, shop.audit_folder())
        .stdout(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + Duration::from_secs(60);
    while kernel_audit()?.1.len() < before.1.len() + 2 {
        ensure!(Instant::now() < deadline && killed.try_wait()?.is_none(), "no rules came");
        std::thread::sleep(Duration::from_millis(50));
    }
    killed.kill()?;
    killed.wait()?;
    ensure!(kernel_audit()?.1.len() == before.1.len() + 2, "what nobody can take back is there");
    // By a life that goes by another tier.
    let auditor = Auditor::start(&shop, of(TierChoice::Connector))?;
    ensure!(auditor.audit.view().tier == Tier::Connector);
    before.is_now()?;
    auditor.abandon();
    Ok(())
}

/// An audit daemon with a log of its own.
struct Daemon {
    folder: tempfile::TempDir,
    process: Child,
}

impl Daemon {
    fn start() -> Result<Daemon> {
        packages::ensure(&[("auditd", "auditd")])?;
        let folder = tempfile::tempdir()?;
        let place = folder.path().display();
        std::fs::create_dir(folder.path().join("plugins"))?;
        let settings = format!(
            "log_file = {place}/audit.log\nlog_format = RAW\nflush = INCREMENTAL\nfreq = 1\nmax_log_file = 200\n\
             max_log_file_action = IGNORE\nspace_left = 2\nadmin_space_left = 1\nspace_left_action = IGNORE\n\
             admin_space_left_action = IGNORE\ndisk_full_action = IGNORE\ndisk_error_action = IGNORE\n\
             plugin_dir = {place}/plugins\n"
        );
        let file = folder.path().join("auditd.conf");
        File::create(&file)?.write_all(settings.as_bytes())?;
        std::fs::set_permissions(&file, Permissions::from_mode(0o600))?;
        let mut command = Command::new("auditd");
        packages::with_programs_for_root(&mut command);
        let process = command.args(["-n", "-s", "enable", "-c"]).arg(folder.path()).spawn()?;
        let daemon = Daemon { folder, process };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !daemon.is_there()? {
            ensure!(Instant::now() < deadline, "the audit daemon is not there");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(daemon)
    }

    /// Whether the kernel takes it for the audit daemon.
    fn is_there(&self) -> Result<bool> {
        Ok(auditctl("-s")?.lines().any(|line| line == format!("pid {}", self.process.id())))
    }

    fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.path().join("audit.log"))?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn an_audit_daemon_keeps_its_place_and_both_hear_everything() -> Result<()> {
    let before = Before::now()?;
    let daemon = Daemon::start()?;
    let shop = Shop::open()?;
    shop.container("counter", &[])?;
    let auditor = Auditor::start(&shop, of(TierChoice::Audit))?;
    ensure!(auditor.audit.view().tier == Tier::Audit, "{:?}", auditor.audit.view());
    let script = "i=0; while [ $i -lt 50 ]; do i=$((i+1)); /bin/true beside-$i; done; exit 3";
    shop.docker.docker(&["exec", "counter", "sh", "-c", script]).status()?;
    let told = auditor.session(&["sh", "-c", script])?;
    ensure!(told.commands().len() == 51 && told.end["process"]["exit_code"] == 3, "{:?}", told.commands());
    ensure!(daemon.is_there()?, "it has lost its place");
    auditor.until("what the daemon has written", |_| {
        let log = daemon.log().unwrap_or_default();
        (1..=50).all(|number| log.contains(&format!("a1=\"beside-{number}\"")))
    })?;
    auditor.is_chained()?;
    auditor.stop()?;
    // It was there first, and goes on.
    ensure!(daemon.is_there()? && kernel_audit()?.0 && kernel_audit()?.1 == before.1);
    drop(daemon);
    drop(before);
    Ok(())
}

#[test]
fn who_switches_the_kernels_audit_off_is_not_contradicted() -> Result<()> {
    let before = Before::now()?;
    let shop = Shop::open()?;
    let auditor = without(&[BPF, PERFMON, SYS_ADMIN], false, || {
        Auditor::start(&shop, AuditConfig { pinned: false, ..AuditConfig::default() })
    })?;
    ensure!(auditor.audit.view().tier == Tier::Audit, "{:?}", auditor.audit.view());
    // All rules are taken away: they come again. It is switched off: then it stays so.
    for rule in kernel_audit()?.1.iter().filter(|rule| !before.1.contains(rule)) {
        Command::new("auditctl").args(rule.replacen("-a", "-d", 1).split(' ')).output()?;
    }
    auditor.until("the rules again", |_| {
        kernel_audit().is_ok_and(|(_, rules)| rules.len() == before.1.len() + 2)
    })?;
    Command::new("auditctl").args(["-e", "0"]).output()?;
    auditor.until("the next tier", |_| auditor.audit.view().tier == Tier::Connector)?;
    let refused = auditor.audit.view().refused.unwrap_or_default();
    ensure!(refused.contains("switched it off"), "{refused}");
    ensure!(!kernel_audit()?.0 && kernel_audit()?.1 == before.1, "{:?}", kernel_audit()?);
    auditor.abandon();
    Ok(())
}

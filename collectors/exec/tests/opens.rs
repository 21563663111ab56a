//! Files that are opened to write, and connections, in containers of a real Docker engine (`taffrail_parts`): told as they were where
//! that is asked for, and not at all where it is not.

#[path = "audit/support.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use support::{Auditor, Shop, Told};
use taffrail_exec::AuditConfig;

fn told_of(files: bool, connections: bool) -> AuditConfig {
    AuditConfig { files, connections, ..AuditConfig::default() }
}

fn done(shop: &Shop, auditor: &Auditor, what: &str) -> Result<Told> {
    shop.docker.output(&["exec", "counter", "/opener", what])?;
    auditor.session(&["/opener", what])
}

/// Each by its path, how it was opened, and its kind of event.
fn files(told: &Told) -> Vec<(&str, String, &str)> {
    let of = told.of("file-opened").into_iter();
    of.map(|opened| {
        let how = opened["audit"]["file"]["opened_for"].as_array().into_iter().flatten();
        let how: Vec<&str> = how.filter_map(Value::as_str).collect();
        let path = opened["file"]["path"].as_str().unwrap_or_default();
        (path, how.join(" "), opened["event"]["type"][0].as_str().unwrap_or_default())
    })
    .collect()
}

fn shop() -> Result<Shop> {
    let shop = Shop::open()?;
    shop.container("counter", &[])?;
    shop.bring("tests/opens/opener.c", "counter", "/opener")?;
    Ok(shop)
}

#[test]
fn files_are_told_as_the_kernel_has_opened_them() -> Result<()> {
    let shop = shop()?;
    let auditor = Auditor::start(&shop, told_of(true, false))?;
    let told = done(&shop, &auditor, "files")?;
    told.is_whole()?;
    let files = files(&told);
    let named: Vec<(&str, &str, &str)> =
        files.iter().map(|(path, how, kind)| (*path, how.as_str(), *kind)).take(6).collect();
    ensure!(
        named
            == [
                ("/tmp/created", "create truncate write", "creation"),
                ("/tmp/created", "append write", "access"),
                ("/tmp/created", "write", "access"),
                ("/tmp/created", "truncate", "change"),
                ("/tmp/by openat2\n\u{1b}[2J", "create write", "creation"),
                ("/tmp/real/file", "create write", "creation"),
            ],
        "{named:?}"
    );
    ensure!(files.len() == 7, "{files:?}");
    let documents = told.of("file-opened");
    let nameless = documents[6];
    ensure!(nameless["audit"]["file"]["deleted"] == true, "{nameless}");
    ensure!(documents[0]["audit"]["file"]["deleted"] == Value::Null);
    // It is the file that is there.
    let inode = shop.docker.output(&["exec", "counter", "stat", "-c", "%i", "/tmp/real/file"])?;
    ensure!(documents[5]["file"]["inode"] == inode.trim(), "{} {inode}", documents[5]["file"]);
    let messages: Vec<&str> = documents.iter().filter_map(|file| file["message"].as_str()).collect();
    ensure!(!messages.concat().contains(char::is_control), "{messages:?}");
    ensure!(messages[1].contains("opened /tmp/created (append, write)"), "{messages:?}");
    for document in &documents {
        ensure!(document["event"]["category"] == json!(["file"]), "{document}");
        ensure!(document["process"]["entity_id"] == told.end["process"]["entity_id"], "{document}");
    }
    ensure!(told.end["audit"]["session"]["files"] == 7, "{}", told.end["audit"]["session"]);
    ensure!(told.of("connected").is_empty());

    // A shell's own ways to write.
    let script = "echo a > /tmp/x; echo b >> /tmp/x; cat /tmp/x > /dev/null; true";
    shop.docker.output(&["exec", "counter", "sh", "-c", script])?;
    let told = auditor.session(&["sh", "-c", script])?;
    told.is_whole()?;
    let of = self::files(&told);
    let of: Vec<(&str, &str)> = of.iter().map(|(path, how, _)| (*path, how.as_str())).collect();
    ensure!(of == [("/tmp/x", "create truncate write"), ("/tmp/x", "append write")], "{of:?}");
    auditor.is_chained()?;
    auditor.stop()
}

#[test]
fn connections_are_told_with_whom_they_go_to() -> Result<()> {
    let shop = shop()?;
    let auditor = Auditor::start(&shop, told_of(false, true))?;
    let told = done(&shop, &auditor, "sockets")?;
    told.is_whole()?;
    let of = told.of("connected");
    let network: Vec<(&str, u64, &str, &str)> = of
        .iter()
        .filter(|document| document["destination"] != Value::Null)
        .map(|document| {
            (
                document["destination"]["ip"].as_str().unwrap_or_default(),
                document["destination"]["port"].as_u64().unwrap_or_default(),
                document["network"]["transport"].as_str().unwrap_or_default(),
                document["event"]["outcome"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    ensure!(
        network
            == [
                ("127.0.0.1", 4001, "tcp", "unknown"),
                ("::1", 4001, "tcp", "unknown"),
                // It is refused, which is known after that.
                ("127.0.0.1", 4002, "tcp", "unknown"),
                ("127.0.0.1", 4003, "udp", "success"),
                ("127.0.0.1", 4004, "udp", "success"),
                ("127.0.0.1", 4005, "udp", "success"),
            ],
        "{network:?}"
    );
    let as_given: Vec<bool> =
        of.iter().map(|document| document["audit"]["socket"]["as_given"] == true).collect();
    ensure!(as_given == [false, false, false, true, true, false, false, false, true], "{as_given:?}");
    let local = &of[6..];
    ensure!(local.iter().all(|document| document["network"]["type"] == "unix"), "{local:?}");
    ensure!(local[0]["audit"]["socket"]["path"] == "/tmp/socket", "by the link: {}", local[0]);
    ensure!(local[1]["audit"]["socket"]["name"] == "hidden", "{}", local[1]);
    ensure!(local[2]["audit"]["socket"]["path"] == "/run/absent.sock", "{}", local[2]);
    ensure!(local[2]["error"]["code"] == "ENOENT" && local[2]["event"]["outcome"] == "failure");
    ensure!(told.of("file-opened").is_empty() && told.end["audit"]["session"]["connections"] == 9);

    // The engine's own socket, from a container that has it.
    let host = shop.docker.host();
    let socket = host.strip_prefix("unix://").context("a local engine")?;
    shop.container("mighty", &["-v", &format!("{socket}:/given.sock")])?;
    shop.bring("tests/opens/opener.c", "mighty", "/opener")?;
    shop.docker.output(&["exec", "mighty", "/opener", "given"])?;
    let told = auditor.session(&["/opener", "given"])?;
    let document = told.only("connected")?;
    let path = document["audit"]["socket"]["path"].as_str().unwrap_or_default();
    let name = std::path::Path::new(socket).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    ensure!(!name.is_empty() && path.ends_with(name) && path != "/given.sock", "{document}");
    auditor.stop()
}

#[test]
fn nothing_of_it_is_there_unless_it_is_asked_for() -> Result<()> {
    let shop = shop()?;
    let auditor = Auditor::start(&shop, AuditConfig::default())?;
    for what in ["files", "sockets"] {
        let told = done(&shop, &auditor, what)?;
        told.is_whole()?;
        ensure!(told.of("file-opened").is_empty() && told.of("connected").is_empty());
    }
    let hooks: Vec<&str> = auditor.audit.view().runs.iter().map(|run| run.hook).collect();
    ensure!(!hooks.contains(&"open") && !hooks.contains(&"connect"), "{hooks:?}");
    auditor.stop()
}

#[test]
fn a_flood_of_opens_displaces_nothing_of_what_processes_do() -> Result<()> {
    let shop = shop()?;
    let config = AuditConfig { rate: 200, burst: 400, ..told_of(true, false) };
    let auditor = Auditor::start(&shop, config)?;
    let script = "/opener flood & i=0; while [ $i -lt 20 ]; do i=$((i+1)); /bin/true; done; wait";
    shop.docker.output(&["exec", "counter", "sh", "-c", script])?;
    let told = auditor.session(&["sh", "-c", script])?;
    let session = &told.end["audit"]["session"];
    ensure!(session["files"] == 30_000, "{session}");
    let (limited, lost) = (session["limited"].as_u64().unwrap_or(0), session["lost"].as_u64().unwrap_or(0));
    let opened = told.of("file-opened").len() as u64;
    ensure!(limited > 1000 && lost == 0 && opened > 100 && opened + limited == 30_000, "{opened}: {session}");
    // Whatever processes did is there.
    ensure!(told.execs().len() == 22 && session["execs"] == 22, "{:?}", told.commands());
    ensure!(told.of("fork").len() == 21 && told.of("exit").len() == 22);
    ensure!(session["complete"] == false && session["limited_accesses"] == limited, "{session}");
    auditor.stop()
}

#[test]
fn what_the_probe_takes_is_counted_also_by_who_finds_it() -> Result<()> {
    let shop = shop()?;
    let auditor = Auditor::start(&shop, told_of(true, true))?;
    auditor.is_pinned()?;
    done(&shop, &auditor, "sockets")?;
    let seen = |auditor: &Auditor| -> Result<BTreeSet<&'static str>> {
        auditor.until("figures of each hook", |_| {
            let runs = auditor.audit.view().runs;
            runs.len() == 5 && runs.iter().all(|run| run.runs > 0)
        })?;
        let runs = auditor.audit.view().runs;
        let open = runs.iter().find(|run| run.hook == "open").context("open")?;
        let each = open.time.as_nanos() / u128::from(open.runs);
        ensure!((1..100_000).contains(&each), "{open:?}");
        ensure!(runs.iter().all(|run| run.skipped == 0), "{runs:?}");
        Ok(runs.iter().map(|run| run.hook).collect())
    };
    let all = BTreeSet::from(["exec", "fork", "exit", "open", "connect"]);
    ensure!(seen(&auditor)? == all);
    auditor.stop()?;
    let next = Auditor::start(&shop, told_of(true, true))?;
    ensure!(seen(&next)? == all);
    let told = done(&shop, &next, "files")?;
    told.is_whole()?;
    next.stop()
}

//! Files that vanish, are cut, or are no files: never a panic, never a zero that nobody said.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::shown::Shown;
use taffrail_kernfs::Roots;
use taffrail_node::{NodeMetricsConfig, collectors};

const EVERYTHING: &str = r#"{
    "enable": ["hwmon", "interrupts", "processes", "softirqs", "tcpstat"],
    "disable": ["time", "timex", "uname"],
    "textfile": {"directories": ["/etc/textfile"]}
}"#;

fn everything() -> NodeMetricsConfig {
    serde_json::from_str(EVERYTHING).expect("a configuration")
}

fn put(path: &Path, text: &[u8]) {
    File::create(path).and_then(|mut file| file.write_all(text)).expect("written");
}

/// Copies a folder and gives the files in the copy.
fn copied(from: &Path, to: &Path, files: &mut Vec<PathBuf>) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed").map(|entry| entry.expect("an entry")) {
        let (kind, to) = (entry.file_type().expect("a type"), to.join(entry.file_name()));
        if kind.is_dir() {
            copied(&entry.path(), &to, files);
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path()).expect("a link"), to).expect("linked");
        } else {
            put(&to, &fs::read(entry.path()).expect("read"));
            files.push(to);
        }
    }
}

/// Series that are zero, but for those that say whether something is wrong. A mount's numbers are parts of
/// its names.
fn zeros(shown: &Shown) -> BTreeSet<String> {
    let text = shown.text();
    let told =
        |line: &str| line.starts_with("node_textfile_scrape_error") || line.starts_with("node_filesystem_");
    let zero = |line: &&str| line.ends_with(" 0") && !told(line);
    text.lines().filter(zero).map(str::to_owned).collect()
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Vanishes,
    Empty,
    Directory,
    Fifo,
    Huge,
    Letters,
    Cut(usize),
}

fn damage(path: &Path, text: &[u8], how: Damage) {
    fs::remove_file(path).expect("removed");
    match how {
        Damage::Vanishes => {}
        Damage::Empty => put(path, b""),
        Damage::Directory => fs::create_dir(path).expect("made"),
        Damage::Fifo => nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("made"),
        Damage::Huge => {
            let huge = |byte: &u8| if byte.is_ascii_digit() { vec![b'9'; 30] } else { vec![*byte] };
            put(path, &text.iter().flat_map(huge).collect::<Vec<u8>>());
        }
        Damage::Letters => put(
            path,
            &text.iter().map(|byte| if byte.is_ascii_digit() { b'z' } else { *byte }).collect::<Vec<u8>>(),
        ),
        Damage::Cut(at) => put(path, &text[..at.min(text.len())]),
    }
}

fn mended(path: &Path, text: &[u8]) {
    if path.is_dir() {
        fs::remove_dir(path).expect("removed");
    } else if path.exists() {
        fs::remove_file(path).expect("removed");
    }
    put(path, text);
}

fn survives(fixture: &str, damages: &[Damage], zeros_count: bool) {
    let folder = tempfile::tempdir().expect("a directory");
    let mut files = Vec::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
    copied(&from, folder.path(), &mut files);
    let (config, roots) = (everything(), Roots::below(folder.path()));
    let kept = collectors(&config, &roots);
    let whole = zeros(&Shown::of(&config, &roots, &[]).0);
    for file in files {
        let text = fs::read(&file).expect("read");
        for how in damages {
            damage(&file, &text, *how);
            let (shown, _) = Shown::of(&config, &roots, &[]);
            let new: Vec<String> = zeros(&shown).difference(&whole).cloned().collect();
            // A bond without interfaces has an empty list of them.
            let meant = !zeros_count || file.ends_with("bonding/slaves");
            assert!(meant || new.is_empty(), "{} {how:?}: {new:?}", file.display());
            let mut again = Shown::default();
            kept.iter().for_each(|collector| drop(collector.ask(&mut again)));
            mended(&file, &text);
        }
    }
}

const WHOLE: [Damage; 6] =
    [Damage::Vanishes, Damage::Empty, Damage::Directory, Damage::Fifo, Damage::Huge, Damage::Letters];

#[test]
fn a_damaged_file_of_a_server_makes_no_zero() {
    survives("large-server", &WHOLE, true);
}

#[test]
fn a_damaged_file_of_a_small_machine_makes_no_zero() {
    survives("small-vm", &WHOLE, true);
}

#[test]
fn a_file_may_be_cut_anywhere() {
    let cuts: Vec<Damage> = [1, 2, 5, 9, 14, 30, 61, 100, 333].map(Damage::Cut).to_vec();
    survives("small-vm", &cuts, false);
}

#[test]
fn what_cannot_be_understood_is_said_with_its_file() {
    for (file, collector) in [
        ("proc/loadavg", "loadavg"),
        ("proc/stat", "cpu"),
        ("proc/stat", "stat"),
        ("proc/meminfo", "meminfo"),
        ("proc/vmstat", "vmstat"),
        ("proc/sys/fs/file-nr", "filefd"),
        ("proc/1/net/dev", "netdev"),
        ("proc/1/net/snmp", "netstat"),
        ("proc/1/net/sockstat", "sockstat"),
        ("proc/1/net/softnet_stat", "softnet"),
        ("proc/1/net/arp", "arp"),
        ("proc/1/net/udp", "udp_queues"),
        ("proc/1/mountinfo", "filesystem"),
        ("proc/diskstats", "diskstats"),
        ("proc/pressure/io", "pressure"),
        ("proc/schedstat", "schedstat"),
        ("proc/mdstat", "mdadm"),
        ("proc/interrupts", "interrupts"),
        ("proc/softirqs", "softirqs"),
        ("proc/sys/net/netfilter/nf_conntrack_count", "conntrack"),
        ("proc/sys/kernel/random/poolsize", "entropy"),
    ] {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        put(&path, b"cpu0 x\nTcp: a\nTcp: b\neth0: x\nmd0 : active\n");
        let (shown, complaints) = Shown::of(&everything(), &Roots::below(folder.path()), &[collector]);
        assert_eq!(shown.text(), "", "{collector}");
        assert!(complaints.len() == 1 && complaints[0].contains(file), "{collector}: {complaints:?}");
    }
}

#[test]
fn a_machine_without_anything_is_quiet() {
    let folder = tempfile::tempdir().expect("a directory");
    let (shown, complaints) = Shown::of(&everything(), &Roots::below(folder.path()), &[]);
    assert_eq!(complaints, ["textfile: text files: /etc/textfile: No such file or directory (os error 2)"]);
    let text = shown.text();
    let others =
        text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("node_exporter_build"));
    assert_eq!(others.collect::<Vec<_>>(), ["node_textfile_scrape_error 1"]);
}

#[test]
fn interfaces_and_disks_come_and_go() {
    let folder = tempfile::tempdir().expect("a directory");
    let (config, roots) = (everything(), Roots::below(folder.path()));
    let (class, disks) = (folder.path().join("sys/class/net"), folder.path().join("proc/diskstats"));
    fs::create_dir_all(&class).expect("made");
    fs::create_dir_all(folder.path().join("proc")).expect("made");
    let kept = collectors(&config, &roots);
    let up = |name: &str, number: &str| {
        fs::create_dir_all(class.join(name)).expect("made");
        put(&class.join(name).join("operstate"), b"up\n");
        put(&class.join(name).join("ifindex"), number.as_bytes());
    };
    let disk = |names: &[&str]| {
        let lines: String =
            names.iter().map(|name| format!(" 8 0 {name} 1 2 3 4 5 6 7 8 9 10 11\n")).collect();
        put(&disks, lines.as_bytes());
    };
    let seen = || {
        let mut shown = Shown::default();
        kept.iter().for_each(|collector| drop(collector.ask(&mut shown)));
        let numbers = ["node_network_iface_id", "node_disk_io_now"].map(|family| shown.lines(family).len());
        (numbers, shown.lines("node_network_iface_id").join(" "))
    };
    up("eth0", "2\n");
    disk(&["sda"]);
    assert_eq!(seen().0, [1, 1]);
    up("eth1", "3\n");
    disk(&["sda", "sdb", "sdc"]);
    assert_eq!(seen().0, [2, 3]);
    fs::remove_dir_all(class.join("eth0")).expect("removed");
    disk(&["sdb"]);
    let (numbers, ids) = seen();
    assert_eq!((numbers, ids.as_str()), ([1, 1], "node_network_iface_id{device=\"eth1\"} 3"));
}

#[test]
fn what_cannot_be_read_is_counted_by_its_reason() {
    let folder = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(folder.path().join("proc/sys")).expect("made");
    put(&folder.path().join("proc/loadavg"), b"none\n");
    let all = collectors(&NodeMetricsConfig::default(), &Roots::below(folder.path()));
    let loadavg = all.iter().find(|collector| collector.name() == "loadavg").expect("it is on");
    let errors = || {
        let mut shown = Shown::default();
        assert!(loadavg.ask(&mut shown).is_err() || shown.lines("node_load1").len() == 1);
        shown.lines("taffrail_node_read_errors_total").join(" ")
    };
    let counted = |times| {
        format!("taffrail_node_read_errors_total{{collector=\"loadavg\",reason=\"malformed\"}} {times}")
    };
    assert_eq!((errors(), errors()), (counted(1), counted(2)));
    put(&folder.path().join("proc/loadavg"), b"0.5 0.25 0.1 1/100 4321\n");
    assert_eq!(errors(), counted(2), "what has been is not forgotten");
}

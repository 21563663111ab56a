//! Whole machines, as text: what is read of them and what comes out.
//!
//! A fixture is a folder with `tree.txt` (files of the machine, each behind a line `==> path`), `names.txt` (what containers
//! are called, if anybody knows) and `expected.prom`. With `TAFFRAIL_BLESS=1` the expectation is written anew. Times of
//! files are not kept by a checkout, so what depends on them is left out.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use taffrail_cgroup::{Compat, ContainerName, Containers, ContainersConfig, LabelStyle, MachineFacts, Names};
use taffrail_kernfs::Roots;
use taffrail_record::{Ask, Gathered};

/// They depend on the clock, or on the file system that the fixture is unpacked on.
const OF_THE_MOMENT: [&str; 6] = [
    "container_last_seen",
    "container_start_time_seconds",
    "container_fs_usage_bytes",
    "container_fs_limit_bytes",
    "container_fs_inodes_total",
    "container_fs_inodes_free",
];

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(folder).expect("listed").map(|e| e.expect("an entry").path()).collect();
    folders.sort();
    folders
}

/// Unpacks the machine of a fixture.
fn machine(fixture: &Path) -> (tempfile::TempDir, Roots) {
    let root = tempfile::tempdir().expect("a folder");
    let text = fs::read_to_string(fixture.join("tree.txt")).expect("a tree");
    for file in text.split("==> ").skip(1) {
        let (path, content) = file.split_once('\n').expect("a path and a content");
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        write(&path, content);
    }
    let roots = Roots::below(root.path());
    (root, roots)
}

#[expect(clippy::disallowed_methods, reason = "a test's own files")]
fn write(path: &Path, content: &str) {
    fs::write(path, content).expect("written");
}

/// Lines `id container pod namespace image name [label=value...]`; `-` for nothing. A runtime tells the uid as a label, too.
fn names(fixture: &Path) -> Arc<Names> {
    let names = Names::new();
    let text = fs::read_to_string(fixture.join("names.txt")).unwrap_or_default();
    let known = text.lines().map(|line| {
        let words: Vec<String> =
            line.split(' ').map(|word| word.replace('-', if word == "-" { "" } else { "-" })).collect();
        let labels = words[6..].iter().filter_map(|word| word.split_once('='));
        let uid = labels.clone().find(|(key, _)| *key == "io.kubernetes.pod.uid");
        let name = ContainerName {
            container: words[1].clone(),
            pod: words[2].clone(),
            namespace: words[3].clone(),
            pod_uid: uid.map(|(_, uid)| uid.to_owned()).unwrap_or_default(),
            image: words[4].clone(),
            name: words[5].clone(),
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            sandbox: words[1].is_empty() || words[1] == "POD",
            logs: None,
        };
        (words[0].clone(), Arc::new(name))
    });
    names.set_containers("fixture", known.collect::<HashMap<_, _>>());
    names
}

/// What a fixture's name says of the configuration.
fn config(fixture: &Path) -> ContainersConfig {
    let name = fixture.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let has = |word: &str| name.split('-').any(|part| part == word);
    ContainersConfig {
        labels: if has("standalone") { LabelStyle::Cadvisor } else { LabelStyle::Kubelet },
        compat: if has("compat") { Compat::Cadvisor } else { Compat::None },
        per_cpu: has("percpu"),
        // They would be looked at in the middle of things.
        disk_seconds: 0,
        ..ContainersConfig::default()
    }
}

fn exposition(asks: &[&dyn Ask]) -> String {
    let mut text = String::new();
    for ask in asks {
        let mut gathered = Gathered::default();
        let _ = ask.ask(&mut gathered);
        for sample in
            gathered.samples().iter().filter(|sample| !OF_THE_MOMENT.contains(&sample.family.as_str()))
        {
            let _ = writeln!(text, "{}{{{}}} {}", sample.family, sample.labels, sample.value);
        }
    }
    text
}

#[test]
fn every_machine_is_shown_as_it_is() {
    for fixture in fixtures() {
        let (_folder, roots) = machine(&fixture);
        let containers = Containers::new(config(&fixture), roots.clone(), names(&fixture));
        let shown = exposition(&[&MachineFacts::new(roots), &containers]);
        let series: Vec<&str> = shown.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
        let unique: HashSet<&str> = series.iter().copied().collect();
        assert_eq!(series.len(), unique.len(), "{}: a series comes twice", fixture.display());
        let path = fixture.join("expected.prom");
        if std::env::var_os("TAFFRAIL_BLESS").is_some() {
            write(&path, &shown);
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        let differs = shown.lines().zip(expected.lines()).find(|(shown, expected)| shown != expected);
        assert_eq!(differs, None, "{} (shown, expected)", fixture.display());
        assert_eq!(shown.lines().count(), expected.lines().count(), "{}", fixture.display());
    }
}

#[test]
fn a_container_begins_by_the_clock_as_it_is_set_then() {
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let root = tempfile::tempdir().expect("a folder");
    let (groups, stat) = (root.path().join("sys/fs/cgroup"), root.path().join("proc/stat"));
    fs::create_dir_all(&groups).expect("made");
    fs::create_dir_all(root.path().join("proc")).expect("made");
    write(&groups.join("cgroup.controllers"), "");
    // The machine came up with a clock that was years ahead.
    write(&stat, "btime 4000000000\n");
    let containers = Containers::new(ContainersConfig::default(), Roots::below(root.path()), Names::new());
    let start = |path: &str| {
        let mut gathered = Gathered::default();
        let _ = containers.ask(&mut gathered);
        let id = format!("id=\"{path}\"");
        let samples = gathered.samples().iter();
        let found =
            samples.filter(|s| s.family == "container_start_time_seconds").find(|s| s.labels.contains(&id));
        found.map(|sample| sample.value)
    };
    assert_eq!(start("/"), Some(4e9), "nothing is older than the machine");
    write(&stat, "btime 1000000000\n");
    fs::create_dir_all(groups.join("docker").join(ID)).expect("made");
    // Longer than an answer is shared.
    std::thread::sleep(std::time::Duration::from_millis(1050));
    let begun = start(&format!("/docker/{ID}")).expect("a start");
    assert!(begun > 1.7e9 && begun < 3.9e9, "{begun}");
}

/// Files that are empty, cut, or say what no kernel says.
#[test]
fn whatever_files_say_no_figure_is_made_up() {
    let texts = [
        "",
        "\n",
        "max",
        "-1\n",
        "18446744073709551616\n",
        "nonsense nonsense\n",
        "8:0\n8:x Read 1\n:\n",
        "\u{0}",
    ];
    for fixture in fixtures()
        .into_iter()
        .filter(|fixture| fixture.ends_with("hybrid-systemd-docker") || fixture.ends_with("v2-cgroupfs-crio"))
    {
        for text in texts {
            let (folder, roots) = machine(&fixture);
            for file in walk(&folder.path().join("sys/fs/cgroup")) {
                write(&file, text);
            }
            let containers = Containers::new(config(&fixture), roots, Names::new());
            let mut gathered = Gathered::default();
            let _ = containers.ask(&mut gathered);
            let made_up = gathered.samples().iter().find(|sample| {
                let told = ["container_spec_", "container_threads", "container_processes"];
                let own = [
                    "container_last_seen",
                    "container_start",
                    "container_scrape",
                    "taffrail_",
                    "container_network",
                    "container_memory_swap",
                    "container_file",
                    "container_sockets",
                ];
                let starts = |names: &[&str]| names.iter().any(|name| sample.family.starts_with(name));
                !starts(&own) && !starts(&told) && config(&fixture).compat == Compat::None
            });
            assert_eq!(made_up, None, "{} with {text:?}", fixture.display());
        }
    }
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("listed").flatten() {
        if entry.file_type().expect("a type").is_dir() {
            files.extend(walk(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

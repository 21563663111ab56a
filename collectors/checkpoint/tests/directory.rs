//! The store on a real directory.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use taffrail_checkpoint::{Options, Store, StoreError};
use taffrail_record::Gathered;

fn open(dir: &Path) -> (Store, taffrail_checkpoint::Recovery) {
    Store::open(dir, Options::default()).unwrap()
}

/// A directory with three commits: keys 0, 1 and 2.
fn three_commits() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, recovery) = open(dir.path());
    assert!(recovery.first_start && !recovery.stale);
    for key in 0..3_u8 {
        store.put(&[key], b"value");
        store.commit().unwrap();
    }
    dir
}

type Harm = fn(&Path);

fn files(dir: &Path, part: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_str().unwrap().contains(part));
    files.sort();
    files
}

fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    File::create(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn a_second_process_is_told_who_holds_the_directory() {
    let dir = three_commits();
    let (first, _) = open(dir.path());
    let error = Store::open(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { holder: Some(pid), .. } if pid == std::process::id()));
    assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())), "{error}");
    drop(first);
    assert_eq!(open(dir.path()).0.len(), 3);
}

#[test]
fn a_lost_delta_costs_only_what_nothing_after_it_says() {
    let dir = three_commits();
    let second = &files(dir.path(), "delta-")[1];
    let bytes = fs::read(second).unwrap();
    replace(second, &bytes[..bytes.len() - 1]);
    let (store, recovery) = open(dir.path());
    assert_eq!([0, 1, 2].map(|key: u8| store.get(&[key]).is_some()), [true, false, true]);
    assert!(recovery.stale && !recovery.nothing_left);
    assert_eq!(fs::read(&recovery.damaged[0].moved_to).unwrap(), &bytes[..bytes.len() - 1]);
    assert!(recovery.damaged[0].reason.contains("promises"), "{}", recovery.damaged[0].reason);
    drop(store);
    let (_, recovery) = open(dir.path());
    assert!(!recovery.stale && recovery.damaged.is_empty(), "it is reported once: {recovery:?}");
}

#[test]
fn what_is_not_a_checkpoint_file_is_moved_aside() {
    let cases: [(&str, Harm); 6] = [
        ("an empty file", |path| replace(path, b"")),
        ("text", |path| replace(path, b"{\"position\": 1}")),
        ("a directory", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        ("a link", |path| {
            fs::rename(path, path.with_extension("elsewhere")).unwrap();
            symlink(path.with_extension("elsewhere"), path).unwrap();
        }),
        ("a FIFO", |path| {
            fs::remove_file(path).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        }),
        ("another delta", |path| {
            let other = path.parent().unwrap().join("delta-0000000000000001.ckpt");
            replace(path, &fs::read(other).unwrap());
        }),
    ];
    for (what, make) in cases {
        let dir = three_commits();
        make(&files(dir.path(), "delta-")[2]);
        let (store, recovery) = open(dir.path());
        assert_eq!((store.len(), recovery.damaged.len(), recovery.stale), (2, 1, true), "{what}");
        assert!(recovery.damaged[0].moved_to.symlink_metadata().is_ok(), "{what}");
    }
}

#[test]
fn losing_everything_is_not_a_first_start() {
    let dir = three_commits();
    for file in files(dir.path(), "delta-") {
        replace(&file, b"gone");
    }
    for _ in 0..2 {
        let (store, recovery) = open(dir.path());
        assert!(store.is_empty() && recovery.nothing_left && recovery.stale && !recovery.first_start);
    }
}

#[test]
fn damaged_files_are_kept_up_to_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { keep_damaged: 2, ..Options::default() };
    for round in 0..5 {
        let (mut store, _) = Store::open(dir.path(), options.clone()).unwrap();
        store.put(b"key", &[round]);
        store.commit().unwrap();
        drop(store);
        replace(
            files(dir.path(), "delta-").iter().rfind(|path| path.extension().unwrap() == "ckpt").unwrap(),
            b"x",
        );
    }
    drop(Store::open(dir.path(), options).unwrap());
    let kept = files(dir.path(), ".damaged-");
    assert_eq!(kept.len(), 2);
    assert!(
        kept.iter().any(|path| path.to_str().unwrap().ends_with(".damaged-5")),
        "the newest stay: {kept:?}"
    );
}

#[test]
fn a_newer_program_s_files_are_left_alone() {
    let dir = three_commits();
    let last = files(dir.path(), "delta-").pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes[8] = 2;
    let sum = crc32fast::hash(&bytes[..12]);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    replace(&last, &bytes);
    let error = Store::open(dir.path(), Options::default()).unwrap_err();
    assert!(matches!(error, StoreError::NewerVersion { found: 2, known: 1, .. }));
    assert!(error.to_string().contains("run the newer program again"), "{error}");
    assert_eq!(fs::read(&last).unwrap(), bytes);
    assert!(files(dir.path(), ".damaged-").is_empty());
}

#[test]
fn unfinished_files_are_removed_and_strangers_stay() {
    let dir = three_commits();
    let unfinished = dir.path().join("delta-0000000000000004.ckpt.tmp");
    for path in [&unfinished, &dir.path().join("notes.tmp"), &dir.path().join("notes.damaged-1")] {
        File::create(path).unwrap();
    }
    let (store, recovery) = open(dir.path());
    assert_eq!((store.len(), recovery.unfinished, recovery.stale), (3, 1, false));
    assert!(!unfinished.exists());
    assert_eq!(files(dir.path(), "notes").len(), 2);
}

#[test]
fn metrics_say_what_was_written_and_what_waits() {
    let dir = three_commits();
    let (mut store, _) = open(dir.path());
    let metrics = store.metrics();
    let value = |name: &str| {
        let mut gathered = Gathered::default();
        metrics.ask(&mut gathered).unwrap();
        assert_eq!(gathered.samples().len(), metrics.families().len());
        gathered.value(&format!("taffrail_checkpoint_{name}"), "").unwrap()
    };
    assert_eq!((value("entries"), value("commits_total")), (3.0, 0.0));
    store.put(b"new", b"value");
    let committed = store.commit().unwrap();
    assert_eq!((value("entries"), value("commits_total"), value("staged_entries")), (4.0, 1.0, 0.0));
    assert_eq!(value("written_bytes_total"), committed.bytes as f64);
    assert!(value("commit_seconds_total") > 0.0);

    // Without its directory the store cannot write.
    fs::remove_dir_all(dir.path()).unwrap();
    store.put(b"other", b"value");
    store.commit().unwrap_err();
    assert_eq!((value("failures_total"), value("staged_entries"), value("entries")), (1.0, 1.0, 5.0));
}

#[test]
fn a_path_that_cannot_be_a_directory_is_named_in_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    File::create(&file).unwrap();
    let error = Store::open(&file.join("state"), Options::default()).unwrap_err().to_string();
    assert!(error.contains("file/state") && error.contains("check the path"), "{error}");
}

#[test]
fn a_hundred_thousand_entries_stay_small_and_commits_cost_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let value = |n: u32| [&n.to_le_bytes()[..], &[b'v'; 92]].concat();
    for key in 0..100_000_u32 {
        store.put(format!("{key:024x}").as_bytes(), &value(key));
    }
    let start = Instant::now();
    let all = store.commit().unwrap();
    println!("first commit of 100,000 entries: {} bytes, {:?}", all.bytes, start.elapsed());
    assert!(all.compacted && all.bytes < 2 * 100_000 * 125, "{all:?}");

    store.put(format!("{:024x}", 5).as_bytes(), b"moved");
    let start = Instant::now();
    let one = store.commit().unwrap();
    println!("commit of one entry among them: {} bytes, {:?}", one.bytes, start.elapsed());
    assert!(one.bytes < 100 && !one.compacted, "{one:?}");

    drop(store);
    let start = Instant::now();
    let (store, recovery) = open(dir.path());
    println!("open with 100,000 entries: {:?}", start.elapsed());
    assert_eq!((recovery.entries, recovery.stale), (100_000, false));
    assert_eq!(store.get(format!("{:024x}", 5).as_bytes()), Some(&b"moved"[..]));
}

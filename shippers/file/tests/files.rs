//! What is in the directory, and when receipts are settled.

mod support;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::time::{Duration, Instant};

use support::{Log, config, lines, messages, metric, names, shipper};
use taffrail_envelope::{Encoding, EnvelopeConfig};
use taffrail_file::{FileConfig, FileShipper};
use taffrail_record::{BufferPool, Payload, Ship};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(120)
}

#[test]
fn a_record_is_confirmed_only_by_a_sync_and_one_sync_confirms_many() {
    let directory = tempfile::tempdir().expect("directory");
    let mut shipper =
        shipper(&FileConfig { sync_ms: 3_600_000, sync_bytes: u64::MAX, ..config(directory.path()) });
    let mut log = Log::new();
    for round in 0..10 {
        shipper.ship(log.batch(&lines(round * 10, 10)));
        shipper.idle();
    }
    assert_eq!(messages(directory.path()), lines(0, 100), "written");
    assert_eq!(log.account.balance().confirmed.records, 0, "not confirmed");
    assert_eq!(log.tracker.position(), 0);
    shipper.drain(soon());
    assert!(log.is_settled());
    assert!((metric(&shipper, "taffrail_file_syncs_total") - 1.0).abs() < f64::EPSILON);
    assert!((metric(&shipper, "taffrail_file_records_total") - 100.0).abs() < f64::EPSILON);
    assert!(metric(&shipper, "taffrail_file_waiting_bytes").abs() < f64::EPSILON);
}

#[test]
fn enough_bytes_or_enough_time_bring_the_sync() {
    let directory = tempfile::tempdir().expect("directory");
    let mut by_bytes = shipper(&FileConfig { sync_ms: 3_600_000, sync_bytes: 1, ..config(directory.path()) });
    let mut log = Log::new();
    by_bytes.ship(log.batch(&lines(0, 1)));
    assert!(log.is_settled());
    drop(by_bytes);
    let mut by_time = shipper(&FileConfig { sync_ms: 0, ..config(directory.path()) });
    by_time.ship(log.batch(&lines(1, 1)));
    by_time.idle();
    assert!(log.is_settled());
}

#[test]
fn files_are_closed_at_their_size_and_read_in_order_by_name() {
    let directory = tempfile::tempdir().expect("directory");
    let mut shipper = shipper(&FileConfig { max_file_bytes: 4000, ..config(directory.path()) });
    let mut log = Log::new();
    for round in 0..20 {
        shipper.ship(log.batch(&lines(round * 5, 5)));
    }
    shipper.drain(soon());
    let names = names(directory.path(), "logs-");
    assert!(names.len() > 5, "{names:?}");
    assert!(names.iter().all(|name| name.ends_with(".ndjson")), "{names:?}");
    assert_eq!(messages(directory.path()), lines(0, 100));
    for name in names {
        assert!(fs::metadata(directory.path().join(name)).expect("file").len() <= 4000);
    }
}

#[test]
fn the_oldest_closed_files_are_deleted_beyond_the_limits_and_counted() {
    for limits in [
        FileConfig { keep_files: 3, ..FileConfig::default() },
        FileConfig { keep_bytes: 8000, ..FileConfig::default() },
    ] {
        let directory = tempfile::tempdir().expect("directory");
        let limits = FileConfig { max_file_bytes: 2500, directory: directory.path().to_owned(), ..limits };
        let mut shipper = shipper(&limits);
        let mut log = Log::new();
        for round in 0..20 {
            shipper.ship(log.batch(&lines(round * 5, 5)));
        }
        shipper.drain(soon());
        assert!(log.is_settled());
        let left = messages(directory.path());
        assert!((5..100).contains(&left.len()), "{}", left.len());
        assert_eq!(left, lines(100 - left.len(), left.len()), "the newest are kept");
        let deleted = metric(&shipper, "taffrail_file_deleted_files_total");
        let closed = metric(&shipper, "taffrail_file_closed_files_total");
        assert!(deleted >= 1.0);
        assert!((closed - deleted - names(directory.path(), "logs-").len() as f64).abs() < f64::EPSILON);
        assert!(names(directory.path(), "logs-").len() <= 4);
    }
}

#[test]
fn a_file_left_open_by_a_kill_is_cut_to_whole_lines_and_numbers_go_on() {
    let directory = tempfile::tempdir().expect("directory");
    let mut log = Log::new();
    let mut killed = shipper(&config(directory.path()));
    killed.ship(log.batch(&lines(0, 10)));
    drop(killed);
    let open = names(directory.path(), "logs-");
    assert!(open[0].ends_with(".open"));
    let mut file = OpenOptions::new().append(true).open(directory.path().join(&open[0])).expect("file");
    file.write_all(b"{\"message\":\"half a li").expect("written");

    let mut next = shipper(&config(directory.path()));
    let mut log = Log::new();
    next.ship(log.batch(&lines(10, 10)));
    next.drain(soon());
    let closed = names(directory.path(), "logs-");
    assert_eq!(closed.len(), 2);
    assert!(
        closed[0].starts_with("logs-0000000001-") && closed[1].starts_with("logs-0000000002-"),
        "{closed:?}"
    );
    assert_eq!(messages(directory.path()), lines(0, 20));
}

#[test]
fn a_file_is_closed_when_it_is_old_even_if_nothing_comes() {
    let directory = tempfile::tempdir().expect("directory");
    let mut shipper =
        shipper(&FileConfig { max_file_age_seconds: 1, sync_ms: 0, ..config(directory.path()) });
    let mut log = Log::new();
    shipper.ship(log.batch(&lines(0, 1)));
    let deadline = soon();
    while names(directory.path(), "logs-")[0].ends_with(".open") {
        assert!(Instant::now() < deadline);
        shipper.idle();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(messages(directory.path()), lines(0, 1));
}

#[test]
fn statements_have_files_of_their_own() {
    let directory = tempfile::tempdir().expect("directory");
    let mut shipper = shipper(&config(directory.path()));
    let mut log = Log::new();
    shipper.ship(log.batch(&lines(0, 1)));
    let mut statement = log.batch(&["{\"ledger\":{}}".to_owned()]);
    statement.payload = Payload::Statement;
    shipper.ship(statement);
    shipper.drain(soon());
    assert!(log.is_settled());
    let ledger = names(directory.path(), "ledger-");
    assert_eq!(fs::read(directory.path().join(&ledger[0])).expect("ledger"), b"{\"ledger\":{}}\n");
    assert_eq!(messages(directory.path()), lines(0, 1));
}

#[test]
fn what_cannot_work_is_refused_with_the_remedy() {
    let directory = tempfile::tempdir().expect("directory");
    let good = config(directory.path());
    let made = |config: &FileConfig, encoding| {
        let envelope = EnvelopeConfig { encoding, ..EnvelopeConfig::default() };
        FileShipper::new(config, envelope, BufferPool::new(1, 1))
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let file = directory.path().join("file");
    fs::File::create(&file).expect("file");
    for (config, encoding, names) in [
        (FileConfig::default(), Encoding::Json, "output.file.directory"),
        (good.clone(), Encoding::Raw, "envelope.encoding"),
        (FileConfig { max_file_bytes: 0, ..good.clone() }, Encoding::Json, "max_file_bytes"),
        (FileConfig { directory: file.join("below"), ..good.clone() }, Encoding::Json, "file/below"),
    ] {
        let error = made(&config, encoding).expect_err(names);
        assert!(error.contains(names), "{error}");
    }
    let first = shipper(&good);
    assert!(made(&good, Encoding::Json).expect_err("in use").contains("another taffrail"));
    drop(first);
    made(&good, Encoding::Json).expect("free again");
}

//! A write that fails half-way, as on a full disk. Alone in its process: the limit that makes it fail is the process's.

mod support;

use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use support::{Log, config, lines, messages, metric, shipper};
use taffrail_record::Ship;

#[test]
fn a_write_that_fails_half_way_is_taken_back_shown_and_retried_until_it_succeeds() {
    let directory = tempfile::tempdir().expect("directory");
    let mut shipper = shipper(&config(directory.path()));
    let mut log = Log::new();
    shipper.ship(log.batch(&lines(0, 10)));
    let (_, most) = getrlimit(Resource::RLIMIT_FSIZE).expect("limit");
    // SAFETY: ignoring a signal installs no handler.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.expect("ignored");
    let limit: libc::rlim_t = 10_000;
    setrlimit(Resource::RLIMIT_FSIZE, limit, most).expect("limited");
    for round in 1..20 {
        shipper.ship(log.batch(&lines(round * 100, 100)));
        shipper.idle();
    }
    let status = shipper.status().get().expect("trouble");
    assert!(status.contains("cannot write") && status.contains("logs-"), "{status}");
    assert!(metric(&shipper, "taffrail_file_errors_total") >= 1.0);
    assert_eq!(messages(directory.path()), lines(0, 10), "what fitted is there, and no half line");
    assert_eq!(log.account.balance().confirmed.records, 10);

    setrlimit(Resource::RLIMIT_FSIZE, most, most).expect("no limit");
    let deadline = Instant::now() + Duration::from_secs(120);
    while !log.is_settled() {
        assert!(Instant::now() < deadline, "{:?}", shipper.status().get());
        shipper.idle();
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(shipper.status().get(), None);
    shipper.drain(deadline);
    let expected: Vec<String> = lines(0, 10).into_iter().chain(lines(100, 1900)).collect();
    assert_eq!(messages(directory.path()), expected);
}

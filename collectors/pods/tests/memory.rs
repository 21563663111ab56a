//! What a pod costs.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use std::sync::Arc;

use taffrail_pods::{AllowList, Pod, PodSeries, PodStore, PodsConfig};
use taffrail_record::{Ask as _, Gathered};

/// Counts what is held, rounded up as allocators round.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

fn cost(layout: Layout) -> usize {
    layout.size().next_multiple_of(16)
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(cost(layout), Ordering::Relaxed);
        // SAFETY: the caller's promises are the callee's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(cost(layout), Ordering::Relaxed);
        // SAFETY: the caller's promises are the callee's conditions.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const PODS: usize = 100;
const REPLACED: usize = 20;

/// A large pod of production: three containers and one before them, 30 labels, 40 KB of annotations, messages of 4 KB. All of
/// it, 75 KB as the API server writes it, is known and told.
fn numbered(number: usize) -> String {
    include_str!("fixtures/big.json")
        .replace("0a1b2c3d", &format!("{number:08x}"))
        .replace("-x2x7q", &format!("-x{number:04}"))
        .replace("containerd://", &format!("containerd://{number:04x}"))
}

// One test: another thread's memory would be in the figures.
#[test]
fn a_large_pod_costs_less_than_20_kilobytes_and_pods_that_come_and_go_cost_no_more() {
    let config = PodsConfig {
        annotations: vec!["example.com/short".to_owned()],
        most_gone: 2 * REPLACED,
        ..PodsConfig::default()
    };
    let store = Arc::new(PodStore::new(config.store_options(&AllowList::default())));
    let series = PodSeries::new(&store, &config, None);
    let pods: Vec<Pod> = (0..PODS).map(|number| store.parse(numbered(number).as_bytes()).unwrap()).collect();
    drop(pods);
    let before = HELD.load(Ordering::Relaxed);
    for number in 0..PODS {
        store.apply_json(numbered(number).as_bytes()).unwrap();
    }
    let each = (HELD.load(Ordering::Relaxed) - before) / PODS;
    println!("{each} bytes per pod");
    assert_eq!(store.snapshot().len(), PODS);
    assert!(each < 20_000, "{each} bytes per pod");
    let mut gathered = Gathered::default();
    let _ = series.ask(&mut gathered);
    assert!(gathered.samples().len() > 100 * PODS, "{}", gathered.samples().len());
    // Less could not hold what is asked for: the measurement measures.
    assert!(each > 4_000, "{each} bytes per pod");

    let held = || HELD.load(Ordering::Relaxed);
    let replace = |round: usize| {
        let numbers = (0..REPLACED).map(|number| 1000 + round * REPLACED + number);
        store.replace_all(numbers.map(|number| store.parse(numbered(number).as_bytes()).unwrap()).collect());
    };
    (0..10).for_each(replace);
    let early = held();
    (10..60).for_each(replace);
    let grown = held().saturating_sub(early);
    assert!(grown < early / 50, "{grown} more than {early}");
}

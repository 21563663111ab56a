//! What a crash may repeat.

use std::sync::atomic::Ordering;

use super::super::agent::{CHECKPOINT_BYTES, MEMORY, UNDELIVERABLE};
use super::*;

/// Of everything: several times what may be repeated.
const LINES: usize = 40_000;

fn lines() -> String {
    (0..LINES).map(|number| format!("line {number:>10}\n")).collect()
}

fn bytes(arrived: &[Arrived]) -> u64 {
    arrived.iter().flat_map(|a| &a.id).map(|(_, start, end)| end - start).sum()
}

#[test]
fn no_more_is_delivered_beyond_an_unconfirmed_statement_than_a_crash_may_repeat() {
    let mut scene = Scene::new();
    say(&scene.plain("app.log"), lines());
    scene.start();
    scene.agent.as_ref().expect("running").speechless.store(true, Ordering::Release);
    scene.until("something arrives", |scene| bytes(&scene.records("app.log")) > CHECKPOINT_BYTES);
    std::thread::sleep(Duration::from_millis(500));
    let ahead = bytes(&scene.records("app.log"));
    assert!(ahead <= MEMORY + CHECKPOINT_BYTES, "{ahead} bytes, all of which a crash would repeat");
    scene.agent.as_ref().expect("running").speechless.store(false, Ordering::Release);
    scene.until("all arrives", |scene| scene.records("app.log").len() == LINES);
    scene.close();
}

#[test]
fn what_a_loss_keeps_back_is_declared_before_reading_waits_for_it() {
    let mut scene = Scene::new();
    say(&scene.plain("app.log"), format!("{UNDELIVERABLE}\n{}", lines()));
    scene.start();
    scene.until("all arrives", |scene| scene.records("app.log").len() == LINES);
    let length = UNDELIVERABLE.len() as u64 + 1;
    scene.until("the loss is declared", |scene| scene.declared("too_large") == length);
    scene.close();
}

//! Files that go away: deleted, rotated or truncated, while the agent looks and while it does not.

use super::*;

#[test]
fn a_file_that_is_deleted_unread_is_read_to_its_end_from_the_held_descriptor() {
    let mut scene = Scene::new();
    let log = scene.plain("app.log");
    say(&log, lines(0, 2000, 200));
    scene.start();
    scene.until("some records were awaited", |s| !s.records("app.log").is_empty());
    {
        let agent = scene.agent.as_ref().expect("running");
        let _closed = agent.gate.lock();
        say(&log, lines(2000, 4000, 200));
        fs::rename(&log, scene.plain("app.log.1")).expect("renamed");
        say(&log, lines(4000, 4500, 200));
        scene.until("the rotated file was held", |s| s.held("app.log") == 2);
        fs::rename(scene.plain("app.log.1"), scene.plain("app.log.2")).expect("renamed");
        fs::rename(&log, scene.plain("app.log.1")).expect("renamed");
        say(&log, lines(4500, 4600, 200));
        scene.until("the next one was held, too", |s| s.held("app.log") == 3);
        fs::remove_file(scene.plain("app.log.1")).expect("removed");
        fs::remove_file(scene.plain("app.log.2")).expect("removed");
    }
    scene.until("all lines were awaited", |s| s.records("app.log").len() == 4600);
    let expected = lines(0, 4600, 200);
    assert!(scene.bodies("app.log").iter().map(String::as_str).eq(expected.lines()));
    assert_eq!(scene.declared("deleted"), 0);
    scene.until("the deleted files were let go", |s| s.held("app.log") == 1);
    scene.close();
}

#[test]
fn deleted_files_keep_no_more_of_the_disk_than_they_may_and_the_rest_is_declared_lost() {
    let mut scene = Scene::new();
    let log = scene.plain("app.log");
    say(&log, lines(0, 100, 200));
    scene.start_with(|config| config.max_deleted_bytes = 300_000);
    scene.until("the first lines were awaited", |s| s.records("app.log").len() == 100);
    let (old, new) = (lines(100, 2000, 200), lines(2000, 2100, 200));
    {
        let agent = scene.agent.as_ref().expect("running");
        let _closed = agent.gate.lock();
        say(&log, &old);
        fs::rename(&log, scene.plain("app.log.1")).expect("renamed");
        say(&log, &new);
        scene.until("the rotated file was held", |s| s.held("app.log") == 2);
        fs::remove_file(scene.plain("app.log.1")).expect("removed");
        scene.until("the deleted file was let go", |s| s.held("deleted") == 0);
    }
    scene.until("the newest lines were awaited", |s| {
        s.bodies("app.log").last().is_some_and(|last| new.lines().last() == Some(last))
    });
    scene.until("the loss was declared", |s| s.declared("deleted") > 0);
    let arrived: usize = scene.bodies("app.log").iter().map(|body| body.len() + 1).sum();
    let written = lines(0, 2100, 200).len();
    assert_eq!(
        arrived as u64 + scene.declared("deleted"),
        written as u64,
        "each byte arrived or was declared lost"
    );
    scene.close();
}

#[test]
fn what_was_deleted_while_the_agent_was_down_is_declared_with_its_size() {
    let mut scene = Scene::new();
    let log = scene.container("shop", "web", "0.log");
    let line = cri("stdout", "F", "hello");
    say(&log, line.repeat(100));
    scene.start();
    scene.until("the lines were awaited", |s| s.records("web").len() == 100);
    {
        let agent = scene.agent.as_ref().expect("running");
        let _closed = agent.gate.lock();
        say(&log, line.repeat(5000));
        // What is behind is measured once a second.
        std::thread::sleep(Duration::from_millis(2500));
    }
    let agent = scene.agent.take().expect("running");
    agent.kill();
    fs::remove_dir_all(log.parent().and_then(Path::parent).expect("the pod's directory")).expect("removed");
    scene.start();
    scene.until("the loss was declared", |s| s.declared("deleted") > 0);
    scene.until("its going away was stated", |s| s.stated("vanished") == 1);
    assert_eq!(scene.stated("finished"), 0, "nobody has seen its end");
    // What arrived and was not confirmed before the agent died is declared, too: the two may overlap, and leave nothing.
    assert_eq!(scene.accounted_for("web", "deleted"), [(0, 5100 * line.len() as u64)]);
    scene.close();
}

#[test]
fn what_was_delivered_in_a_life_that_could_write_nothing_down_is_declared_lost_under_the_same_name() {
    let mut scene = Scene::new();
    let log = scene.container("shop", "web", "0.log");
    say(&log, cri("stdout", "F", "hello").repeat(3));
    scene.start();
    scene.until("the lines were awaited", |s| s.records("web").len() == 3);
    scene.agent.take().expect("running").kill();
    fs::remove_dir_all(scene.path().join("state")).expect("as if the disk had been full");
    scene.start();
    {
        let agent = scene.agent.as_ref().expect("running");
        let _closed = agent.gate.lock();
        std::thread::sleep(Duration::from_millis(500));
        *agent.killed.lock() = true;
    }
    scene.agent.take().expect("running").kill();
    fs::remove_dir_all(log.parent().and_then(Path::parent).expect("the pod's directory")).expect("removed");
    scene.start();
    scene.until("the loss was declared", |s| s.declared("deleted") > 0);
    let delivered = scene.records("web")[0].id[0].0.to_string();
    let statements = scene.topic.lock().statements.clone();
    let declared = statements.iter().find(|s| s["ledger"]["kind"] == "damaged").expect("declared");
    assert_eq!(declared["ledger"]["fingerprint"], delivered);
    scene.close();
}

#[test]
fn of_a_file_that_was_read_to_its_end_and_went_away_while_the_agent_was_down_nobody_claims_to_know_the_end() {
    let mut scene = Scene::new();
    let log = scene.plain("app.log");
    say(&log, lines(0, 100, 200));
    scene.start();
    scene.until("the lines were awaited", |s| s.records("app.log").len() == 100);
    scene.stop();
    say(&log, lines(100, 200, 200));
    fs::rename(&log, scene.plain("app.log.1")).expect("renamed");
    fs::remove_file(scene.plain("app.log.1")).expect("removed");
    say(&log, lines(200, 300, 200));
    scene.start();
    scene.until("the new lines were awaited", |s| s.records("app.log").len() == 200);
    scene.until("the old file's going away was stated", |s| s.stated("vanished") == 1);
    assert_eq!(scene.stated("finished"), 0);
    assert_eq!(scene.sample("taffrail_logs_vanished_total", &[]), 1.0);
    scene.close();
}

#[test]
fn what_was_never_decoded_and_went_away_while_the_agent_was_down_is_declared_once() {
    let mut scene = Scene::new();
    let (log, other) = (scene.plain("app.log"), scene.plain("other.log"));
    say(&log, "ten bytes.");
    scene.start();
    scene.until("the file was held", |s| s.held("app.log") == 1);
    say(&other, "whole\n");
    scene.until("what came after it was awaited", |s| s.bodies("other.log") == ["whole"]);
    scene.stop();
    fs::remove_file(&log).expect("removed");
    scene.start();
    scene.until("the loss was declared", |s| s.declared("deleted") == 10 && s.stated("vanished") == 1);
    // The file is let go once that is confirmed.
    std::thread::sleep(Duration::from_millis(500));
    scene.stop();
    scene.start();
    say(&other, "more\n");
    scene.until("the other file was awaited", |s| s.bodies("other.log").len() == 2);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!((scene.declared("deleted"), scene.stated("vanished")), (10, 1), "not again");
    scene.close();
}

#[test]
fn a_plain_file_that_was_only_rotated_while_the_agent_was_down_is_read_to_its_end() {
    let mut scene = Scene::new();
    let log = scene.plain("app.log");
    say(&log, lines(0, 10, 20));
    scene.start();
    scene.until("the first lines were awaited", |s| s.records("app.log").len() == 10);
    scene.stop();
    say(&log, lines(10, 20, 20));
    // Whoever writes it has gone, too: there is no new one.
    fs::rename(&log, scene.plain("app.log.1")).expect("renamed");
    scene.start();
    scene.until("the rest was awaited", |s| s.records("app.log").len() == 20);
    assert!(scene.bodies("app.log").iter().map(String::as_str).eq(lines(0, 20, 20).lines()));
    assert_eq!((scene.stated("vanished"), scene.declared("deleted")), (0, 0));
    scene.close();
}

#[test]
fn of_files_that_came_and_went_between_two_looks_the_possible_gap_is_stated() {
    let mut scene = Scene::new();
    let log = scene.plain("app.log");
    say(&log, lines(0, 10, 200));
    scene.start();
    scene.until("the first lines were awaited", |s| s.records("app.log").len() == 10);
    // Done beside it and put there at once: the agent sees the file before and the one after, and none between.
    let next = scene.path().join("next");
    say(&next, lines(20, 30, 200));
    say(&log, lines(10, 20, 200));
    fs::rename(&next, &log).expect("renamed");
    scene.until("all that could be read was awaited", |s| s.records("app.log").len() == 30);
    scene.until("the gap was stated", |s| s.stated("vanished") == 1);
    assert_eq!(scene.stated("finished"), 0);
    assert_eq!(scene.sample("taffrail_logs_vanished_total", &[]), 1.0);
    // An ordinary rotation leaves none.
    fs::rename(&log, scene.plain("app.log.1")).expect("renamed");
    say(&log, lines(30, 40, 200));
    scene.until("the last lines were awaited", |s| s.records("app.log").len() == 40);
    scene.until("the end of the rotated one was stated", |s| s.stated("finished") == 1);
    assert_eq!(scene.stated("vanished"), 1);
    scene.close();
}

#[test]
fn a_file_that_is_truncated_and_removed_at_once_ends_with_what_was_read_of_it() {
    let mut scene = Scene::new();
    let log = scene.plain("app.log");
    say(&log, format!("{}and no end", lines(0, 10, 20)));
    scene.start();
    scene.until("the lines were awaited", |s| s.records("app.log").len() == 10);
    append(&log).set_len(0).expect("truncated");
    fs::remove_file(&log).expect("removed");
    scene.until("its end was stated", |s| s.stated("vanished") == 1);
    assert_eq!(scene.bodies("app.log").last().map(String::as_str), Some("and no end"));
    say(&log, lines(11, 12, 20));
    scene.until("the next file was awaited", |s| s.records("app.log").len() == 12);
    scene.close();
}

#[test]
fn what_a_restless_directory_hides_for_a_moment_is_neither_read_again_nor_out_of_turn() {
    let mut scene = Scene::new();
    let log = scene.plain("app.log");
    let old: Vec<_> = (0..=251).map(|number| scene.plain(&format!("app.log.{number}"))).collect();
    say(&log, lines(0, 10, 50));
    scene.start();
    // As Docker does it, but without a pause: seldom does a name mean the same file for as long as a listing takes.
    let mut written = 10;
    for round in 0..250 {
        for number in (1..=round).rev() {
            fs::rename(&old[number], &old[number + 1]).expect("renamed");
        }
        fs::rename(&log, &old[1]).expect("renamed");
        say(&log, lines(written, written + 10, 50));
        written += 10;
    }
    scene.until("the last line was awaited", |s| s.records("app.log").len() >= written);
    assert!(scene.sample("taffrail_logs_looks_total", &[]) > 2.0, "the agent has looked");
    assert_eq!(scene.bodies("app.log"), lines(0, written, 50).lines().collect::<Vec<_>>());
    assert_eq!(scene.topic.lock().repeats, 0);
    assert_eq!(scene.sample("taffrail_logs_vanished_total", &[]), 0.0);
    scene.close();
}

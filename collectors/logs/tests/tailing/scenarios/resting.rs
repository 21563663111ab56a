//! Lanes at rest: parked, asleep, one of many in a directory.

use super::*;

/// Tags of CRI lines by which a body tells its number.
fn numbered(from: usize, to: usize) -> String {
    (from..to).map(|n| cri("stdout", "F", &format!("line:{n}"))).collect()
}

fn expected(to: usize) -> Vec<String> {
    (0..to).map(|n| format!("line:{n}")).collect()
}

#[test]
fn a_sleeping_lane_goes_on_where_it_was_when_its_file_grows_or_is_rotated_or_goes_away() {
    let mut scene = Scene::new();
    let log = scene.container("shop", "app", "0.log");
    say(&log, numbered(0, 10));
    let config = config(scene.path());
    scene.agent = Some(Agent::start_holding(0, scene.path(), config, &scene.topic, 1, false));
    let asleep = |s: &Scene| s.held("0.log") == 0;
    scene.until("the first lines were awaited", |s| s.bodies("app") == expected(10));
    scene.until("sleep was awaited", asleep);
    say(&log, numbered(10, 20));
    scene.until("growth was awaited", |s| s.bodies("app") == expected(20));
    scene.until("sleep was awaited again", asleep);
    fs::rename(&log, scene.container("shop", "app", "0.log.20260102-030405")).expect("renamed");
    say(&log, numbered(20, 30));
    scene.until("the rotated file's successor was awaited", |s| s.bodies("app") == expected(30));
    scene.until("sleep was awaited once more", asleep);
    fs::remove_dir_all(log.parent().and_then(Path::parent).expect("a pod")).expect("removed");
    // If nobody held it just then, it may have grown unseen.
    scene.until("the end was awaited", |s| s.stated("finished") + s.stated("vanished") == 2);
    assert!(scene.stated("finished") >= 1, "the rotated file was read to its end");
    assert_eq!(scene.bodies("app"), expected(30), "nothing is repeated");
    scene.close();
}

#[test]
fn a_sleeper_of_the_last_life_is_read_on_however_its_files_have_changed_meanwhile() {
    let mut scene = Scene::new();
    let names = ["grown", "same", "rotated", "restarted"];
    let logs = names.map(|name| scene.container("shop", name, "0.log"));
    logs.iter().for_each(|log| say(log, numbered(0, 10)));
    scene.start();
    scene.until("all lines were awaited", |s| names.iter().all(|n| s.bodies(n) == expected(10)));
    scene.stop();
    say(&logs[0], numbered(10, 20));
    fs::rename(&logs[2], scene.container("shop", "rotated", "0.log.20260102-030405")).expect("renamed");
    say(&logs[2], numbered(10, 20));
    // The old file lies as it was left, and another beside it.
    say(&scene.container("shop", "restarted", "1.log"), numbered(10, 20));
    scene.start();
    scene.until("what is new was awaited", |s| {
        names.iter().all(|name| s.bodies(name) == expected(if *name == "same" { 10 } else { 20 }))
    });
    scene.until("all files were held", |s| names.iter().all(|name| s.held(name) > 0));
    say(&logs[1], numbered(10, 20));
    scene.until("the last was awaited", |s| s.bodies("same") == expected(20));
    scene.close();
}

#[test]
fn of_many_lanes_in_one_directory_each_follows_its_own_files() {
    let mut scene = Scene::new();
    let names: Vec<String> = (0..40).map(|n| format!("{n:02}.log")).collect();
    names.iter().for_each(|name| say(&scene.plain(name), lines(0, 10, 5)));
    scene.start();
    let all = |scene: &mut Scene, to: usize| {
        let expected = lines(0, to, 5);
        let whole = |s: &Scene, name: &str| s.bodies(name).iter().map(String::as_str).eq(expected.lines());
        scene.until("all lines were awaited", |s| names.iter().all(|name| whole(s, name)));
    };
    all(&mut scene, 10);
    // Beyond the time after which they are parked.
    std::thread::sleep(Duration::from_millis(200));
    for name in &names {
        fs::rename(scene.plain(name), scene.plain(&format!("{name}.1"))).expect("renamed");
        say(&scene.plain(&format!("{name}.1")), lines(10, 15, 5));
        say(&scene.plain(name), lines(15, 20, 5));
    }
    all(&mut scene, 20);
    std::thread::sleep(Duration::from_millis(200));
    names.iter().for_each(|name| say(&scene.plain(name), lines(20, 30, 5)));
    all(&mut scene, 30);
    scene.close();
}

#[test]
fn with_too_few_descriptors_every_lane_is_read_in_its_turn() {
    let mut scene = Scene::new();
    let names: Vec<String> = (0..60).map(|n| format!("c{n:02}")).collect();
    let log = |scene: &Scene, name: &str| scene.container("shop", name, "0.log");
    names.iter().for_each(|name| say(&log(&scene, name), numbered(0, 10)));
    let config = config(scene.path());
    scene.agent = Some(Agent::start_holding(8, scene.path(), config, &scene.topic, 1, false));
    scene.until("all lanes were awaited", |s| {
        // One more than an eighth above.
        let open = s.sample("taffrail_logs_open_files", &[]);
        assert!(open <= 10.0, "{open} are open");
        // And what a look pins for the moment.
        let held = s.held("0.log");
        assert!(held <= 14, "{held} are held");
        names.iter().all(|name| s.bodies(name) == expected(10))
    });
    names.iter().for_each(|name| say(&log(&scene, name), numbered(10, 20)));
    scene.until("all lanes were awaited", |s| names.iter().all(|name| s.bodies(name) == expected(20)));
    scene.close();
}

#[test]
fn what_is_written_through_a_link_to_elsewhere_is_seen_although_the_kernel_does_not_tell() {
    let mut scene = Scene::new();
    let elsewhere = scene.path().join("elsewhere.log");
    say(&elsewhere, "one\n");
    std::os::unix::fs::symlink(&elsewhere, scene.plain("app.log")).expect("linked");
    scene.start_with(|config| config.rescan_seconds = 3600);
    scene.until("the line was awaited", |s| s.bodies("app.log") == ["one"]);
    // Long enough for others to be left to the kernel's notice.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(scene.sample("taffrail_logs_parked", &[]), 0.0);
    say(&elsewhere, "two\n");
    scene.until("the second line was awaited", |s| s.bodies("app.log") == ["one", "two"]);
    scene.close();
}

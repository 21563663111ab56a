//! The shape of the workspace, held by a check on `cargo metadata`.
//!
//! Crates are rooms. A room's manifest shows what it may touch, and dependencies point one way:
//! the agent uses collectors and shippers, both use the small record crate, neither sees the other. So work on
//! one collector rebuilds no other, and none can come to lean on a shipper by accident.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, MetadataCommand, Package};

/// What a room belongs to, from its folder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Floor {
    Agent,
    Record,
    Collector,
    Shipper,
    Bench,
    Parts,
    Suite,
}

#[derive(Clone, Debug)]
struct Room {
    name: String,
    floor: Floor,
    /// Names of the crates it depends on when it is built.
    uses: Vec<String>,
    /// Names of the crates that only its own tests depend on.
    tests_use: Vec<String>,
}

/// The folders at the top, each with its purpose in the README.
const TOP: [&str; 6] = ["agent", "benches", "collectors", "deploy", "shippers", "tests"];

/// Edges between two collectors or two shippers that are meant.
const MEANT: [(&str, &str); 14] = [
    ("taffrail-events", "taffrail-api"),
    ("taffrail-events", "taffrail-pods"),
    ("taffrail-events", "taffrail-spool"),
    ("taffrail-exec", "taffrail-spool"),
    ("taffrail-exec", "taffrail-cri"),
    ("taffrail-exec", "taffrail-docker"),
    ("taffrail-logs", "taffrail-checkpoint"),
    ("taffrail-cgroup", "taffrail-kernfs"),
    ("taffrail-exec", "taffrail-kernfs"),
    ("taffrail-node", "taffrail-kernfs"),
    ("taffrail-node", "taffrail-text"),
    ("taffrail-discard", "taffrail-envelope"),
    ("taffrail-file", "taffrail-envelope"),
    ("taffrail-kafka", "taffrail-envelope"),
];

/// Libraries that belong to one room, so that nothing else comes to depend on how they work.
/// Benches may use any: they measure a library bare, beside the room that wraps it.
const OWNED: [(&str, &str); 7] = [
    ("rdkafka", "taffrail-kafka"),
    ("bollard", "taffrail-docker"),
    ("tonic", "taffrail-cri"),
    ("tonic-prost", "taffrail-cri"),
    ("notify", "taffrail-logs"),
    ("aya", "taffrail-exec"),
    ("reqwest", "taffrail-elasticsearch"),
];

/// Why an edge between two rooms may not be, if it may not.
fn refuses(from: &Room, to: &Room) -> Option<&'static str> {
    if MEANT.contains(&(from.name.as_str(), to.name.as_str())) {
        return None;
    }
    match (from.floor, to.floor) {
        (Floor::Bench | Floor::Suite, _) => None,
        (Floor::Agent, Floor::Collector | Floor::Shipper | Floor::Record) => None,
        (Floor::Collector | Floor::Shipper, Floor::Record) => None,
        (Floor::Record, _) => Some("the record crate depends on no other room"),
        (Floor::Parts, _) => Some("the parts know nothing of what is tested with them"),
        (_, Floor::Bench | Floor::Parts | Floor::Suite) => Some("the product depends on no test"),
        (Floor::Collector, Floor::Shipper) => Some("a collector never sees a shipper"),
        (Floor::Shipper, Floor::Collector) => Some("a shipper never sees a collector"),
        (Floor::Collector, Floor::Collector) => Some("collectors do not see each other"),
        (Floor::Shipper, Floor::Shipper) => Some("shippers see only the record crate and the envelope"),
        (Floor::Collector | Floor::Shipper | Floor::Agent, Floor::Agent) => {
            Some("nothing depends on the agent")
        }
    }
}

/// Every edge that breaks a rule, one line each.
fn violations(rooms: &[Room]) -> Vec<String> {
    let mut found = Vec::new();
    for from in rooms {
        for (name, in_tests) in edges(from) {
            let to = rooms.iter().find(|room| room.name == name);
            let reason = match to {
                // Parts may be named by the tests of any room.
                Some(to) if in_tests && to.floor == Floor::Parts => None,
                Some(to) => refuses(from, to).map(str::to_owned),
                None => refuses_library(from, name),
            };
            found.extend(reason.map(|reason| format!("{} -> {name}: {reason}", from.name)));
        }
    }
    found
}

fn edges(room: &Room) -> impl Iterator<Item = (&str, bool)> {
    let built = room.uses.iter().map(|name| (name.as_str(), false));
    built.chain(room.tests_use.iter().map(|name| (name.as_str(), true)))
}

fn refuses_library(from: &Room, library: &str) -> Option<String> {
    let (_, owner) = OWNED.iter().find(|(owned, _)| *owned == library)?;
    (from.name != *owner && from.floor != Floor::Bench).then(|| format!("only {owner} uses {library}"))
}

fn floor(folder: &str) -> Option<Floor> {
    Some(match folder {
        "agent" => Floor::Agent,
        "collectors/record" => Floor::Record,
        "benches" => Floor::Bench,
        "tests/parts" => Floor::Parts,
        "tests/suite" => Floor::Suite,
        _ if folder.starts_with("collectors/") => Floor::Collector,
        _ if folder.starts_with("shippers/") => Floor::Shipper,
        _ => return None,
    })
}

fn room(package: &Package, root: &Path) -> Result<Room> {
    let folder = package.manifest_path.parent().context("a manifest in no folder")?;
    let folder = folder.as_std_path().strip_prefix(root)?.to_string_lossy().into_owned();
    let floor =
        floor(&folder).with_context(|| format!("{folder} is a folder without rules: name them here"))?;
    let dependencies = |in_tests: bool| {
        let chosen =
            package.dependencies.iter().filter(|it| (it.kind == DependencyKind::Development) == in_tests);
        chosen.map(|dependency| dependency.name.clone()).collect()
    };
    Ok(Room {
        name: package.name.to_string(),
        floor,
        uses: dependencies(false),
        tests_use: dependencies(true),
    })
}

fn metadata() -> Result<cargo_metadata::Metadata> {
    MetadataCommand::new().no_deps().exec().context("cargo metadata failed")
}

#[test]
fn dependencies_between_rooms_point_one_way() -> Result<()> {
    let metadata = metadata()?;
    let root = metadata.workspace_root.as_std_path();
    let rooms = metadata.packages.iter().map(|package| room(package, root)).collect::<Result<Vec<_>>>()?;
    for floor in [Floor::Agent, Floor::Record, Floor::Collector, Floor::Shipper, Floor::Parts, Floor::Suite] {
        assert!(rooms.iter().any(|room| room.floor == floor), "no room found for {floor:?}");
    }
    assert_eq!(violations(&rooms), Vec::<String>::new());
    Ok(())
}

#[test]
fn rules_name_rooms_that_exist() -> Result<()> {
    let known: BTreeSet<String> =
        metadata()?.packages.iter().map(|package| package.name.to_string()).collect();
    let named = MEANT.iter().flat_map(|(from, to)| [*from, *to]).chain(OWNED.iter().map(|(_, owner)| *owner));
    let unknown: Vec<&str> = named.filter(|name| !known.contains(*name)).collect();
    assert_eq!(unknown, Vec::<&str>::new());
    Ok(())
}

#[test]
fn the_top_has_these_folders_and_no_others() -> Result<()> {
    let metadata = metadata()?;
    let target = metadata.target_directory.file_name().unwrap_or("target").to_owned();
    let mut folders = Vec::new();
    for entry in fs::read_dir(&metadata.workspace_root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() && !name.starts_with('.') && name != target {
            folders.push(name);
        }
    }
    folders.sort();
    assert_eq!(folders, TOP);
    Ok(())
}

#[test]
fn every_room_inherits_the_lints_the_licence_and_the_toolchain() -> Result<()> {
    for package in metadata()?.packages {
        let manifest = fs::read_to_string(&package.manifest_path)?;
        let lines: Vec<&str> = manifest.lines().map(str::trim).collect();
        let lints = lines.windows(2).any(|pair| pair == ["[lints]", "workspace = true"]);
        assert!(lints, "{} does not inherit the workspace's lints", package.manifest_path);
        for key in ["edition", "license", "publish", "rust-version", "version"] {
            let inherited = format!("{key}.workspace = true");
            assert!(lines.contains(&inherited.as_str()), "{} lacks {inherited}", package.manifest_path);
        }
        for dependency in &package.dependencies {
            let bare = format!("{}.workspace = true", dependency.name);
            let table = format!("{} = {{ workspace = true", dependency.name);
            let inherited = lines.iter().any(|line| *line == bare || line.starts_with(&table));
            assert!(inherited, "{}: {} has a version of its own", package.manifest_path, dependency.name);
        }
    }
    Ok(())
}

/// A workspace where all is well, to be broken by each case.
fn sound() -> Vec<Room> {
    let room = |name: &str, floor, uses: &[&str], tests_use: &[&str]| Room {
        name: name.into(),
        floor,
        uses: uses.iter().map(ToString::to_string).collect(),
        tests_use: tests_use.iter().map(ToString::to_string).collect(),
    };
    let every =
        ["taffrail-logs", "taffrail-docker", "taffrail-kafka", "taffrail-envelope", "taffrail-record"];
    vec![
        room("taffrail", Floor::Agent, &every, &["taffrail-parts"]),
        room("taffrail-record", Floor::Record, &["serde"], &["proptest"]),
        room("taffrail-logs", Floor::Collector, &["taffrail-record", "taffrail-checkpoint", "notify"], &[]),
        room("taffrail-checkpoint", Floor::Collector, &["taffrail-record"], &[]),
        room("taffrail-docker", Floor::Collector, &["taffrail-record", "bollard"], &["taffrail-parts"]),
        room("taffrail-kafka", Floor::Shipper, &["taffrail-record", "taffrail-envelope", "rdkafka"], &[]),
        room("taffrail-envelope", Floor::Shipper, &["taffrail-record"], &[]),
        room("taffrail-parts", Floor::Parts, &["anyhow"], &[]),
        room("taffrail-suite", Floor::Suite, &["taffrail-parts", "taffrail"], &[]),
        room("taffrail-benches", Floor::Bench, &["taffrail-kafka", "rdkafka"], &[]),
    ]
}

#[test]
fn a_sound_graph_has_no_violation() {
    assert_eq!(violations(&sound()), Vec::<String>::new());
}

#[test]
fn each_wrong_edge_is_found_with_its_reason() {
    let cases = [
        ("taffrail-record", "taffrail-logs", "depends on no other room"),
        ("taffrail-logs", "taffrail-kafka", "never sees a shipper"),
        ("taffrail-logs", "taffrail-docker", "do not see each other"),
        ("taffrail-docker", "taffrail-checkpoint", "do not see each other"),
        ("taffrail-checkpoint", "taffrail-logs", "do not see each other"),
        ("taffrail-kafka", "taffrail-logs", "never sees a collector"),
        ("taffrail-envelope", "taffrail-kafka", "only the record crate and the envelope"),
        ("taffrail-envelope", "taffrail", "nothing depends on the agent"),
        ("taffrail-logs", "taffrail", "nothing depends on the agent"),
        ("taffrail", "taffrail-parts", "depends on no test"),
        ("taffrail-parts", "taffrail-record", "know nothing of what is tested"),
        ("taffrail", "rdkafka", "only taffrail-kafka uses rdkafka"),
        ("taffrail-suite", "rdkafka", "only taffrail-kafka uses rdkafka"),
        ("taffrail-logs", "bollard", "only taffrail-docker uses bollard"),
        ("taffrail", "tonic", "only taffrail-cri uses tonic"),
        ("taffrail", "notify", "only taffrail-logs uses notify"),
        ("taffrail", "reqwest", "only taffrail-elasticsearch uses reqwest"),
    ];
    for (from, to, reason) in cases {
        let mut rooms = sound();
        let room = rooms.iter_mut().find(|room| room.name == from).expect("a room of the sound graph");
        room.uses.push(to.to_owned());
        let found = violations(&rooms);
        assert_eq!(found.len(), 1, "{from} -> {to}: {found:?}");
        assert!(found[0].starts_with(&format!("{from} -> {to}: ")) && found[0].contains(reason), "{found:?}");
    }
}

#[test]
fn a_wrong_edge_of_tests_alone_is_found_too() {
    let mut rooms = sound();
    let room = rooms.iter_mut().find(|room| room.name == "taffrail-logs").expect("a room of the sound graph");
    room.tests_use.push("taffrail-kafka".into());
    assert_eq!(violations(&rooms), ["taffrail-logs -> taffrail-kafka: a collector never sees a shipper"]);
}

/// Errors of the text whose message holds their cause and that hand it out as their source as well: whoever prints the
/// whole chain, as the command does, then says it twice.
fn said_twice(text: &str) -> Vec<&str> {
    let (_, rest) = text.split_once("#[error(").unwrap_or_default();
    let each = rest.split("#[error(").filter_map(|after| after.split_once(")]\n"));
    each.filter(|(message, body)| {
        let item = body.split("\n}").next().unwrap_or_default();
        let item = item.split_once("///").map_or(item, |(first, _)| first);
        let named = (message.contains("{source") || message.contains(".source")) && body.contains("source:");
        let unnamed = message.contains("{0") && (item.contains("#[from]") || item.contains("#[source]"));
        named || unnamed
    })
    .map(|(message, _)| message)
    .collect()
}

#[test]
fn an_error_says_its_cause_or_hands_it_out_and_not_both() -> Result<()> {
    let twice = "#[error(\"a: {source}\")]\n    A {\n        source: E,\n    },\n";
    let from = "#[error(\"a: {0}\")]\n    A(#[from] E),\n";
    let (said, handed) = ("#[error(\"a: {0}\")]\n    A(E),\n", "#[error(transparent)]\n    A(#[from] E),\n");
    assert_eq!([twice, from, said, handed].map(|text| said_twice(text).len()), [1, 1, 0, 0]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for folder in TOP {
        sources(&root.join(folder), &mut |path, text| {
            found.extend(said_twice(text).into_iter().map(|m| format!("{}: {m}", path.display())));
        })?;
    }
    assert!(found.is_empty(), "name the field `cause`: {found:#?}");
    Ok(())
}

/// Every Rust file below `folder`, except for this one.
fn sources(folder: &Path, look: &mut impl FnMut(&Path, &str)) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, look)?;
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests/architecture.rs") {
            look(&path, &fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

//! Two pages of the same objects, and in what they differ.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use taffrail_parts::KubeStateMetrics;
use taffrail_pods::{AllowList, PodSeries, PodStore, PodsConfig};
use taffrail_record::{Ask as _, Gathered};

/// What they tell of a time that no object says.
pub(crate) const YEAR_1: f64 = -62_135_596_800.0;

type Series = BTreeMap<String, f64>;

/// What both tell.
pub(crate) struct Page {
    pub(crate) there: Series,
    here: Series,
}

/// Series with their values that one tells and the other does not.
#[derive(Debug, PartialEq)]
pub(crate) struct Differences {
    pub(crate) only_there: Vec<String>,
    pub(crate) only_here: Vec<String>,
}

/// What is told here.
pub(crate) struct Told {
    series: Series,
    /// `name type`, but for what only this room has.
    pub(crate) families: BTreeSet<String>,
}

/// In what the pages of these objects differ, when these labels and annotations are allowed.
pub(crate) fn compare(objects: &[Value], labels: &[&str], annotations: &[&str]) -> Differences {
    Page::of(objects, labels, annotations).differences()
}

impl Page {
    pub(crate) fn of(objects: &[Value], labels: &[&str], annotations: &[&str]) -> Self {
        let text: String = objects.iter().map(Value::to_string).collect();
        let peer = KubeStateMetrics::get().unwrap().labels(labels).annotations(annotations);
        let there = parse(&peer.say(&text).unwrap());
        let here = told_with(objects, labels, annotations).series;
        assert!(!there.is_empty() && !here.is_empty());
        Page { there, here }
    }

    pub(crate) fn differences(&self) -> Differences {
        let missing = |from: &Series, other: &Series| {
            let told = |(series, value): &(&String, &f64)| other.get(*series) != Some(*value);
            from.iter().filter(told).map(|(series, value)| format!("{series} {value}")).collect()
        };
        let there = self.there.iter().filter(|(_, value)| **value != YEAR_1);
        let there = there.map(|(series, value)| (series.clone(), *value)).collect();
        Differences { only_there: missing(&there, &self.here), only_here: missing(&self.here, &self.there) }
    }
}

/// `name type` of each family on a page.
pub(crate) fn families_of(page: &str) -> BTreeSet<String> {
    page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(str::to_owned).collect()
}

fn parse(page: &str) -> Series {
    let lines = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
        .collect()
}

pub(crate) fn told(objects: &[Value]) -> Told {
    told_with(objects, &[], &[])
}

fn told_with(objects: &[Value], labels: &[&str], annotations: &[&str]) -> Told {
    let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    let config = PodsConfig {
        labels: owned(labels),
        annotations: owned(annotations),
        tolerations: true,
        node_selectors: true,
        ..PodsConfig::default()
    };
    let store = Arc::new(PodStore::new(config.store_options(&AllowList::default())));
    let series = PodSeries::new(&store, &config, None);
    for object in objects {
        let json = object.to_string();
        if object["kind"] == "Node" {
            series.apply_node(json.as_bytes()).unwrap();
        } else {
            store.apply_json(json.as_bytes()).unwrap();
        }
    }
    store.mark_fresh();
    let mut gathered = Gathered::default();
    series.ask(&mut gathered).unwrap();
    let theirs = |name: &str| !name.starts_with("taffrail_");
    let samples = gathered.samples().iter().filter(|sample| theirs(&sample.family));
    let mut all = Series::new();
    for sample in samples {
        let name = format!("{}{{{}}}", sample.family, sample.labels);
        assert!(all.insert(name.clone(), sample.value).is_none(), "{name} twice");
    }
    let families = series.families().iter().filter(|family| theirs(family.name));
    let families = families.map(|family| format!("{} {}", family.name, family.kind.name())).collect();
    Told { series: all, families }
}

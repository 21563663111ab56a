//! Two scrapes of one machine, series by series.
//!
//! Figures move while they are read, so ours are read before and after the peer's: what lies between is the same. Every
//! difference that is left has a reason, from [`super::motion`], [`super::filters`] or [`super::reasons`], or it is
//! unexplained. Two scrapes of which nothing is the same are not explained, whatever they differ by.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;
use taffrail_cgroup::Layout;
use taffrail_node::NodeMetricsConfig;
use taffrail_record::Series;
use taffrail_text::{Parsed, split};

use super::filters::Filters;
use super::motion::{Apart, Figure, Verdict, verdict};
use super::reasons::{self, Case};
use crate::cli::console::plain;

/// How two scrapes differ in one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The peer alone has these series.
    OnlyTheirs,
    /// We alone have them.
    OnlyOurs,
    /// Both have them, ours with more labels.
    Labels,
    /// The type is another.
    Type,
    /// The value is another.
    Value,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::OnlyTheirs => "only theirs",
            Kind::OnlyOurs => "only ours",
            Kind::Labels => "more labels here",
            Kind::Type => "type",
            Kind::Value => "value",
        }
    }
}

/// One difference of one family.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The family.
    pub family: String,
    /// What differs.
    pub kind: Kind,
    /// In how many series.
    pub series: usize,
    /// One of them, with both values where both have one.
    pub example: String,
    /// Why; nothing when nobody knows.
    pub reason: Option<&'static str>,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Series that both have with the same type and value, but for those in which each tells of itself.
    pub same: usize,
    /// The others, by family.
    pub differences: Vec<Difference>,
}

/// What is read on both sides.
#[derive(Debug, Clone, Copy)]
pub struct Readings<'r> {
    /// Ours, before the peer's.
    pub before: &'r [Parsed],
    /// Ours, after the peer's.
    pub after: &'r [Parsed],
    /// The peer's.
    pub theirs: &'r [Parsed],
    /// When they were read.
    pub apart: Apart,
    /// What ours are filtered by.
    pub node: &'r NodeMetricsConfig,
    /// The cgroups of this machine; nothing when it has none.
    pub layout: Option<Layout>,
    /// What the clock showed when this machine started, as far as its oldest files tell; seconds since the epoch.
    pub started: Option<f64>,
}

/// Seconds by which the times of a machine's start differ although its clock was left alone.
const CLOCK: f64 = 2.0;

/// Compares the peer's with ours.
#[must_use]
pub fn compare(readings: &Readings<'_>) -> Report {
    let Readings { before, after, theirs, apart, node, layout, started } = *readings;
    let filters = Filters::new(node, after, theirs);
    let (mut ours, earlier, peers) = (series(after), series(before), series(theirs));
    let booted = ours.get("container_start_time_seconds{id=\"/\"}").map(|(_, booted, _)| *booted);
    let started = started.filter(|started| booted.is_some_and(|booted| started + CLOCK < booted));
    let known: BTreeSet<&str> = theirs.iter().map(|family| family.name.as_str()).collect();
    let mut found: BTreeMap<(String, Kind, Option<&'static str>), (usize, String)> = BTreeMap::new();
    let mut note = |case: Case<'_>, more: String| {
        let has_v1 = matches!(layout, Some(Layout::V1 | Layout::Hybrid));
        let case = Case { has_v1, end: apart.end(), started, ..case };
        let (family, reason) = (case.family.to_owned(), reasons::of(&case));
        let example = format!("{}{more}", case.series);
        found.entry((family, case.kind, reason)).or_insert((0, example)).0 += 1;
    };
    let cgroups: BTreeSet<&str> = peers.keys().filter_map(|name| cgroup(name)).collect();
    let listed: BTreeSet<String> = ours.keys().filter_map(|name| cgroup(name)).map(str::to_owned).collect();
    let before_it: BTreeSet<&str> = earlier.keys().filter_map(|name| cgroup(name)).collect();
    let containers = peers.iter().filter(|(name, _)| is_container(name));
    let of_containers: BTreeSet<&str> = containers.map(|(_, (family, ..))| family.name.as_str()).collect();
    let mut same = 0;
    for (name, (family, value, stamp)) in &peers {
        let case = |kind, series| Case { theirs: Some(*value), ..Case::new(&family.name, kind, series) };
        let exact = ours.remove_entry(name);
        let Some((our_name, (our_family, our_value, _))) =
            exact.or_else(|| with_more_labels(&mut ours, name))
        else {
            let unlisted = cgroup(name).is_some_and(|id| !listed.contains(id));
            let known = filters.reason(Kind::OnlyTheirs, &family.name, name);
            note(Case { unlisted, known, ..case(Kind::OnlyTheirs, name) }, format!(" {value}"));
            continue;
        };
        let figure = Figure {
            family: &family.name,
            series: name,
            counts: family.kind == taffrail_record::Kind::Counter,
            ours: [earlier.get(&our_name).map_or(our_value, |(_, value, _)| *value), our_value],
            theirs: *value,
            apart: apart.of(*stamp),
        };
        let verdict = verdict(&figure);
        if family.kind != our_family.kind {
            let kinds = format!(": {} here, {} there", our_family.kind.name(), family.kind.name());
            note(case(Kind::Type, name), kinds);
        } else if verdict != Verdict::Same {
            let is_new = cgroup(name).is_some_and(|id| !before_it.contains(id));
            let known = match verdict {
                Verdict::Moved(why) => Some(why),
                _ => is_new.then_some(reasons::BEGUN),
            };
            let values = format!(": {our_value} here, {value} there");
            note(Case { known, ours: Some(our_value), ..case(Kind::Value, name) }, values);
        } else if our_name == *name {
            same += usize::from(!reasons::is_own(&family.name));
        } else {
            note(case(Kind::Labels, &our_name), String::new());
        }
    }
    for (name, (family, value, _)) in &ours {
        let unknown_family = !known.contains(family.name.as_str());
        let unknown_cgroup = cgroup(name).is_some_and(|id| !cgroups.contains(id));
        let of_no_container =
            cgroup(name).is_some_and(|id| id != "/") && !of_containers.contains(family.name.as_str());
        let case = Case::new(&family.name, Kind::OnlyOurs, name);
        let known = filters.reason(Kind::OnlyOurs, &family.name, name);
        note(Case { unknown_family, unknown_cgroup, of_no_container, known, ..case }, format!(" {value}"));
    }
    let difference =
        |((family, kind, reason), (series, example))| Difference { family, kind, series, example, reason };
    Report { same, differences: found.into_iter().map(difference).collect() }
}

/// Whether a series tells of a container: those have names.
fn is_container(series: &str) -> bool {
    cgroup(series).is_some()
        && split(series).1.iter().any(|(label, value)| *label == "name" && !value.is_empty())
}

/// The cgroup of a series, as its label has it.
fn cgroup(series: &str) -> Option<&str> {
    let (name, labels) = split(series);
    let id = labels.into_iter().find(|(label, _)| *label == "id").map(|(_, id)| id);
    // On the node's page an id may be that of anything.
    id.filter(|_| name.starts_with("container_"))
}

/// A figure: its family, its value, and when it was read where that is said.
type One<'p> = (&'p Parsed, f64, Option<i64>);

type All<'p> = BTreeMap<String, One<'p>>;

fn series(families: &[Parsed]) -> All<'_> {
    let of_family = |family| {
        let Parsed { samples, times, .. }: &Parsed = family;
        let one = move |(at, (series, value)): (usize, &(Series, f64))| {
            (without_empty(series.as_str()), (family, *value, times.get(at).copied().flatten()))
        };
        samples.iter().enumerate().map(one)
    };
    families.iter().flat_map(of_family).collect()
}

/// To Prometheus a label without a value is no label.
fn without_empty(series: &str) -> String {
    if !series.contains("=\"\"") {
        return series.to_owned();
    }
    let (name, labels) = split(series);
    let valued = labels.into_iter().filter(|(_, value)| !value.is_empty());
    let kept: Vec<String> = valued.map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    if kept.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", kept.join(",")) }
}

/// Takes out the one series of ours that has all labels of `wanted`, and more.
fn with_more_labels<'p>(ours: &mut All<'p>, wanted: &str) -> Option<(String, One<'p>)> {
    let (family, labels) = split(wanted);
    let has_all = |name: &str| {
        let (other, all) = split(name);
        other == family && all.len() > labels.len() && labels.iter().all(|label| all.contains(label))
    };
    let mut fitting = ours
        .range(family.to_owned()..)
        .take_while(|(name, _)| name.starts_with(family))
        .filter(|(name, _)| has_all(name));
    let name = fitting.next().map(|(name, _)| name.clone())?;
    if fitting.next().is_some() {
        return None;
    }
    ours.remove_entry(&name)
}

impl Report {
    /// Whether there is something to compare, and every difference has a reason.
    #[must_use]
    pub fn is_explained(&self) -> bool {
        self.has_common() && self.differences.iter().all(|difference| difference.reason.is_some())
    }

    /// Whether any series at all agrees.
    pub(super) fn has_common(&self) -> bool {
        self.same > 0 || self.differences.iter().any(|difference| difference.kind == Kind::Labels)
    }

    pub(super) fn render(&self) -> String {
        let mut text = format!("{} series are the same.\n", self.same);
        let (explained, open): (Vec<_>, Vec<_>) = self.differences.iter().partition(|d| d.reason.is_some());
        if !open.is_empty() {
            text.push_str("\nUnexplained:\n");
        }
        for Difference { family, kind, series, example, .. } in open {
            let _ = writeln!(text, "  {family}  {} ({series} series)\n      {}", kind.name(), plain(example));
        }
        let mut reasons: BTreeMap<&str, Vec<&Difference>> = BTreeMap::new();
        for difference in explained {
            reasons.entry(difference.reason.unwrap_or_default()).or_default().push(difference);
        }
        if !reasons.is_empty() {
            text.push_str("\nExplained:\n");
        }
        for (reason, differences) in reasons {
            let _ = writeln!(text, "  {reason}");
            for Difference { family, kind, series, .. } in differences {
                let _ = writeln!(text, "      {family}  {} ({series})", kind.name());
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use taffrail_text::Times;

    use super::*;

    fn parsed(text: &str) -> Vec<Parsed> {
        taffrail_text::parse(text, Times::Ignored).expect("valid")
    }

    fn compare(before: &[Parsed], after: &[Parsed], theirs: &[Parsed]) -> Report {
        compare_on(Some(Layout::V2), [before, after, theirs])
    }

    fn compare_on(layout: Option<Layout>, [before, after, theirs]: [&[Parsed]; 3]) -> Report {
        let apart = Apart { ours: 1.0, lead: 0.0, began: 1.7e9 };
        let node = &NodeMetricsConfig::default();
        super::compare(&Readings { before, after, theirs, apart, node, layout, started: Some(1.6e9) })
    }

    #[test]
    fn a_peer_that_looks_at_no_containers_disk_is_explained_and_one_that_misses_one_is_not() {
        let container = |id: &str| {
            format!(
                "container_threads{{id=\"/k/{id}\",name=\"{id}\"}} 1\ncontainer_fs_usage_bytes{{device=\"/dev/a\",id=\"/k/{id}\",image=\"i\",name=\"{id}\"}} 5\n"
            )
        };
        let root = "container_threads{id=\"/\"} 9\n";
        let machine = format!("{root}container_fs_usage_bytes{{device=\"/dev/a\",id=\"/\"}} 9\n");
        let ours = parsed(&(machine.clone() + &container("b") + &container("c")));
        let threads = |id: &str| container(id).lines().next().unwrap_or_default().to_owned() + "\n";
        let kubelet = parsed(&(machine.clone() + &threads("b") + &threads("c")));
        let report = compare(&ours, &ours, &kubelet);
        assert_eq!((report.same, report.is_explained()), (4, true), "{}", report.render());
        let other = parsed(&(machine + &container("b") + &threads("c")));
        let report = compare(&ours, &ours, &other);
        assert_eq!((report.same, report.is_explained()), (5, false), "{}", report.render());
        let nothing_of_the_machine = parsed(&(root.to_owned() + &container("b") + &container("c")));
        assert!(!compare(&ours, &ours, &nothing_of_the_machine).is_explained());
    }

    #[test]
    fn an_id_on_the_nodes_page_is_no_cgroup() {
        let ours = parsed("node_load1 1\nnode_x_info{id=\"a\"} 1\n");
        let theirs = parsed("node_load1 1\nnode_x_info{id=\"b\"} 1\n");
        let report = compare(&ours, &ours, &theirs);
        assert_eq!((report.same, report.is_explained()), (1, false), "{}", report.render());
        assert!(report.differences.iter().all(|difference| difference.reason.is_none()));
    }

    #[test]
    fn a_stale_series_makes_no_other_older() {
        let page = |a: &str, b: &str, times: Times| {
            let text = format!(
                "# TYPE container_a_total counter\ncontainer_a_total{{id=\"/a\"}} {a}\ncontainer_a_total{{id=\"/b\"}} {b}\ncontainer_threads{{id=\"/\"}} 1\n"
            );
            taffrail_text::parse(&text, times).expect("valid")
        };
        let ours = page("90000", "90000", Times::Ignored);
        let explained = |a: &str, b: &str| compare(&ours, &ours, &page(a, b, Times::Kept)).is_explained();
        assert!(explained("80000 1699999980000", "90000 1700000000000"));
        assert!(!explained("80000 1699999980000", "80000 1700000000000"));
    }

    #[test]
    fn what_cadvisor_does_on_cgroup_v1_is_no_reason_on_v2() {
        let page = |faults: u32, stalls: u32| {
            parsed(&format!(
                "container_threads{{id=\"/\"}} 1\n# TYPE container_memory_failures_total counter\ncontainer_memory_failures_total{{id=\"/a\"}} {faults}\n# TYPE container_pressure_io_stalled_seconds_total counter\ncontainer_pressure_io_stalled_seconds_total{{id=\"/a\"}} {stalls}\n"
            ))
        };
        let (ours, theirs) = (page(5000, 50), page(10, 0));
        for (layout, reasons) in [(Layout::V1, 2), (Layout::Hybrid, 2), (Layout::V2, 0)] {
            let report = compare_on(Some(layout), [&ours, &ours, &theirs]);
            let explained = report.differences.iter().filter(|difference| difference.reason.is_some());
            assert_eq!((report.differences.len(), explained.count()), (2, reasons), "{}", report.render());
        }
    }

    #[test]
    fn a_container_is_made_before_it_is_started() {
        let page = |start: &str| {
            parsed(&format!(
                "container_threads{{id=\"/\"}} 1\ncontainer_start_time_seconds{{id=\"/a\",name=\"a\"}} {start}\n"
            ))
        };
        let ours = page("1700000000");
        assert!(compare(&ours, &ours, &page("1600000000")).is_explained());
    }

    #[test]
    fn a_start_is_later_at_a_peer_but_not_to_come() {
        let page = |start: &str| {
            parsed(&format!(
                "container_threads{{id=\"/\"}} 1\ncontainer_start_time_seconds{{id=\"/a\"}} {start}\n"
            ))
        };
        let explained = |theirs: &str| {
            let ours = page("1699990000");
            compare(&ours, &ours, &page(theirs)).is_explained()
        };
        assert!(explained("1699999990"));
        assert_eq!([explained("1699989990"), explained("1700000010")], [false; 2]);
    }

    #[test]
    fn a_peer_in_a_pid_namespace_sees_less_of_the_machine() {
        let page = |id: &str, processes: u32| {
            parsed(&format!(
                "container_threads{{id=\"/\"}} 1\ncontainer_processes{{id=\"{id}\"}} {processes}\n"
            ))
        };
        let (all, some) = (|id: &str| page(id, 84), |id: &str| page(id, 4));
        let explained =
            |layout, id: &str| compare_on(Some(layout), [&all(id), &all(id), &some(id)]).is_explained();
        assert!(explained(Layout::V1, "/") && !explained(Layout::V1, "/a") && !explained(Layout::V2, "/"));
    }

    #[test]
    fn a_file_from_before_the_clock_was_set_has_the_time_of_then() {
        // The oldest files are of 1.6e9.
        let explained = |booted: f64, theirs: f64| {
            let page = |start: f64| {
                parsed(&format!(
                    "container_start_time_seconds{{id=\"/\"}} {booted}\ncontainer_start_time_seconds{{id=\"/a\"}} {start}\n"
                ))
            };
            let ours = page(booted + 5.0);
            compare(&ours, &ours, &page(theirs)).is_explained()
        };
        assert!(explained(1.6e9 + 60.0, 1.6e9 + 13.0), "the clock was set by a minute");
        assert!(!explained(1.6e9 + 60.0, 1.6e9 - 9.0), "before the machine was started");
        assert!(!explained(1.6e9 + 1.0, 1.6e9), "the clock was left alone");
    }

    #[test]
    fn what_moves_while_it_is_read_is_the_same() {
        let before = parsed("# TYPE a_total counter\na_total{x=\"1\",y=\"2\"} 100\n");
        let after = parsed("# TYPE a_total counter\na_total{x=\"1\",y=\"2\"} 200\n");
        let report = |value: &str| {
            let theirs =
                format!("# TYPE a_total counter\na_total{{y=\"2\",x=\"1\"}} {value} 1700000000000\n");
            compare(&before, &after, &parsed(&theirs))
        };
        assert_eq!(report("150"), Report { same: 1, differences: vec![] });
        assert_eq!(report("95").differences[0].reason, Some(crate::metrics::motion::OLDER), "a little older");
        let other = report("300");
        assert_eq!((other.same, other.differences[0].kind, other.is_explained()), (0, Kind::Value, false));
        assert!(other.render().contains("200 here, 300 there"), "{}", other.render());
    }

    #[test]
    fn a_cgroup_of_one_side_is_explained_and_a_container_that_we_lack_is_not() {
        let both = parsed("container_threads{id=\"/a\"} 1\ncontainer_threads{id=\"/b\"} 1\n");
        let one = parsed("container_threads{id=\"/a\"} 1\n");
        let ours = compare(&both, &both, &one);
        assert_eq!((ours.same, ours.is_explained()), (1, true), "{}", ours.render());
        let theirs = compare(&one, &one, &both);
        assert_eq!((theirs.same, theirs.is_explained()), (1, true), "no container: {}", theirs.render());
        let container = parsed("container_threads{id=\"/a\"} 1\ncontainer_threads{id=\"/b\",name=\"b\"} 1\n");
        let theirs = compare(&one, &one, &container);
        assert_eq!((theirs.same, theirs.is_explained()), (1, false), "{}", theirs.render());
    }

    #[test]
    fn a_cgroup_that_begins_between_our_readings_may_have_been_read_at_its_begin() {
        let page = |id: &str, memory: u32| {
            parsed(&format!(
                "container_threads{{id=\"/\"}} 9\ncontainer_memory_rss{{id=\"{id}\"}} {memory}\n"
            ))
        };
        let of = |before: &[Parsed]| compare(before, &page("/a", 99_000_000), &page("/a", 0));
        let new = of(&page("/", 1));
        assert_eq!((new.differences[0].reason, new.is_explained()), (Some(reasons::BEGUN), true));
        assert!(!of(&page("/a", 99_000_000)).is_explained());
    }

    #[test]
    fn a_label_without_a_value_is_none() {
        let ours = parsed("a{x=\"1\",y=\"\"} 1\nb{y=\"\"} 1\nc{v=\"p,q=\\\"\\\"\",w=\"\"} 1\n");
        let theirs = parsed("a{x=\"1\"} 1\nb 1\nc{v=\"p,q=\\\"\\\"\"} 1\n");
        assert_eq!(compare(&ours, &ours, &theirs), Report { same: 3, differences: vec![] });
    }

    #[test]
    fn a_page_of_something_else_is_not_explained() {
        let ours = parsed("container_threads{id=\"/a\"} 1\nprocess_max_fds 9\n");
        for theirs in ["", "go_threads 7\nprocess_max_fds 9\n", "container_threads{id=\"/b\"} 1\n"] {
            let report = compare(&ours, &ours, &parsed(theirs));
            assert_eq!((report.same, report.is_explained()), (0, false), "{}", report.render());
        }
    }

    #[test]
    fn limits_starts_and_memory_that_are_wrong_are_not_explained() {
        for (series, ours, theirs) in [
            ("container_spec_memory_limit_bytes{id=\"/a\"}", "67108864", "67108800"),
            ("container_start_time_seconds{id=\"/a\"}", "1700000000", "1699999990"),
            ("container_memory_rss{id=\"/a\"}", "104857600", "209715200"),
            ("node_memory_MemTotal_bytes", "25e9", "24.9e9"),
            ("node_boot_time_seconds", "1700000000", "1700000002"),
        ] {
            let page = |value: &str| parsed(&format!("node_load1 1\n{series} {value}\n"));
            let report = compare(&page(ours), &page(ours), &page(theirs));
            assert_eq!((report.same, report.is_explained()), (1, false), "{}", report.render());
            assert!(compare(&page(ours), &page(ours), &page(ours)).is_explained());
        }
    }

    #[test]
    fn a_name_does_nothing_to_a_terminal() {
        let theirs = parsed("a{x=\"\u{1b}]0;t\u{7}\u{1b}[31m\"} 1\n");
        let shown = compare(&[], &[], &theirs).render();
        assert!(shown.contains(r#"a{x="\u{1b}]0;t\u{7}\u{1b}[31m"}"#), "{shown}");
    }

    #[test]
    fn what_one_side_alone_has_or_types_otherwise_is_told_once_for_a_family() {
        let ours = parsed("# TYPE a gauge\na 1\n# TYPE b gauge\nb{n=\"1\"} 1\nb{n=\"2\"} 1\n");
        let theirs = parsed("# TYPE a counter\na 1\n# TYPE go_threads gauge\ngo_threads 7\n");
        let report = compare(&ours, &ours, &theirs);
        let told: Vec<_> = report.differences.iter().map(|d| (d.family.as_str(), d.kind, d.series)).collect();
        assert_eq!(
            told,
            [("a", Kind::Type, 1), ("b", Kind::OnlyOurs, 2), ("go_threads", Kind::OnlyTheirs, 1)]
        );
        assert!(report.differences[2].reason.is_some(), "a Go program tells of itself");
    }

    #[test]
    fn a_series_with_more_labels_is_found_when_it_is_the_only_one() {
        let theirs = parsed("a{x=\"1\"} 1\na{x=\"2\"} 1\n");
        let ours = parsed(
            "a{more=\"m\",x=\"1\"} 1\na{more=\"m\",x=\"2\"} 1\na{more=\"n\",x=\"2\"} 1\nab{x=\"1\",y=\"\"} 1\n",
        );
        let told: Vec<_> = compare(&ours, &ours, &theirs)
            .differences
            .iter()
            .map(|d| (d.family.clone(), d.kind, d.series))
            .collect();
        let expected = [
            ("a", Kind::OnlyTheirs, 1),
            ("a", Kind::OnlyOurs, 2),
            ("a", Kind::Labels, 1),
            ("ab", Kind::OnlyOurs, 1),
        ];
        assert_eq!(told, expected.map(|(family, kind, series)| (family.to_owned(), kind, series)));
    }
}

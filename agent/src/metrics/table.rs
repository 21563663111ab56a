//! A scrape as tables.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use taffrail_text::{Parsed, split, unescape};

use super::What;
use crate::cli::console::{Table, plain, size};

/// Every series with its value.
pub(super) fn json(families: &[Parsed]) -> Value {
    let samples = families.iter().flat_map(|family| {
        let sample = move |(series, value): &(taffrail_record::Series, f64)| {
            json!({ "family": family.name, "type": family.kind.name(), "series": series.as_str(), "value": value })
        };
        family.samples.iter().map(sample)
    });
    Value::Array(samples.collect())
}

/// For a terminal with lines of this width; nothing in it acts upon the terminal.
pub(super) fn for_people(families: &[Parsed], what: What, width: usize) -> String {
    let table = match what {
        What::Container => containers(families),
        What::Node => everything(families),
    };
    table.render_within(width)
}

/// One row for each series.
fn everything(families: &[Parsed]) -> Table {
    let mut table = Table::new(&["SERIES", ">VALUE"]);
    for family in families {
        for (series, value) in &family.samples {
            let bytes = family.name.contains("_bytes") && *value >= 0.0;
            let value = if bytes { size(*value as u64, true) } else { value.to_string() };
            table.row(vec![plain(series.as_str()), value]);
        }
    }
    table
}

const COLUMNS: [(&str, &str); 10] = [
    (">CPU", "container_cpu_usage_seconds_total"),
    (">THROTTLED", "container_cpu_cfs_throttled_seconds_total"),
    (">MEMORY", "container_memory_working_set_bytes"),
    (">LIMIT", "container_spec_memory_limit_bytes"),
    (">OOM", "container_oom_events_total"),
    (">TASKS", "container_threads"),
    (">READ", "container_fs_reads_bytes_total"),
    (">WRITTEN", "container_fs_writes_bytes_total"),
    (">RECEIVED", "container_network_receive_bytes_total"),
    (">SENT", "container_network_transmit_bytes_total"),
];

/// One row for each cgroup, with what people look for first.
fn containers(families: &[Parsed]) -> Table {
    let mut rows: BTreeMap<String, (&str, [Option<f64>; COLUMNS.len()])> = BTreeMap::new();
    for family in families {
        let Some(column) = COLUMNS.iter().position(|(_, name)| *name == family.name) else { continue };
        for (series, value) in &family.samples {
            let Some(id) = label(series.as_str(), "id") else { continue };
            let (_, values) = rows.entry(id).or_insert((series.as_str(), [None; COLUMNS.len()]));
            *values[column].get_or_insert(0.0) += value;
        }
    }
    let mut head = vec!["CONTAINER"];
    head.extend(COLUMNS.map(|(title, _)| title));
    let mut table = Table::new(&head);
    for (id, (series, values)) in rows {
        let mut cells = vec![plain(&name(series, &id))];
        cells.extend(COLUMNS.iter().zip(values).map(|((_, family), value)| cell(family, value)));
        table.row(cells);
    }
    table
}

fn cell(family: &str, value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(0.0) if family.starts_with("container_spec") => "none".to_owned(),
        Some(value) if family.contains("bytes") => size(value as u64, true),
        Some(value) if family.contains("seconds") => format!("{value:.1} s"),
        Some(value) => value.to_string(),
    }
}

/// What a person calls it.
fn name(series: &str, id: &str) -> String {
    let said = |key| label(series, key).filter(|value| !value.is_empty());
    match (said("namespace"), said("pod"), said("container"), said("name")) {
        (Some(namespace), Some(pod), Some(container), _) => format!("{namespace}/{pod}/{container}"),
        (Some(namespace), Some(pod), None, Some(_)) => format!("{namespace}/{pod} (sandbox)"),
        (Some(namespace), Some(pod), None, None) => format!("{namespace}/{pod}"),
        (_, _, _, Some(name)) if name.len() < 64 => name,
        (_, _, _, Some(name)) => name.chars().take(12).collect(),
        _ => id.to_owned(),
    }
}

/// The value of a label.
fn label(series: &str, key: &str) -> Option<String> {
    split(series).1.into_iter().find(|(label, _)| *label == key).map(|(_, value)| unescape(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_called_by_the_best_name_it_has() {
        let series = |labels: &str| format!("x{{{labels}}}");
        for (labels, expected) in [
            ("container=\"web\",id=\"/k/x\",name=\"aa\",namespace=\"shop\",pod=\"web-0\"", "shop/web-0/web"),
            (
                "container=\"\",id=\"/k/x\",name=\"aa\",namespace=\"shop\",pod=\"web-0\"",
                "shop/web-0 (sandbox)",
            ),
            ("container=\"\",id=\"/k/x\",name=\"\",namespace=\"shop\",pod=\"web-0\"", "shop/web-0"),
            ("id=\"/docker/x\",image=\"nginx\",name=\"some_name\"", "some_name"),
            ("id=\"/\",image=\"\",name=\"\"", "/"),
            ("id=\"/qu\\\"o,name=\\\"x\\\"\"", "/qu\"o,name=\"x\""),
        ] {
            let series = series(labels);
            assert_eq!(name(&series, &label(&series, "id").expect("an id")), expected);
        }
    }

    #[test]
    fn a_scrape_on_a_terminal_has_no_word_for_it_and_fits() {
        let odd = format!("/{}\u{1b}]0;title\u{7}", "long".repeat(60));
        let text = format!(
            "container_threads{{id=\"{odd}\"}} 1\ncontainer_cpu_usage_seconds_total{{id=\"{odd}\"}} 1\n"
        );
        let families = taffrail_text::parse(&text, taffrail_text::Times::Ignored).expect("valid");
        for what in [What::Container, What::Node] {
            let shown = for_people(&families, what, 100);
            assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
            assert!(shown.lines().all(|line| line.chars().count() <= 100), "{shown}");
        }
    }
}

//! Does the far side answer?

use taffrail_elasticsearch::{Product, Remark};

use super::Finding;
use crate::config::{Config, Output};
use crate::events::go_to_output;
use crate::output::dead_letters;

/// The search engine that events go to.
pub(super) fn search_engine(config: &Config) -> Vec<Finding> {
    const SUBJECT: &str = "elasticsearch";
    let Some(engine) = &config.elasticsearch else { return Vec::new() };
    let report = match taffrail_elasticsearch::check(engine, &dead_letters(config)) {
        Ok(report) => report,
        Err(error) => return vec![Finding::bad(SUBJECT, error.to_string(), "correct that")],
    };
    let usable = report.is_usable();
    let nodes = report.nodes.into_iter().map(|node| match node.problem {
        None => {
            let product = node.product.map_or("a search engine", Product::name);
            Finding::good(SUBJECT, format!("{} is {product} {}", node.node, node.version))
        }
        Some(problem) if usable => {
            Finding::warning(SUBJECT, format!("{}: {}", node.node, problem.text), problem.remedy)
        }
        Some(problem) => Finding::bad(SUBJECT, format!("{}: {}", node.node, problem.text), problem.remedy),
    });
    let remark = |remark: Remark| match remark.remedy.is_empty() {
        true => Finding::note(SUBJECT, remark.text),
        false => Finding::warning(SUBJECT, remark.text, remark.remedy),
    };
    nodes.chain(report.remarks.into_iter().map(remark)).collect()
}

pub(super) fn output(config: &Config) -> Vec<Finding> {
    let Output::Kafka(kafka) = &config.output else { return Vec::new() };
    const SUBJECT: &str = "kafka";
    let events = go_to_output(config).then_some(kafka.events_topic.as_str());
    let audit = config.audit.enabled.then_some(kafka.audit_topic.as_str());
    let with: Vec<&str> = events.into_iter().chain(audit).collect();
    match taffrail_kafka::check(kafka, &with) {
        Err(error) => {
            vec![Finding::bad(
                SUBJECT,
                error.to_string(),
                "correct that; `--offline` leaves the question out",
            )]
        }
        Ok(topics) => topics
            .into_iter()
            .map(|topic| {
                let there = match topic.partitions {
                    // A template names no topic yet.
                    None if topic.topic.contains('{') => String::new(),
                    None => " is not there".to_owned(),
                    Some(1) => ", 1 partition".to_owned(),
                    Some(count) => format!(", {count} partitions"),
                };
                let detail = format!("topic {}{there}", topic.topic);
                match topic.remark.is_empty() {
                    true => Finding::good(SUBJECT, detail),
                    false => Finding::warning(SUBJECT, detail, topic.remark),
                }
            })
            .collect(),
    }
}

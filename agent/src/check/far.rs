//! Does the far side answer?

use super::Finding;
use crate::config::Output;

pub(super) fn output(output: &Output) -> Vec<Finding> {
    let Output::Kafka(kafka) = output else { return Vec::new() };
    const SUBJECT: &str = "kafka";
    match taffrail_kafka::check(kafka) {
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

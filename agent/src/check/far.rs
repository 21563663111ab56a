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
                let count = topic.partitions.map_or(String::new(), |count| format!(", {count} partitions"));
                let detail = format!("topic {}{count}", topic.topic);
                match topic.remark.is_empty() {
                    true => Finding::good(SUBJECT, detail),
                    false => Finding::warning(SUBJECT, detail, topic.remark),
                }
            })
            .collect(),
    }
}

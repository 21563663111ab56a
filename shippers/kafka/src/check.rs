//! Can this configuration work? Asked of the real brokers, without writing anything.

use std::time::Duration;

use rdkafka::bindings as rd;

use crate::client::{Client, Side, Topics};
use crate::codes::{Code, Kind};
use crate::properties::native;
use crate::read::{Metadata, Partition, topic_error};
use crate::{KafkaConfig, KafkaError, consumer_properties, producer_properties};

const PATIENCE: Duration = Duration::from_secs(10);

/// What the brokers say about a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicReport {
    /// The topic, or the template when it depends on the record.
    pub topic: String,
    /// How many partitions it has; None when it does not exist or cannot be asked about.
    pub partitions: Option<usize>,
    /// What is worth knowing; empty when all is well.
    pub remark: String,
}

/// Checks the configuration and asks the brokers about its topics; `with` are those of them that not everybody uses.
///
/// # Errors
/// [`KafkaError`] when the configuration cannot be right, the brokers cannot be used, or a topic may not be used. A
/// topic that does not exist yet is a remark, since brokers may be allowed to create it.
pub fn check(config: &KafkaConfig, with: &[&str]) -> Result<Vec<TopicReport>, KafkaError> {
    native(&producer_properties(config)?)?;
    let heard = rd::RD_KAFKA_EVENT_ERROR | rd::RD_KAFKA_EVENT_LOG;
    let client = Client::new(Side::Consumer, &consumer_properties(config)?, heard)?;
    let brokers = Metadata::of(&client, None, PATIENCE)?.brokers();
    let mut topics = Topics::default();
    let mut reports = vec![match config.topic.constant() {
        Some(topic) => report(&client, &mut topics, topic, brokers)?,
        None => TopicReport {
            topic: config.topic.as_str().to_owned(),
            partitions: None,
            remark: "depends on the record; checked when it is first used".to_owned(),
        },
    }];
    for topic in config.ledger_topic.as_deref().into_iter().chain(with.iter().copied()) {
        reports.push(report(&client, &mut topics, topic, brokers)?);
    }
    Ok(reports)
}

fn report(
    client: &Client,
    topics: &mut Topics,
    topic: &str,
    brokers: i32,
) -> Result<TopicReport, KafkaError> {
    let handle = topics.get(client, topic).map_err(|code| topic_error(topic, code))?;
    let (partitions, remark) = match Metadata::of(client, Some(handle), PATIENCE)?.partitions() {
        Ok(partitions) => (Some(partitions.len()), remark(&partitions, brokers)),
        Err(code) => (None, missing(topic, code)?),
    };
    Ok(TopicReport { topic: topic.to_owned(), partitions, remark })
}

fn missing(topic: &str, code: Code) -> Result<String, KafkaError> {
    match Kind::of(code) {
        Kind::UnknownTopic => {
            Ok("does not exist; create it, or the brokers must have auto.create.topics.enable".to_owned())
        }
        _ => Err(topic_error(topic, code)),
    }
}

fn remark(partitions: &[Partition], brokers: i32) -> String {
    let leaderless = partitions.iter().filter(|partition| partition.leader < 0).count();
    let lagging = partitions.iter().filter(|partition| partition.in_sync < partition.replicas).count();
    if leaderless > 0 {
        format!("{} no leader: their records wait", counted(leaderless))
    } else if lagging > 0 {
        format!("{} replicas that are not in sync", counted(lagging))
    } else if brokers > 1 && partitions.iter().any(|partition| partition.replicas < 2) {
        "has a single replica: acknowledged records are lost with its broker's disk".to_owned()
    } else {
        String::new()
    }
}

fn counted(partitions: usize) -> String {
    if partitions == 1 { "1 partition has".to_owned() } else { format!("{partitions} partitions have") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(leader: i32, replicas: i32, in_sync: i32) -> Partition {
        Partition { id: 0, leader, replicas, in_sync }
    }

    #[test]
    fn the_worst_thing_about_a_topic_is_remarked() {
        for (partitions, brokers, expected) in [
            (vec![partition(1, 3, 3)], 3, ""),
            (vec![partition(1, 1, 1)], 1, ""),
            (vec![partition(1, 1, 1)], 3, "single replica"),
            (vec![partition(1, 3, 2), partition(1, 3, 3)], 3, "1 partition has replicas"),
            (vec![partition(-1, 3, 2)], 3, "no leader"),
        ] {
            let remark = remark(&partitions, brokers);
            assert!(remark.contains(expected) && remark.is_empty() == expected.is_empty(), "{remark}");
        }
    }
}

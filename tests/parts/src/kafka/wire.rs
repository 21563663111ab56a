//! The few requests of the Kafka protocol by which topics are made and looked at.
//!
//! Spoken by hand, so that a test which makes a topic does not wait a second for a JVM, and so that
//! what is asked is independent of the client library under test. One connection per request.
//!
//! Versions are the oldest that Kafka 4 still answers: they have no tagged fields. Field by field:
//! <https://kafka.apache.org/41/protocol.html>.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

const PATIENCE: Duration = Duration::from_secs(60);
const NONE: i16 = 0;

/// A kind of request and its version.
#[derive(Clone, Copy, Debug)]
struct Kind {
    key: i16,
    version: i16,
    name: &'static str,
}

const LIST_OFFSETS: Kind = Kind { key: 2, version: 1, name: "ListOffsets" };
const METADATA: Kind = Kind { key: 3, version: 1, name: "Metadata" };
const CREATE_TOPICS: Kind = Kind { key: 19, version: 4, name: "CreateTopics" };
const DELETE_TOPICS: Kind = Kind { key: 20, version: 1, name: "DeleteTopics" };
const DELETE_RECORDS: Kind = Kind { key: 21, version: 0, name: "DeleteRecords" };
const CREATE_ACLS: Kind = Kind { key: 30, version: 1, name: "CreateAcls" };

/// A topic to be created.
#[derive(Clone, Debug)]
pub struct Topic<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many partitions it has.
    pub partitions: u16,
    /// Its own settings, such as `max.message.bytes`.
    pub settings: &'a [(&'a str, &'a str)],
}

/// Creates a topic. The brokers know of it a little later.
pub(crate) fn create_topic(broker: SocketAddr, topic: &Topic<'_>) -> Result<()> {
    let body = Body::default()
        .array(1)
        .string(topic.name)
        .i32(topic.partitions.into())
        .i16(1)
        .array(0)
        .each(topic.settings, |body, (name, value)| body.string(name).string(value))
        .i32(milliseconds(PATIENCE))
        .bool(false);
    let mut answer = ask(broker, CREATE_TOPICS, &body)?;
    answer.i32()?; // throttled
    answer.array(|answer| {
        let (name, error, message) = (answer.string()?, answer.i16()?, answer.string()?);
        ensure!(error == NONE, "cannot create topic {name}: error {error}, {message}");
        Ok(())
    })?;
    Ok(())
}

/// Deletes a topic.
pub(crate) fn delete_topic(broker: SocketAddr, name: &str) -> Result<()> {
    let body = Body::default().array(1).string(name).i32(milliseconds(PATIENCE));
    let mut answer = ask(broker, DELETE_TOPICS, &body)?;
    answer.i32()?; // throttled
    answer.array(|answer| {
        let (name, error) = (answer.string()?, answer.i16()?);
        ensure!(error == NONE, "cannot delete topic {name}: error {error}");
        Ok(())
    })?;
    Ok(())
}

/// Deletes the records of a partition that lie before `offset`, as retention does.
pub(crate) fn delete_records(broker: SocketAddr, topic: &str, partition: i32, offset: i64) -> Result<()> {
    let body = Body::default().array(1).string(topic).array(1).i32(partition).i64(offset);
    let mut answer = ask(broker, DELETE_RECORDS, &body.i32(milliseconds(PATIENCE)))?;
    answer.i32()?; // throttled
    answer.array(|answer| {
        let name = answer.string()?;
        answer.array(|partition| {
            let (index, _, error) = (partition.i32()?, partition.i64()?, partition.i16()?);
            ensure!(error == NONE, "cannot delete records of {name}/{index}: error {error}");
            Ok(())
        })
    })?;
    Ok(())
}

/// Allows a user every operation on the topics with this prefix, and idempotent writing.
pub(crate) fn allow(broker: SocketAddr, user: &str, prefix: &str) -> Result<()> {
    const TOPIC: i8 = 2;
    const CLUSTER: i8 = 4;
    const LITERAL: i8 = 3;
    const PREFIXED: i8 = 4;
    const ALL: i8 = 2;
    const IDEMPOTENT_WRITE: i8 = 12;
    const ALLOW: i8 = 3;
    let grants = [(TOPIC, prefix, PREFIXED, ALL), (CLUSTER, "kafka-cluster", LITERAL, IDEMPOTENT_WRITE)];
    let body = Body::default().each(&grants, |body, (kind, name, pattern, operation)| {
        let principal = format!("User:{user}");
        body.i8(*kind).string(name).i8(*pattern).string(&principal).string("*").i8(*operation).i8(ALLOW)
    });
    let mut answer = ask(broker, CREATE_ACLS, &body)?;
    answer.i32()?; // throttled
    answer.array(|answer| {
        let (error, message) = (answer.i16()?, answer.string()?);
        ensure!(error == NONE, "cannot allow {user} to use {prefix}: error {error}, {message}");
        Ok(())
    })?;
    Ok(())
}

/// The partitions of a topic that have a leader, in order; none when there is no such topic.
pub(crate) fn led_partitions(broker: SocketAddr, topic: &str) -> Result<Vec<i32>> {
    let mut answer = ask(broker, METADATA, &Body::default().array(1).string(topic))?;
    answer.array(|broker| {
        broker.i32()?; // node id
        broker.string()?; // host
        broker.i32()?; // port
        broker.string() // rack
    })?;
    answer.i32()?; // controller
    let topics = answer.array(|topic| {
        topic.i16()?; // an error shows as missing partitions
        topic.string()?;
        topic.i8()?; // internal
        topic.array(led_partition)
    })?;
    let mut partitions: Vec<i32> = topics.into_iter().flatten().flatten().collect();
    partitions.sort_unstable();
    Ok(partitions)
}

fn led_partition(partition: &mut Answer) -> Result<Option<i32>> {
    let (error, index, leader) = (partition.i16()?, partition.i32()?, partition.i32()?);
    partition.array(Answer::i32)?; // replicas
    partition.array(Answer::i32)?; // in sync
    Ok((error == NONE && leader >= 0).then_some(index))
}

/// The offset after the last record of each partition.
pub(crate) fn end_offsets(broker: SocketAddr, topic: &str, partitions: &[i32]) -> Result<Vec<i64>> {
    const CONSUMER: i32 = -1;
    const LATEST: i64 = -1;
    let body = Body::default().i32(CONSUMER).array(1).string(topic);
    let body = body.each(partitions, |body, partition| body.i32(*partition).i64(LATEST));
    let mut answer = ask(broker, LIST_OFFSETS, &body)?;
    let topics = answer.array(|answer| {
        let name = answer.string()?;
        answer.array(|partition| {
            let (index, error) = (partition.i32()?, partition.i16()?);
            partition.i64()?; // timestamp
            ensure!(error == NONE, "cannot list the offsets of {name}/{index}: error {error}");
            Ok((index, partition.i64()?))
        })
    })?;
    let mut ends: Vec<(i32, i64)> = topics.into_iter().flatten().collect();
    ends.sort_unstable();
    Ok(ends.into_iter().map(|(_, end)| end).collect())
}

/// True when a broker answers.
pub(crate) fn answers(broker: SocketAddr) -> bool {
    ask(broker, METADATA, &Body::default().array(0)).is_ok()
}

fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

/// Sends one request and reads its answer.
fn ask(broker: SocketAddr, kind: Kind, body: &Body) -> Result<Answer> {
    const CORRELATION: i32 = 7;
    let context = || format!("{} to {broker}", kind.name);
    let request = Body::default().i16(kind.key).i16(kind.version).i32(CORRELATION).string("taffrail-parts");
    let request = request.bytes(&body.0);
    let mut stream = TcpStream::connect_timeout(&broker, PATIENCE).with_context(context)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = i32::try_from(request.0.len()).with_context(context)?;
    stream.write_all(&[&length.to_be_bytes(), &request.0[..]].concat()).with_context(context)?;

    let mut length = [0; 4];
    stream.read_exact(&mut length).with_context(context)?;
    let mut text = vec![0; usize::try_from(i32::from_be_bytes(length)).with_context(context)?];
    stream.read_exact(&mut text).with_context(context)?;
    let mut answer = Answer { text, at: 0 };
    let correlation = answer.i32()?;
    if correlation != CORRELATION {
        bail!("{}: an answer to another request, {correlation}", context());
    }
    Ok(answer)
}

/// A request being written: numbers big-endian, strings and arrays after their lengths.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn bool(self, value: bool) -> Self {
        self.bytes(&[u8::from(value)])
    }

    fn i8(self, value: i8) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    fn i16(self, value: i16) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    fn i32(self, value: i32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    fn i64(self, value: i64) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    fn string(self, value: &str) -> Self {
        // Names in tests are short; a longer one would be refused by the broker all the same.
        self.i16(i16::try_from(value.len()).unwrap_or(i16::MAX)).bytes(value.as_bytes())
    }

    fn array(self, length: usize) -> Self {
        self.i32(i32::try_from(length).unwrap_or(i32::MAX))
    }

    fn each<T>(self, items: &[T], write: impl Fn(Self, &T) -> Self) -> Self {
        items.iter().fold(self.array(items.len()), write)
    }
}

/// An answer being read.
struct Answer {
    text: Vec<u8>,
    at: usize,
}

impl Answer {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.text.get(self.at..self.at + N).context("the broker's answer is cut short")?;
        self.at += N;
        Ok(taken.try_into()?)
    }

    fn i8(&mut self) -> Result<i8> {
        Ok(i8::from_be_bytes(self.take()?))
    }

    fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.take()?))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take()?))
    }

    fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.take()?))
    }

    /// A string, empty when null.
    fn string(&mut self) -> Result<String> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        let text = self.text.get(self.at..self.at + length).context("the broker's answer is cut short")?;
        self.at += length;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    fn array<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let length = self.i32()?.max(0);
        (0..length).map(|_| item(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads_back_what_a_request_writes() -> Result<()> {
        let body = Body::default().i8(-1).i16(2).string("topic").i64(i64::MIN);
        let body = body.each(&[3, 4], |body, number| body.i32(*number));
        let mut answer = Answer { text: body.0, at: 0 };
        assert_eq!((answer.i8()?, answer.i16()?, answer.string()?.as_str()), (-1, 2, "topic"));
        assert_eq!((answer.i64()?, answer.array(Answer::i32)?), (i64::MIN, vec![3, 4]));
        assert!(answer.i8().unwrap_err().to_string().contains("cut short"));
        Ok(())
    }
}

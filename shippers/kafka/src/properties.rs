//! From our configuration to librdkafka's properties, the same for the shipper, the reader, `check` and benches.

use std::fs;
use std::path::Path;

use rdkafka::ClientConfig;
use rdkafka::config::NativeClientConfig;
use rdkafka::error::KafkaError as Native;

use crate::{KafkaConfig, KafkaError, Properties, Sasl, Tls};

/// Largest number of messages in one request's part for a partition; bytes (`batch.size`) bound it first.
const BATCH_MESSAGES: &str = "100000";

/// Bytes of messages that make a request worth sending before it has lingered. A partition has one request under way
/// at a time, so the agent's budget has to hold one of these and more for each, headers and bookkeeping included: with
/// librdkafka's 1 MB, raw records filled the budget before any request was full, and waited out every linger.
const BATCH_BYTES: &str = "524288";

/// The partitioner of Java clients: other producers with the same key meet ours, and it is the cheapest.
pub(crate) const PARTITIONER: &str = "murmur2_random";

/// Properties the user cannot have, because what they change is what taffrail promises.
pub(crate) const REFUSED: [(&str, &str); 14] = [
    ("bootstrap.servers", "set kafka.brokers instead"),
    ("metadata.broker.list", "set kafka.brokers instead"),
    ("acks", "a record counts as delivered only when all in-sync replicas have it"),
    ("request.required.acks", "a record counts as delivered only when all in-sync replicas have it"),
    ("message.timeout.ms", "records never expire inside the producer"),
    ("delivery.timeout.ms", "records never expire inside the producer"),
    ("message.send.max.retries", "records are retried for ever"),
    ("retries", "records are retried for ever"),
    ("queue.buffering.max.messages", "the agent's byte budget bounds what is in flight"),
    ("queue.buffering.max.kbytes", "the agent's byte budget bounds what is in flight"),
    ("delivery.report.only.error", "each delivery must be reported"),
    ("transactional.id", "there are no transactions here"),
    ("enabled_events", "the shipper sets it"),
    ("log.queue", "the shipper sets it"),
];

/// The producer's properties: nothing expires, everything is acknowledged by all replicas, order holds.
///
/// # Errors
/// [`KafkaError`] when the configuration contradicts itself or a secret's file cannot be read.
pub fn producer_properties(config: &KafkaConfig) -> Result<ClientConfig, KafkaError> {
    let mut client = common(config)?;
    client
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "0")
        .set("queue.buffering.max.messages", "0")
        .set("queue.buffering.max.kbytes", "2147483647")
        .set("compression.codec", config.compression.as_str())
        .set("linger.ms", config.linger_ms.to_string())
        .set("batch.num.messages", BATCH_MESSAGES)
        .set("batch.size", BATCH_BYTES)
        .set("partitioner", PARTITIONER)
        // Said early and retried for ever, rather than kept back for half a minute.
        .set("topic.metadata.propagation.max.ms", "10000")
        .set("reconnect.backoff.max.ms", "3000");
    pass_on(config, &mut client)?;
    if client.get("enable.idempotence") == Some("false") && config.in_flight().is_none() {
        // Without idempotence only one request at a time keeps the order when one of them is retried.
        client.set("max.in.flight.requests.per.connection", "1");
    }
    Ok(client)
}

/// A reader's properties: no group, no commits, every message as it stands.
///
/// # Errors
/// As [`producer_properties`].
pub fn consumer_properties(config: &KafkaConfig) -> Result<ClientConfig, KafkaError> {
    let mut client = common(config)?;
    client
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        // Retention may remove what was the beginning a moment ago.
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_uncommitted")
        .set("queued.max.messages.kbytes", "16384")
        // Whoever reads a topic to its end empties the queue faster than its default of a second suggests.
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.message.max.bytes", "4194304");
    for (name, value) in &config.properties.0 {
        if shared_with_readers(name) {
            client.set(name, value);
        }
    }
    Ok(client)
}

/// librdkafka's own form of the properties; unknown names and bad values end here.
pub(crate) fn native(client: &ClientConfig) -> Result<NativeClientConfig, KafkaError> {
    client.create_native_config().map_err(|error| match error {
        Native::ClientConfig(_, description, name, _) => {
            let problem = if Properties::is_secret(&name) {
                "value refused".to_owned()
            } else {
                description.trim_end().to_owned()
            };
            KafkaError::Property { name, problem }
        }
        other => KafkaError::Client(other.to_string()),
    })
}

impl KafkaConfig {
    fn in_flight(&self) -> Option<&String> {
        let names = ["max.in.flight.requests.per.connection", "max.in.flight"];
        names.iter().find_map(|name| self.properties.0.get(*name))
    }
}

/// Producer-only properties are noise in a reader, which would warn about each; connection properties are not.
fn shared_with_readers(name: &str) -> bool {
    [
        "security.",
        "ssl.",
        "sasl.",
        "socket.",
        "broker.",
        "client.",
        "debug",
        "enable.ssl",
        "reconnect.",
        "metadata.",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
}

fn common(config: &KafkaConfig) -> Result<ClientConfig, KafkaError> {
    if config.brokers.is_empty() {
        return Err(KafkaError::NoBrokers);
    }
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", config.brokers.join(","))
        .set("client.id", "taffrail")
        .set("socket.keepalive.enable", "true")
        .set("log.queue", "true");
    let protocol = match (&config.sasl, &config.tls) {
        (None, None) => "plaintext",
        (None, Some(_)) => "ssl",
        (Some(_), None) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    client.set("security.protocol", protocol);
    if let Some(sasl) = &config.sasl {
        set_sasl(&mut client, sasl)?;
    }
    if let Some(tls) = &config.tls {
        set_tls(&mut client, tls)?;
    }
    Ok(client)
}

fn pass_on(config: &KafkaConfig, client: &mut ClientConfig) -> Result<(), KafkaError> {
    for (name, value) in &config.properties.0 {
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| refused == name) {
            return Err(KafkaError::Property {
                name: name.clone(),
                problem: format!("cannot be set: {why}"),
            });
        }
        client.set(name, value);
    }
    Ok(())
}

fn set_sasl(client: &mut ClientConfig, sasl: &Sasl) -> Result<(), KafkaError> {
    client.set("sasl.mechanism", sasl.mechanism.as_deref().unwrap_or("SCRAM-SHA-512"));
    if !sasl.username.is_empty() {
        client.set("sasl.username", &sasl.username);
    }
    match (&sasl.password, &sasl.password_file) {
        (Some(_), Some(_)) => return Err(KafkaError::Password),
        (Some(password), None) => {
            client.set("sasl.password", password.expose());
        }
        (None, Some(path)) => {
            client.set("sasl.password", secret(path)?);
        }
        (None, None) => {}
    }
    Ok(())
}

fn set_tls(client: &mut ClientConfig, tls: &Tls) -> Result<(), KafkaError> {
    for (name, path) in [
        ("ssl.ca.location", &tls.ca_file),
        ("ssl.certificate.location", &tls.certificate_file),
        ("ssl.key.location", &tls.key_file),
    ] {
        if let Some(path) = path {
            client.set(name, path.to_string_lossy());
        }
    }
    if let Some(path) = &tls.key_password_file {
        client.set("ssl.key.password", secret(path)?);
    }
    let identification = if tls.verify_hostname { "https" } else { "none" };
    client.set("ssl.endpoint.identification.algorithm", identification);
    Ok(())
}

pub(crate) fn secret(path: &Path) -> Result<String, KafkaError> {
    let mut text =
        fs::read_to_string(path).map_err(|cause| KafkaError::SecretFile { path: path.to_owned(), cause })?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn config() -> KafkaConfig {
        KafkaConfig { brokers: vec!["127.0.0.1:1".into()], ..KafkaConfig::default() }
    }

    fn with(name: &str, value: &str) -> KafkaConfig {
        let mut config = config();
        config.properties.0.insert(name.into(), value.into());
        config
    }

    #[test]
    fn what_would_break_the_promise_is_refused_by_name() {
        for (name, _) in REFUSED {
            let error = producer_properties(&with(name, "1")).expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn unknown_properties_and_bad_values_are_named() {
        for (name, value) in [("no.such.property", "1"), ("batch.size", "many")] {
            let client = producer_properties(&with(name, value)).expect("passed on");
            let error = native(&client).map(|_| ()).expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn secrets_stay_out_of_errors() {
        let mut config = with("ssl.key.pem", "hunter2");
        config.tls = Some(Tls::default());
        let client = producer_properties(&config).expect("passed on");
        if let Err(error) = native(&client) {
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn every_default_is_one_that_librdkafka_takes() {
        native(&producer_properties(&config()).expect("valid")).expect("producer");
        native(&consumer_properties(&config()).expect("valid")).expect("consumer");
    }

    #[test]
    fn passwords_come_from_a_file_without_its_newline() {
        let path = std::env::temp_dir().join(format!("taffrail-secret-{}", std::process::id()));
        fs::File::create(&path).and_then(|mut file| file.write_all(b"hunter2\n")).expect("write");
        let sasl = Sasl { username: "u".into(), password_file: Some(path.clone()), ..Sasl::default() };
        let config = KafkaConfig { sasl: Some(sasl), tls: Some(Tls::default()), ..config() };
        let client = producer_properties(&config).expect("valid");
        assert_eq!(client.get("sasl.password"), Some("hunter2"));
        assert_eq!(client.get("security.protocol"), Some("sasl_ssl"));
        fs::remove_file(&path).expect("remove");
        assert!(producer_properties(&config).expect_err("no file").to_string().contains("taffrail-secret"));
    }

    #[test]
    fn without_idempotence_one_request_at_a_time_keeps_the_order() {
        let client = producer_properties(&with("enable.idempotence", "false")).expect("valid");
        assert_eq!(client.get("max.in.flight.requests.per.connection"), Some("1"));
    }
}

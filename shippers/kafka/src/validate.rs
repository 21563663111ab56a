//! What can be known to be wrong without the brokers: names, files, and what librdkafka makes of it all.
//!
//! Guarantee: nothing is sent and nothing is looked up. A client is made without brokers, so that certificates, keys
//! and properties are read here exactly as they will be, and is destroyed again.

use std::fs;
use std::path::Path;

use rdkafka::ClientConfig;

use crate::client::{Client, Side};
use crate::properties::{REFUSED, native, secret};
use crate::{KafkaConfig, KafkaError, Sasl, Tls, TopicTemplate, producer_properties};

/// A value of the section that cannot work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Its key within the section, such as `tls.ca_file`.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub problem: String,
}

fn invalid(key: impl Into<String>, problem: impl Into<String>) -> Invalid {
    Invalid { key: key.into(), problem: problem.into() }
}

/// Our keys by the property that each becomes.
const KEYS: [(&str, &str); 10] = [
    ("ssl.ca.location", "tls.ca_file"),
    ("ssl.certificate.location", "tls.certificate_file"),
    ("ssl.key.location", "tls.key_file"),
    ("ssl.key.password", "tls.key_password_file"),
    ("sasl.mechanism", "sasl.mechanism"),
    ("sasl.username", "sasl.username"),
    ("sasl.password", "sasl"),
    ("linger.ms", "linger_ms"),
    ("compression.codec", "compression"),
    ("bootstrap.servers", "brokers"),
];

/// Milliseconds; librdkafka's own bound.
const LONGEST_LINGER: u32 = 900_000;

/// The ways to log in that work here, the default first.
const MECHANISMS: [&str; 4] = ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER"];

impl KafkaConfig {
    /// Everything that is wrong with it as far as this machine can know. Reads the files it names.
    #[must_use]
    pub fn validate(&self) -> Vec<Invalid> {
        let mut found = brokers(&self.brokers);
        let ledger = self.ledger_topic.as_deref().map(TopicTemplate::fixed).and_then(Result::err);
        found.extend(ledger.map(|error| invalid("ledger_topic", error.to_string())));
        for (key, topic) in [("events_topic", &self.events_topic), ("audit_topic", &self.audit_topic)] {
            let error = TopicTemplate::fixed(topic).err();
            found.extend(error.map(|error| invalid(key, error.to_string())));
        }
        if self.retry_max_ms == 0 {
            found.push(invalid("retry_max_ms", "`0` would ask without a pause; write more, such as `30s`"));
        }
        if self.linger_ms > LONGEST_LINGER {
            found.push(invalid(
                "linger_ms",
                format!("`{}` is out of bounds; write at most `15m`", self.linger_ms),
            ));
        }
        found.extend(self.sasl.as_ref().and_then(|sasl| self.login(sasl)));
        found.extend(self.tls.iter().flat_map(|tls| self.encryption(tls)));
        found.extend(self.properties.0.iter().filter_map(|(name, value)| property(name, value)));
        if found.is_empty() {
            found.extend(self.whole().err().map(|error| self.blame(&error)));
        }
        found
    }

    fn property(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.properties.0.get(*name)).map(String::as_str)
    }

    fn login(&self, sasl: &Sasl) -> Option<Invalid> {
        if let Some(found) = password(sasl) {
            return Some(found);
        }
        let given = self.property(&["sasl.mechanism", "sasl.mechanisms"]).or(sasl.mechanism.as_deref());
        let mechanism = given.unwrap_or(MECHANISMS[0]);
        if !MECHANISMS.contains(&mechanism) {
            let same = MECHANISMS.iter().find(|known| known.eq_ignore_ascii_case(mechanism));
            let remedy = same
                .map_or_else(|| format!("write one of {}", listed(&MECHANISMS)), |k| format!("write `{k}`"));
            return Some(invalid("sasl.mechanism", format!("`{mechanism}` is not known; {remedy}")));
        }
        if mechanism == "OAUTHBEARER" {
            let source = self.property(&["enable.sasl.oauthbearer.unsecure.jwt"]) == Some("true");
            let problem = "`OAUTHBEARER` has nowhere to take tokens from; set `enable.sasl.oauthbearer.unsecure.jwt` and \
                           `sasl.oauthbearer.config` in `output.kafka.properties`, or write `SCRAM-SHA-512`";
            return (!source).then(|| invalid("sasl.mechanism", problem));
        }
        if sasl.username.is_empty() && self.property(&["sasl.username"]).is_none() {
            return Some(invalid("sasl.username", format!("`{mechanism}` needs a user name; set it")));
        }
        let has_password = sasl.password.is_some() || sasl.password_file.is_some();
        (!has_password && self.property(&["sasl.password"]).is_none())
            .then(|| invalid("sasl", format!("`{mechanism}` needs a password; set `password_file`")))
    }

    fn encryption(&self, tls: &Tls) -> Vec<Invalid> {
        let mut found = Vec::new();
        // librdkafka takes a directory of authorities as well.
        let ca = tls.ca_file.as_deref().filter(|path| !path.is_dir());
        for (key, path, label) in [
            ("tls.ca_file", ca, "CERTIFICATE"),
            ("tls.certificate_file", tls.certificate_file.as_deref(), "CERTIFICATE"),
            ("tls.key_file", tls.key_file.as_deref(), "PRIVATE KEY"),
        ] {
            found.extend(path.and_then(|path| pem(path, label).err()).map(|problem| invalid(key, problem)));
        }
        if let Some(error) = tls.key_password_file.as_deref().and_then(|path| secret(path).err()) {
            found.push(invalid("tls.key_password_file", unreadable(&error)));
        }
        let key_elsewhere =
            self.property(&["ssl.key.location", "ssl.key.pem", "ssl.keystore.location"]).is_some();
        let certificate_elsewhere =
            self.property(&["ssl.certificate.location", "ssl.certificate.pem"]).is_some();
        if tls.certificate_file.is_some() && tls.key_file.is_none() && !key_elsewhere {
            found.push(invalid("tls.certificate_file", "a certificate needs its key; set `key_file` too"));
        }
        if tls.key_file.is_some() && tls.certificate_file.is_none() && !certificate_elsewhere {
            found.push(invalid("tls.key_file", "a key needs its certificate; set `certificate_file` too"));
        }
        let locked = tls.key_file.as_deref().is_some_and(is_encrypted);
        let opened = tls.key_password_file.is_some() || self.property(&["ssl.key.password"]).is_some();
        if locked && !opened {
            found.push(invalid("tls.key_file", "the key is encrypted; set `key_password_file` too"));
        }
        found
    }

    /// Makes what the shipper makes, without brokers.
    fn whole(&self) -> Result<(), KafkaError> {
        let mut properties = producer_properties(self)?;
        native(&properties)?;
        properties.remove("bootstrap.servers");
        Client::new(Side::Producer { headers: false }, &properties, 0).map(drop)
    }

    /// Whose fault an error of the whole is.
    fn blame(&self, error: &KafkaError) -> Invalid {
        let (text, name) = match error {
            KafkaError::Property { name, problem } => (problem.clone(), Some(name.as_str())),
            KafkaError::Client(text) => (text.clone(), None),
            other => (other.to_string(), None),
        };
        let is_meant = |property: &str| name.map_or_else(|| text.contains(property), |name| name == property);
        let passed_on = self.properties.0.keys().find(|property| is_meant(property));
        let own = || KEYS.iter().find(|(property, _)| is_meant(property)).map(|(_, key)| (*key).to_owned());
        let of_key = || text.contains("rivate key").then(|| "tls.key_file".to_owned());
        let key = passed_on.map(|property| format!("properties.{property}")).or_else(own).or_else(of_key);
        invalid(key.unwrap_or_default(), text)
    }
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// What is wrong with how the password is given.
fn password(sasl: &Sasl) -> Option<Invalid> {
    let path = sasl.password_file.as_deref()?;
    if sasl.password.is_some() {
        return Some(invalid("sasl", "set one of `password` and `password_file`"));
    }
    let problem = match secret(path) {
        Err(error) => unreadable(&error),
        Ok(text) if text.is_empty() => format!("{} is empty; write the password into it", path.display()),
        Ok(_) => return None,
    };
    Some(invalid("sasl.password_file", problem))
}

fn unreadable(error: &KafkaError) -> String {
    format!("{error}; name a file that the agent's user can read")
}

fn brokers(all: &[String]) -> Vec<Invalid> {
    if all.is_empty() {
        return vec![invalid("brokers", "it is empty; name one or more brokers as host:port")];
    }
    let bad = all.iter().enumerate().filter(|(_, text)| !text.split(',').all(is_broker));
    bad.map(|(index, text)| {
        invalid(
            format!("brokers[{index}]"),
            format!("`{text}` is not a broker; write host:port, such as `kafka-1:9092`"),
        )
    })
    .collect()
}

/// `host`, `host:port`, `[address]:port`, each perhaps with one of Kafka's protocols in front.
fn is_broker(text: &str) -> bool {
    const PROTOCOLS: [&str; 4] = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
    let text = match text.trim().split_once("://") {
        Some((protocol, rest)) if PROTOCOLS.iter().any(|known| known.eq_ignore_ascii_case(protocol)) => rest,
        Some(_) => return false,
        None => text.trim(),
    };
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None => return false,
        },
        None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let named = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "/@?#".contains(c));
    named && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// A property by itself: whether it may be set, and whether librdkafka knows it and takes the value.
fn property(name: &str, value: &str) -> Option<Invalid> {
    let key = format!("properties.{name}");
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Some(invalid(key, format!("cannot be set: {why}")));
    }
    let mut alone = ClientConfig::new();
    alone.set(name, value);
    let problem = match native(&alone).err()? {
        KafkaError::Property { problem, .. } => problem,
        other => other.to_string(),
    };
    Some(invalid(key, format!("{problem}; librdkafka's CONFIGURATION.md lists what it takes")))
}

/// Whether a file holds what begins with `BEGIN label`, and what is wrong if not.
fn pem(path: &Path, label: &str) -> Result<(), String> {
    let shown = path.display();
    let bytes = fs::read(path).map_err(|error| {
        format!("cannot read {shown}: {error}; name a file that the agent's user can read")
    })?;
    let text = String::from_utf8_lossy(&bytes);
    let begins = |line: &str| line.starts_with("-----BEGIN ") && line.contains(label);
    if text.lines().any(begins) {
        return Ok(());
    }
    Err(format!("{shown} has no line `-----BEGIN {label}-----`; name a PEM file with one"))
}

fn is_encrypted(path: &Path) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .any(|line| line.starts_with("-----BEGIN ENCRYPTED") || line.starts_with("Proc-Type: 4,ENCRYPTED"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::PathBuf;

    use super::*;

    fn config(section: &str) -> KafkaConfig {
        let text = format!(r#"{{"brokers":["kafka-1:9092"]{section}}}"#);
        serde_json::from_str(&text).expect(&text)
    }

    fn refused(config: &KafkaConfig) -> Vec<(String, String)> {
        config.validate().into_iter().map(|invalid| (invalid.key, invalid.problem)).collect()
    }

    /// A directory with files that are not what somebody takes them for.
    fn files() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().to_owned();
        for (name, text) in [
            ("prose", "Dear broker,\n"),
            ("empty", "\n"),
            ("password", "hunter2\n"),
            ("garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            ("key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            ("locked", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"),
        ] {
            let made = fs::File::create(path.join(name));
            made.and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
        }
        (directory, move |name| path.join(name))
    }

    #[test]
    fn what_librdkafka_would_take_is_taken() {
        for section in [
            "",
            r#","tls":{}"#,
            r#","sasl":{"username":"u","password":"p"}"#,
            r#","sasl":{"mechanism":"PLAIN","username":"u","password":"p"},"tls":{}"#,
            r#","sasl":{},"properties":{"sasl.username":"u","sasl.password":"p"}"#,
            r#","properties":{"socket.timeout.ms":"5000","enable.idempotence":"false"}"#,
        ] {
            assert_eq!(refused(&config(section)), [], "{section}");
        }
    }

    #[test]
    fn brokers_are_hosts_with_ports() {
        for good in ["a", "a:9092", "a:1,b:2", "SASL_SSL://a:9093", "[::1]:9092", "10.0.0.1:9092"] {
            assert!(brokers(&[good.to_owned()]).is_empty(), "{good}");
        }
        for bad in ["", "a b:9092", "a:x", "a:0", "a:99999", "http://a:9092", ":9092", "a:9092/x", "[::1]x"] {
            let found = brokers(&["a:1".to_owned(), bad.to_owned()]);
            assert_eq!(found.first().map(|invalid| invalid.key.as_str()), Some("brokers[1]"), "{bad}");
        }
    }

    #[test]
    fn a_value_that_cannot_work_is_refused_at_its_key() {
        for (section, key, says) in [
            (r#","ledger_topic":"a b""#, "ledger_topic", "a b"),
            (r#","ledger_topic":"l.{pod}""#, "ledger_topic", "placeholder"),
            (r#","retry_max_ms":0"#, "retry_max_ms", "30s"),
            (r#","linger_ms":3600000"#, "linger_ms", "15m"),
            (r#","sasl":{}"#, "sasl.username", "user name"),
            (r#","sasl":{"username":"u"}"#, "sasl", "password_file"),
            (r#","sasl":{"mechanism":"FOO"}"#, "sasl.mechanism", "write one of `SCRAM-SHA-512`"),
            (r#","sasl":{"mechanism":"plain"}"#, "sasl.mechanism", "write `PLAIN`"),
            (r#","sasl":{"mechanism":"OAUTHBEARER"}"#, "sasl.mechanism", "tokens"),
            (r#","properties":{"no.such":"1"}"#, "properties.no.such", "No such configuration property"),
            (r#","properties":{"batch.size":"many"}"#, "properties.batch.size", "Invalid value"),
            (r#","properties":{"acks":"1"}"#, "properties.acks", "cannot be set"),
            (r#","properties":{"max.in.flight":"100"}"#, "properties.max.in.flight", "idempotence"),
            (
                r#","tls":{},"properties":{"ssl.cipher.suites":"none-such"}"#,
                "properties.ssl.cipher.suites",
                "cipher",
            ),
        ] {
            let found = refused(&config(section));
            let [(at, problem)] = found.as_slice() else { panic!("{section}: {found:?}") };
            assert_eq!(at, key, "{section}: {problem}");
            assert!(problem.contains(says), "{section}: {problem}");
        }
    }

    #[test]
    fn a_file_that_is_not_what_it_should_be_is_refused_at_its_key() {
        let (_kept, path) = files();
        for (key, name, says) in [
            ("tls.ca_file", "none", "No such file"),
            ("tls.ca_file", "prose", "BEGIN CERTIFICATE"),
            ("tls.ca_file", "garbage", "failed"),
            ("tls.certificate_file", "key", "BEGIN CERTIFICATE"),
            ("tls.certificate_file", "garbage", "key_file"),
            ("tls.key_file", "", "directory"),
            ("tls.key_file", "garbage", "BEGIN PRIVATE KEY"),
            ("tls.key_file", "key", "certificate_file"),
            ("tls.key_file", "locked", "key_password_file"),
            ("tls.key_password_file", "none", "No such file"),
            ("sasl.password_file", "none", "No such file"),
            ("sasl.password_file", "empty", "is empty"),
        ] {
            let (section, name_of_key) = key.split_once('.').expect("two parts");
            let file = path(name);
            let config = config(&format!(r#","{section}":{{"{name_of_key}":{file:?}}}"#));
            let found = refused(&config);
            assert!(
                found.iter().any(|(at, said)| at == key && said.contains(says)),
                "{key} {name}: {found:?}"
            );
        }
    }

    #[test]
    fn both_ways_to_give_a_password_contradict_each_other() {
        let (_kept, path) = files();
        let file = path("password");
        let section = format!(r#","sasl":{{"username":"u","password":"p","password_file":{file:?}}}"#);
        assert_eq!(
            refused(&config(&section)),
            [("sasl".to_owned(), "set one of `password` and `password_file`".to_owned())]
        );
    }
}

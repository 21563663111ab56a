//! Where to read: what the agent's configuration says, and the flags over it.
//!
//! The configuration is looked at when it is named (`--config`), and when nothing else says where to read. So secrets
//! stay in the files that the agent has them in, and a command that names its brokers depends on no file.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use taffrail_kafka::{KafkaConfig, TopicError, TopicTemplate};

use super::Args;
use super::topics::Topics;
use crate::config::Output;

/// Which Kafka, and what of it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct TopicArgs {
    /// Brokers to begin with, `host:port`, separated by commas [default: the configuration's]
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT")]
    pub brokers: Vec<String>,
    /// Topic of records, or a template such as `logs.{namespace}` for all topics that fit it; give it again for each
    /// further one; empty for none [default: the configuration's, else taffrail.logs]
    #[arg(long, value_name = "TOPIC", value_parser = template)]
    pub topic: Vec<Option<TopicTemplate>>,
    /// Topic of statements; empty for none, and then nobody says where files end [default: the configuration's, else
    /// taffrail.ledger]
    #[arg(long, value_name = "TOPIC")]
    pub ledger_topic: Option<String>,
    /// Topic of the audit of containers; empty for none [default: the configuration's, if that audits]
    #[arg(long, value_name = "TOPIC")]
    pub audit_topic: Option<String>,
    /// A property of librdkafka, such as `security.protocol=SSL`; give it again for each further one. Others on this
    /// machine can read it: secrets belong into the configuration
    #[arg(short = 'X', value_name = "PROPERTY=VALUE")]
    pub properties: Vec<String>,
}

fn template(text: &str) -> Result<Option<TopicTemplate>, TopicError> {
    Some(text.to_owned()).filter(|text| !text.is_empty()).map(TopicTemplate::try_from).transpose()
}

/// What is to be read.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Files and directories.
    pub(super) paths: Vec<PathBuf>,
    /// Topics.
    pub(super) topics: Option<Topics>,
    /// Whether there should be documents of the audit.
    pub(super) audits: bool,
}

impl Source {
    /// What the arguments mean.
    ///
    /// # Errors
    /// [`crate::config::ConfigError`] when the configuration is needed and bad; others when it names nothing to read.
    pub(super) fn of(args: &Args) -> Result<Self> {
        let is_named = !args.paths.is_empty() || !args.topics.brokers.is_empty();
        let wanted = args.config.config.is_some() || !is_named;
        let config = wanted.then(|| args.config.load()).transpose()?;
        let audits = config.as_ref().is_some_and(|config| config.audit.enabled);
        let output = config.map(|config| config.output);
        let mut source = Source { paths: args.paths.clone(), audits, ..Source::default() };
        let kafka = match output {
            Some(Output::Kafka(kafka)) => Some(*kafka),
            Some(Output::File(file)) if !is_named => {
                source.paths.push(file.directory);
                None
            }
            Some(Output::Discard(_)) if !is_named => {
                bail!("the configured output is `discard`, which keeps nothing; name files, or --brokers")
            }
            _ => (!args.topics.brokers.is_empty()).then(KafkaConfig::default),
        };
        source.topics = kafka.map(|kafka| args.topics.over(kafka, audits)).transpose()?;
        Ok(source)
    }
}

impl TopicArgs {
    /// `audits`: whether the audit is to be looked at although no topic is named.
    fn over(&self, mut config: KafkaConfig, audits: bool) -> Result<Topics> {
        if !self.brokers.is_empty() {
            config.brokers.clone_from(&self.brokers);
        }
        for property in &self.properties {
            let (name, value) = property
                .split_once('=')
                .with_context(|| format!("-X {property}: write it as PROPERTY=VALUE"))?;
            config.properties.0.insert(name.trim().to_owned(), value.to_owned());
        }
        let named = || self.topic.iter().flatten().cloned().collect();
        let records = if self.topic.is_empty() { vec![config.topic.clone()] } else { named() };
        let ledger = self.ledger_topic.clone().or_else(|| config.ledger_topic.clone());
        let audit = self.audit_topic.clone().or_else(|| audits.then(|| config.audit_topic.clone()));
        let [ledger, audit] = [ledger, audit].map(|topic| topic.filter(|topic| !topic.is_empty()));
        Ok(Topics { config, records, ledger, audit })
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests make files that need not survive")]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    const CONFIGURED: &str = "output:\n  kafka:\n    brokers: [far:9093]\n    topic: logs.{namespace}\n    \
                              ledger_topic: shop.ledger\n    sasl: {username: me, password: hunter2}\n    tls: {}\n    \
                              properties: {client.rack: a}\n";

    fn read(config: &str, line: &[&str]) -> Result<Source> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taffrail.yaml");
        std::fs::write(&path, config).unwrap();
        let mut args = Line::parse_from(std::iter::once(&"verify").chain(line)).args;
        args.config.config = args.config.config.map(|_| path);
        Source::of(&args)
    }

    /// Brokers, topics and ledger, as words.
    fn words(source: &Source) -> String {
        let Some(topics) = &source.topics else { return String::new() };
        let names: Vec<&str> = topics.records.iter().map(TopicTemplate::as_str).collect();
        let ledger = topics.ledger.as_deref().unwrap_or("none");
        format!("{} {} {ledger}", topics.config.brokers.join(","), names.join(","))
    }

    #[test]
    fn the_configuration_says_where_to_read_and_flags_say_otherwise() {
        for (line, expected) in [
            (&["-f", "x"][..], "far:9093 logs.{namespace} shop.ledger"),
            (&["-f", "x", "--brokers", "near:1,near:2"], "near:1,near:2 logs.{namespace} shop.ledger"),
            (&["-f", "x", "--topic", "a", "--topic", "b.{pod}"], "far:9093 a,b.{pod} shop.ledger"),
            (&["-f", "x", "--ledger-topic", ""], "far:9093 logs.{namespace} none"),
            (&["-f", "x", "--topic", ""], "far:9093  shop.ledger"),
            (&["--brokers", "near:1"], "near:1 taffrail.logs taffrail.ledger"),
            (&["some/path"], ""),
        ] {
            assert_eq!(words(&read(CONFIGURED, line).unwrap()), expected, "{line:?}");
        }
    }

    #[test]
    fn the_audit_is_looked_at_where_it_is_configured_or_named() {
        let audits = format!("{CONFIGURED}audit: {{enabled: true}}\n");
        let topic = |config: &str, line: &[&str]| read(config, line).unwrap().topics.unwrap().audit;
        assert_eq!(topic(CONFIGURED, &["-f", "x"]), None);
        assert_eq!(topic(&audits, &["-f", "x"]).as_deref(), Some("taffrail.audit"));
        assert_eq!(topic(&audits, &["-f", "x", "--audit-topic", ""]), None);
        assert_eq!(topic("", &["--brokers", "near:1"]), None);
        let named = topic("", &["--brokers", "near:1", "--audit-topic", "a"]);
        assert_eq!(named.as_deref(), Some("a"));
    }

    #[test]
    fn login_encryption_and_properties_come_with_the_configuration() {
        let source = read(CONFIGURED, &["-f", "x", "-X", "client.rack=b"]).unwrap();
        let properties = taffrail_kafka::consumer_properties(&source.topics.unwrap().config).unwrap();
        for (name, expected) in [
            ("security.protocol", "sasl_ssl"),
            ("sasl.username", "me"),
            ("sasl.password", "hunter2"),
            ("client.rack", "b"),
        ] {
            assert_eq!(properties.get(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn of_a_file_output_the_directory_is_read_unless_paths_are_named() {
        let config = "output:\n  file:\n    directory: /far/records\n";
        for (line, expected) in [(&["-f", "x"][..], "/far/records"), (&["-f", "x", "near"], "near")] {
            assert_eq!(read(config, line).unwrap().paths, [PathBuf::from(expected)], "{line:?}");
        }
        let error = read("output:\n  discard: {}\n", &["-f", "x"]).unwrap_err().to_string();
        assert!(error.contains("discard"), "{error}");
        let error = read("outptu: {}\n", &["-f", "x"]).unwrap_err();
        assert!(error.is::<crate::config::ConfigError>(), "{error}");
    }
}

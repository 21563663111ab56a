//! The broker's `server.properties`.

use std::fmt::Write as _;
use std::path::Path;

use super::security::{ADMIN, USER};
use super::{KafkaOptions, Listener};

/// Where the broker listens, in the order of its `listeners` setting.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// The port of each listener for clients.
    pub(crate) clients: Vec<(Listener, u16)>,
    /// The port of the controller.
    pub(crate) controller: u16,
}

/// The text of `server.properties`: what a single node needs, then security, then the caller's own.
///
/// Later lines win, so the caller's properties override ours.
pub(crate) fn server_properties(
    options: &KafkaOptions,
    addresses: &Addresses,
    data: &Path,
    pki: &Path,
) -> String {
    let mut text = node(addresses, data);
    if options.secure {
        text += &secure(pki);
    }
    if options.authorize {
        text += &authorize();
    }
    for (name, value) in &options.properties {
        property(&mut text, name, value);
    }
    text
}

fn node(addresses: &Addresses, data: &Path) -> String {
    let client = |(listener, port): &(Listener, u16)| format!("{}://127.0.0.1:{port}", listener.name());
    let clients: Vec<String> = addresses.clients.iter().map(client).collect();
    let clients = clients.join(",");
    let controller = addresses.controller;
    let data = data.display();
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners={clients},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={clients}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
num.partitions=4
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# Records carry the time of the log line: with the default of a week, old fixtures would vanish.
log.retention.ms=-1
"
    )
}

fn secure(pki: &Path) -> String {
    let pki = pki.display();
    let mut text = format!(
        "ssl.keystore.type=PEM
ssl.keystore.location={pki}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={pki}/ca.crt
ssl.client.auth=requested
listener.name.sasl_ssl.ssl.client.auth=none
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
"
    );
    for listener in ["sasl_plaintext", "sasl_ssl"] {
        let _ = writeln!(
            text,
            "listener.name.{listener}.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \
             required user_{}=\"{}\" user_{}=\"{}\";",
            USER.name, USER.password, ADMIN.name, ADMIN.password
        );
        let _ = writeln!(
            text,
            "listener.name.{listener}.scram-sha-512.sasl.jaas.config=\
             org.apache.kafka.common.security.scram.ScramLoginModule required;"
        );
    }
    text
}

/// Our own helpers use the plain listener, where everybody is `ANONYMOUS`: it stays allowed everything.
fn authorize() -> String {
    format!(
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:{}
allow.everyone.if.no.acl.found=false
",
        ADMIN.name
    )
}

fn property(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{name}={}", value.replace('\\', "\\\\"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(options: &KafkaOptions) -> String {
        let addresses = Addresses {
            clients: vec![(Listener::Plain, 20_001), (Listener::SaslTls, 20_002)],
            controller: 20_003,
        };
        server_properties(options, &addresses, Path::new("/data"), Path::new("/pki"))
    }

    #[test]
    fn every_listener_is_on_loopback() {
        let text = render(&KafkaOptions::default());
        assert!(text.contains(
            "\nlisteners=PLAINTEXT://127.0.0.1:20001,SASL_SSL://127.0.0.1:20002,CONTROLLER://127.0.0.1:20003\n"
        ));
        assert!(
            text.contains("\nadvertised.listeners=PLAINTEXT://127.0.0.1:20001,SASL_SSL://127.0.0.1:20002\n")
        );
        assert!(!text.contains("0.0.0.0"));
    }

    #[test]
    fn the_callers_properties_come_last_and_keep_their_backslashes() {
        let options = KafkaOptions {
            properties: vec![("num.partitions".into(), "1".into()), ("a.b".into(), r"c\d".into())],
            secure: true,
            authorize: true,
            ..KafkaOptions::default()
        };
        assert!(render(&options).ends_with("num.partitions=1\na.b=c\\\\d\n"));
    }

    #[test]
    fn security_is_absent_unless_asked_for() {
        let text = render(&KafkaOptions::default());
        assert!(!text.contains("sasl.") && !text.contains("ssl.") && !text.contains("authorizer"), "{text}");
    }
}

//! Bad configurations are refused with their place and a remedy; good ones mean what they say.

use std::io::Write as _;
use std::time::Duration;

use taffrail::config::{Config, Output, load};

fn with(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("t.yaml");
    let mut file = std::fs::File::create(&path).expect("created");
    file.write_all(text.as_bytes()).expect("written");
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(Some(&path), variables)
        .map_err(|error| error.to_string().replace(&path.display().to_string(), "t.yaml"))
}

#[test]
fn a_mistake_in_the_file_is_refused_with_its_place_and_a_remedy() {
    for (text, message) in [
        ("htpp: {}\n", "1:1: unknown key `htpp`; did you mean `http`?"),
        ("http:\n  lisen: 1\n", "2:3: unknown key `lisen` in `http`; did you mean `listen`?"),
        ("listen: 127.0.0.1:1\n", "1:1: unknown key `listen`; there is `http.listen`"),
        ("tap:\n  zzz: 1\n", "2:3: unknown key `zzz` in `tap`; known here: `socket`"),
        (
            "http:\n  listen: localhost\n",
            "2:11: `http.listen` takes an address and port such as `127.0.0.1:9126`, not `localhost`",
        ),
        ("http:\n  enabled: maybe\n", "2:12: `http.enabled` takes true or false, not the text `maybe`"),
        ("http: true\n", "1:7: `http` takes keys of its own, not `true`"),
        (
            "http:\n  container_series: -1\n",
            "2:21: `http.container_series` is `-1`; it must be between 0 and 4294967295",
        ),
        (
            "http:\n  container_series: many\n",
            "2:21: `http.container_series` takes a whole number, not `many`",
        ),
        (
            "pipeline:\n  memory: lots\n",
            "2:11: `pipeline.memory`: `lots` is not a size; write bytes as `16 MiB`, `500 kB` or `1048576`",
        ),
        (
            "pipeline:\n  memory: 12 KiB\n",
            "2:3: `pipeline.memory`: `12 KiB` is out of bounds; write a size between 1 MiB and 64 GiB",
        ),
        (
            "pipeline:\n  memory:\n",
            "2:9: `pipeline.memory` has no value; it takes a size such as `16 MiB`, or leave the key out for its default",
        ),
        (
            "pipeline:\n  drain_timeout: 10\n",
            "2:18: `pipeline.drain_timeout`: `10` is not a duration; write it with its unit, as `200ms`, `10s` or `5m`",
        ),
        (
            "log:\n  format: jsn\n",
            "2:11: `log.format` takes one of `auto`, `json`, `text`, not `jsn`; did you mean `json`?",
        ),
        (
            "log:\n  level: loud\n",
            "2:3: `log.level`: `loud` is not a level; write error, warn, info, debug or trace, or `info,taffrail_kafka=debug`",
        ),
        (
            "node:\n  fields:\n    a.b: x\n    a: y\n",
            "4:5: `node.fields.a`: it and `a.b` cannot both be there: one would be inside the other",
        ),
        (
            "node:\n  fields:\n    'a..b': x\n",
            "3:5: `node.fields.a..b`: field name \"a..b\" has an empty part; write it like service.environment",
        ),
        ("node:\n  fields: [a]\n", "2:11: `node.fields` takes keys of its own, not a list"),
        ("node:\n  name: 'a b'\n", "2:3: `node.name`: `a b` contains white space; write a name without"),
        ("output:\n  discard: {}\n  file: {}\n", "2:3: `output` names `file` and `discard`; keep one"),
        ("output:\n  kafak: {}\n", "2:3: unknown key `kafak` in `output`; did you mean `kafka`?"),
        (
            "state:\n  directory: var/lib\n",
            "2:3: `state.directory`: `var/lib` is not an absolute path; begin it with `/`",
        ),
        ("http:\n  enabled: true\n  enabled: false\n", "3:3: key `enabled` is written twice; keep one"),
        (
            "output:\n  kafka:\n",
            "2:3: `output.kafka.brokers`: it is empty; name one or more brokers as host:port",
        ),
        (
            "logs:\n  files:\n    - paths: [x.log]\n",
            "3:7: `logs.files[0].paths`: \"x.log\" is not an absolute path",
        ),
        (
            "logs:\n  files:\n    - paths: [/x.log]\n      path: /y\n",
            "4:7: unknown key `path` in `logs.files[0]`; did you mean `paths`?",
        ),
        (
            "docker:\n  socket: docker.sock\n",
            "2:3: `docker.socket`: `docker.sock` is not an absolute path; begin it with `/`",
        ),
        (
            "docker:\n  enabled: true\n",
            "2:12: `docker.enabled` takes one of `auto`, `always`, `never`, not `true`",
        ),
        (
            "cri:\n  socket: cri.sock\n",
            "2:3: `cri.socket`: `cri.sock` is not an absolute path; begin it with `/`",
        ),
        (
            "envelope:\n  encoding: raw\n",
            "2:3: `envelope.encoding`: `raw` has no lines for files; write `json`, or send to Kafka",
        ),
        ("logs:\n  max_line_bytes: 100\n", "2:3: `logs.max_line_bytes`: must be between 1024 and 268435456"),
        (
            "output:\n  file:\n    max_file_bytes: 0 MiB\n",
            "3:5: `output.file.max_file_bytes`: `0` would never fill a file; write more",
        ),
        (
            "output:\n  kafka:\n    brokers: [a:9092]\n    topic: a b\n",
            "4:12: topic \"a b\" may have only letters, digits, '.', '_' and '-' outside of placeholders",
        ),
        (
            "output:\n  kafka:\n    brokers: [a:9092]\n    linger_ms: 0.5s\n    compression: lz5\n",
            "5:18: `output.kafka.compression` takes one of `lz4`, `zstd`, `snappy`, `gzip`, `none`, not `lz5`; did you mean `lz4`?",
        ),
        (
            "output:\n  kafka:\n    brokers: [a:9092]\n    sasl: {password: p, password_file: /p}\n",
            "4:5: `output.kafka.sasl`: set one of `password` and `password_file`",
        ),
        (
            "output:\n  kafka:\n    brokers: [a:9092, 'b:x']\n",
            "3:5: `output.kafka.brokers[1]`: `b:x` is not a broker; write host:port, such as `kafka-1:9092`",
        ),
        (
            "output:\n  kafka:\n    brokers: [a:9092]\n    ledger_topic: '{pod}'\n",
            "4:5: `output.kafka.ledger_topic`: topic \"{pod}\" has a placeholder, and statements are about many containers; write a name without",
        ),
        (
            "output:\n  kafka:\n    brokers: [a:9092]\n    sasl:\n      mechanism: plain\n      username: u\n",
            "5:7: `output.kafka.sasl.mechanism`: `plain` is not known; write `PLAIN`",
        ),
        (
            "output:\n  kafka:\n    brokers: [a:9092]\n    sasl: {username: u, password_file: /none}\n",
            "4:25: `output.kafka.sasl.password_file`: cannot read /none: No such file or directory (os error 2); name a file that the agent's user can read",
        ),
        (
            "output:\n  kafka:\n    brokers: [a:9092]\n    tls:\n      ca_file: /none\n",
            "5:7: `output.kafka.tls.ca_file`: cannot read /none: No such file or directory (os error 2); name a file that the agent's user can read",
        ),
        (
            "output:\n  kafka:\n    brokers: [a:9092]\n    tls: {key_file: /proc/self/status}\n",
            "4:11: `output.kafka.tls.key_file`: /proc/self/status has no line `-----BEGIN PRIVATE KEY-----`; name a PEM file with one",
        ),
        (
            "output:\n  kafka:\n    brokers: [a:9092]\n    properties:\n      no.such: 1\n",
            "5:7: `output.kafka.properties.no.such`: No such configuration property: \"no.such\"; librdkafka's CONFIGURATION.md lists what it takes",
        ),
        (
            "output:\n  file:\n    keep_files: 0\n",
            "3:5: `output.file.keep_files`: `0` would delete each file as soon as it is full; write more",
        ),
        (
            "logs:\n  kubernetes:\n    root: pods\n",
            "3:5: `logs.kubernetes.root`: `pods` is not an absolute path; begin it with `/`",
        ),
        (
            "logs:\n  kubernetes:\n    link_targets: [/a, b]\n",
            "3:5: `logs.kubernetes.link_targets[1]`: `b` is not an absolute path; begin it with `/`",
        ),
        (
            "logs:\n  files:\n    - paths: [/x.log]\n      exclude: ['*.gz']\n",
            "4:7: `logs.files[0].exclude[0]`: `*.gz` matches no absolute path; begin it with `/` or `**/`",
        ),
        (
            "events:\n  lease: Bad Name\n",
            "2:3: `events.lease`: `Bad Name` is no name that Kubernetes takes; write small letters, digits, `.` and `-` in between",
        ),
        (
            "events:\n  lease_namespace: a.b\n",
            "2:3: `events.lease_namespace`: `a.b` is no name that Kubernetes takes; write small letters, digits and `-` in between",
        ),
        (
            "logs:\n  rescan_seconds: 999999999999\n",
            "2:3: `logs.rescan_seconds`: it is out of bounds; write a duration of at most 1d",
        ),
        (
            "metrics:\n  procfs: host/proc\n",
            "2:3: `metrics.procfs`: `host/proc` is not an absolute path; begin it with `/`",
        ),
        (
            "metrics:\n  containers:\n    roots: [foo]\n",
            "3:5: `metrics.containers.roots[0]`: `foo` is no cgroup; write its path below /sys/fs/cgroup, beginning with `/`",
        ),
        (
            "metrics:\n  node:\n    enable: [hwmon]\n    disable: [hwmon]\n",
            "4:5: `metrics.node.disable[0]`: `hwmon` is in `enable`, too; take it out of one of the two",
        ),
        (
            "metrics:\n  node:\n    filesystem: {fs_types_include: ext4, fs_types_exclude: xfs}\n",
            "3:18: `metrics.node.filesystem.fs_types_include`: `fs_types_exclude` is there, too; write one of the two",
        ),
        ("http:\n\tenabled: true\n", "2:2: tabs disallowed within this context (block indentation)"),
        ("- http\n", "1:1: the configuration takes keys of its own, not a list"),
    ] {
        let error = with(text, &[]).expect_err(text);
        assert_eq!(error.lines().next(), Some(format!("t.yaml:{message}").as_str()), "{text:?}");
    }
}

#[test]
fn the_place_is_shown_with_a_caret_below_it() {
    let error = with("# x\nhttp:\n  enabled: maybe\n", &[]).expect_err("refused");
    assert!(error.ends_with("maybe`\n   |\n 3 |   enabled: maybe\n   |            ^"), "{error}");
}

#[test]
fn what_may_be_a_secret_is_not_shown() {
    for text in
        ["pasword: hunter2\n", "output:\n  kafka:\n    sasl_pasword: hunter2\n", "password: hunter2\n"]
    {
        let error = with(text, &[]).expect_err(text);
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_mistake_in_the_environment_is_refused_with_the_variable() {
    for (variable, value, file, message) in [
        ("TAFFRAIL_HTPP__LISTEN", "x", "", "unknown key `htpp`; did you mean `http`?"),
        ("TAFFRAIL_HTTP__LISEN", "x", "", "unknown key `lisen` in `http`; did you mean `listen`?"),
        (
            "TAFFRAIL_HTTP__LISTEN",
            "x",
            "",
            "`http.listen` takes an address and port such as `127.0.0.1:9126`, not `x`",
        ),
        (
            "TAFFRAIL_HTTP__LISTEN__PORT",
            "1",
            "",
            "`http.listen` has no keys of its own, so there is no `http.listen.port`",
        ),
        (
            "TAFFRAIL_PIPELINE__MEMORY",
            "1 KiB",
            "pipeline:\n  memory: 8 MiB\n",
            "`pipeline.memory`: `1 KiB` is out of bounds; write a size between 1 MiB and 64 GiB",
        ),
        (
            "TAFFRAIL_OUTPUT__DISCARD",
            "{}",
            "output:\n  file:\n",
            "`output` names `file` and `discard`; keep one",
        ),
        (
            "TAFFRAIL_OUTPUT__KAFKA__TOPIC",
            "a b",
            "output:\n  kafka:\n    brokers: [a:9092]\n",
            "topic \"a b\" may have only letters, digits, '.', '_' and '-' outside of placeholders",
        ),
        ("TAFFRAIL_NODE__FIELDS", "{a: 1", "", "unclosed bracket '{'"),
        (
            "TAFFRAIL_HTTP__ENABLED",
            "",
            "",
            "`http.enabled` has no value; it takes true or false, or leave the key out for its default",
        ),
    ] {
        let error = with(file, &[(variable, value)]).expect_err(variable);
        assert_eq!(error, format!("variable {variable}: {message}"));
    }
}

#[test]
fn all_problems_are_said_at_once() {
    let text = "pipeline:\n  memory: 1 B\n  drain_timeout: 2h\nlog:\n  level: loud\n";
    let error = with(text, &[]).expect_err("three problems");
    assert_eq!(error.matches("t.yaml:").count(), 3, "{error}");
}

#[test]
fn an_empty_file_and_empty_sections_are_the_defaults() {
    for text in ["", "# nothing\n", "---\n", "http:\nnode:\n  # name: x\n"] {
        assert_eq!(with(text, &[]).expect(text), load(None, []).expect("no file"), "{text:?}");
    }
    let Output::File(file) = load(None, []).expect("no file").output else { panic!("a file is the default") };
    assert!(file.directory.is_absolute() && file.directory.ends_with("taffrail/records"), "{file:?}");
}

#[test]
fn text_stays_as_it_was_written() {
    let config = with("node:\n  cluster: 0123\n  fields:\n    b: yes\n    a: 1.50\n", &[]).expect("read");
    assert_eq!(config.node.cluster, "0123");
    let fields = [("b", "yes"), ("a", "1.50")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(config.node.fields.0, fields);
}

#[test]
fn the_environment_goes_over_the_file_typed_by_its_key() {
    let variables = [
        ("taffrail_http__Listen", "127.0.0.1:0"),
        ("TAFFRAIL_HTTP__ENABLED", "false"),
        ("TAFFRAIL_NODE__CLUSTER", "0123"),
        ("TAFFRAIL_NODE__FIELDS", "{b.c: 07}"),
        ("TAFFRAIL_NODE__FIELDS__IDC", "ams1"),
        ("TAFFRAIL_OUTPUT__DISCARD", ""),
        ("TAFFRAIL_PIPELINE__DRAIN_TIMEOUT", "3s"),
        ("TAFFRAIL_PORT", "tcp://10.0.0.1:9126"),
        ("TAFFRAIL_SERVICE_HOST", "10.0.0.1"),
    ];
    let config = with("node:\n  cluster: file\nhttp:\n  container_series: 7\n", &variables).expect("read");
    assert_eq!((config.http.enabled, config.http.listen.port(), config.http.container_series), (false, 0, 7));
    assert_eq!(config.node.cluster, "0123");
    assert_eq!(config.node.fields.0.len(), 2);
    assert_eq!(config.pipeline.drain_timeout.0, Duration::from_secs(3));
    assert_eq!(config.output.name(), "discard");
}

#[test]
fn what_is_printed_can_be_read_back() {
    let config = with("http:\n  container_series: 7\nnode:\n  fields:\n    a.b: x\n", &[]).expect("read");
    let printed = serde_json::to_string(&config.redacted()).expect("printed");
    assert_eq!(with(&printed, &[]).expect("read back"), config);
    assert!(matches!(config.output, Output::File(_)));
}

#[test]
fn kafka_is_configured_by_the_environment_alone() {
    let variables = [
        ("TAFFRAIL_OUTPUT__KAFKA__BROKERS", "a:9092, b:9092"),
        ("TAFFRAIL_OUTPUT__KAFKA__LEDGER_TOPIC", "null"),
        ("TAFFRAIL_OUTPUT__KAFKA__LINGER_MS", "0.5s"),
        ("TAFFRAIL_OUTPUT__KAFKA__PROPERTIES", "{batch.size: 1000000}"),
        ("TAFFRAIL_OUTPUT__KAFKA__SASL__USERNAME", "007"),
        ("TAFFRAIL_OUTPUT__KAFKA__SASL__PASSWORD", "hunter2"),
    ];
    let config = with("", &variables).expect("read");
    let Output::Kafka(kafka) = &config.output else { panic!("{config:?}") };
    assert_eq!((kafka.brokers.len(), kafka.linger_ms, &kafka.ledger_topic), (2, 500, &None));
    assert_eq!(kafka.properties.0["batch.size"], "1000000");
    assert_eq!(kafka.sasl.as_ref().map(|sasl| sasl.username.as_str()), Some("007"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn an_optional_text_may_be_switched_off_and_a_table_left_empty() {
    let text = "output:\n  kafka:\n    brokers: [a:9092]\n    ledger_topic: null\n    tls:\n";
    let Output::Kafka(kafka) = with(text, &[]).expect("read").output else { panic!("kafka") };
    assert_eq!(kafka.ledger_topic, None);
    assert!(kafka.tls.is_some_and(|tls| tls.verify_hostname));
}

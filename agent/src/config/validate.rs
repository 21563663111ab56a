//! What the types do not say: bounds, and rules between values.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use taffrail_envelope::{Encoding, check_field};
use tracing_subscriber::EnvFilter;

use super::units::{ByteSize, Period};
use super::{Config, ElasticsearchConfig, FileConfig, Output};

/// A value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invalid {
    /// Its dotted key.
    pub(super) key: String,
    /// What is wrong with it and what to write instead.
    pub(super) remedy: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.key, self.remedy)
    }
}

fn invalid(key: impl Into<String>, remedy: impl Into<String>) -> Invalid {
    Invalid { key: key.into(), remedy: remedy.into() }
}

/// Everything that is wrong with `config`.
pub(super) fn validate(config: &Config) -> Vec<Invalid> {
    let mut found = Vec::new();
    found.extend(node(config));
    found.extend(metadata(config));
    found.extend(bounds(config));
    found.extend(paths(config));
    found.extend(log_level(&config.log.level));
    found.extend(config.logs.validate().err().map(|bad| invalid(format!("logs.{}", bad.key), bad.problem)));
    found.extend(log_places(config));
    found.extend(metrics(config));
    found.extend(output(config));
    found.extend(elasticsearch(config));
    found.extend(events(config));
    found.extend(audit(config));
    found
}

/// Leases that no API server would take.
fn events(config: &Config) -> Vec<Invalid> {
    const DOTTED: usize = 253;
    const PLAIN: usize = 63;
    let events = &config.events;
    let longest = events.leases().map(|name| name.len()).max().unwrap_or_default();
    let suffix = longest - events.lease.len();
    let is_name = |name: &str, most: usize, dots: bool| {
        let may = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || dots && c == '.';
        let part = |part: &str| !part.is_empty() && !part.starts_with('-') && !part.ends_with('-');
        name.len() <= most && name.chars().all(may) && name.split('.').all(part)
    };
    let remedy = |name: &str, more: &str| {
        format!(
            "`{}` is no name that Kubernetes takes; write small letters, digits{more} and `-` in between",
            name.escape_debug()
        )
    };
    let lease = (!is_name(&events.lease, DOTTED - suffix, true))
        .then(|| invalid("events.lease", remedy(&events.lease, ", `.`")));
    let namespace = events.lease_namespace.as_ref().filter(|name| !is_name(name, PLAIN, false));
    let namespace = namespace.map(|name| invalid("events.lease_namespace", remedy(name, "")));
    lease.into_iter().chain(namespace).collect()
}

fn node(config: &Config) -> Vec<Invalid> {
    let text = |key: &str, text: &str| {
        text.contains(|c: char| c.is_control() || c.is_whitespace()).then(|| {
            invalid(key, format!("`{}` contains white space; write a name without", text.escape_debug()))
        })
    };
    let mut found: Vec<Invalid> = Vec::new();
    found.extend(text("node.name", &config.node.name));
    found.extend(text("node.cluster", &config.node.cluster));
    for (index, (name, _)) in config.node.fields.0.iter().enumerate() {
        let key = format!("node.fields.{name}");
        if let Err(error) = check_field(name) {
            found.push(invalid(key, error.to_string()));
        } else if let Some((other, _)) = config.node.fields.0[..index].iter().find(|(o, _)| overlap(o, name))
        {
            let remedy = format!("it and `{other}` cannot both be there: one would be inside the other");
            found.push(invalid(key, remedy));
        }
    }
    found
}

/// Whether one dotted name is the other or lies within it.
fn overlap(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn metadata(config: &Config) -> Vec<Invalid> {
    let metadata = &config.kubernetes.metadata;
    let lists = [
        ("labels", &metadata.labels),
        ("annotations", &metadata.annotations),
        ("namespace_labels", &metadata.namespace_labels),
        ("node_labels", &metadata.node_labels),
    ];
    let mut found = Vec::new();
    for (key, list) in lists {
        let bad = list.iter().find(|entry| entry.matches('*').count() > 1);
        found.extend(bad.map(|entry| {
            let remedy = format!("`{entry}` has more than one `*`; write a key, `begin*`, `*end` or `*`");
            invalid(format!("kubernetes.metadata.{key}"), remedy)
        }));
    }
    let refused = |name: &String| check_field(name).err().map(|error| (name.clone(), error));
    found.extend(
        metadata
            .fields
            .keys()
            .find_map(refused)
            .map(|(name, error)| invalid(format!("kubernetes.metadata.fields.{name}"), error.to_string())),
    );
    found
}

fn bounds(config: &Config) -> Vec<Invalid> {
    let (state, pipeline, http) = (&config.state, &config.pipeline, &config.http);
    let millis = |n| Period(Duration::from_millis(n));
    let checks = [
        period("state.checkpoint_interval", state.checkpoint_interval, millis(10), millis(60_000)),
        size("state.checkpoint_bytes", state.checkpoint_bytes, ByteSize(64 << 10), ByteSize(1 << 30)),
        size("pipeline.memory", pipeline.memory, ByteSize(1 << 20), ByteSize(64 << 30)),
        period("pipeline.drain_timeout", pipeline.drain_timeout, millis(0), millis(3_600_000)),
        period("http.collector_timeout", http.collector_timeout, millis(100), millis(300_000)),
        (http.container_series > 100_000).then(|| {
            let remedy = format!(
                "`{}` series are more than Prometheus likes; write at most 100000",
                http.container_series
            );
            invalid("http.container_series", remedy)
        }),
    ];
    checks.into_iter().flatten().collect()
}

fn period(key: &str, value: Period, min: Period, max: Period) -> Option<Invalid> {
    let remedy = || format!("`{value}` is out of bounds; write a duration between {min} and {max}");
    (value < min || value > max).then(|| invalid(key, remedy()))
}

fn size(key: &str, value: ByteSize, min: ByteSize, max: ByteSize) -> Option<Invalid> {
    let remedy = || format!("`{value}` is out of bounds; write a size between {min} and {max}");
    (value < min || value > max).then(|| invalid(key, remedy()))
}

/// Directories of the log collector that could never match, and pauses that never end.
fn log_places(config: &Config) -> Vec<Invalid> {
    let logs = &config.logs;
    let mut found = Vec::new();
    found.extend(not_absolute("logs.kubernetes.root", &logs.kubernetes.root));
    found.extend(not_absolute("logs.kubernetes.links", &logs.kubernetes.links));
    for (index, path) in logs.kubernetes.link_targets.iter().enumerate() {
        found.extend(not_absolute(&format!("logs.kubernetes.link_targets[{index}]"), path));
    }
    for (index, input) in logs.files.iter().enumerate() {
        let exclude = input.exclude.iter().enumerate();
        // A single `*` stays within one directory, and every path begins with `/`.
        for (place, glob) in
            exclude.filter(|(_, g)| !["/", "**", "{"].iter().any(|begin| g.starts_with(begin)))
        {
            let remedy = format!("`{glob}` matches no absolute path; begin it with `/` or `**/`");
            found.push(invalid(format!("logs.files[{index}].exclude[{place}]"), remedy));
        }
    }
    for (key, seconds) in [
        ("logs.rescan_seconds", logs.rescan_seconds),
        ("logs.partial_timeout_ms", logs.partial_timeout_ms / 1000),
    ] {
        if seconds > LONGEST_PAUSE {
            found.push(invalid(key, "it is out of bounds; write a duration of at most 1d"));
        }
    }
    found
}

fn metrics(config: &Config) -> Vec<Invalid> {
    let metrics = &config.metrics;
    let mut found = Vec::new();
    found.extend(not_absolute("metrics.procfs", &metrics.procfs));
    found.extend(not_absolute("metrics.sysfs", &metrics.sysfs));
    found.extend(not_absolute("metrics.rootfs", &metrics.rootfs));
    for (index, directory) in metrics.node.textfile.directories.iter().enumerate() {
        found.extend(not_absolute(&format!("metrics.node.textfile.directories[{index}]"), directory));
    }
    for (index, root) in
        metrics.containers.roots.iter().enumerate().filter(|(_, root)| !root.starts_with('/'))
    {
        let remedy =
            format!("`{root}` is no cgroup; write its path below /sys/fs/cgroup, beginning with `/`");
        found.push(invalid(format!("metrics.containers.roots[{index}]"), remedy));
    }
    let node = metrics.node.validate().into_iter();
    found.extend(node.map(|bad| invalid(format!("metrics.node.{}", bad.key), bad.problem)));
    found
}

/// Seconds.
const LONGEST_PAUSE: u64 = 86_400;

fn not_absolute(key: &str, path: &Path) -> Option<Invalid> {
    let remedy = || format!("`{}` is not an absolute path; begin it with `/`", path.display());
    (!path.is_absolute()).then(|| invalid(key, remedy()))
}

fn paths(config: &Config) -> Vec<Invalid> {
    let mut found = Vec::new();
    found.extend(config.state.directory.as_deref().and_then(|path| not_absolute("state.directory", path)));
    found.extend(not_absolute("docker.socket", config.docker.path()));
    found.extend(config.cri.paths().iter().find_map(|path| not_absolute("cri.socket", path)));
    let kubeconfig = config.kubernetes.api.kubeconfig.as_deref();
    found.extend(kubeconfig.and_then(|path| not_absolute("kubernetes.api.kubeconfig", path)));
    found.extend(config.tap.socket.as_deref().and_then(|path| not_absolute("tap.socket", path)));
    found.extend(config.http.web_config.as_deref().and_then(|path| not_absolute("http.web_config", path)));
    let socket = config.tap_socket();
    let length = socket.as_os_str().len();
    if length > LONGEST_SOCKET {
        let remedy = format!(
            "`{}` has {length} bytes and a socket's path can have {LONGEST_SOCKET}; set a shorter one",
            socket.display()
        );
        found.push(invalid("tap.socket", remedy));
    }
    found
}

/// The kernel takes 108 bytes with the final NUL; the agent binds under a name four bytes longer first.
const LONGEST_SOCKET: usize = 103;

fn log_level(level: &str) -> Option<Invalid> {
    let words = ["error", "warn", "info", "debug", "trace", "off"];
    let each = level.split(',').map(str::trim);
    let bad = each.map(|part| part.rsplit('=').next().unwrap_or(part)).find(|level| !words.contains(level));
    let broken = bad.is_some() || EnvFilter::try_new(level).is_err();
    broken.then(|| {
        let remedy = format!("`{level}` is not a level; write error, warn, info, debug or trace, or `info,taffrail_kafka=debug`");
        invalid("log.level", remedy)
    })
}

fn output(config: &Config) -> Vec<Invalid> {
    match &config.output {
        Output::Kafka(kafka) => kafka
            .validate()
            .into_iter()
            .map(|bad| invalid(format!("output.kafka.{}", bad.key).trim_end_matches('.'), bad.problem))
            .collect(),
        Output::File(file) => files(file, config.envelope.encoding),
        Output::Discard(_) => Vec::new(),
    }
}

fn elasticsearch(config: &Config) -> Vec<Invalid> {
    let found = config.elasticsearch.iter().flat_map(ElasticsearchConfig::validate);
    found
        .map(|bad| invalid(format!("elasticsearch.{}", bad.key).trim_end_matches('.'), bad.problem))
        .collect()
}

fn audit(config: &Config) -> Vec<Invalid> {
    let bad = config.audit.validate().err();
    let bad = bad.map(|bad| invalid(format!("audit.{}", bad.key), bad.problem));
    bad.into_iter().chain(not_absolute("audit.bpffs", &config.audit.bpffs)).collect()
}

fn files(file: &FileConfig, encoding: Encoding) -> Vec<Invalid> {
    let mut found: Vec<Invalid> =
        not_absolute("output.file.directory", &file.directory).into_iter().collect();
    if encoding == Encoding::Raw {
        let remedy = "`raw` has no lines for files; write `json`, or send to Kafka";
        found.push(invalid("envelope.encoding", remedy));
    }
    const FILLS: &str = "`0` would never fill a file; write more";
    const KEEPS: &str = "`0` would delete each file as soon as it is full; write more";
    for (name, is_zero, remedy) in [
        ("max_file_bytes", file.max_file_bytes == 0, FILLS),
        ("max_file_age_seconds", file.max_file_age_seconds == 0, FILLS),
        ("keep_files", file.keep_files == 0, KEEPS),
        ("keep_bytes", file.keep_bytes == 0, KEEPS),
    ] {
        found.extend(is_zero.then(|| invalid(format!("output.file.{name}"), remedy)));
    }
    found
}

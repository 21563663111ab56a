//! rsyslog and syslog-ng of Debian, each with a configuration of its own that its manual advises for delivery to Kafka
//! without loss: acknowledged by all replicas, idempotent, retried for ever, queued on disk when Kafka is away.
//!
//! Their packages exclude each other and bring system services, so they are not installed: the packages are fetched by
//! name and unpacked into the parts' cache, and run from there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use taffrail_parts::cache::Entry;

use crate::process::{self, Measured};

/// A log shipper to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// `imfile` and `omkafka`.
    Rsyslog,
    /// `wildcard-file` and `kafka-c`.
    SyslogNg,
}

/// What it is to do.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// Container logs in kubelet's layout.
    pub root: &'a Path,
    /// `host:port`.
    pub brokers: &'a str,
    /// The topic, which exists.
    pub topic: &'a str,
    /// JSON with the metadata of the path, or bare lines.
    pub json: bool,
}

impl Peer {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Peer::Rsyslog => "rsyslog",
            Peer::SyslogNg => "syslog-ng",
        }
    }

    fn packages(self) -> &'static [&'static str] {
        match self {
            Peer::Rsyslog => &["rsyslog", "rsyslog-kafka"],
            Peer::SyslogNg => &["syslog-ng-core", "syslog-ng-mod-rdkafka"],
        }
    }

    /// Fetches it unless the cache has it.
    pub fn fetch(self) -> Result<PathBuf> {
        let pins = self.packages();
        Entry { part: self.name(), pins }.get(|folder| unpack(pins, folder))
    }

    /// Starts it with all its files in `place`.
    pub fn start(self, place: &Path, task: Task<'_>) -> Result<Measured> {
        fs::create_dir_all(place).with_context(|| format!("cannot make {}", place.display()))?;
        let files = self.fetch()?;
        let config = place.join("configuration");
        let (text, mut command) = match self {
            Peer::Rsyslog => (rsyslog(place, task), rsyslogd(&files, place, &config)),
            Peer::SyslogNg => (syslog_ng(place, task), syslog_ng_command(&files, place, &config)),
        };
        process::write(&config, &text)?;
        let libraries = [
            files.join("usr/lib").join(TRIPLET),
            files.join("lib").join(TRIPLET),
            files.join("usr/lib/syslog-ng"),
        ];
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?);
        Measured::start(command, &place.join("output"))
    }
}

/// Debian's folder of libraries for this machine.
const TRIPLET: &str = if cfg!(target_arch = "aarch64") { "aarch64-linux-gnu" } else { "x86_64-linux-gnu" };

/// Fetches packages, and what they need and this machine has not, and unpacks them.
fn unpack(packages: &[&str], folder: &Path) -> Result<()> {
    let plan =
        output(Command::new("apt-get").args(["-s", "install", "--no-install-recommends"]).args(packages))?;
    // `Inst NAME (VERSION ...)`
    let names: Vec<&str> =
        plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next()).collect();
    ensure!(
        !names.is_empty(),
        "apt-get knows nothing to install for {packages:?}; are they installed already?"
    );
    output(Command::new("apt-get").arg("download").args(names).current_dir(folder))?;
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            output(Command::new("dpkg").arg("-x").arg(&path).arg(folder))?;
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn rsyslogd(files: &Path, place: &Path, config: &Path) -> Command {
    let mut command = Command::new(files.join("usr/sbin/rsyslogd"));
    command.arg("-n").arg("-f").arg(config).arg("-i").arg(place.join("pid"));
    command.arg("-M").arg(files.join("usr/lib").join(TRIPLET).join("rsyslog"));
    command
}

/// `action.resumeRetryCount=-1`, `resubmitOnFailure`, a disk-assisted queue, `freshStartTail` off: rsyslog's manual for
/// imfile, omkafka and "reliable forwarding". Fields are taken by position, which is its fastest way.
fn rsyslog(place: &Path, task: Task<'_>) -> String {
    let Task { root, brokers, topic, json } = task;
    let (place, root) = (place.display(), root.display());
    let depth = root.to_string().split('/').count();
    let pod = depth + 1;
    let template = if json {
        r#"template(name="out" type="list" option.jsonf="on") {
  property(outname="@timestamp" name="msg" field.number="1" field.delimiter="32" format="jsonf")
  property(outname="message" name="msg" position.from="41" format="jsonf")
  property(outname="stream" name="msg" field.number="2" field.delimiter="32" format="jsonf")
  property(outname="log.offset" name="$!metadata!fileoffset" format="jsonf")
  property(outname="log.file.path" name="$!metadata!filename" format="jsonf")
  constant(outname="input.type" value="container" format="jsonf")
  property(outname="host.name" name="$myhostname" format="jsonf")
  property(outname="kubernetes.namespace" name="$.namespace" format="jsonf")
  property(outname="kubernetes.pod.name" name="$.name" format="jsonf")
  property(outname="kubernetes.pod.uid" name="$.uid" format="jsonf")
  constant(outname="kubernetes.container.name" value="web" format="jsonf")
  constant(outname="orchestrator.cluster.name" value="production" format="jsonf")
}"#
        .to_owned()
    } else {
        r#"template(name="out" type="list") { property(name="msg" position.from="41") }"#.to_owned()
    };
    let metadata = if json {
        format!(
            r#"set $.pod = field($!metadata!filename, 47, {pod});
  set $.namespace = field($.pod, 95, 1);
  set $.name = field($.pod, 95, 2);
  set $.uid = field($.pod, 95, 3);"#
        )
    } else {
        String::new()
    };
    format!(
        r#"global(workDirectory="{place}" maxMessageSize="64k")
module(load="imfile" mode="inotify")
module(load="omkafka")
{template}
input(type="imfile" file="{root}/*/*/*.log" tag="cri" ruleset="ship" addMetadata="on"
  reopenOnTruncate="on" freshStartTail="off")
ruleset(name="ship" queue.type="LinkedList" queue.filename="ship" queue.size="100000"
  queue.dequeueBatchSize="4096" queue.maxDiskSpace="1g" queue.saveOnShutdown="on" queue.timeoutEnqueue="2000000000") {{
  {metadata}
  action(type="omkafka" broker=["{brokers}"] topic="{topic}" template="out" partitions.auto="on"
    resubmitOnFailure="on" keepFailedMessages="on" failedMsgFile="{place}/failed" closeTimeout="60000"
    confParam=["compression.codec=lz4","acks=all","enable.idempotence=true","linger.ms=500",
      "message.timeout.ms=0","queue.buffering.max.messages=200000","batch.num.messages=100000"]
    action.resumeRetryCount="-1")
}}
"#
    )
}

fn syslog_ng_command(files: &Path, place: &Path, config: &Path) -> Command {
    let mut command = Command::new(files.join("usr/sbin/syslog-ng"));
    let modules = fs::read_dir(files.join("usr/lib/syslog-ng"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.is_dir());
    command.arg("--foreground").arg("--no-caps").arg("-f").arg(config);
    command.arg("--module-path").arg(modules.unwrap_or_default());
    command
        .arg("-R")
        .arg(place.join("persist"))
        .arg("-p")
        .arg(place.join("pid"))
        .arg("-c")
        .arg(place.join("control"));
    command
}

/// `flow-control` and a reliable disk buffer: syslog-ng's manual for `kafka-c` and "avoiding message loss".
fn syslog_ng(place: &Path, task: Task<'_>) -> String {
    let Task { root, brokers, topic, json } = task;
    let (place, root) = (place.display(), root.display());
    let message = if json {
        "$(format-json --auto-cast @timestamp=\"$cri_time\" message=\"$cri_body\" stream=\"$cri_stream\" \
         log.file.path=\"$FILE_NAME\" input.type=container host.name=\"$LOGHOST\" \
         kubernetes.namespace=\"$pod_namespace\" kubernetes.pod.name=\"$pod_name\" kubernetes.pod.uid=\"$pod_uid\" \
         kubernetes.container.name=web orchestrator.cluster.name=production log.offset=0)"
    } else {
        "$cri_body"
    };
    let path = if json {
        // The pod's folder, by its place in the path.
        let skipped: String =
            (1..=root.to_string().split('/').count()).map(|n| format!("\"skip{n}\",")).collect();
        format!(
            "parser {{ csv-parser(columns({skipped}\"pod_folder\",\"skip\") delimiters(\"/\") template(\"$FILE_NAME\") \
             flags(greedy)); }};\n  parser {{ csv-parser(columns(\"pod_namespace\",\"pod_name\",\"pod_uid\") \
             delimiters(\"_\") template(\"$pod_folder\")); }};"
        )
    } else {
        String::new()
    };
    format!(
        r#"@version: 3.38
options {{ use-dns(no); keep-hostname(yes); log-msg-size(65536); stats-freq(0); threaded(yes); }};
source s {{ wildcard-file(base-dir("{root}") filename-pattern("*.log") recursive(yes) max-files(1000)
  follow-freq(0.2) flags(no-parse) log-fetch-limit(1000) log-iw-size(1000000)); }};
destination d {{ kafka-c(bootstrap-servers("{brokers}") topic("{topic}") key("$FILE_NAME") message('{message}')
  config("compression.codec" => "lz4", "acks" => "all", "enable.idempotence" => "true", "linger.ms" => "500",
    "message.timeout.ms" => "0", "queue.buffering.max.messages" => "200000", "batch.num.messages" => "100000")
  disk-buffer(reliable(yes) disk-buf-size(1073741824) mem-buf-size(16777216) dir("{place}"))
  flush-timeout-on-shutdown(60000) workers(1)); }};
log {{ source(s);
  parser {{ csv-parser(columns("cri_time","cri_stream","cri_tag","cri_body") delimiters(" ") flags(greedy)); }};
  {path}
  destination(d); flags(flow-control); }};
"#
    )
}

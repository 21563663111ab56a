//! What real programs print, in containers of a real Docker engine, held against what arrives in a real Kafka.
//!
//! The programs are the machine's own (Debian's), seen from the containers. What they printed is known from their
//! attached streams, which pass no log driver.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use support::{Agent, Arrived, as_docker_keeps_it, ensure_same, put};
use taffrail_parts::docker::{Docker, IMAGE};
use taffrail_parts::{Kafka, KafkaOptions, packages};

/// Stack traces with causes, a logger's two-line records, Chinese text, and an exception that nobody catches.
const JAVA: &str = r#"
import java.nio.charset.StandardCharsets;
import java.io.PrintStream;
import java.util.logging.*;

public final class Harbour {
    static void land(int depth) {
        if (depth == 0) throw new IllegalStateException("锚地已满：“三号码头”\n\tsecond line of the message");
        try { land(depth - 1); } catch (IllegalStateException e) { throw new RuntimeException("depth " + depth, e); }
    }
    public static void main(String[] arguments) throws Exception {
        System.setOut(new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.err), true, StandardCharsets.UTF_8));
        Logger logger = Logger.getLogger("harbour");
        for (int i = 0; i < 40; i++) {
            System.out.println("{\"level\":\"INFO\",\"n\":" + i + ",\"msg\":\"订单 " + i + " 已确认 \\u0041 \\\\ 🚢\"}");
            logger.log(Level.WARNING, "squall {0}", i);
            try { land(i % 5); } catch (RuntimeException e) { e.printStackTrace(); logger.log(Level.SEVERE, "not landed", e); }
        }
        Thread other = new Thread(() -> { throw new AssertionError("nobody catches this"); }, "工作线程-1");
        other.start();
        other.join();
        System.out.print("no newline at the end");
        System.exit(3);
    }
}
"#;

/// A chained traceback, a progress bar that overwrites itself, colours, and bytes of another encoding.
const PYTHON: &str = r#"
import json, logging, sys, traceback, warnings
logging.basicConfig(stream=sys.stderr, level=logging.DEBUG, format="\x1b[36m%(asctime)s\x1b[0m %(levelname)s %(message)s")
for percent in range(0, 101, 5):
    sys.stdout.write("\r\x1b[Kloading %3d%% [%s%s]" % (percent, "█" * (percent // 10), " " * (10 - percent // 10)))
    sys.stdout.flush()
print()
print(json.dumps({"msg": "a\nb\t\"c\"", "zh": "海", "nested": {"log": "x\n", "time": None}}, ensure_ascii=False))
print(json.dumps({"blob": "x" * 40000}))
sys.stdout.flush()
sys.stdout.buffer.write("caf\u00e9 en latin1\n".encode("latin-1") + b"\x00\x01\x02 binary \xfe\xff\r\n")
sys.stdout.flush()
try:
    try:
        {}["missing"]
    except KeyError as error:
        raise ValueError("输入无效") from error
except ValueError:
    logging.exception("failed\nin two lines")
warnings.warn("this is deprecated")
raise SystemExit(traceback.format_stack() and "bye")
"#;

const PERL: &str = r#"use Carp qw(cluck confess); $| = 1;
sub reef { cluck("shallow $_[0]") } sub tide { reef($_[0] x 3) }
for (1..50) { print "tick $_\n"; tide("w" x $_) } print "\n" x 20; print "a\r\nb\r\r\n\r\n"; confess("aground");
"#;

const NGINX: &str = "daemon off; pid /tmp/nginx.pid; error_log /dev/stderr debug; user root;
events {}
http {
  log_format json escape=json '{\"t\":\"$time_iso8601\",\"uri\":\"$request_uri\",\"agent\":\"$http_user_agent\",\"s\":$status}';
  access_log /dev/stdout json; access_log /dev/stdout combined;
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fcgi; uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
  server { listen 127.0.0.1:8080; root /data; location /gone { return 410; } location /up { proxy_pass http://127.0.0.1:9; } }
}
";

/// A program: its name, and what a shell in the container does.
const PROGRAMS: [(&str, &str); 6] = [
    ("java", "java -Xmx64m -XX:+UseSerialGC -cp /data Harbour"),
    ("python", "PYTHONIOENCODING=utf-8 /usr/bin/python3 /data/bay.py"),
    ("perl", "/usr/bin/perl /data/reef.pl"),
    (
        "ls",
        "TERM=xterm /usr/bin/ls -lR --color=always /usr/share/perl5 /nonexistent; /usr/bin/openssl version -a",
    ),
    (
        "redis",
        "redis-server --port 0 --unixsocket /tmp/redis --loglevel debug --save '' --dir /tmp & \
         until redis-cli -s /tmp/redis ping >/tmp/pong 2>&1; do sleep 0.1; done; \
         redis-cli -s /tmp/redis debug log '你好 \"quoted\"' >/tmp/pong; redis-cli -s /tmp/redis shutdown nosave; wait",
    ),
    (
        "nginx",
        "nginx -c /data/nginx.conf & until wget -q -O /tmp/page http://127.0.0.1:8080/bay.py; do sleep 0.1; done; \
         for path in gone up '%E6%B8%AF?a=\"b\"'; do wget -q -O /tmp/page -U 'agent \"x\" \\ é' http://127.0.0.1:8080/$path; done; \
         kill $(cat /tmp/nginx.pid); wait",
    ),
];

/// What the program itself prints: what the engine has to say of the container, such as that this machine forwards nothing, it
/// says when the container is made.
fn run(engine: &Docker, name: &str, script: &str, data: &Path) -> Result<Output> {
    let mut arguments = vec!["create".to_owned(), "--name".to_owned(), name.to_owned()];
    for folder in ["/usr", "/lib", "/lib64", "/etc"] {
        arguments.extend(["--volume".to_owned(), format!("{folder}:{folder}:ro")]);
    }
    arguments.extend(["--volume".to_owned(), format!("{}:/data:ro", data.display())]);
    let script = format!("export PATH=/bin:/usr/bin:/usr/sbin; {script}");
    arguments.extend([IMAGE, "sh", "-c", &script].map(str::to_owned));
    let made = engine.docker(&arguments).output().with_context(|| format!("cannot make {name}"))?;
    ensure!(made.status.success(), "{name}: {}", String::from_utf8_lossy(&made.stderr));
    engine.docker(&["start", "--attach", name]).output().with_context(|| format!("cannot run {name}"))
}

fn sources(folder: &Path) -> Result<()> {
    packages::ensure(&[("javac", "default-jdk-headless"), ("openssl", "openssl"), ("perl", "perl")])?;
    packages::ensure(&[("redis-server", "redis-server"), ("nginx", "nginx-light")])?;
    packages::ensure_file(Path::new("/usr/bin/python3"), "python3")?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for (name, text) in [("Harbour.java", JAVA), ("bay.py", PYTHON), ("reef.pl", PERL), ("nginx.conf", NGINX)]
    {
        put(&folder.join(name), text.as_bytes())?;
    }
    let compiled =
        Command::new("javac").args(["-encoding", "UTF-8", "Harbour.java"]).current_dir(folder).output()?;
    ensure!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    Ok(())
}

#[test]
fn what_real_programs_print_arrives_as_they_printed_it() -> Result<()> {
    let kafka = Kafka::start(KafkaOptions::default())?;
    for topic in ["programs", "programs.ledger"] {
        kafka.create_topic(topic, 2)?;
    }
    let engine = Docker::start()?;
    let folder = tempfile::tempdir()?;
    sources(folder.path())?;
    let mut agent = Agent::new(&format!(
        "docker: {{socket: {}}}\nlogs: {{kubernetes: {{enabled: false}}, partial_timeout_ms: 1000}}\n{}",
        engine.socket().display(),
        Agent::output(&kafka, "programs")
    ))?;
    agent.start()?;
    let printed = PROGRAMS
        .iter()
        .map(|(name, script)| Ok((*name, run(&engine, name, script, folder.path())?)))
        .collect::<Result<Vec<_>>>()?;
    agent.settled()?;
    agent.stop()?;

    let arrived = Arrived::in_topic(&kafka, "programs")?;
    for (name, output) in &printed {
        for (stream, printed) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            if printed.is_empty() {
                continue;
            }
            let found = arrived.stream(name, stream).with_context(|| format!("{output:?}"))?;
            ensure_same(&format!("{name} {stream}"), &found.bytes, &as_docker_keeps_it(printed))?;
        }
    }
    Agent::verify_complete(&kafka, "programs")?;

    // What was held against each other is what it was meant to be.
    let said = |name, stream| -> Result<String> { Ok(arrived.stream(name, stream)?.messages().join("\n")) };
    for (name, stream, words) in [
        (
            "java",
            "stderr",
            "Exception in thread \"工作线程-1\" java.lang.AssertionError: nobody catches this\n\tat ",
        ),
        (
            "java",
            "stderr",
            "Caused by: java.lang.IllegalStateException: 锚地已满：“三号码头”\n\tsecond line of the message\n\tat ",
        ),
        ("java", "stdout", "已确认 \\u0041 \\\\ 🚢"),
        (
            "python",
            "stderr",
            "The above exception was the direct cause of the following exception:\n\nTraceback",
        ),
        ("python", "stdout", "\r\u{1b}[Kloading 100% [██████████]"),
        ("python", "stdout", "caf\u{fffd} en latin1\n\0\u{1}\u{2} binary \u{fffd}\u{fffd}"),
        ("perl", "stderr", "\tmain::tide(\"www"),
        ("ls", "stdout", "\u{1b}[01;34m"),
        ("redis", "stdout", "Redis is now ready to exit, bye bye..."),
        ("nginx", "stdout", "\"uri\":\"/gone\""),
        ("nginx", "stderr", "connect() failed (111: "),
    ] {
        let said = said(name, stream)?;
        ensure!(
            said.contains(words),
            "{name} has not said {words:?}, but {:?}",
            said.chars().take(2000).collect::<String>()
        );
    }
    assert_eq!(arrived.stream("java", "stdout")?.flagged("partial"), 1);
    Ok(())
}

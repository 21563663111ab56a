//! What recording adds to reading and writing a byte, and to every other program of the machine meanwhile.
//!
//! The programs that record look at every system call while a session is open that is recorded. So three things are compared, in turns
//! within one run: nobody is recorded; somebody else is; and who reads or writes is recorded himself.

use std::fs::File;
use std::io::Write as _;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use taffrail_benches::agent::{self, Form, Output};
use taffrail_benches::build;

use super::{Arguments, Bench, end, median};

/// More than the programs stay attached after the last recorded session.
const GONE: Duration = Duration::from_secs(8);
/// Neither the bound of a session nor the ring is what is measured.
const AUDIT: &str = "{enabled: true, pinned: false, policies: [{record: full}], \
                     recording: {session_bytes: 1073741824, ring_bytes: 67108864}}";

/// Prints a line for reading and one for writing.
pub(crate) fn measure(bench: &Bench, arguments: &Arguments) -> Result<()> {
    // Its count takes time of its own, at each system call.
    File::create("/proc/sys/kernel/bpf_stats_enabled")?.write_all(b"0")?;
    let program = build::agent(&arguments.profile)?;
    let place = bench.folder.path().join("recording");
    let more = format!("audit: {AUDIT}\n");
    let agent = agent::start(&program, &place, &place, Form::Json, Output::Discard, 0, &more)?;
    thread::sleep(Duration::from_secs(5));
    let first = bench.first()?;
    let file = bench.folder.path().join("bytes");
    File::create(&file)?.write_all(&vec![b'x'; arguments.bytes])?;
    let one = |inside: bool, what: &str| -> Result<f64> {
        let mut command = bench.command(inside, what, arguments.bytes);
        command.stdin(File::open(&file)?).stderr(File::create(bench.folder.path().join("written"))?);
        let output = command.output()?;
        ensure!(output.status.success(), "{what}: {:?}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
    };
    let whats = ["read", "write"];
    let mut measured = [const { [const { Vec::new() }; 3] }; 2];
    for _ in 0..arguments.rounds {
        thread::sleep(GONE);
        for (what, results) in whats.iter().zip(&mut measured) {
            results[0].push(one(false, what)?);
        }
        let other = bench.command(true, "wait", 0).stdin(Stdio::null()).spawn()?;
        thread::sleep(Duration::from_millis(500));
        for (what, results) in whats.iter().zip(&mut measured) {
            results[1].push(one(false, what)?);
            results[2].push(one(true, what)?);
        }
        end(other)?;
    }
    println!(
        "\n{:<20} {:>10} {:>22} {:>22}",
        "ns for a byte", "without", "beside a recording", "in a recording"
    );
    for (what, results) in whats.iter().zip(&measured) {
        let [without, beside, within] = [0, 1, 2].map(|case| median(&results[case]));
        let with =
            [beside, within].map(|ns| format!("{ns:>8.0} ({:+6.0}, {:>3.1}x)", ns - without, ns / without));
        println!("{what:<20} {without:>10.0} {:>22} {:>22}", with[0], with[1]);
    }
    end(first)?;
    agent.stop(Duration::from_secs(20))?;
    Ok(())
}

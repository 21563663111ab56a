//! Prints what the probe tells, for a person: `cargo run -p taffrail-exec --example sessions`, as root.

use std::time::Duration;

use taffrail_exec::probe::{Options, Probe};
use taffrail_exec::wire::Record;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let whole_node = std::env::args().any(|argument| argument == "--node");
    let mut probe = Probe::load(&Options { whole_node, ..Options::default() })?;
    eprintln!("watching");
    loop {
        probe.read(Duration::from_secs(1), |bytes| match Record::read(bytes) {
            Ok(record) => println!("{record:?}"),
            Err(error) => println!("{error}"),
        });
        eprintln!("{:?}", probe.counts());
    }
}

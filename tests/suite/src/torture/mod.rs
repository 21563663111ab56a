//! Containers that print at full speed, an agent that ships their logs to a real Kafka, and everything that goes wrong
//! with the two: kill -9, a broker killed or frozen, a full disk under the state, a damaged checkpoint, a clock that jumps.
//!
//! After each cycle of one fault or a few, printing pauses until everything printed so far is in the topic, each stream
//! in order, every byte right. That is checked by who printed it ([`oracle`]); the agent's ledger must add up, the repeats
//! must stay within the window that the configuration sets, and the agent's memory within its bound ([`reckon`]). `taffrail
//! verify` must say the same from the topics alone, every so often and at the end.
//!
//! The same seed makes the same containers and the same choices; the moments depend on the machine.

mod agent;
mod consumer;
mod faults;
mod lines;
mod oracle;
mod plan;
mod random;
mod reckon;
mod run;
mod summary;
mod writer;

pub use plan::Fault;
pub use run::{Options, default_directory, run};
pub use summary::Summary;

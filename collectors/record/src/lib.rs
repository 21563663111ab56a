//! What collectors produce, what shippers deliver, and the acknowledgement between them.
//!
//! This small crate is the contract of the whole agent. Collectors and shippers know it and never each other.
//!
//! # The life of a record
//!
//! A collector reads bytes, says whose they are ([`Origin`]) and where they lay ([`Source`], [`Span`]), and hands
//! them over as a [`Batch`] through its [`Outlet`]. With each batch travels a [`Receipt`]. The shipper settles
//! the receipt when the far side has the records, and only then does the source's [`Tracker`] let its position
//! pass them. What nobody settles is read again.
//!
//! # What a collector owes
//!
//! There are two kinds. A *pushed* collector ([`Collector`]) runs on its own thread and sends batches:
//!
//! 1. Every byte it reads ends in exactly one of three places: inside the span of a record that it sends, inside
//!    a loss that it declares ([`Account::lose`], [`Tracker::lose`]), or in the carry that it still holds back.
//! 2. It takes memory from the [`Budget`] before it reads, so back-pressure reaches the file and not the heap.
//! 3. Its durable position is what its trackers say ([`Tracker::position`]), never what it has read.
//! 4. Records of one lane (one stream of one container) leave in the order in which they were written.
//! 5. It calls [`Context::beat`] at least every few seconds and returns soon after [`Stop`] is raised.
//! 6. When a tracker says that a receipt was abandoned ([`Tracker::take_rewind`]), it reads again from the position.
//!
//! An *asked* collector ([`Ask`]) answers a scrape: it writes samples when called, keeps no thread but for a [`Worker`]
//! where a call may hang, and reports what it could not read as an error instead of a number. Absent is not zero, failed
//! is not absent.
//!
//! # What a shipper owes
//!
//! A shipper ([`Ship`]) takes batches, in order per origin, and
//!
//! 1. confirms a receipt only when the far side has durably taken every record of the batch, in any order between
//!    batches ([`Receipt::confirm`]);
//! 2. declares each record that the far side refuses for good, with its reason ([`Receipt::lose`]), before it
//!    confirms the rest;
//! 3. retries everything else for ever, with backoff, and says in its metrics that and why it does;
//! 4. holds no more memory than the batches' charges say, and releases a charge only by settling;
//! 5. on [`Ship::drain`] settles what it can before the deadline and lets the rest go unsettled: an abandoned receipt
//!    costs a repeat, never a loss.
//!
//! A shipper for asked collectors is an exposition: it implements [`Samples`] and is written to during a scrape.

mod ask;
mod batch;
mod budget;
mod collect;
mod gathered;
pub mod heap;
mod ledger;
mod origin;
mod receipt;
mod secret;
mod ship;
mod source;
mod statement;
mod tracker;
mod worker;

pub use ask::{Ask, AskError, Family, Kind, Labels, Samples, Series, family};
pub use batch::{Batch, BufferPool, Extra, Flags, Fragment, Payload, Record, Stream};
pub use budget::{Budget, Charge};
pub use collect::{Beat, Collector, Context, Outlet, OutletClosed, Stop};
pub use gathered::{Gathered, Sample};
pub use ledger::{Account, Balance, Count, Ledger, LossReason};
pub use origin::{Container, Input, Node, Origin, Pod, Told, ToldState};
pub use receipt::Receipt;
pub use secret::Secret;
pub use ship::{Ship, ShipStatus};
pub use source::{FileId, Source, Span};
pub use statement::{DeclaredLoss, Statement, StatementKind};
pub use tracker::{Changes, Hold, LostSpan, Tracker};
pub use worker::Worker;

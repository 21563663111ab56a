//! Elasticsearch and OpenSearch: each document stored exactly once, or kept as a dead letter with the reason.
//!
//! [`ElasticsearchShipper`] sends batches of events by `_bulk`, each document under its own id and only if it is not there
//! (`create`): what is sent twice is stored once. A receipt is settled when the engine's answer has, for each document of the
//! batch, an item that says it is stored, or that it was there already. What is refused for the moment (the engine is busy
//! or away, the index is blocked or missing, the login has expired) is sent again for ever, and the status says what to
//! do. What is refused for good (a conflict with the mapping, a document that is too large) is written to a file of dead
//! letters and declared lost, in this order; [`resend`] sends it again.
//!
//! With `data_stream` the promise is weaker: a stream's ids are unique within one backing index, so a document that is
//! sent again after a rollover can be there twice.
//!
//! [`check`] asks the nodes whether all this can work, for `taffrail check`.

mod answer;
mod auth;
mod bulk;
mod check;
mod client;
mod config;
mod dead;
mod error;
mod find;
mod index;
mod mapping;
mod metrics;
mod nodes;
mod product;
mod reason;
mod resend;
mod setup;
mod shipper;
mod size;
mod store;
mod trouble;
mod validate;
mod worker;

pub use check::{CheckReport, NodeReport, Remark, check};
pub use config::{Auth, ElasticsearchConfig, Tls};
pub use dead::buried;
pub use error::ElasticsearchError;
pub use find::find;
pub use index::{IndexError, IndexTemplate};
pub use product::Product;
pub use resend::{ResendSummary, resend};
pub use shipper::ElasticsearchShipper;
pub use validate::Invalid;

//! Tailing as a whole: the log collector on real files, with a shipper that the tests command.

mod agent;
mod model;
mod scenarios;
mod writer;

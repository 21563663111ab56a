//! The taffrail daemon and its command.

pub mod config;
pub mod verify;

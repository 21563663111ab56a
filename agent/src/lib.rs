//! The taffrail daemon and its command.

pub mod components;
pub mod config;
pub mod tap;
pub mod verify;

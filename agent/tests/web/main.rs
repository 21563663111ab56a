//! The HTTP listener under a web configuration: TLS, users, and what changes while it runs.

mod changes;
mod file;
mod kit;
mod tls;
mod users;

//! Exec audit: who came into a container from outside, and every process that came of it.
//!
//! The probe in the kernel (`probe/audit.bpf.c`) groups processes into sessions and numbers what it tells of each, so that
//! what is missing is known by its session.

pub mod probe;
pub mod wire;

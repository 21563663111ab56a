//! Container metrics under the names of cAdvisor, from cgroups of version 1, 2 and both together.
//!
//! Each cgroup's files stay open and are read when somebody asks, at most once a second; nothing is done in between. New
//! and removed cgroups are taken up from the kernel's notices ([`tree`]); whose a cgroup is follows from its path
//! ([`name`]), what it is called from [`Names`], and a metric never waits for either. A figure that cannot be read is
//! missing and counted by its reason, never 0.
//!
//! From the first scrape on two threads wait: one for containers to end ([`ends`]), which wakes when the kernel says so; one
//! to look at what containers have written ([`written`]), which wakes when somebody asks, at most once a minute.

mod asking;
mod attribute;
mod config;
mod containers;
mod devices;
mod ends;
mod entry;
mod families;
mod figures;
mod filesystems;
mod hierarchy;
mod kubelet;
mod labels;
mod machine;
mod name;
mod names;
mod network;
mod processes;
mod tree;
mod upper;
mod v1;
mod v2;
mod written;

pub use config::{Compat, ContainersConfig, LabelStyle, SWITCHED_BACK};
pub use containers::Containers;
pub use hierarchy::{Hierarchy, Layout};
pub use kubelet::KubeletPaths;
pub use machine::MachineFacts;
pub use names::{ContainerName, Names, PodName};
pub use written::{AskLayers, Layer};

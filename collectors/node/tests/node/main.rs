//! The node's collectors on machines that are folders of files.

mod faults;
mod fixtures;
mod shown;
mod textfile;

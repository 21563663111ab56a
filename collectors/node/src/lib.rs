//! The node's metrics under node_exporter's names.

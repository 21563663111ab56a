//! Why something is tried again, and what a person can do about it.

/// A kind of trouble; a label value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    Busy,
    ServerError,
    Connection,
    Certificate,
    Timeout,
    Credentials,
    Forbidden,
    Blocked,
    IndexMissing,
    IndexUnusable,
    Shards,
    WrongProduct,
    Garbled,
    TooLarge,
    Refused,
}

impl Reason {
    pub(crate) const ALL: [Reason; 15] = [
        Reason::Busy,
        Reason::ServerError,
        Reason::Connection,
        Reason::Certificate,
        Reason::Timeout,
        Reason::Credentials,
        Reason::Forbidden,
        Reason::Blocked,
        Reason::IndexMissing,
        Reason::IndexUnusable,
        Reason::Shards,
        Reason::WrongProduct,
        Reason::Garbled,
        Reason::TooLarge,
        Reason::Refused,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Reason::Busy => "busy",
            Reason::ServerError => "server_error",
            Reason::Connection => "connection",
            Reason::Certificate => "certificate",
            Reason::Timeout => "timeout",
            Reason::Credentials => "credentials",
            Reason::Forbidden => "forbidden",
            Reason::Blocked => "blocked",
            Reason::IndexMissing => "index_missing",
            Reason::IndexUnusable => "index_unusable",
            Reason::Shards => "shards",
            Reason::WrongProduct => "wrong_product",
            Reason::Garbled => "garbled",
            Reason::TooLarge => "too_large",
            Reason::Refused => "refused",
        }
    }

    /// The remedy for who does not wait.
    pub(crate) fn advice(self) -> &'static str {
        self.remedy().trim_end_matches("; documents wait")
    }

    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Reason::Busy => "give the engine more memory or nodes if it stays so; documents wait",
            Reason::ServerError => "look into the engine's log; documents wait",
            Reason::Connection => {
                "check elasticsearch.hosts (https or http?), the network, and that the engine runs; documents wait"
            }
            Reason::Certificate => {
                "give the authority that signs the engine's certificate as elasticsearch.tls.ca_file, and ask by a name that is in \
                 it; if both are right, somebody stands between; documents wait"
            }
            Reason::Timeout => {
                "see whether the engine is stuck, or raise elasticsearch.timeout_ms; documents wait"
            }
            Reason::Credentials => {
                "check the credentials under elasticsearch.auth (files are read again for each attempt); documents wait"
            }
            Reason::Forbidden => {
                "allow this user create_doc and create_index (OpenSearch: write and create_index) on the index; documents wait"
            }
            Reason::Blocked => {
                "lift the index's block: free disk space, then set index.blocks.read_only_allow_delete and \
                 index.blocks.write to null; documents wait"
            }
            Reason::IndexMissing => {
                "create the index, or let action.auto_create_index have its name; documents wait"
            }
            Reason::IndexUnusable => {
                "open the index, or give the alias one write index, or choose another elasticsearch.index; documents wait"
            }
            Reason::Shards => {
                "delete old indices or raise cluster.max_shards_per_node: the cluster takes no more indices; documents wait"
            }
            Reason::WrongProduct => {
                "check elasticsearch.hosts: what answers there is neither Elasticsearch nor OpenSearch, or wants https; documents wait"
            }
            Reason::Garbled => {
                "check what lies between the agent and the engine: its answers do not fit the requests; documents wait"
            }
            Reason::TooLarge => "smaller requests are tried",
            Reason::Refused => "look into the engine's log; documents wait",
        }
    }
}

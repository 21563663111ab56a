//! The part of the CRI's messages, version `runtime.v1`, that is read or sent here. Fields that are not named are
//! skipped while decoding and cost no memory.

use std::collections::BTreeMap;

/// Asks for everything: a request without fields.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Everything {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VersionResponse {
    /// `containerd`, `cri-o`, `docker`.
    #[prost(string, tag = "2")]
    pub(crate) runtime_name: String,
    #[prost(string, tag = "3")]
    pub(crate) runtime_version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Sandboxes {
    #[prost(message, repeated, tag = "1")]
    pub(crate) items: Vec<Sandbox>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Sandbox {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) metadata: Option<SandboxMetadata>,
    /// Unix nanoseconds.
    #[prost(int64, tag = "4")]
    pub(crate) created_at: i64,
    #[prost(btree_map = "string, string", tag = "5")]
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SandboxMetadata {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) uid: String,
    #[prost(string, tag = "3")]
    pub(crate) namespace: String,
    #[prost(uint32, tag = "4")]
    pub(crate) attempt: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SandboxStatusRequest {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(bool, tag = "2")]
    pub(crate) verbose: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SandboxStatusResponse {
    /// JSON texts of the runtime's own, for debugging.
    #[prost(btree_map = "string, string", tag = "2")]
    pub(crate) info: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Containers {
    #[prost(message, repeated, tag = "1")]
    pub(crate) containers: Vec<Container>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Container {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) pod_sandbox_id: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "4")]
    pub(crate) image: Option<ImageSpec>,
    /// Mostly the image's id.
    #[prost(string, tag = "5")]
    pub(crate) image_ref: String,
    /// Unix nanoseconds.
    #[prost(int64, tag = "7")]
    pub(crate) created_at: i64,
    #[prost(btree_map = "string, string", tag = "8")]
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ContainerMetadata {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(uint32, tag = "2")]
    pub(crate) attempt: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ImageSpec {
    /// A name, or the image's id.
    #[prost(string, tag = "1")]
    pub(crate) image: String,
    /// As the pod's author wrote it; older runtimes do not keep it.
    #[prost(string, tag = "18")]
    pub(crate) user_specified_image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Images {
    #[prost(message, repeated, tag = "1")]
    pub(crate) images: Vec<Image>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Image {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) repo_tags: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) repo_digests: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ContainerStatsRequest {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ContainerStatsResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) stats: Option<ContainerStats>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ContainerStats {
    #[prost(message, optional, tag = "4")]
    pub(crate) writable_layer: Option<FilesystemUsage>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FilesystemUsage {
    #[prost(message, optional, tag = "2")]
    pub(crate) id: Option<FilesystemId>,
    #[prost(message, optional, tag = "3")]
    pub(crate) used_bytes: Option<Number>,
    #[prost(message, optional, tag = "4")]
    pub(crate) inodes_used: Option<Number>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FilesystemId {
    /// A folder on it.
    #[prost(string, tag = "1")]
    pub(crate) mountpoint: String,
}

/// A number that may be missing.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Number {
    #[prost(uint64, tag = "1")]
    pub(crate) value: u64,
}

/// containerd's own services beside the CRI: what it tells of programs that it was asked to begin.
pub(crate) mod containerd {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct SubscribeRequest {
        /// What any of these fits is told.
        #[prost(string, repeated, tag = "1")]
        pub(crate) filters: Vec<String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Envelope {
        #[prost(message, optional, tag = "1")]
        pub(crate) timestamp: Option<Timestamp>,
        #[prost(string, tag = "2")]
        pub(crate) namespace: String,
        /// What kind of event it is.
        #[prost(string, tag = "3")]
        pub(crate) topic: String,
        #[prost(message, optional, tag = "4")]
        pub(crate) event: Option<Any>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub(crate) struct Timestamp {
        #[prost(int64, tag = "1")]
        pub(crate) seconds: i64,
        #[prost(int32, tag = "2")]
        pub(crate) nanos: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Any {
        #[prost(bytes = "vec", tag = "2")]
        pub(crate) value: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ExecStarted {
        #[prost(string, tag = "1")]
        pub(crate) container: String,
        #[prost(string, tag = "2")]
        pub(crate) exec: String,
        #[prost(uint32, tag = "3")]
        pub(crate) pid: u32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Exited {
        #[prost(string, tag = "1")]
        pub(crate) container: String,
        /// That of the container: its first process has ended.
        #[prost(string, tag = "2")]
        pub(crate) exec: String,
        #[prost(uint32, tag = "4")]
        pub(crate) status: u32,
        #[prost(message, optional, tag = "5")]
        pub(crate) at: Option<Timestamp>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Namespaces {
        #[prost(message, repeated, tag = "1")]
        pub(crate) items: Vec<Namespace>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Namespace {
        #[prost(string, tag = "1")]
        pub(crate) name: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Tasks {
        #[prost(message, repeated, tag = "1")]
        pub(crate) items: Vec<Task>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Task {
        /// The container's id.
        #[prost(string, tag = "2")]
        pub(crate) id: String,
        #[prost(int32, tag = "4")]
        pub(crate) status: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct PidsRequest {
        #[prost(string, tag = "1")]
        pub(crate) container: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Pids {
        #[prost(message, repeated, tag = "1")]
        pub(crate) items: Vec<Pid>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Pid {
        #[prost(uint32, tag = "1")]
        pub(crate) pid: u32,
        /// [`Details`], where it was begun at somebody's request.
        #[prost(message, optional, tag = "2")]
        pub(crate) info: Option<Any>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Details {
        #[prost(string, tag = "1")]
        pub(crate) exec: String,
    }
}

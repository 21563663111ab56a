//! Who may speak to the broker, and the certificates by which both sides know each other.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::pki::{Authority, Leaf};

/// A user known by PLAIN and by SCRAM-SHA-512.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// The name.
    pub name: &'static str,
    /// The password.
    pub password: &'static str,
}

/// A user who may do nothing until [`super::Kafka::allow`], where the broker authorizes.
pub const USER: User = User { name: "sailor", password: "rope-and-tar" };

/// A user who may do everything.
pub const ADMIN: User = User { name: "captain", password: "log-and-line" };

/// Files by which a client takes part in TLS.
#[derive(Clone, Debug)]
pub struct ClientFiles {
    /// The authority that signed the broker's certificate, PEM.
    pub authority: PathBuf,
    /// A certificate the broker accepts, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// Makes an authority, the broker's certificate and a client's, in `folder`.
pub(crate) fn make(folder: &Path) -> Result<ClientFiles> {
    let authority = Authority::new(folder)?;
    let broker = authority.issue(&Leaf {
        name: "broker",
        subject: "/CN=broker",
        usage: "serverAuth,clientAuth",
        alternatives: "IP:127.0.0.1,DNS:localhost",
    })?;
    let client = authority.issue(&Leaf {
        name: "client",
        subject: "/CN=client",
        usage: "clientAuth",
        alternatives: "",
    })?;
    let mut keystore = std::fs::read_to_string(&broker.key)?;
    keystore += &std::fs::read_to_string(&broker.certificate)?;
    crate::tools::write(&folder.join("broker.pem"), keystore)?;
    Ok(ClientFiles { authority: authority.certificate(), certificate: client.certificate, key: client.key })
}

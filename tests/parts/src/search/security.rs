//! TLS and logins of an engine with the security plugin.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::pki::{Authority, Leaf};

/// The user whom the plugin's own configuration knows; may do everything.
pub const LOGIN: (&str, &str) = ("admin", "admin");

/// Files by which a client takes part in TLS.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The authority that signed the engine's certificate, PEM.
    pub authority: PathBuf,
    /// A certificate of the same authority for a client, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// Makes an authority and both sides' certificates in `folder`, which lies in the node's folder of configuration.
pub(crate) fn make(folder: &Path) -> Result<TlsFiles> {
    let authority = Authority::new(folder)?;
    authority.issue(&Leaf {
        name: "node",
        subject: "/CN=node",
        usage: "serverAuth,clientAuth",
        alternatives: "IP:127.0.0.1,DNS:localhost",
    })?;
    let client = authority.issue(&Leaf {
        name: "client",
        subject: "/CN=client",
        usage: "clientAuth",
        alternatives: "",
    })?;
    Ok(TlsFiles { authority: authority.certificate(), certificate: client.certificate, key: client.key })
}

/// The plugin's settings for certificates in `folder`, by its name below the folder of configuration.
pub(crate) fn settings(folder: &Path) -> Result<Vec<(String, String)>> {
    let name = folder.file_name().context("no folder for certificates")?.to_string_lossy();
    let mut settings = Vec::new();
    for layer in ["transport", "http"] {
        for (setting, file) in [("pemcert", "node.crt"), ("pemkey", "node.key"), ("pemtrustedcas", "ca.crt")]
        {
            let setting = format!("plugins.security.ssl.{layer}.{setting}_filepath");
            settings.push((setting, format!("{name}/{file}")));
        }
    }
    for (setting, value) in [
        ("ssl.http.enabled", "true"),
        ("ssl.transport.enforce_hostname_verification", "false"),
        ("allow_default_init_securityindex", "true"),
        ("authcz.admin_dn", "CN=nobody"),
        ("nodes_dn", "CN=node"),
    ] {
        settings.push((format!("plugins.security.{setting}"), value.to_owned()));
    }
    Ok(settings)
}

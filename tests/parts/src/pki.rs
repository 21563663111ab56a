//! Throw-away certificates, by openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{packages, tools};

/// A certificate authority in a folder: `ca.crt` and `ca.key`.
#[derive(Debug)]
pub(crate) struct Authority {
    folder: PathBuf,
}

/// A certificate to be issued.
#[derive(Debug)]
pub(crate) struct Leaf<'a> {
    /// The name of its files.
    pub(crate) name: &'a str,
    /// The subject as openssl writes it, `/CN=...`.
    pub(crate) subject: &'a str,
    /// The extended key usages.
    pub(crate) usage: &'a str,
    /// The subject's alternative names, as openssl writes them; none when empty.
    pub(crate) alternatives: &'a str,
}

/// The files of a certificate.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Makes an authority in a folder.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        packages::ensure(&[("openssl", "openssl")])?;
        tools::create_folder(folder)?;
        let authority = Self { folder: folder.to_owned() };
        authority.make_key("ca")?;
        authority.openssl(&[
            "req",
            "-x509",
            "-new",
            "-key",
            "ca.key",
            "-out",
            "ca.crt",
            "-days",
            "365",
            "-subj",
            "/CN=taffrail tests",
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
        ])?;
        Ok(authority)
    }

    /// The authority's certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Signs a certificate for a new key.
    pub(crate) fn issue(&self, leaf: &Leaf<'_>) -> Result<Issued> {
        let file = |ending: &str| format!("{}.{ending}", leaf.name);
        let (request, extensions, certificate) = (file("csr"), file("ext"), file("crt"));
        let key = self.make_key(leaf.name)?;
        tools::write(&self.folder.join(&extensions), extensions_of(leaf))?;
        self.openssl(&["req", "-new", "-key", &file("key"), "-subj", leaf.subject, "-out", &request])?;
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "365",
            "-extfile",
            &extensions,
            "-out",
            &certificate,
        ])?;
        Ok(Issued { certificate: self.folder.join(certificate), key })
    }

    /// Makes a key that no certificate is issued for, `NAME.key` and its public half `NAME.pub`.
    pub(crate) fn key_pair(&self, name: &str) -> Result<()> {
        self.make_key(name)?;
        self.openssl(&["pkey", "-in", &format!("{name}.key"), "-pubout", "-out", &format!("{name}.pub")])
    }

    fn make_key(&self, name: &str) -> Result<PathBuf> {
        let file = format!("{name}.key");
        self.openssl(&[
            "genpkey",
            "-quiet",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
            &file,
        ])?;
        Ok(self.folder.join(file))
    }

    fn openssl(&self, arguments: &[&str]) -> Result<()> {
        tools::run(Command::new("openssl").args(arguments).current_dir(&self.folder))?;
        Ok(())
    }
}

fn extensions_of(leaf: &Leaf<'_>) -> String {
    let mut text = format!(
        "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature,keyEncipherment\nextendedKeyUsage={}\n",
        leaf.usage
    );
    if !leaf.alternatives.is_empty() {
        text += &format!("subjectAltName={}\n", leaf.alternatives);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issued_certificate_is_trusted_by_its_authority() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new(folder.path())?;
        let leaf = Leaf { name: "x", subject: "/CN=x", usage: "serverAuth", alternatives: "IP:127.0.0.1" };
        let issued = authority.issue(&leaf)?;
        let verify = |ip: &str| {
            let mut openssl = Command::new("openssl");
            openssl.args(["verify", "-purpose", "sslserver", "-verify_ip", ip, "-CAfile"]);
            tools::run(openssl.arg(authority.certificate()).arg(&issued.certificate))
        };
        verify("127.0.0.1")?;
        assert!(verify("127.0.0.2").is_err(), "a certificate for another address passed");
        Ok(())
    }
}

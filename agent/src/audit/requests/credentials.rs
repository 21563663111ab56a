//! What the address of the webhook is known by: certificate and key, the authority that agents trust each other by, and the secret in
//! the path. From a folder, as a Secret is mounted; taken anew when it changes.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ring::hmac;
use ring::rand::SystemRandom;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The files of the folder.
pub(crate) const CERTIFICATE: &str = "tls.crt";
pub(crate) const KEY: &str = "tls.key";
pub(crate) const CA: &str = "ca.crt";
pub(crate) const TOKEN: &str = "token";

/// How often the folder is looked at.
pub(super) const PERIOD: Duration = Duration::from_secs(2);
/// When a certificate is to be made anew, in days before its end; and a day, in seconds.
const FEW_DAYS: i64 = 30;
const DAY: i64 = 86_400;
/// The shortest secret that is none to be guessed.
const SHORTEST: usize = 20;

/// What was read.
pub(crate) struct Credentials {
    /// For who comes.
    pub(crate) server: Arc<ServerConfig>,
    /// For who is gone to.
    pub(crate) client: Arc<ClientConfig>,
    /// When the first of the certificates is over.
    pub(crate) until: Timestamp,
    token: String,
    key: hmac::Key,
    tag: hmac::Tag,
}

/// How long a certificate is still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    Good,
    /// So many days are left, which are few.
    Days(i64),
    Over,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// What is in the folder.
    ///
    /// # Errors
    /// Which file cannot be used, why, and what to do.
    pub(crate) fn read(folder: &Path) -> Result<Credentials, String> {
        let path = |name: &str| folder.join(name);
        let wrong = |name: &str, why: &dyn fmt::Display| {
            format!(
                "{}: {why}; `taffrail audit-webhook` makes it, and audit.requests.credentials_directory names the folder",
                path(name).display()
            )
        };
        let chain = certificates(&path(CERTIFICATE)).map_err(|why| wrong(CERTIFICATE, &why))?;
        let key = PrivateKeyDer::from_pem_file(path(KEY)).map_err(|why| wrong(KEY, &why))?;
        let mut roots = RootCertStore::empty();
        let mut until = ends(&chain).unwrap_or(Timestamp::MAX);
        for certificate in certificates(&path(CA)).map_err(|why| wrong(CA, &why))? {
            until = until.min(ends([&certificate]).unwrap_or(Timestamp::MAX));
            roots.add(certificate).map_err(|why| wrong(CA, &why))?;
        }
        let token = fs::read_to_string(path(TOKEN)).map_err(|why| wrong(TOKEN, &why))?.trim().to_owned();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if token.len() < SHORTEST || !token.bytes().all(is_plain) {
            return Err(wrong(TOKEN, &"it is no text of at least 20 letters, digits, `-` and `_`"));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let server = server.and_then(|it| it.with_no_client_auth().with_single_cert(chain, key));
        let mut server = server.map_err(|why| wrong(KEY, &why))?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let client =
            client.map_err(|why| wrong(CA, &why))?.with_root_certificates(roots).with_no_client_auth();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| "the system gives no random numbers".to_owned())?;
        let tag = hmac::sign(&key, token.as_bytes());
        Ok(Credentials { server: Arc::new(server), client: Arc::new(client), until, token, key, tag })
    }

    /// How it stands with the certificates at this time.
    pub(crate) fn validity(&self, now: Timestamp) -> Validity {
        match self.until.duration_since(now).as_secs() {
            ..0 => Validity::Over,
            left if left < FEW_DAYS * DAY => Validity::Days(left / DAY),
            _ => Validity::Good,
        }
    }

    /// Whether this is the secret. It takes as long whatever differs.
    pub(super) fn is_token(&self, given: &str) -> bool {
        hmac::verify(&self.key, given.as_bytes(), self.tag.as_ref()).is_ok()
    }

    /// The path of an agent's own door, for another one.
    pub(super) fn path(&self, what: &str) -> String {
        format!("/{}/{what}", self.token)
    }
}

/// When the first of them ends, of those that say it.
fn ends<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> Option<Timestamp> {
    let end = |certificate: &CertificateDer<'_>| {
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
    };
    certificates.into_iter().filter_map(end).min()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match found {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err("it holds no certificate".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The folder as it was read last.
#[derive(Debug)]
pub(super) struct Watched {
    folder: PathBuf,
    seen: Vec<Option<Vec<u8>>>,
}

impl Watched {
    /// The folder, and what is in it.
    ///
    /// # Errors
    /// As [`Credentials::read`].
    pub(super) fn open(folder: &Path) -> Result<(Watched, Credentials), String> {
        let watched = Watched { folder: folder.to_owned(), seen: contents(folder) };
        Ok((watched, Credentials::read(folder)?))
    }

    /// What is in it, if that is other than before.
    pub(super) fn look(&mut self) -> Option<Result<Credentials, String>> {
        let now = contents(&self.folder);
        if now == self.seen {
            return None;
        }
        self.seen = now;
        Some(Credentials::read(&self.folder))
    }
}

/// Small files: what is in them says more surely than their times whether they have changed.
fn contents(folder: &Path) -> Vec<Option<Vec<u8>>> {
    [CERTIFICATE, KEY, CA, TOKEN].iter().map(|name| fs::read(folder.join(name)).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_first_certificate_to_end_is_what_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let mut file = fs::File::create(folder.path().join(name)).expect("made");
            file.write_all(text.as_bytes()).expect("written");
        };
        let made = |year: i32| {
            let mut params = rcgen::CertificateParams::new(vec!["a".to_owned()]).expect("params");
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(year, 3, 1);
            let key = rcgen::KeyPair::generate().expect("a key");
            (params.self_signed(&key).expect("signed").pem(), key.serialize_pem())
        };
        let ((leaf, key), (authority, _)) = (made(2031), made(2030));
        for (name, text) in [(CERTIFICATE, &leaf), (KEY, &key), (CA, &authority)] {
            write(name, text);
        }
        write(TOKEN, "abcdefghijklmnopqrstuvwxyz");
        let credentials = Credentials::read(folder.path()).expect("good");
        let at = |day: &str| credentials.validity(day.parse().expect("a time"));
        assert_eq!(at("2030-01-29T00:00:00Z"), Validity::Good);
        assert_eq!(at("2030-01-31T00:00:00Z"), Validity::Days(29));
        assert_eq!(at("2030-02-28T23:00:00Z"), Validity::Days(0));
        assert_eq!(at("2030-03-01T00:00:01Z"), Validity::Over);
    }
}

//! TLS as the file asks for it.
//!
//! Guarantee: what is offered is never weaker than asked. What cannot be had is refused, unless without it the
//! listener is only more strict.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::file::{Wrong, wrong};
use super::{beside, curves, suites};

const CERT: &str = "tls_server_config.cert_file";
const KEY: &str = "tls_server_config.key_file";
const CA: &str = "tls_server_config.client_ca_file";
const AUTH: &str = "tls_server_config.client_auth_type";
const SANS: &str = "tls_server_config.client_allowed_sans";
const MIN: &str = "tls_server_config.min_version";
const MAX: &str = "tls_server_config.max_version";
const SUITES: &str = "tls_server_config.cipher_suites";
const CURVES: &str = "tls_server_config.curve_preferences";

/// The section.
#[derive(PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tls {
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    client_auth_type: ClientAuth,
    client_ca_file: Option<PathBuf>,
    client_allowed_sans: Vec<String>,
    min_version: Version,
    max_version: Option<Version>,
    cipher_suites: Vec<String>,
    prefer_server_cipher_suites: bool,
    curve_preferences: Vec<String>,
}

impl Default for Tls {
    fn default() -> Self {
        Tls {
            cert_file: None,
            key_file: None,
            client_auth_type: ClientAuth::NoClientCert,
            client_ca_file: None,
            client_allowed_sans: Vec::new(),
            min_version: Version::Tls12,
            max_version: None,
            cipher_suites: Vec::new(),
            prefer_server_cipher_suites: true,
            curve_preferences: Vec::new(),
        }
    }
}

/// What is asked of clients.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
enum ClientAuth {
    NoClientCert,
    RequestClientCert,
    RequireAnyClientCert,
    VerifyClientCertIfGiven,
    RequireAndVerifyClientCert,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
enum Version {
    #[serde(rename = "TLS10")]
    Tls10,
    #[serde(rename = "TLS11")]
    Tls11,
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

impl Tls {
    /// Whether the section is there and asks for nothing.
    pub(super) fn says_nothing(&self) -> bool {
        *self == Tls::default()
    }

    /// The files that it names.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.cert_file, &self.key_file, &self.client_ca_file].into_iter().filter_map(|path| path.as_deref())
    }

    /// Whether only clients with a certificate that was verified come in.
    pub(super) fn requires_certificate(&self) -> bool {
        self.client_auth_type == ClientAuth::RequireAndVerifyClientCert
    }
}

/// The section as rustls takes it; paths are relative to `folder`.
pub(super) fn server_config(tls: &Tls, folder: &Path) -> Result<Arc<ServerConfig>, Vec<Wrong>> {
    let identity = identity(tls, folder);
    let terms = terms(tls);
    let (identity, terms) = match (identity, terms) {
        (Ok(identity), Ok(terms)) => (identity, terms),
        (identity, terms) => return Err(identity.err().into_iter().chain(terms.err()).collect()),
    };
    build(tls, folder, identity, terms).map(Arc::new).map_err(|found| vec![found])
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);
type Terms = (Arc<CryptoProvider>, Vec<&'static SupportedProtocolVersion>);

fn build(
    tls: &Tls,
    folder: &Path,
    (chain, key): Identity,
    (provider, versions): Terms,
) -> Result<ServerConfig, Wrong> {
    let verifier = verifier(tls, folder, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .map_err(|error| wrong(SUITES, format!("{error}; leave the key out for every suite")))?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| misfit(tls, folder, &error))?;
    config.ignore_client_order = tls.prefer_server_cipher_suites;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Certificate and key that do not make one identity.
fn misfit(tls: &Tls, folder: &Path, error: &Error) -> Wrong {
    let shown = |path: &Option<PathBuf>| {
        beside(folder, path.as_deref().unwrap_or(Path::new(""))).display().to_string()
    };
    let (cert, key) = (shown(&tls.cert_file), shown(&tls.key_file));
    match error {
        Error::InconsistentKeys(_) => wrong(
            KEY,
            format!(
                "the key in {key} is not that of the certificate in {cert}; write the two that belong together"
            ),
        ),
        Error::InvalidCertificate(_) => {
            wrong(CERT, format!("the certificate in {cert} cannot be used: {error}; have it issued again"))
        }
        _ => wrong(
            KEY,
            format!(
                "the key in {key} cannot be used: {error}; write an RSA, ECDSA (P-256, P-384) or Ed25519 key"
            ),
        ),
    }
}

fn identity(tls: &Tls, folder: &Path) -> Result<Identity, Wrong> {
    let missing =
        |key| wrong(key, "TLS needs it; name a PEM file, or leave out tls_server_config for plain HTTP");
    let cert = tls.cert_file.as_deref().ok_or_else(|| missing(CERT))?;
    let key = tls.key_file.as_deref().ok_or_else(|| missing(KEY))?;
    Ok((certificates(CERT, &beside(folder, cert))?, private_key(&beside(folder, key))?))
}

fn contents(key: &str, path: &Path) -> Result<Vec<u8>, Wrong> {
    std::fs::read(path).map_err(|error| {
        let remedy = "put a PEM file there, readable for the agent's user, or name another";
        wrong(key, format!("cannot read {}: {error}; {remedy}", path.display()))
    })
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let bytes = contents(key, path)?;
    let found: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(wrong(
            key,
            format!("{} holds no certificate; it must have a `BEGIN CERTIFICATE` in PEM", path.display()),
        )),
        Err(_) => Err(wrong(key, format!("{} is no whole PEM file; write it again", path.display()))),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Wrong> {
    let bytes = contents(KEY, path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        let remedy = "it must have a `BEGIN PRIVATE KEY` in PEM, without a passphrase";
        wrong(KEY, format!("{} holds no key that can be used; {remedy}", path.display()))
    })
}

/// Versions, suites and groups.
fn terms(tls: &Tls) -> Result<Terms, Wrong> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites = suites::chosen(SUITES, &tls.cipher_suites)?;
    provider.kx_groups = curves::chosen(CURVES, &tls.curve_preferences)?;
    let mut versions = versions(tls)?;
    versions.retain(|version| provider.cipher_suites.iter().any(|suite| suite.version() == *version));
    if versions.is_empty() {
        return Err(wrong(
            SUITES,
            "none of these suites is one of the versions that are left; name others, or leave the key out",
        ));
    }
    Ok((Arc::new(provider), versions))
}

/// TLS 1.2 is the oldest there is here: who asks for an older one at least gets a newer, who asks for one at most
/// cannot get it.
fn versions(tls: &Tls) -> Result<Vec<&'static SupportedProtocolVersion>, Wrong> {
    let max = tls.max_version.unwrap_or(Version::Tls13);
    if max < Version::Tls12 {
        return Err(wrong(MAX, "versions before TLS 1.2 are not spoken here; write TLS12 or TLS13"));
    }
    let wanted = [(Version::Tls13, &TLS13), (Version::Tls12, &TLS12)];
    let within = wanted.into_iter().filter(|(version, _)| (tls.min_version..=max).contains(version));
    let versions: Vec<_> = within.map(|(_, version)| version).collect();
    if versions.is_empty() {
        return Err(wrong(MIN, "it is newer than max_version; write the same or an older one"));
    }
    Ok(versions)
}

fn verifier(
    tls: &Tls,
    folder: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, Wrong> {
    if !tls.client_allowed_sans.is_empty() {
        return Err(wrong(
            SANS,
            "names of clients are not compared here, so more would come in than asked for; leave the key out, and use an authority that signs only for clients that may",
        ));
    }
    let any = |mandatory| Arc::new(AnyCertificate { mandatory, provider: Arc::clone(provider) });
    let unused = || match tls.client_ca_file {
        Some(_) => Err(wrong(
            CA,
            "clients are not asked for what it signed; set client_auth_type to RequireAndVerifyClientCert, or leave the file out",
        )),
        None => Ok(()),
    };
    match tls.client_auth_type {
        ClientAuth::NoClientCert => unused().map(|()| None),
        ClientAuth::RequestClientCert => unused().map(|()| Some(any(false) as _)),
        ClientAuth::RequireAnyClientCert => unused().map(|()| Some(any(true) as _)),
        ClientAuth::VerifyClientCertIfGiven => verified(tls, folder, provider, false).map(Some),
        ClientAuth::RequireAndVerifyClientCert => verified(tls, folder, provider, true).map(Some),
    }
}

fn verified(
    tls: &Tls,
    folder: &Path,
    provider: &Arc<CryptoProvider>,
    mandatory: bool,
) -> Result<Arc<dyn ClientCertVerifier>, Wrong> {
    let ca = tls.client_ca_file.as_deref().ok_or_else(|| {
        wrong(AUTH, "it verifies clients, and nothing says who signs them; set client_ca_file")
    })?;
    let path = beside(folder, ca);
    let unusable = |error: &dyn std::fmt::Display| {
        wrong(
            CA,
            format!(
                "{} has a certificate that cannot be used: {error}; write the authority's own",
                path.display()
            ),
        )
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(CA, &path)? {
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if mandatory { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| unusable(&error))
}

/// Takes any certificate whose key the client really has.
#[derive(Debug)]
struct AnyCertificate {
    mandatory: bool,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

//! Cipher suites under the names that Go gives them.

use rustls::crypto::ring::cipher_suite as known;
use rustls::{ProtocolVersion, SupportedCipherSuite};

use super::file::{Wrong, wrong};
use crate::config::nearest;

/// Each name with the suite. Those without are known and not offered: they lack forward secrecy or authenticate
/// what was encrypted too late.
const SUITES: [(&str, Option<SupportedCipherSuite>); 23] = [
    ("TLS_AES_128_GCM_SHA256", Some(known::TLS13_AES_128_GCM_SHA256)),
    ("TLS_AES_256_GCM_SHA384", Some(known::TLS13_AES_256_GCM_SHA384)),
    ("TLS_CHACHA20_POLY1305_SHA256", Some(known::TLS13_CHACHA20_POLY1305_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Some(known::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Some(known::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        Some(known::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", Some(known::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256)),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Some(known::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Some(known::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384)),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", Some(known::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256)),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", Some(known::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", None),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_128_CBC_SHA256", None),
    ("TLS_RSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_128_GCM_SHA256", None),
    ("TLS_RSA_WITH_AES_256_GCM_SHA384", None),
    ("TLS_RSA_WITH_3DES_EDE_CBC_SHA", None),
];

/// The suites of these names, all of them when there are none. As in Go the names choose among those of TLS 1.2;
/// those of TLS 1.3 are all offered unless one of them is named too.
pub(super) fn chosen(key: &str, names: &[String]) -> Result<Vec<SupportedCipherSuite>, Wrong> {
    let all = rustls::crypto::ring::default_provider().cipher_suites;
    if names.is_empty() {
        return Ok(all);
    }
    let mut suites = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let found = SUITES.iter().find(|(known, _)| known == name);
        let (_, suite) = found.ok_or_else(|| unknown(format!("{key}[{index}]"), name))?;
        suites.extend(*suite);
    }
    if suites.is_empty() {
        return Err(wrong(key, format!("none of these suites is offered; name one of {}", offered())));
    }
    let is_new = |suite: &SupportedCipherSuite| suite.version().version == ProtocolVersion::TLSv1_3;
    if !suites.iter().any(is_new) {
        suites.extend(all.into_iter().filter(is_new));
    }
    Ok(suites)
}

fn unknown(key: String, name: &str) -> Wrong {
    let remedy = match nearest(name, SUITES.iter().map(|(known, _)| *known)) {
        Some(near) => format!("`{name}` is no cipher suite; did you mean `{near}`?"),
        None => format!("`{name}` is no cipher suite; name one of {}", offered()),
    };
    wrong(key, remedy)
}

fn offered() -> String {
    let names = SUITES.iter().filter(|(_, suite)| suite.is_some()).map(|(name, _)| format!("`{name}`"));
    names.collect::<Vec<_>>().join(", ")
}

//! Files that are refused with their place and a remedy, and files that mean what they say.

use crate::kit::{Authority, Folder, TLS};

fn hash(cost: u32) -> String {
    bcrypt::hash("right", cost).expect("hashed")
}

#[test]
fn a_mistake_is_refused_with_its_file_its_key_and_a_remedy() {
    let folder = Folder::new("");
    folder.write("other.key", &folder.authority.issue().key);
    folder.write("empty.pem", "");
    folder.write("torn.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    let tls = |more: &str| format!("{TLS}  {more}\n");
    for (text, says) in [
        (
            "tls_server_confg: {}\n".to_owned(),
            "web.yml:1:1: unknown key `tls_server_confg`; did you mean `tls_server_config`?",
        ),
        (
            tls("cert_fil: x"),
            "web.yml:4:3: unknown key `cert_fil` in `tls_server_config`; did you mean `cert_file`?",
        ),
        (
            "tls_server_config: {key_file: server.key}\n".to_owned(),
            "`tls_server_config.cert_file`: TLS needs it; name a PEM file",
        ),
        (
            "tls_server_config: {cert_file: server.crt}\n".to_owned(),
            "`tls_server_config.key_file`: TLS needs it; name a PEM file",
        ),
        (
            TLS.replace("server.crt", "none.crt"),
            "web.yml:2:3: `tls_server_config.cert_file`: cannot read none.crt: No such file",
        ),
        (
            TLS.replace("server.crt", "empty.pem"),
            "web.yml:2:3: `tls_server_config.cert_file`: empty.pem holds no certificate; it must have",
        ),
        (
            TLS.replace("server.crt", "torn.pem"),
            "web.yml:2:3: `tls_server_config.cert_file`: torn.pem is no whole PEM file; write it again",
        ),
        (
            TLS.replace("server.key", "server.crt"),
            "web.yml:3:3: `tls_server_config.key_file`: server.crt holds no key that can be used; it must",
        ),
        (
            TLS.replace("server.key", "other.key"),
            "web.yml:3:3: `tls_server_config.key_file`: the key in other.key is not that of the certificate in server.crt; write",
        ),
        (
            tls("client_auth_type: RequireAll"),
            "`tls_server_config.client_auth_type` takes one of `NoClientCert`, `RequestClientCert`",
        ),
        (
            tls("client_auth_type: VerifyClientCertIfGiven"),
            "`tls_server_config.client_auth_type`: it verifies clients, and nothing says who signs them; set client_ca_file",
        ),
        (
            tls("client_ca_file: ca.crt"),
            "web.yml:4:3: `tls_server_config.client_ca_file`: clients are not asked",
        ),
        (
            tls("client_ca_file: none.crt\n  client_auth_type: RequireAndVerifyClientCert"),
            "client_ca_file`: cannot read none.crt",
        ),
        (
            tls("client_allowed_sans: [a]"),
            "`tls_server_config.client_allowed_sans`: names of clients are not compared here",
        ),
        (
            tls("min_version: TLS14"),
            "takes one of `TLS10`, `TLS11`, `TLS12`, `TLS13`, not `TLS14`; did you mean",
        ),
        (
            tls("max_version: TLS11"),
            "`tls_server_config.max_version`: versions before TLS 1.2 are not spoken here",
        ),
        (
            tls("min_version: TLS13\n  max_version: TLS12"),
            "`tls_server_config.min_version`: it is newer than max_version",
        ),
        (
            tls("cipher_suites: [TLS_AES_128_GCM_SHA265]"),
            "`TLS_AES_128_GCM_SHA265` is no cipher suite; did you mean `TLS_AES_128_GCM_SHA256`?",
        ),
        (
            tls("cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]"),
            "`tls_server_config.cipher_suites`: none of these suites is offered; name one of `TLS_AES",
        ),
        (
            tls("max_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]"),
            "`tls_server_config.cipher_suites`: none of these suites is one of the versions",
        ),
        (tls("curve_preferences: [CurveP257]"), "`CurveP257` is no curve; did you mean `CurveP256`?"),
        (
            tls("curve_preferences: [CurveP521]"),
            "`tls_server_config.curve_preferences`: none of these is offered; name X25519",
        ),
        (
            "rate_limit: {interval: 1s, burst: 20}\n".to_owned(),
            "web.yml:1:1: `rate_limit`: requests are not limited here",
        ),
        (
            "http_server_config:\n  headers:\n    a b: c\n".to_owned(),
            "web.yml:3:5: `http_server_config.headers.a b`: this is no name of a header",
        ),
        ("http_server_config:\n  headers:\n    Date: c\n".to_owned(), "the agent sets this header itself"),
        (
            "http_server_config:\n  headers:\n    X-A: \"a\\nb\"\n".to_owned(),
            "the value holds characters that no header can",
        ),
        (
            "basic_auth_users:\n  ann: hunter2\n".to_owned(),
            "web.yml:2:3: `basic_auth_users.ann`: this is no bcrypt hash; make one by",
        ),
        (
            "basic_auth_users: hunter2\n".to_owned(),
            "web.yml:1:19: `basic_auth_users` takes keys of its own, not text",
        ),
        (
            "basic_auth_users:\n  - hunter2\n".to_owned(),
            "`basic_auth_users` takes keys of its own, not a list",
        ),
        (
            "basic_auth_users:\n  ann: |\n    hunter2\n  ann: hunter2\n".to_owned(),
            "key `ann` is written twice",
        ),
        ("basic_auth_users:\n  ann:\n    x: hunter2\n".to_owned(), "web.yml:"),
        (
            format!("basic_auth_users:\n  ann: {}\n", hash(4).replace("$04$", "$31$")),
            "a check of cost 31 would take too long",
        ),
        (format!("basic_auth_users:\n  'a:b': {}\n", hash(4)), "a user has a name, without a colon in it"),
    ] {
        folder.write("web.yml", &text);
        let refusal = folder.refusal();
        assert!(refusal.contains(says), "{text}\nwants {says}\n  got {refusal}");
        assert!(!refusal.contains("hunter2") && !refusal.contains("$2b$"), "a secret is shown: {refusal}");
    }
}

#[test]
fn every_mistake_is_said_at_once() {
    let folder = Folder::new(
        "tls_server_config: {cert_file: a, key_file: server.key, curve_preferences: [x]}\nbasic_auth_users: {a: b, c: d}\n",
    );
    let refusal = folder.refusal();
    for says in ["cert_file`: cannot read a", "`x` is no curve", "basic_auth_users.a`", "basic_auth_users.c`"]
    {
        assert!(refusal.contains(says), "{says} in {refusal}");
    }
}

#[test]
fn a_file_that_is_not_there_is_said_at_the_key_that_names_it() {
    let folder = Folder::new("");
    std::fs::remove_file(folder.path("web.yml")).expect("removed");
    let refusal = folder.refusal();
    assert!(refusal.starts_with("`http.web_config`: cannot read web.yml: No such file"), "{refusal}");
}

#[test]
fn what_is_harmless_is_accepted() {
    let folder = Folder::new("");
    folder.write("stranger.crt", &Authority::new().pem());
    for (text, tls, authenticates) in [
        ("", false, false),
        ("tls_server_config: {}\n", false, false),
        ("tls_server_config:\nhttp_server_config:\nbasic_auth_users:\n", false, false),
        ("http_server_config: {http2: false, headers: {X-Frame-Options: deny}}\n", false, false),
        (&format!("{TLS}  min_version: TLS10\n  prefer_server_cipher_suites: false\n"), true, false),
        (&format!("{TLS}  curve_preferences: [CurveP521, X25519]\n"), true, false),
        (
            &format!(
                "{TLS}  cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n"
            ),
            true,
            false,
        ),
        (&format!("{TLS}  client_auth_type: RequireAnyClientCert\n"), true, false),
        (
            &format!("{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: stranger.crt\n"),
            true,
            true,
        ),
        (
            &format!("basic_auth_users: {{ann: {}, bob: {}}}\n", hash(4), hash(5).replace("$2b$", "$2y$")),
            false,
            true,
        ),
    ] {
        folder.write("web.yml", text);
        let web = folder.open().unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert_eq!((web.has_tls(), web.authenticates()), (tls, authenticates), "{text}");
    }
}

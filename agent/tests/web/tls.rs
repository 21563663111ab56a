//! Real handshakes.

use std::io::{Read as _, Write as _};

use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, SupportedProtocolVersion};

use crate::kit::{Authority, Client, TLS, agent, ask};

static OLD: &[&SupportedProtocolVersion] = &[&TLS12];
static NEW: &[&SupportedProtocolVersion] = &[&TLS13];

#[test]
fn metrics_come_over_tls() {
    let agent = agent(TLS);
    let answer = agent.get(Some(&agent.client()), "/metrics", "");
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("taffrail_ledger_read_bytes 0\n"), "{}", answer.body);
    let stranger = Client { roots: Authority::new().pem(), ..agent.client() };
    assert_eq!(agent.get(Some(&stranger), "/metrics", "").status, 0, "the client trusts another authority");
}

#[test]
fn versions_and_suites_are_those_that_are_asked_for() {
    const SUITE: &str = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305";
    for (more, versions, expected) in [
        ("", rustls::ALL_VERSIONS, Some(ProtocolVersion::TLSv1_3)),
        ("  max_version: TLS12\n", rustls::ALL_VERSIONS, Some(ProtocolVersion::TLSv1_2)),
        ("  max_version: TLS12\n", NEW, None),
        ("  min_version: TLS13\n", OLD, None),
        (&format!("  cipher_suites: [{SUITE}]\n"), OLD, Some(ProtocolVersion::TLSv1_2)),
    ] {
        let agent = agent(&format!("{TLS}{more}"));
        let connected = Client { versions, ..agent.client() }.connect(&agent).ok();
        assert_eq!(connected.as_ref().and_then(|it| it.conn.protocol_version()), expected, "{more}");
        if more.contains(SUITE) {
            let suite =
                connected.and_then(|it| it.conn.negotiated_cipher_suite()).expect("connected").suite();
            assert_eq!(suite.as_str(), Some("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"));
        }
    }
}

#[test]
fn clients_are_asked_for_what_the_type_says() {
    let stranger = Authority::new().issue();
    for (kind, ca, [none, strange, ours]) in [
        ("NoClientCert", false, [200, 200, 200]),
        ("RequestClientCert", false, [200, 200, 200]),
        ("RequireAnyClientCert", false, [0, 200, 200]),
        ("VerifyClientCertIfGiven", true, [200, 0, 200]),
        ("RequireAndVerifyClientCert", true, [0, 0, 200]),
    ] {
        let ca = if ca { "  client_ca_file: ca.crt\n" } else { "" };
        let agent = agent(&format!("{TLS}  client_auth_type: {kind}\n{ca}"));
        let own = agent.folder.authority.issue();
        for versions in [OLD, NEW] {
            let status = |identity| {
                let client = Client { identity, versions, ..agent.client() };
                agent.get(Some(&client), "/healthz", "").status
            };
            let found = [status(None), status(Some(stranger.clone())), status(Some(own.clone()))];
            assert_eq!(found, [none, strange, ours], "{kind} {versions:?}");
        }
    }
}

#[test]
fn plain_http_is_told_to_come_over_tls_and_the_connection_ends() {
    let agent = agent(TLS);
    let mut stream = agent.plain();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("closed cleanly");
    assert!(answer.starts_with("HTTP/1.0 400 ") && answer.contains("https://"), "{answer}");
}

#[test]
fn handshakes_that_hang_hold_up_nobody() {
    let agent = agent(TLS);
    let mut idle: Vec<_> = (0..200).map(|_| agent.plain()).collect();
    assert_eq!(agent.get(Some(&agent.client()), "/metrics", "").status, 200);
    idle.extend((0..500).map(|_| agent.plain()));
    for _ in 0..3 {
        assert_eq!(
            agent.get(Some(&agent.client()), "/metrics", "").status,
            200,
            "more than may be under way"
        );
    }
    let mut first = idle.swap_remove(0);
    assert_eq!(first.read(&mut [0]).unwrap_or(0), 0, "the oldest has given way");
}

#[test]
fn one_connection_takes_several_requests_and_headers_go_on_all_of_them() {
    let agent = agent(&format!("{TLS}http_server_config:\n  headers:\n    X-Frame-Options: deny\n"));
    let mut stream = agent.client().connect(&agent).expect("connects");
    for (path, status) in [("/healthz", 200), ("/nothing", 404), ("/-/config", 200)] {
        let answer = ask(&mut stream, path, "").expect("answered");
        assert_eq!(answer.status, status);
        assert!(answer.head.contains("x-frame-options: deny\r\n"), "{}", answer.head);
    }
}

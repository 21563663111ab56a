//! What is taken anew while connections live, and what is not.

use std::time::{Duration, Instant};

use crate::kit::{Agent, TLS, agent, ask, basic, der, shown};

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(180);
    while !holds() {
        assert!(Instant::now() < patience, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn served(agent: &Agent) -> Vec<u8> {
    shown(&agent.client().connect(agent).expect("connects"))
}

#[test]
fn a_new_certificate_is_for_new_connections_and_old_ones_live() {
    let agent = agent(TLS);
    let mut old = agent.client().connect(&agent).expect("connects");
    let first = shown(&old);
    let new = agent.folder.authority.issue();
    agent.folder.certify(&new);
    agent.web.reload().expect("good");
    assert_eq!(served(&agent), der(&new.certificate));
    assert_ne!(first, der(&new.certificate));
    for _ in 0..2 {
        assert_eq!(ask(&mut old, "/metrics", "").expect("lives").status, 200);
    }
}

#[test]
fn a_change_is_taken_without_being_asked_for() {
    let agent = agent(TLS);
    let new = agent.folder.authority.issue();
    agent.folder.certify(&new);
    until("the new certificate is shown", || served(&agent) == der(&new.certificate));
}

#[test]
fn a_broken_file_keeps_the_old_and_a_mended_one_is_taken() {
    let agent = agent(TLS);
    let before = served(&agent);
    let other = agent.folder.authority.issue();
    agent.folder.write("server.key", &other.key);
    let said = agent.web.reload().expect_err("refused").to_string();
    assert!(said.contains("is not that of the certificate in"), "{said}");
    assert_eq!(served(&agent), before);
    agent.folder.certify(&other);
    until("the mended file is taken", || served(&agent) == der(&other.certificate));
    for broken in ["x: [\n", "tls_server_config: {cert_file: none, key_file: none}\n"] {
        agent.folder.write("web.yml", broken);
        agent.web.reload().expect_err("refused");
        assert_eq!(served(&agent), der(&other.certificate));
    }
}

#[test]
fn a_running_listener_does_not_become_more_open() {
    let hash = bcrypt::hash("right", 4).expect("hashed");
    let users = format!("basic_auth_users: {{ann: {hash}}}\n");
    let agent = agent(&format!("{TLS}{users}"));
    for (text, lost) in [("", "tls_server_config"), (TLS, "basic_auth_users"), (&users, "tls_server_config")]
    {
        agent.folder.write("web.yml", text);
        let said = agent.web.reload().expect_err("refused").to_string();
        assert!(said.contains(&format!("`{lost}` is not there any more")), "{said}");
        assert_eq!(agent.get(Some(&agent.client()), "/metrics", "").status, 401);
    }
}

#[test]
fn users_change_for_the_next_request_and_tls_for_the_next_connection() {
    let user = |password: &str| {
        format!("basic_auth_users: {{ann: {}}}\n", bcrypt::hash(password, 4).expect("hashed"))
    };
    let agent = agent("");
    let mut old = agent.plain();
    assert_eq!(ask(&mut old, "/healthz", "").expect("answered").status, 200);
    agent.folder.write("web.yml", &user("one"));
    agent.web.reload().expect("good");
    assert_eq!(ask(&mut old, "/healthz", "").expect("answered").status, 401);
    assert_eq!(ask(&mut old, "/healthz", &basic("ann", "one")).expect("answered").status, 200);
    agent.folder.write("web.yml", &format!("{TLS}{}", user("two")));
    agent.web.reload().expect("good");
    assert_eq!(ask(&mut old, "/healthz", &basic("ann", "one")).expect("answered").status, 401);
    assert_eq!(ask(&mut old, "/healthz", &basic("ann", "two")).expect("answered").status, 200);
    assert_eq!(agent.get(None, "/healthz", &basic("ann", "two")).status, 400, "TLS is spoken now");
    assert_eq!(agent.get(Some(&agent.client()), "/healthz", &basic("ann", "two")).status, 200);
}

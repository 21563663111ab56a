//! Who is let in by a password.

use std::io::Write as _;

use crate::kit::{TLS, agent, ask, basic};

fn users(cost: u32) -> String {
    let hash = |password: &str| bcrypt::hash(password, cost).expect("hashed");
    format!("basic_auth_users:\n  ann: {}\n  bob: {}\n", hash("right"), hash("other"))
}

#[test]
fn only_a_user_with_the_right_password_comes_in_and_every_page_asks() {
    let agent = agent(&users(4));
    for path in ["/", "/metrics", "/healthz", "/readyz", "/-/config", "/nothing"] {
        let refused = agent.get(None, path, "");
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.head.contains("www-authenticate: basic realm="), "{}", refused.head);
    }
    for (headers, status) in [
        (basic("ann", "right"), 200),
        (basic("ann", "right"), 200),
        (basic("ann", "wrong"), 401),
        (basic("ann", ""), 401),
        (basic("ann", "other"), 401),
        (basic("bob", "right"), 401),
        (basic("bob", "other"), 200),
        (basic("eve", "right"), 401),
        (basic("eve", "other"), 401),
        (basic("", ""), 401),
        (basic("ann", "right").replace("Basic", "bAsIc"), 200),
        (basic("ann", "right").replace("Basic", "Bearer"), 401),
        ("Authorization: Basic\r\n".to_owned(), 401),
        ("Authorization: Basic !\r\n".to_owned(), 401),
        ("Authorization: Basic YW5u\r\n".to_owned(), 401),
        ("Authorization: \r\n".to_owned(), 401),
    ] {
        assert_eq!(agent.get(None, "/healthz", &headers).status, status, "{headers}");
    }
}

#[test]
fn users_and_certificates_go_together() {
    let agent = agent(&format!("{TLS}{}", users(4)));
    let client = agent.client();
    assert_eq!(agent.get(Some(&client), "/metrics", "").status, 401);
    assert_eq!(agent.get(Some(&client), "/metrics", &basic("ann", "right")).status, 200);
}

#[test]
fn no_page_shows_a_hash() {
    let agent = agent(&users(4));
    let shown = agent.get(None, "/-/config", &basic("ann", "right"));
    assert!(shown.body.contains("web.yml") && !shown.body.contains("$2b$"), "{}", shown.body);
}

#[test]
fn a_thousand_wrong_passwords_are_answered_and_keep_nobody_out_who_was_in() {
    let agent = agent(&users(9));
    assert_eq!(agent.get(None, "/healthz", &basic("ann", "right")).status, 200);
    let request = |number: usize| {
        let mut stream = agent.plain();
        let user = ["ann", "eve"][number % 2];
        let header = basic(user, &format!("guess {number}"));
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n{header}\r\n").expect("sent");
        stream
    };
    let guesses: Vec<_> = (0..1000).map(request).collect();
    assert_eq!(
        agent.get(None, "/healthz", &basic("ann", "right")).status,
        200,
        "while the guesses are checked"
    );
    let mut busy = 0;
    for mut stream in guesses {
        let answer = ask(&mut stream, "/healthz", "").expect("answered");
        assert!([401, 429].contains(&answer.status), "{answer:?}");
        busy += usize::from(answer.status == 429);
    }
    assert!(busy > 0, "not all are checked");
    assert_eq!(agent.get(None, "/healthz", &basic("bob", "other")).status, 200, "the rush is over");
}

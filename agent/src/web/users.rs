//! Users and their passwords, checked by bcrypt.
//!
//! Guarantee: a check costs tens of milliseconds of a core, so few run at once and few wait; nobody who guesses can
//! take the machine, learn which users there are, or keep out a client that has been let in before.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr as _;
use std::sync::Arc;

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use parking_lot::Mutex;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::Semaphore;

use super::file::{Wrong, wrong};

/// How many checks run at once.
const RUNNING: usize = 2;
/// How many run or wait; whoever comes beyond is told to come again.
const QUEUE: usize = 64;
/// A check takes twice as long with each step; at this one it takes seconds.
const MOST_COST: u32 = 16;

/// What is known of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may come in.
    Right,
    /// It gave no user and password, or wrong ones.
    Wrong,
    /// Too many are being checked.
    Busy,
}

/// The checks under way, of every configuration there has been.
pub(super) struct Checks {
    running: Arc<Semaphore>,
    queue: Semaphore,
}

impl Checks {
    pub(super) fn new() -> Self {
        Checks { running: Arc::new(Semaphore::new(RUNNING)), queue: Semaphore::new(QUEUE) }
    }
}

/// The users of one configuration.
pub(crate) struct Users {
    /// By user, in order.
    hashes: Vec<(String, String)>,
    /// Of this process and configuration alone.
    key: hmac::Key,
    /// The password that each was let in with, as a keyed hash.
    remembered: Mutex<HashMap<usize, hmac::Tag>>,
}

/// A user and a password as a client gave them.
struct Given {
    user: Vec<u8>,
    password: Vec<u8>,
}

impl Users {
    /// The users of a file; nothing when it names none.
    pub(super) fn new(users: &BTreeMap<String, String>) -> Result<Option<Users>, Vec<Wrong>> {
        let bad: Vec<Wrong> = users.iter().filter_map(|(user, hash)| refused(user, hash)).collect();
        if !bad.is_empty() {
            return Err(bad);
        }
        if users.is_empty() {
            return Ok(None);
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| vec![wrong("basic_auth_users", "the system gives no random numbers")])?;
        let hashes = users.iter().map(|(user, hash)| (user.clone(), hash.clone())).collect();
        Ok(Some(Users { hashes, key, remembered: Mutex::default() }))
    }

    /// Who may come in with this header.
    pub(super) async fn judge(&self, checks: &Checks, authorization: Option<&HeaderValue>) -> Verdict {
        let Some(given) = authorization.and_then(|header| given(header.as_bytes())) else {
            return Verdict::Wrong;
        };
        let (known, index) = self.find(&given.user);
        if known && self.remembers(index, &given) {
            return Verdict::Right;
        }
        let Ok(_place) = checks.queue.try_acquire() else { return Verdict::Busy };
        let Ok(turn) = Arc::clone(&checks.running).acquire_owned().await else { return Verdict::Busy };
        if known && self.remembers(index, &given) {
            return Verdict::Right;
        }
        let tag = hmac::sign(&self.key, &given.password);
        let hash = self.hashes[index].1.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let right = bcrypt::verify(&given.password, &hash).unwrap_or(false);
            // Held until the work is done, also when the client has gone.
            drop(turn);
            right
        });
        match checked.await {
            Ok(true) if known => {
                self.remembered.lock().insert(index, tag);
                Verdict::Right
            }
            _ => Verdict::Wrong,
        }
    }

    /// Whether there is such a user, and where. One that is not there is checked against another's hash, always the
    /// same, and refused then: it takes as long.
    fn find(&self, user: &[u8]) -> (bool, usize) {
        match self.hashes.binary_search_by(|(known, _)| known.as_bytes().cmp(user)) {
            Ok(index) => (true, index),
            Err(_) => {
                let tag = hmac::sign(&self.key, user);
                let number =
                    tag.as_ref().iter().fold(0_usize, |sum, byte| sum.rotate_left(8) ^ usize::from(*byte));
                (false, number % self.hashes.len())
            }
        }
    }

    fn remembers(&self, index: usize, given: &Given) -> bool {
        let tag = self.remembered.lock().get(&index).copied();
        tag.is_some_and(|tag| hmac::verify(&self.key, &given.password, tag.as_ref()).is_ok())
    }
}

/// `Basic`, and `user:password` in base64.
fn given(header: &[u8]) -> Option<Given> {
    let (scheme, rest) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let pair = STANDARD.decode(rest.trim_ascii()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(Given { user: pair[..colon].to_vec(), password: pair[colon + 1..].to_vec() })
}

/// What is wrong with a user's line. The hash is not shown: it may be the password itself.
fn refused(user: &str, hash: &str) -> Option<Wrong> {
    let key = format!("basic_auth_users.{user}");
    if user.is_empty() || user.contains(':') {
        return Some(wrong(key, "a user has a name, without a colon in it; write another"));
    }
    let form = hash.len() == 60 && ["$2a$", "$2b$", "$2y$"].iter().any(|begin| hash.starts_with(begin));
    match HashParts::from_str(hash).ok().filter(|_| form).map(|parts| parts.get_cost()) {
        None => Some(wrong(
            key,
            "this is no bcrypt hash; make one by `htpasswd -nBC 10 USER`, and write what stands after the colon",
        )),
        Some(4..=MOST_COST) => None,
        Some(cost) => {
            let remedy = format!(
                "a check of cost {cost} would take too long; make the hash with a cost of 4 to {MOST_COST}, such as 10"
            );
            Some(wrong(key, remedy))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        let hash = |cost| bcrypt::hash("right", cost).expect("hashed");
        let users = [("ann", 4), ("bob", 5)].map(|(user, cost)| (user.to_owned(), hash(cost)));
        Users::new(&BTreeMap::from(users)).ok().flatten().expect("good")
    }

    #[test]
    fn who_is_not_known_is_checked_against_the_same_hash_each_time() {
        let users = users();
        assert_eq!((users.find(b"ann"), users.find(b"bob")), ((true, 0), (true, 1)));
        let strangers: Vec<(bool, usize)> =
            (0..64).map(|number| users.find(format!("eve{number}").as_bytes())).collect();
        assert!(strangers.iter().all(|(known, _)| !known));
        assert!(
            (0..2).all(|index| strangers.contains(&(false, index))),
            "no cost is that of strangers alone"
        );
        assert_eq!(strangers[7], users.find(b"eve7"));
    }

    #[tokio::test]
    async fn only_a_right_password_is_remembered_and_only_for_its_user() {
        let (users, checks) = (users(), Checks::new());
        for (user, password, verdict, known) in [
            ("ann", "wrong", Verdict::Wrong, 0),
            ("eve", "right", Verdict::Wrong, 0),
            ("ann", "right", Verdict::Right, 1),
            ("ann", "right", Verdict::Right, 1),
            ("ann", "wrong", Verdict::Wrong, 1),
            ("bob", "wrong", Verdict::Wrong, 1),
        ] {
            let header = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
            let header = HeaderValue::from_str(&header).expect("a header");
            assert_eq!(users.judge(&checks, Some(&header)).await, verdict, "{user} {password}");
            assert_eq!(users.remembered.lock().len(), known, "{user} {password}");
        }
    }

    #[tokio::test]
    async fn beyond_the_queue_nobody_waits() {
        let (users, checks) = (users(), Checks::new());
        let _all = checks.queue.acquire_many(QUEUE as u32).await.expect("free");
        let header = HeaderValue::from_static("Basic YW5uOnJpZ2h0");
        assert_eq!(users.judge(&checks, Some(&header)).await, Verdict::Busy);
        assert_eq!(users.judge(&checks, None).await, Verdict::Wrong, "nothing to check");
    }
}

//! The file itself: its keys, and the way from its text to what is in force.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use axum::http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use super::tls::{self, Tls};
use super::users::Users;
use super::{Loaded, beside};
use crate::config::{Given, Problem, Strict};

/// The keys of the file.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct WebFile {
    tls_server_config: Option<Tls>,
    http_server_config: Http,
    /// Passwords as bcrypt hashes, by user.
    basic_auth_users: BTreeMap<String, String>,
    rate_limit: Option<BTreeMap<String, String>>,
}

/// How answers travel.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Http {
    /// Whether HTTP/2 may be spoken. It is not: clients speak HTTP/1.1.
    http2: bool,
    /// What goes on every answer.
    headers: BTreeMap<String, String>,
}

impl Default for Http {
    fn default() -> Self {
        Http { http2: true, headers: BTreeMap::new() }
    }
}

/// A value that cannot be used.
pub(super) struct Wrong {
    /// Its dotted key.
    pub(super) key: String,
    /// What is wrong with it and what to do instead.
    pub(super) remedy: String,
}

/// A mistake at `key`.
pub(super) fn wrong(key: impl Into<String>, remedy: impl Into<String>) -> Wrong {
    Wrong { key: key.into(), remedy: remedy.into() }
}

/// What reading came to, and the files as they were right before.
pub(super) struct Taken {
    pub(super) stamps: Stamps,
    pub(super) loaded: Result<Loaded, Vec<Problem>>,
}

/// Which state each of some files is in.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Stamps(Vec<(PathBuf, Option<[i64; 6]>)>);

impl Stamps {
    fn add(&mut self, path: PathBuf) {
        let stamp = stamp(&path);
        self.0.push((path, stamp));
    }

    /// The same files as they are now.
    pub(super) fn again(&self) -> Stamps {
        Stamps(self.0.iter().map(|(path, _)| (path.clone(), stamp(path))).collect())
    }
}

/// What differs once somebody has written to a file or put another in its place.
fn stamp(path: &Path) -> Option<[i64; 6]> {
    let found = fs::metadata(path).ok()?;
    let numbers = [found.dev(), found.ino(), found.size()].map(u64::cast_signed);
    let [device, inode, size] = numbers;
    Some([device, inode, size, found.mtime(), found.ctime(), found.mtime_nsec() ^ found.ctime_nsec() << 30])
}

/// Reads the file at `path` and everything that it names.
pub(super) fn take(path: &Path) -> Taken {
    let mut stamps = Stamps(Vec::new());
    stamps.add(path.to_owned());
    let loaded = read(path, &mut stamps);
    Taken { stamps, loaded }
}

fn read(path: &Path, stamps: &mut Stamps) -> Result<Loaded, Vec<Problem>> {
    let text = fs::read_to_string(path).map_err(|error| vec![unreadable(path, &error)])?;
    let (strict, file) = Strict::read::<WebFile>(path, text).map_err(|problem| vec![problem])?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    for named in file.tls_server_config.iter().flat_map(Tls::files) {
        stamps.add(beside(folder, named));
    }
    let problem = |found: Wrong| strict.problem(&found.key, format!("`{}`: {}", found.key, found.remedy));
    load(&file, folder).map_err(|all| all.into_iter().map(problem).collect())
}

fn load(file: &WebFile, folder: &Path) -> Result<Loaded, Vec<Wrong>> {
    let asked = file.tls_server_config.as_ref().filter(|tls| !tls.says_nothing());
    let tls = asked.map(|tls| tls::server_config(tls, folder)).transpose();
    let users = Users::new(&file.basic_auth_users);
    let headers = headers(&file.http_server_config.headers);
    let mut found: Vec<Wrong> = Vec::new();
    if file.rate_limit.is_some() {
        found.push(wrong("rate_limit", "requests are not limited here, so this would be less than was asked for; leave the key out, and limit at a proxy or a firewall"));
    }
    match (tls, users, headers) {
        (Ok(tls), Ok(users), Ok(headers)) if found.is_empty() => {
            let certificates = tls.is_some() && asked.is_some_and(Tls::requires_certificate);
            Ok(Loaded { tls, users, headers, certificates })
        }
        (tls, users, headers) => {
            found.extend(tls.err().into_iter().flatten());
            found.extend(users.err().into_iter().flatten());
            found.extend(headers.err().into_iter().flatten());
            Err(found)
        }
    }
}

/// Headers that say how an answer is to be read, which the agent itself says.
const OWN: [&str; 6] =
    ["content-length", "content-type", "content-encoding", "transfer-encoding", "connection", "date"];

fn headers(asked: &BTreeMap<String, String>) -> Result<Vec<(HeaderName, HeaderValue)>, Vec<Wrong>> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (name, value) in asked {
        let key = format!("http_server_config.headers.{name}");
        match (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            (Ok(name), _) if OWN.contains(&name.as_str()) => {
                bad.push(wrong(key, "the agent sets this header itself; leave it out"));
            }
            (Ok(name), Ok(value)) => good.push((name, value)),
            (Err(_), _) => bad.push(wrong(key, "this is no name of a header; write letters, digits and `-`")),
            (_, Err(_)) => {
                bad.push(wrong(key, "the value holds characters that no header can; write printable ASCII"));
            }
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(bad) }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    let message = format!(
        "`http.web_config`: cannot read {}: {error}; put the file there, readable for the agent's user, or leave the \
         key out for plain HTTP",
        path.display()
    );
    Problem { given: Given::Default, message }
}

/// What to say when a section that makes the listener safe is not there any more.
pub(super) fn gone(path: &Path, section: &str) -> Problem {
    let message = format!(
        "{}: `{section}` is not there any more, and a running agent does not become more open; put it back, or \
         restart the agent",
        path.display()
    );
    Problem { given: Given::Default, message }
}

//! The login of a request, out of the configuration and the files that it names.
//!
//! Guarantee: files are read for each attempt, so that a password, a key or a token that is exchanged is used at once.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::HeaderValue;
use taffrail_record::Secret;

use crate::{Auth, ElasticsearchError};

/// The value of `Authorization`; none when there is no login.
pub(crate) fn header(auth: Option<&Auth>) -> Result<Option<HeaderValue>, ElasticsearchError> {
    let Some(auth) = auth else { return Ok(None) };
    let text = if let Some(key) = secret(auth.api_key.as_ref(), auth.api_key_file.as_deref())? {
        format!("ApiKey {}", encoded_key(&key))
    } else if let Some(token) = secret(auth.bearer_token.as_ref(), auth.bearer_token_file.as_deref())? {
        format!("Bearer {token}")
    } else if let Some(user) = &auth.username {
        let password = secret(auth.password.as_ref(), auth.password_file.as_deref())?.unwrap_or_default();
        format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
    } else {
        return Ok(None);
    };
    let unfit = |_| ElasticsearchError::Invalid {
        key: "auth".to_owned(),
        problem: "the login has characters that no header may have; write it into its file again".to_owned(),
    };
    let mut value = HeaderValue::from_str(&text).map_err(unfit)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// A text that is given, or else in a file, without white space at its end.
fn secret(given: Option<&Secret>, file: Option<&Path>) -> Result<Option<String>, ElasticsearchError> {
    match (given, file) {
        (Some(text), _) => Ok(Some(text.expose().to_owned())),
        (None, Some(path)) => read(path).map(Some),
        (None, None) => Ok(None),
    }
}

pub(crate) fn read(path: &Path) -> Result<String, ElasticsearchError> {
    let mut text = fs::read_to_string(path).map_err(ElasticsearchError::file(path))?;
    text.truncate(text.trim_end().len());
    Ok(text)
}

/// An API key as the header wants it: what has a colon is not encoded yet.
fn encoded_key(key: &str) -> String {
    if key.contains(':') { BASE64_STANDARD.encode(key) } else { key.to_owned() }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests make files that need not survive")]
mod tests {
    use super::*;

    #[test]
    fn each_login_becomes_its_header() {
        let some = |text: &str| Some(Secret::from(text.to_owned()));
        let none = Auth::default;
        for (auth, expected) in [
            (none(), None),
            (Auth { username: Some("u".into()), password: some("p"), ..none() }, Some("Basic dTpw")),
            (Auth { api_key: some("id:key"), ..none() }, Some("ApiKey aWQ6a2V5")),
            (Auth { api_key: some("aWQ6a2V5"), ..none() }, Some("ApiKey aWQ6a2V5")),
            (Auth { bearer_token: some("t"), ..none() }, Some("Bearer t")),
        ] {
            let header = header(Some(&auth)).expect("fit");
            assert_eq!(header.as_ref().and_then(|value| value.to_str().ok()), expected);
        }
        assert!(header(Some(&Auth { bearer_token: some("a\nb"), ..none() })).is_err());
    }

    #[test]
    fn a_file_is_read_anew_for_each_attempt() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("token");
        let auth = Auth { bearer_token_file: Some(file.clone()), ..Auth::default() };
        assert!(header(Some(&auth)).expect_err("no file").to_string().contains("token"));
        for text in ["one", "two"] {
            fs::write(&file, format!("{text}\n")).expect("written");
            let value = header(Some(&auth)).expect("read").expect("a login");
            assert_eq!(value.to_str().ok(), Some(format!("Bearer {text}").as_str()));
        }
    }
}

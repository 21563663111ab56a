//! Secrets are recognised by the names of their keys, so that a new section is covered before anybody thinks of it.

use serde_json::Value;

/// What stands in place of a secret.
pub const MASK: &str = "(redacted)";

const SECRETS: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "pem",
    "private",
    "oauthbearer.config",
];
/// Keys that name the place of a secret and not the secret.
const PLACES: [&str; 5] = ["file", "location", "path", "directory", "url"];

/// Whether the value of a key of this name is a secret.
#[must_use]
pub fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    let is_place = key.rsplit(['_', '.', '-']).next().is_some_and(|end| PLACES.contains(&end));
    !is_place && SECRETS.iter().any(|secret| key.contains(secret))
}

/// Masks every secret in `value`, and the user part of URLs.
pub(super) fn redact(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                if is_secret(key) && !value.is_null() {
                    *value = Value::String(MASK.to_owned());
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(redact),
        Value::String(text) => {
            if let Some(masked) = without_user(text) {
                *text = masked;
            }
        }
        _ => {}
    }
}

/// `scheme://user:password@host` without user and password.
fn without_user(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split('/').next()?;
    let (_, host) = authority.rsplit_once('@')?;
    Some(format!("{scheme}://{MASK}@{host}{}", &rest[authority.len()..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_masked_wherever_they_are_and_places_are_not() {
        let mut value = json!({
            "sasl": {"username": "u", "password": "p", "password_file": "/p"},
            "properties": {"ssl.key.pem": "k", "ssl.key.location": "/k", "ssl.key.password": "p", "linger.ms": "5"},
            "list": [{"api_token": "t"}, "http://u:p@host:1/x?y"],
            "empty_secret": null,
        });
        redact(&mut value);
        assert_eq!(
            value,
            json!({
                "sasl": {"username": "u", "password": MASK, "password_file": "/p"},
                "properties": {"ssl.key.pem": MASK, "ssl.key.location": "/k", "ssl.key.password": MASK, "linger.ms": "5"},
                "list": [{"api_token": MASK}, format!("http://{MASK}@host:1/x?y")],
                "empty_secret": null,
            })
        );
    }
}

//! What can be known to be wrong without the engine: names, numbers, files.
//!
//! Guarantee: nothing is sent. Files are read, and a client is made out of them as it will be.

use std::time::Duration;

use reqwest::Url;

use crate::client::Connector;
use crate::{Auth, ElasticsearchConfig, ElasticsearchError, Tls, auth};

/// A value of the section that cannot work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Its key within the section, such as `tls.ca_file`.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub problem: String,
}

fn invalid(key: impl Into<String>, problem: impl Into<String>) -> Invalid {
    Invalid { key: key.into(), problem: problem.into() }
}

impl ElasticsearchConfig {
    /// Everything that is wrong with it as far as this machine can know. Reads the files it names.
    #[must_use]
    pub fn validate(&self) -> Vec<Invalid> {
        let mut found = hosts(&self.hosts);
        found.extend(self.names());
        found.extend(self.numbers());
        if let Some(age) = &self.retention
            && retention(age).is_none()
        {
            found
                .push(invalid("retention", format!("`{age}` is no age; write days or hours, such as `30d`")));
        }
        found.extend(self.auth.iter().flat_map(login));
        found.extend(encryption(&self.tls));
        if found.is_empty() {
            found.extend(Connector::new(self).err().map(|error| blame(&error)));
        }
        found
    }

    fn names(&self) -> Option<Invalid> {
        if self.data_stream && self.index.has_date() {
            let problem = "a data stream has one name for all times; write one without a date, such as `taffrail-events`";
            return Some(invalid("index", problem));
        }
        let needs_prefix = self.template || self.retention.is_some();
        (needs_prefix && self.index.prefix().len() < 3).then(|| {
            let problem = "it must begin with letters of its own, so that the index template matches no other indices; \
                           write such as `taffrail-{cluster}-{yyyy.MM.dd}`, or set `template: false` and no `retention`";
            invalid("index", problem)
        })
    }

    fn numbers(&self) -> Vec<Invalid> {
        let bounds: [(&str, u64, u64, u64); 7] = [
            ("bulk_bytes", self.bulk_bytes, 1 << 10, 100 << 20),
            ("bulk_documents", self.bulk_documents.into(), 1, 100_000),
            ("flush_ms", self.flush_ms, 0, 600_000),
            ("requests", self.requests.into(), 1, 16),
            ("timeout_ms", self.timeout_ms, 100, 600_000),
            ("retry_max_ms", self.retry_max_ms, 100, 3_600_000),
            ("dead_letter_bytes", self.dead_letter_bytes, 1 << 20, u64::MAX),
        ];
        let outside = bounds.into_iter().filter(|(_, value, least, most)| value < least || value > most);
        outside
            .map(|(key, value, least, most)| {
                invalid(key, format!("`{value}` is out of bounds; write {least} to {most}"))
            })
            .collect()
    }
}

/// An age in the engines' own words; none when it is none.
pub(crate) fn retention(text: &str) -> Option<Duration> {
    let (number, seconds) = match text.as_bytes().last()? {
        b'd' => (text.strip_suffix('d')?, 86_400),
        b'h' => (text.strip_suffix('h')?, 3600),
        _ => return None,
    };
    let number: u32 = number.parse().ok()?;
    (number > 0).then(|| Duration::from_secs(u64::from(number) * seconds))
}

fn hosts(all: &[String]) -> Vec<Invalid> {
    if all.is_empty() {
        return vec![invalid(
            "hosts",
            "it is empty; name one or more nodes, such as `https://search-1:9200`",
        )];
    }
    let problems = all.iter().enumerate().filter_map(|(index, text)| {
        host(text).err().map(|problem| invalid(format!("hosts[{index}]"), problem))
    });
    problems.collect()
}

/// The address of a node.
pub(crate) fn host(text: &str) -> Result<Url, String> {
    let shown = text.split_once('@').map_or(text, |(_, after)| after);
    let bad = |why: &str| format!("`{shown}` {why}; write such as `https://search-1:9200`");
    let url = Url::parse(text).map_err(|_| bad("is no address"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("has neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "`{shown}` has a login in it, which everybody could read; write it under `auth`"
        ));
    }
    if url.host_str().is_none_or(str::is_empty) || url.query().is_some() || url.fragment().is_some() {
        return Err(bad("is no address of a node"));
    }
    Ok(url)
}

fn login(login: &Auth) -> Vec<Invalid> {
    let mut found = Vec::new();
    let user = login.username.is_some();
    let key = login.api_key.is_some() || login.api_key_file.is_some();
    let token = login.bearer_token.is_some() || login.bearer_token_file.is_some();
    if usize::from(user) + usize::from(key) + usize::from(token) != 1 {
        found.push(invalid("auth", "set one of a user name with its password, an API key and a token"));
    }
    let password = login.password.is_some() || login.password_file.is_some();
    if password != user {
        found.push(invalid("auth", "a user name and a password belong together; set both"));
    }
    for (name, given, file) in [
        ("password", login.password.is_some(), &login.password_file),
        ("api_key", login.api_key.is_some(), &login.api_key_file),
        ("bearer_token", login.bearer_token.is_some(), &login.bearer_token_file),
    ] {
        let Some(path) = file else { continue };
        if given {
            found.push(invalid("auth", format!("set one of `{name}` and `{name}_file`")));
        }
        match auth::read(path) {
            Err(error) => found.push(invalid(format!("auth.{name}_file"), error.to_string())),
            Ok(text) if text.is_empty() => {
                found.push(invalid(format!("auth.{name}_file"), format!("{} is empty", path.display())));
            }
            Ok(_) => {}
        }
    }
    found
}

fn encryption(tls: &Tls) -> Vec<Invalid> {
    let mut found = Vec::new();
    for (key, path, label) in [
        ("tls.ca_file", &tls.ca_file, "BEGIN CERTIFICATE"),
        ("tls.certificate_file", &tls.certificate_file, "BEGIN CERTIFICATE"),
        ("tls.key_file", &tls.key_file, "PRIVATE KEY"),
    ] {
        match path.as_deref().map(|path| (path, auth::read(path))) {
            Some((_, Err(error))) => found.push(invalid(key, error.to_string())),
            Some((path, Ok(text))) if !text.contains(label) => {
                found.push(invalid(key, format!("{} has no `{label}`; name a PEM file", path.display())));
            }
            _ => {}
        }
    }
    if tls.certificate_file.is_some() != tls.key_file.is_some() {
        found.push(invalid("tls", "a certificate and its key belong together; set both"));
    }
    found
}

fn blame(error: &ElasticsearchError) -> Invalid {
    match error {
        ElasticsearchError::Invalid { key, problem } => invalid(key, problem),
        other => invalid("tls", other.to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests make files that need not survive")]
mod tests {
    use super::*;

    fn config(more: &str) -> ElasticsearchConfig {
        serde_json::from_str(&format!(r#"{{"hosts":["http://h:9200"]{more}}}"#)).expect(more)
    }

    #[test]
    fn what_can_work_is_not_refused() {
        for more in [
            "",
            r#","retention":"30d","auth":{"username":"u","password":"p"}"#,
            r#","auth":{"api_key":"k"}"#,
            r#","index":"taffrail-events","data_stream":true"#,
            r#","index":"{cluster}-{yyyy}","template":false"#,
        ] {
            assert_eq!(config(more).validate(), [], "{more}");
        }
    }

    #[test]
    fn each_wrong_value_is_refused_at_its_key() {
        for (more, key, says) in [
            (r#","hosts":[]"#, "hosts", "name one"),
            (r#","hosts":["http://a","h:9200"]"#, "hosts[1]", "h:9200"),
            (r#","hosts":["ftp://h"]"#, "hosts[0]", "https"),
            (r#","hosts":["http://u:secret@h"]"#, "hosts[0]", "auth"),
            (r#","hosts":["http://h?a=b"]"#, "hosts[0]", "no address"),
            (r#","data_stream":true"#, "index", "without a date"),
            (r#","index":"{cluster}""#, "index", "begin with"),
            (r#","bulk_documents":0"#, "bulk_documents", "out of bounds"),
            (r#","requests":100"#, "requests", "out of bounds"),
            (r#","retention":"month""#, "retention", "30d"),
            (r#","retention":"0d""#, "retention", "30d"),
            (r#","auth":{}"#, "auth", "set one of"),
            (r#","auth":{"username":"u"}"#, "auth", "belong together"),
            (r#","auth":{"api_key":"k","bearer_token":"t"}"#, "auth", "set one of"),
            (r#","auth":{"api_key_file":"/none"}"#, "auth.api_key_file", "/none"),
            (r#","tls":{"ca_file":"/none"}"#, "tls.ca_file", "/none"),
        ] {
            // A key twice in one text is refused by the reader: the later one takes the whole text.
            let text = if more.contains("hosts") { format!("{{{}}}", &more[1..]) } else { String::new() };
            let config =
                if text.is_empty() { config(more) } else { serde_json::from_str(&text).expect(more) };
            let found = config.validate();
            let [Invalid { key: at, problem }] = found.as_slice() else { panic!("{more}: {found:?}") };
            assert_eq!(at, key, "{more}: {problem}");
            assert!(problem.contains(says) && !problem.contains("secret"), "{more}: {problem}");
        }
    }

    #[test]
    fn files_that_are_not_what_they_should_be_are_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let prose = folder.path().join("prose");
        std::fs::write(&prose, "ahoy").expect("written");
        let garbage = folder.path().join("garbage");
        std::fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            .expect("written");
        for (file, says) in [(&prose, "PEM"), (&garbage, "tls")] {
            let found = config(&format!(r#","tls":{{"ca_file":{file:?}}}"#)).validate();
            assert!(found.len() == 1 && found[0].problem.contains(says), "{found:?}");
        }
        let found = config(&format!(r#","tls":{{"certificate_file":{garbage:?}}}"#)).validate();
        assert!(found.iter().any(|it| it.problem.contains("belong together")), "{found:?}");
    }
}

//! What the user may choose about who tells at whose request sessions come about.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Invalid;

/// How it becomes known at whose request a session came about, in Kubernetes. A session of a pod that no request explains is
/// `out-of-band` where any of `listen` and `log_file` is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RequestsConfig {
    /// Address and port at which API servers tell of requests, as an admission webhook and with their audit log, and agents pass on
    /// what is of each other's pods. Not set: nobody is listened to. `taffrail audit-webhook` makes what belongs to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "address"))]
    pub listen: Option<SocketAddr>,
    /// Folder with `tls.crt`, `tls.key`, `ca.crt` and `token`: certificate and key of that address, who signed it, and what a
    /// request has to have in its path. They are taken anew when they change.
    pub credentials_directory: PathBuf,
    /// Name of the Service of all agents, in their namespace, which the certificate is for.
    pub service: String,
    /// The API server's audit log, on the node that it is on; with `listen` it need not be on the others. What is of other nodes' pods is passed on, where `credentials_directory` is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_file: Option<PathBuf>,
    /// Name of an environment variable that says who asked for a session: one that an API server, an admission policy or the runtime
    /// sets for what is begun in a container, and nobody else can. Not set: none. It is stronger than what is told besides, and is
    /// not believed where the container's own environment says the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_variable: Option<String>,
    /// For how long a session's request may be late, in seconds; after that nobody asked for it. Default 10, and 40 with `log_file`
    /// alone. An audit log that the API server sends comes in batches, 30 seconds late: 40 then, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience_seconds: Option<u32>,
}

impl Default for RequestsConfig {
    fn default() -> Self {
        RequestsConfig {
            listen: None,
            credentials_directory: "/etc/taffrail-audit".into(),
            service: "taffrail-audit".to_owned(),
            log_file: None,
            user_variable: None,
            patience_seconds: None,
        }
    }
}

/// The longest that a session may wait, in seconds.
const LONGEST: u32 = 600;
const PATIENCE: u32 = 10;
const PATIENCE_OF_LOG: u32 = 40;

impl RequestsConfig {
    /// Whether anybody is to tell of requests.
    #[must_use]
    pub fn are_expected(&self) -> bool {
        self.listen.is_some() || self.log_file.is_some()
    }

    /// For how long a session's request may be late, in nanoseconds.
    pub(crate) fn patience(&self) -> i64 {
        let usual = if self.listen.is_none() && self.log_file.is_some() { PATIENCE_OF_LOG } else { PATIENCE };
        i64::from(self.patience_seconds.unwrap_or(usual)) * 1_000_000_000
    }

    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        let invalid = |key: &str, problem: &str| {
            Err(Invalid { key: format!("requests.{key}"), problem: problem.to_owned() })
        };
        let relative = |path: &PathBuf| !path.is_absolute();
        if self.patience_seconds.is_some_and(|patience| !(1..=LONGEST).contains(&patience)) {
            return invalid("patience_seconds", "it is out of bounds; write a duration from 1s to 10m");
        }
        if relative(&self.credentials_directory) {
            return invalid("credentials_directory", "it is no absolute path; begin it with `/`");
        }
        if self.log_file.as_ref().is_some_and(relative) {
            return invalid("log_file", "it is no absolute path; begin it with `/`");
        }
        if self.user_variable.as_ref().is_some_and(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return invalid("user_variable", "it is no name of a variable; write one without `=`");
        }
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.service.is_empty() || self.service.len() > 63 || !self.service.chars().all(is_name) {
            return invalid("service", "it is no name of a Service; write small letters, digits and `-`");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        let refused = |change: &dyn Fn(&mut RequestsConfig)| {
            let mut config = RequestsConfig::default();
            change(&mut config);
            config.validate().err().map(|invalid| invalid.key)
        };
        assert_eq!(refused(&|_| {}), None);
        let key = |key: &str| Some(format!("requests.{key}"));
        assert_eq!(refused(&|config| config.patience_seconds = Some(0)), key("patience_seconds"));
        assert_eq!(refused(&|config| config.patience_seconds = Some(601)), key("patience_seconds"));
        assert_eq!(
            refused(&|config| config.credentials_directory = "here".into()),
            key("credentials_directory")
        );
        assert_eq!(refused(&|config| config.log_file = Some("audit.log".into())), key("log_file"));
        assert_eq!(refused(&|config| config.user_variable = Some("A=b".to_owned())), key("user_variable"));
        assert_eq!(refused(&|config| config.service = "a.b".to_owned()), key("service"));
    }

    #[test]
    fn who_tells_decides_how_long_is_waited() {
        let second = 1_000_000_000;
        let config = |text: &str| serde_json::from_str::<RequestsConfig>(text).expect("valid");
        assert!(!config("{}").are_expected());
        for (text, seconds) in [
            (r#"{"listen":"0.0.0.0:9127"}"#, 10),
            (r#"{"listen":"0.0.0.0:9127","log_file":"/a"}"#, 10),
            (r#"{"log_file":"/a"}"#, 40),
            (r#"{"log_file":"/a","patience_seconds":3}"#, 3),
        ] {
            assert!(config(text).are_expected());
            assert_eq!(config(text).patience(), seconds * second, "{text}");
        }
    }
}

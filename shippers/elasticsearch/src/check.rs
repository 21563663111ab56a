//! Can this configuration work? Asked of every node, without writing anything.

use std::path::Path;

use reqwest::Method;
use serde_json::json;

use crate::client::{Connector, Question};
use crate::product::Product;
use crate::reason::Reason;
use crate::setup::{Contact, Installed, contact};
use crate::shipper::{runtime, urls};
use crate::worker::shown;
use crate::{ElasticsearchConfig, ElasticsearchError};

/// What a node said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// Its address.
    pub node: String,
    /// Which engine it is, when it said so.
    pub product: Option<Product>,
    /// The engine's version; empty when it did not say so.
    pub version: String,
    /// Why it cannot be used.
    pub problem: Option<Remark>,
}

/// Something that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// What it is about: a node, `index template`, `lifecycle policy`, `privileges`, `dead letters`.
    pub subject: String,
    /// What is so.
    pub text: String,
    /// What to do about it; empty for nothing.
    pub remedy: String,
}

/// What there is to say about a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Each node, in the order configured.
    pub nodes: Vec<NodeReport>,
    /// What is worth knowing and does not keep it from working.
    pub remarks: Vec<Remark>,
}

impl CheckReport {
    /// Whether events can be delivered: at least one node can be used.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.nodes.iter().any(|node| node.problem.is_none())
    }
}

/// Checks the configuration, and asks each node who it is, whether the login holds and what is installed. Nothing is
/// changed. `dead_letters` is where those are kept.
///
/// # Errors
/// [`ElasticsearchError`] when the configuration cannot be right. What is wrong with nodes is in the report.
pub fn check(config: &ElasticsearchConfig, dead_letters: &Path) -> Result<CheckReport, ElasticsearchError> {
    if let Some(first) = config.validate().into_iter().next() {
        return Err(ElasticsearchError::Invalid { key: first.key, problem: first.problem });
    }
    let connector = Connector::new(config)?;
    let mut report = runtime()?.block_on(ask(config, &connector))?;
    report.remarks.extend(letters(dead_letters));
    Ok(report)
}

async fn ask(config: &ElasticsearchConfig, connector: &Connector) -> Result<CheckReport, ElasticsearchError> {
    let mut report = CheckReport::default();
    let mut first = None;
    for url in urls(config)? {
        let node = shown(&url).to_owned();
        match contact(connector, &url, config, false).await {
            Ok(found) => {
                let (product, version) = (Some(found.engine.product), found.engine.version.clone());
                report.nodes.push(NodeReport { node, product, version, problem: None });
                first.get_or_insert((url, found));
            }
            Err(refusal) => {
                let problem = Some(remark(&node, refusal.text, refusal.reason.advice()));
                report.nodes.push(NodeReport { node, product: None, version: String::new(), problem });
            }
        }
    }
    if let Some((url, found)) = first {
        report.remarks.extend(installed(&found));
        report.remarks.extend(privileges(config, connector, &url, &found).await);
    }
    Ok(report)
}

fn remark(subject: &str, text: impl Into<String>, remedy: impl Into<String>) -> Remark {
    Remark { subject: subject.to_owned(), text: text.into(), remedy: remedy.into() }
}

fn installed(found: &Contact) -> Vec<Remark> {
    let mut remarks = Vec::new();
    for (what, state) in [("index template", &found.template), ("lifecycle policy", &found.policy)] {
        if *state == Installed::Outdated {
            let text = format!(
                "the {what} is not there yet, or of an older configuration: it is installed before the first event is sent"
            );
            remarks.push(remark(what, text, ""));
        }
        remarks.extend(state.remark(what).map(|(text, remedy)| remark(what, text, remedy)));
    }
    remarks
}

/// What this user may do, where the engine tells: Elasticsearch with security does, OpenSearch tells by refusing.
async fn privileges(
    config: &ElasticsearchConfig,
    connector: &Connector,
    url: &reqwest::Url,
    found: &Contact,
) -> Option<Remark> {
    if found.engine.product != Product::Elasticsearch || config.auth.is_none() {
        return None;
    }
    let wanted = ["create_doc", "auto_configure"];
    let body = json!({"index": [{"names": [config.index.pattern()], "privileges": wanted}]});
    let question = Question::send(Method::POST, "_security/user/_has_privileges", &body);
    let answer = connector.ask(url, question).await.ok().filter(|answer| answer.status == 200)?.json();
    let granted = answer["index"].as_object()?.values().next()?.clone();
    let missing: Vec<&str> = wanted.into_iter().filter(|name| granted[*name] == false).collect();
    (!missing.is_empty()).then(|| {
        let text = format!("this user lacks {} on {}", missing.join(" and "), config.index.pattern());
        remark("privileges", text, Reason::Forbidden.advice())
    })
}

fn letters(directory: &Path) -> Option<Remark> {
    let all = crate::dead::list(directory).ok()?;
    let bytes: u64 = all.iter().map(|segment| segment.bytes).sum();
    (bytes > 0).then(|| {
        let text = format!("{bytes} bytes of documents in {} were refused for good", directory.display());
        remark(
            "dead letters",
            text,
            "mend what their `reason` says, then send them again by `taffrail events resend`",
        )
    })
}

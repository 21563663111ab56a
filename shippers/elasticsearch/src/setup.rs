//! The first contact: who answers, and whether the index template and the lifecycle policy are as they should be.
//!
//! Guarantee: what a person has changed is never overwritten. What this agent installed says so and says what it was; only
//! while that is still true it is replaced by a newer one.

use reqwest::{Method, Url};
use serde_json::{Value, json};

use crate::ElasticsearchConfig;
use crate::answer::said;
use crate::client::{Answer, Connector, Failure, Question};
use crate::mapping::{OWNER, fingerprint, template};
use crate::product::{Engine, Product};
use crate::reason::Reason;

/// Why a node cannot be used at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) text: String,
    pub(crate) retry_after: Option<std::time::Duration>,
}

impl Refusal {
    fn new(reason: Reason, text: impl Into<String>) -> Self {
        Refusal { reason, text: text.into(), retry_after: None }
    }

    /// For when nobody was asked.
    pub(crate) fn none() -> Self {
        Refusal::new(Reason::Connection, "no node could be asked")
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Login(text) => Refusal::new(Reason::Credentials, text),
            Failure::Connection(text) => Refusal::new(Reason::Connection, text),
            Failure::Certificate(text) => Refusal::new(Reason::Certificate, text),
            Failure::Timeout(text) => Refusal::new(Reason::Timeout, text),
            Failure::Answer(text) => Refusal::new(Reason::WrongProduct, text),
        }
    }
}

/// How a template or a policy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Installed {
    /// Not wanted.
    Off,
    /// As it should be.
    Current,
    /// It is not there, or from an older configuration; it has been installed, where that was asked for.
    Outdated,
    /// A person has made or changed it.
    Foreign,
    /// The engine has no such thing.
    Unsupported(String),
    /// The engine did not let us.
    Refused(String),
}

/// What the first contact found.
#[derive(Debug, Clone)]
pub(crate) struct Contact {
    pub(crate) engine: Engine,
    pub(crate) template: Installed,
    pub(crate) policy: Installed,
}

/// Asks a node who it is, and brings template and policy up to date; only looks when `install` is false.
pub(crate) async fn contact(
    connector: &Connector,
    node: &Url,
    config: &ElasticsearchConfig,
    install: bool,
) -> Result<Contact, Refusal> {
    let setup = Setup { connector, node, config, install };
    let engine = setup.engine().await?;
    let policy = match &config.retention {
        Some(age) => setup.policy(&engine, age).await?,
        None => Installed::Off,
    };
    let template = if config.template { setup.template(&engine, &policy).await? } else { Installed::Off };
    Ok(Contact { engine, template, policy })
}

struct Setup<'a> {
    connector: &'a Connector,
    node: &'a Url,
    config: &'a ElasticsearchConfig,
    install: bool,
}

impl Setup<'_> {
    async fn engine(&self) -> Result<Engine, Refusal> {
        let page = passing(self.connector.ask(self.node, Question::get("")).await?)?;
        match (page.status, Engine::of(&page)) {
            (200, Some(engine)) => Ok(engine),
            (403, _) if has_error_type(&page) || page.json()["error"].is_string() => {
                Ok(Engine::that_refuses(&page))
            }
            _ => Err(Refusal::new(Reason::WrongProduct, format!("GET /: {}", said(&page)))),
        }
    }

    async fn ask(&self, question: Question) -> Result<Answer, Refusal> {
        passing(self.connector.ask(self.node, question).await?)
    }

    async fn template(&self, engine: &Engine, policy: &Installed) -> Result<Installed, Refusal> {
        let name = self.config.index.title();
        let path = format!("_index_template/{name}");
        let named = engine.product == Product::Elasticsearch && policy.is_there();
        let wanted = template(self.config, engine, named.then_some(name.as_str()));
        let found = self.ask(Question::get(path.clone())).await?;
        let there = match found.status {
            200 => found.json().pointer("/index_templates/0/index_template").cloned(),
            404 => None,
            _ => return Ok(Installed::Refused(format!("GET {path}: {}", said(&found)))),
        };
        if let Some(there) = there {
            let meta = &there["_meta"];
            if meta["managed_by"] != OWNER || meta["fingerprint"] != fingerprint(&there) {
                return Ok(Installed::Foreign);
            }
            if meta["fingerprint"] == wanted["_meta"]["fingerprint"] {
                return Ok(Installed::Current);
            }
        }
        self.put(path, &wanted).await
    }

    async fn put(&self, path: String, wanted: &Value) -> Result<Installed, Refusal> {
        if !self.install {
            return Ok(Installed::Outdated);
        }
        let answer = self.ask(Question::send(Method::PUT, path.clone(), wanted)).await?;
        match answer.status {
            200 | 201 => Ok(Installed::Outdated),
            // Somebody else was faster.
            409 => Err(Refusal::new(Reason::Busy, format!("PUT {path}: {}", said(&answer)))),
            _ => Ok(Installed::Refused(format!("PUT {path}: {}", said(&answer)))),
        }
    }

    async fn policy(&self, engine: &Engine, age: &str) -> Result<Installed, Refusal> {
        let name = self.config.index.title();
        match engine.product {
            Product::Elasticsearch => self.lifecycle(&name, age).await,
            Product::OpenSearch => self.state_management(&name, age).await,
        }
    }

    /// Elasticsearch counts the versions of a policy: ours has been left alone while it has the number that we wrote in it.
    async fn lifecycle(&self, name: &str, age: &str) -> Result<Installed, Refusal> {
        let path = format!("_ilm/policy/{name}");
        let found = self.ask(Question::get(path.clone())).await?;
        let mut next = 1;
        match found.status {
            200 => {
                let page = found.json();
                let (there, meta) = (&page[name], &page[name]["policy"]["_meta"]);
                if meta["managed_by"] != OWNER || meta["revision"] != there["version"] {
                    return Ok(Installed::Foreign);
                }
                if meta["retention"] == age && meta["rollover"] == self.config.data_stream {
                    return Ok(Installed::Current);
                }
                next = there["version"].as_u64().unwrap_or(0) + 1;
            }
            404 if has_error_type(&found) => {}
            _ => return Ok(missing(&found, &path)),
        }
        let hot = if self.config.data_stream {
            json!({"rollover": {"max_age": "1d", "max_primary_shard_size": "25gb"}})
        } else {
            json!({})
        };
        let wanted = json!({"policy": {
            "_meta": {"managed_by": OWNER, "revision": next, "retention": age, "rollover": self.config.data_stream},
            "phases": {
                "hot": {"min_age": "0ms", "actions": hot},
                "delete": {"min_age": age, "actions": {"delete": {}}},
            },
        }});
        self.put(path, &wanted).await
    }

    /// OpenSearch has no place for who made a policy but its description, and counts its versions as well.
    async fn state_management(&self, name: &str, age: &str) -> Result<Installed, Refusal> {
        let path = format!("_plugins/_ism/policies/{name}");
        let found = self.ask(Question::get(path.clone())).await?;
        let describe =
            |revision: u64| format!("Events kept for {age}; managed by {OWNER}, revision {revision}");
        let (mut next, mut query) = (1, String::new());
        match found.status {
            200 => {
                let page = found.json();
                let version = page["_version"].as_u64().unwrap_or(0);
                let text = page["policy"]["description"].as_str().unwrap_or_default();
                if !text.ends_with(&format!("managed by {OWNER}, revision {version}")) {
                    return Ok(Installed::Foreign);
                }
                if text == describe(version) {
                    return Ok(Installed::Current);
                }
                next = version + 1;
                query = format!("?if_seq_no={}&if_primary_term={}", page["_seq_no"], page["_primary_term"]);
            }
            404 if has_error_type(&found) => {}
            _ => return Ok(missing(&found, &path)),
        }
        let mut keep = json!({
            "name": "keep",
            "actions": [],
            "transitions": [{"state_name": "delete", "conditions": {"min_index_age": age}}],
        });
        if self.config.data_stream {
            keep["actions"] =
                json!([{"rollover": {"min_index_age": "1d", "min_primary_shard_size": "25gb"}}]);
        }
        let wanted = json!({"policy": {
            "description": describe(next),
            "default_state": "keep",
            "states": [keep, {"name": "delete", "actions": [{"delete": {}}], "transitions": []}],
            "ism_template": [{"index_patterns": [self.config.index.pattern()], "priority": 250}],
        }});
        self.put(format!("{path}{query}"), &wanted).await
    }
}

impl Installed {
    /// Whether there is one that indices can name.
    fn is_there(&self) -> bool {
        matches!(self, Installed::Current | Installed::Outdated | Installed::Foreign)
    }

    /// What a person should know about `what`, and do about it.
    pub(crate) fn remark(&self, what: &str) -> Option<(String, &'static str)> {
        match self {
            Installed::Unsupported(text) => Some((
                format!("the engine has no {what} ({text})"),
                "delete old indices by other means, or set elasticsearch.retention to null",
            )),
            Installed::Refused(text) => Some((
                format!("the {what} cannot be looked after: {text}"),
                "allow this user to manage index templates and lifecycle policies, or install them and set \
                 elasticsearch.template to false",
            )),
            Installed::Foreign => Some((
                format!("the {what} was made or changed by a person and is left alone"),
                "delete it there to have it made anew",
            )),
            _ => None,
        }
    }
}

/// An answer that is one: what only time or another login can mend is a refusal.
fn passing(answer: Answer) -> Result<Answer, Refusal> {
    let reason = match answer.status {
        401 => Reason::Credentials,
        429 => Reason::Busy,
        408 | 500.. => Reason::ServerError,
        _ => return Ok(answer),
    };
    Err(Refusal { reason, text: said(&answer), retry_after: answer.retry_after })
}

/// The engine without the feature says that it knows no such path; that it has no such policy is another answer.
fn missing(answer: &Answer, path: &str) -> Installed {
    match answer.status {
        400 | 404 | 405 | 410 => Installed::Unsupported(format!("GET {path}: {}", said(answer))),
        _ => Installed::Refused(format!("GET {path}: {}", said(answer))),
    }
}

fn has_error_type(answer: &Answer) -> bool {
    answer.json().pointer("/error/type").is_some_and(|kind| kind != "api_not_available_exception")
}

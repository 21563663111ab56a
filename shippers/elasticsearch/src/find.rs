//! Which documents the engine has.

use std::collections::HashMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Connector, Question};
use crate::reason::Reason;
use crate::setup::Refusal;
use crate::shipper::{runtime, urls};
use crate::worker::shown;
use crate::{ElasticsearchConfig, ElasticsearchError};

/// Ids in one question.
const PORTION: usize = 500;
/// Documents in one answer: what an engine gives at most, and so room for twenty of each id.
const LARGEST_ANSWER: usize = 10_000;

/// Which of these ids the engine has documents of, in any index that the configuration fills, and how many: one of each, but
/// in a data stream that rolled over between two attempts.
///
/// # Errors
/// [`ElasticsearchError`] when no node answers the question.
pub fn find(
    config: &ElasticsearchConfig,
    ids: &[String],
) -> Result<HashMap<String, u64>, ElasticsearchError> {
    let connector = Connector::new(config)?;
    runtime()?.block_on(async {
        let pattern = config.index.pattern();
        // What was stored just now is found only then. Who may not do that finds it some seconds later.
        let refresh = format!("{pattern}/_refresh?ignore_unavailable=true");
        let _ = ask(config, &connector, || Question::send(Method::POST, refresh.clone(), &json!({}))).await;
        let mut found: HashMap<String, u64> = HashMap::new();
        for portion in ids.chunks(PORTION) {
            let body = json!({"size": LARGEST_ANSWER, "_source": false, "query": {"ids": {"values": portion}}});
            // Without a shard there is no answer: what lies in it would look missing.
            let path = format!(
                "{pattern}/_search?ignore_unavailable=true&allow_no_indices=true&allow_partial_search_results=false"
            );
            let answer =
                ask(config, &connector, || Question::send(Method::POST, path.clone(), &body)).await?;
            let hits = answer["hits"]["hits"].as_array().cloned().unwrap_or_default();
            for id in hits.iter().filter_map(|hit| hit["_id"].as_str()) {
                *found.entry(id.to_owned()).or_default() += 1;
            }
        }
        Ok(found)
    })
}

/// The answer of the first node that gives one.
async fn ask(
    config: &ElasticsearchConfig,
    connector: &Connector,
    question: impl Fn() -> Question,
) -> Result<Value, ElasticsearchError> {
    let mut why = "no node is configured".to_owned();
    for url in urls(config)? {
        let node = shown(&url).to_owned();
        match connector.ask(&url, question()).await {
            Ok(answer) if (200..300).contains(&answer.status) => return Ok(answer.json()),
            Ok(answer) => {
                let remedy = match answer.status {
                    401 => Reason::Credentials.advice(),
                    403 => "allow this user to read the index",
                    _ => Reason::ServerError.advice(),
                };
                why = format!("{node}: answered {}; {}", answer.status, remedy);
            }
            Err(failure) => {
                let Refusal { reason, text, .. } = Refusal::from(failure);
                why = format!("{node}: {text}; {}", reason.advice());
            }
        }
    }
    Err(ElasticsearchError::Unusable(why))
}

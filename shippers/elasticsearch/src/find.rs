//! Which documents the engine has.

use std::collections::HashSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Connector, Question};
use crate::shipper::{runtime, urls};
use crate::worker::shown;
use crate::{ElasticsearchConfig, ElasticsearchError};

/// Ids in one question.
const PORTION: usize = 500;

/// Which of these ids the engine has documents of, in any index that the configuration fills.
///
/// # Errors
/// [`ElasticsearchError`] when no node answers the question.
pub fn find(config: &ElasticsearchConfig, ids: &[String]) -> Result<HashSet<String>, ElasticsearchError> {
    let connector = Connector::new(config)?;
    runtime()?.block_on(async {
        let pattern = config.index.pattern();
        // What was stored just now is found only then. Who may not do that finds it some seconds later.
        let refresh = format!("{pattern}/_refresh?ignore_unavailable=true");
        let _ = ask(config, &connector, || Question::send(Method::POST, refresh.clone(), &json!({}))).await;
        let mut found = HashSet::new();
        for portion in ids.chunks(PORTION) {
            let body =
                json!({"size": portion.len(), "_source": false, "query": {"ids": {"values": portion}}});
            let path = format!("{pattern}/_search?ignore_unavailable=true&allow_no_indices=true");
            let answer =
                ask(config, &connector, || Question::send(Method::POST, path.clone(), &body)).await?;
            let hits = answer["hits"]["hits"].as_array().cloned().unwrap_or_default();
            found.extend(hits.iter().filter_map(|hit| hit["_id"].as_str().map(str::to_owned)));
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
            Ok(answer) => why = format!("{node}: answered {}", answer.status),
            Err(failure) => why = format!("{node}: {}", crate::setup::Refusal::from(failure).text),
        }
    }
    Err(ElasticsearchError::Unusable(why))
}

//! Requests to an engine as a person would make them: by curl, which shares nothing with what is tested.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{LOGIN, SearchEngine};

/// What an engine answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

impl SearchEngine {
    /// Asks, with the engine's own login where it has one; `body` is JSON, or NDJSON for `_bulk`.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Result<Answer> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "60", "--request", method]);
        curl.args(["--write-out", "\n%{http_code}", "--header", "Content-Type: application/x-ndjson"]);
        if let Some(tls) = self.tls() {
            curl.arg("--cacert").arg(&tls.authority);
            curl.arg("--cert").arg(&tls.certificate).arg("--key").arg(&tls.key);
            curl.args(["--user", &format!("{}:{}", LOGIN.0, LOGIN.1)]);
        }
        if body.is_some() {
            curl.args(["--data-binary", "@-"]);
        }
        if method == "HEAD" {
            curl.arg("--head");
        }
        curl.arg(format!("{}/{}", self.url(), path.trim_start_matches('/')));
        read(&mut curl, body.unwrap_or_default()).with_context(|| format!("{method} {path}"))
    }

    /// Asks for JSON; an error unless the status is one of success.
    ///
    /// # Errors
    /// When no answer comes, or one that tells of an error.
    pub fn json(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let answer = self.ask(method, path, body.map(Value::to_string).as_deref())?;
        ensure!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text);
        Ok(answer.json())
    }

    /// How many documents can be found in these indices now; 0 when there are none of the name.
    ///
    /// # Errors
    /// When the engine does not tell.
    pub fn count(&self, indices: &str) -> Result<u64> {
        self.json("POST", &format!("{indices}/_refresh?allow_no_indices=true"), None)?;
        let counted = self.json("GET", &format!("{indices}/_count?allow_no_indices=true"), None)?;
        counted["count"].as_u64().context("no count")
    }

    /// Ids of all documents of these indices and what each holds, sorted by id.
    ///
    /// # Errors
    /// When the engine does not tell, or not all of it.
    pub fn documents(&self, indices: &str) -> Result<Vec<(String, Value)>> {
        let expected = self.count(indices)?;
        let mut found = Vec::new();
        let first = serde_json::json!({"size": 5000, "sort": ["_doc"]});
        let mut page = self.json("POST", &format!("{indices}/_search?scroll=1m"), Some(&first))?;
        loop {
            let hits = page["hits"]["hits"].as_array_mut().context("no hits")?;
            if hits.is_empty() {
                break;
            }
            found.extend(
                hits.iter_mut()
                    .map(|hit| (hit["_id"].as_str().unwrap_or_default().to_owned(), hit["_source"].take())),
            );
            let next = serde_json::json!({"scroll": "1m", "scroll_id": page["_scroll_id"]});
            page = self.json("POST", "_search/scroll", Some(&next))?;
        }
        ensure!(found.len() as u64 == expected, "{} documents read, {expected} counted", found.len());
        found.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(found)
    }
}

fn read(curl: &mut Command, body: &str) -> Result<Answer> {
    let mut child = curl
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run curl")?;
    // It ends early when nobody answers, and then says why.
    let _ = child.stdin.take().context("no input")?.write_all(body.as_bytes());
    let output = child.wait_with_output().context("cannot wait for curl")?;
    if !output.status.success() {
        bail!("curl failed with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    let (text, status) = printed.rsplit_once('\n').context("curl said no status")?;
    Ok(Answer { status: status.parse().context("no status")?, text: text.to_owned() })
}

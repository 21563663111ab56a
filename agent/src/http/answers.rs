//! What the answers say, apart from how they travel.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::HeaderValue;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use taffrail_exec::Audit;
use taffrail_prometheus::{Exposition, Format};

use crate::components::{Component, Components, State};

/// The supervisor beats every few seconds; after this long without it the process is worth restarting.
const SILENCE: Duration = Duration::from_secs(60);
/// Smaller answers are not worth compressing.
const WORTH_COMPRESSING: usize = 1024;

/// Whether the supervisor has given a sign of life lately.
pub(super) fn alive(silence: Duration) -> Result<(), String> {
    if silence <= SILENCE {
        return Ok(());
    }
    Err(format!("the supervisor has given no sign of life for {} s\n", silence.as_secs()))
}

/// Whether the agent does its work, and if not, why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether every component runs and no shipper is in trouble.
    pub ready: bool,
    /// What is wrong, for people.
    pub reasons: Vec<String>,
    /// Every component.
    pub components: Vec<serde_json::Value>,
    /// Every shipper.
    pub shippers: Vec<Shipper>,
    /// By what it is known who comes into containers, where that is audited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditedBy>,
}

/// By what it is known who comes into containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedBy {
    /// The tier, as `audit.tier` names it; `none` for nothing.
    pub tier: String,
    /// Why it is no better one, where it is none of the best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl AuditedBy {
    pub(super) fn of(audit: &Audit) -> AuditedBy {
        let view = audit.view();
        AuditedBy { tier: view.tier.as_str().to_owned(), refused: view.refused }
    }
}

/// A shipper's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipper {
    /// Its name.
    pub name: String,
    /// What troubles it, if anything.
    pub trouble: Option<String>,
}

impl Readiness {
    pub(super) fn of(components: &Components, shippers: Vec<Shipper>) -> Readiness {
        let components = components.snapshot();
        let mut reasons: Vec<String> = components.iter().filter_map(not_running).collect();
        if components.is_empty() {
            reasons.push("nothing has been started yet".to_owned());
        }
        let troubles = shippers.iter().filter_map(|s| Some(named(&s.name, s.trouble.as_ref()?)));
        reasons.extend(troubles);
        let components =
            components.iter().filter_map(|component| serde_json::to_value(component).ok()).collect();
        Readiness { ready: reasons.is_empty(), reasons, components, shippers, audit: None }
    }
}

fn not_running(component: &Component) -> Option<String> {
    if component.state == State::Running {
        return None;
    }
    let error = component.last_error.as_ref().map_or(String::new(), |error| format!(": {error}"));
    Some(format!("{} is {} for {:.0} s{error}", component.name, component.state, component.for_seconds))
}

/// Which collectors a request wants: `collect[]=a&collect[]=b`, or all without `exclude[]=c`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    collect: Vec<String>,
    exclude: Vec<String>,
}

impl Choice {
    /// From the query of a request to a page that has the collectors `known`.
    pub(super) fn of<'k>(query: &str, known: impl Iterator<Item = &'k str>) -> Result<Choice, String> {
        let mut choice = Choice::default();
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match key.to_ascii_lowercase().replace("%5b", "[").replace("%5d", "]").as_str() {
                "collect[]" => choice.collect.push(value.to_owned()),
                "exclude[]" => choice.exclude.push(value.to_owned()),
                _ => {}
            }
        }
        if !choice.collect.is_empty() && !choice.exclude.is_empty() {
            return Err("collect[] and exclude[] cannot be combined".to_owned());
        }
        let known: Vec<&str> = known.collect();
        match choice.collect.iter().chain(&choice.exclude).find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(format!("there is no collector {name:?} here; there are {}", known.join(", "))),
            None => Ok(choice),
        }
    }

    pub(super) fn wants(&self, name: &str) -> bool {
        let has = |names: &[String]| names.iter().any(|known| known == name);
        if self.collect.is_empty() { !has(&self.exclude) } else { has(&self.collect) }
    }
}

/// Whether `Accept-Encoding` names gzip and does not refuse it.
pub(super) fn takes_gzip(accept: &str) -> bool {
    accept.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        gzip && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// A text as a body, compressed when the client takes it and it is worth it.
pub(super) fn body(text: Exposition, format: Format, gzip: bool) -> (Vec<Bytes>, Option<HeaderValue>) {
    let length = text.length();
    if gzip && length >= WORTH_COMPRESSING {
        let mut encoder = GzEncoder::new(Vec::with_capacity(length / 16), Compression::fast());
        let written = text.write_to(format, &mut encoder);
        if let Ok(small) = written.and_then(|()| encoder.finish()) {
            text.give_back();
            return (vec![small.into()], Some(HeaderValue::from_static("gzip")));
        }
    }
    (text.into_pieces(format).into_iter().map(Bytes::from).collect(), None)
}

/// The page for people who come with a browser.
pub(super) fn index(node: &str, pages: &[(&str, &str)]) -> String {
    let escaped = node.replace('&', "&amp;").replace('<', "&lt;");
    let links = [
        ("/metrics", "the agent's own metrics, for Prometheus"),
        ("/healthz", "whether the process is alive"),
        ("/readyz", "whether everything runs, and why not"),
        ("/-/config", "the configuration in force, without secrets"),
    ];
    let (own, others) = links.split_at(1);
    let links: String = own
        .iter()
        .chain(pages)
        .chain(others)
        .map(|(path, what)| format!("<li><a href=\"{path}\">{path}</a>: {what}</li>\n"))
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>taffrail on {escaped}</title></head>\n\
         <body><h1>taffrail on {escaped}</h1>\n<p>Version {}</p>\n<ul>\n{links}\
         <li><code>POST /-/reload</code>: read the configuration again</li>\n</ul>\n\
         <p>Records and the ledger: <code>taffrail tap</code> and <code>taffrail ledger</code> on the node.</p>\n\
         </body></html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// The trouble with the shipper's name in front, once.
fn named(name: &str, trouble: &str) -> String {
    if trouble.starts_with(name) { trouble.to_owned() } else { format!("{name}: {trouble}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_every_reason() {
        let components = Components::new();
        assert!(!Readiness::of(&components, Vec::new()).ready, "nothing runs yet");
        components.set("logs", State::Running);
        let kafka = |trouble: Option<&str>| {
            vec![Shipper { name: "kafka".to_owned(), trouble: trouble.map(str::to_owned) }]
        };
        assert!(Readiness::of(&components, kafka(None)).ready);
        components.fail("logs", crate::components::Cause::Panic, "index out of bounds");
        let readiness = Readiness::of(&components, kafka(Some("topic `logs` does not exist; create it")));
        assert_eq!(
            readiness.reasons,
            ["logs is backoff for 0 s: index out of bounds", "kafka: topic `logs` does not exist; create it"]
        );
    }

    #[test]
    fn a_trouble_that_names_its_shipper_is_not_named_again() {
        for trouble in ["kafka: no broker answers", "no broker answers"] {
            assert_eq!(named("kafka", trouble), "kafka: no broker answers");
        }
    }

    #[test]
    fn gzip_is_used_when_it_is_taken() {
        for (accept, takes) in [
            ("", false),
            ("gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("gzip;q=0", false),
            ("identity", false),
        ] {
            assert_eq!(takes_gzip(accept), takes, "{accept}");
        }
    }

    #[test]
    fn collectors_are_chosen_as_in_node_exporter() {
        let wanted = |query: &str| {
            let choice = Choice::of(query, ["a", "b", "c"].into_iter())?;
            Ok::<_, String>(["a", "b", "c"].map(|name| choice.wants(name)))
        };
        assert_eq!(wanted("collect[]=a&x=1&collect%5B%5D=b"), Ok([true, true, false]));
        assert_eq!(wanted("exclude[]=a"), Ok([false, true, true]));
        assert_eq!(wanted(""), Ok([true; 3]));
        assert_eq!(wanted("collect[]=d").unwrap_err(), "there is no collector \"d\" here; there are a, b, c");
        assert!(wanted("collect[]=a&exclude[]=b").is_err());
    }

    #[test]
    fn a_silent_supervisor_is_not_healthy() {
        assert!(alive(Duration::from_secs(59)).is_ok());
        assert!(alive(Duration::from_secs(61)).is_err());
    }
}

//! The search engines themselves: what other tests rely on when they name them.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;
use taffrail_parts::{Product, SearchEngine, SearchOptions};

fn bulk(engine: &SearchEngine, count: usize) -> Result<serde_json::Value> {
    let lines: String = (0..count)
        .map(|n| format!("{{\"create\":{{\"_index\":\"logs\",\"_id\":\"{n}\"}}}}\n{{\"n\":{n}}}\n"))
        .collect();
    Ok(engine.ask("POST", "_bulk", Some(&lines))?.json())
}

fn keeps_what_it_has_taken(product: Product, name: &str) -> Result<()> {
    let mut engine = SearchEngine::start(product, SearchOptions::default())?;
    let page = engine.json("GET", "/", None)?;
    assert_eq!(page["version"]["distribution"].as_str(), (name == "opensearch").then_some(name));
    assert_eq!(bulk(&engine, 6000)?["errors"], json!(false));
    let url = engine.url();

    engine.stop()?;
    engine.start_again()?;
    assert_eq!(bulk(&engine, 6100)?["errors"], json!(true), "6000 are there already");
    engine.kill();
    engine.start_again()?;

    assert_eq!(engine.url(), url);
    let documents = engine.documents("logs")?;
    assert_eq!(documents.len(), 6100);
    assert!(
        documents.iter().all(|(id, document)| document["n"] == json!(id.parse::<u64>().expect("a number")))
    );
    assert_eq!(engine.count("none-of-this-name*")?, 0);
    Ok(())
}

#[test]
fn opensearch_keeps_what_it_has_taken_over_a_stop_and_a_kill() -> Result<()> {
    keeps_what_it_has_taken(Product::OpenSearch, "opensearch")
}

#[test]
fn elasticsearch_keeps_what_it_has_taken_over_a_stop_and_a_kill() -> Result<()> {
    keeps_what_it_has_taken(Product::Elasticsearch, "elasticsearch")
}

#[test]
fn a_secure_engine_lets_in_only_who_logs_in() -> Result<()> {
    let engine = SearchEngine::opensearch(SearchOptions { secure: true, ..SearchOptions::default() })?;
    assert!(engine.url().starts_with("https://"));
    assert_eq!(bulk(&engine, 10)?["errors"], json!(false));
    assert_eq!(engine.count("logs")?, 10);
    let authority = &engine.tls().context("no certificates")?.authority;
    let status = |arguments: &[&str]| -> Result<String> {
        let mut curl = std::process::Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]).args(arguments).arg(engine.url());
        Ok(String::from_utf8(curl.output()?.stdout)?)
    };
    let ca = authority.to_str().context("a path of text")?;
    assert_eq!(status(&["--cacert", ca])?, "401");
    assert_eq!(status(&["--cacert", ca, "--user", "admin:wrong"])?, "401");
    assert_eq!(status(&["--cacert", ca, "--user", "admin:admin"])?, "200");
    assert_eq!(status(&["--user", "admin:admin"])?, "000", "a certificate of an unknown authority passed");
    Ok(())
}

#[test]
fn a_frozen_engine_is_silent_until_thawed_and_leaves_nothing() -> Result<()> {
    let mut engine = SearchEngine::opensearch(SearchOptions::default())?;
    engine.freeze()?;
    let mut curl = std::process::Command::new("curl");
    let asked = curl.args(["-s", "--max-time", "1", &engine.url()]).status()?;
    assert!(!asked.success(), "a frozen engine answered");
    engine.thaw()?;
    engine.json("GET", "/", None)?;
    assert!(engine.start_again().is_err(), "two nodes on one folder");

    let folder = engine.log().parent().context("no folder")?.to_owned();
    let process = format!("/proc/{}", engine.id().context("not running")?);
    assert!(folder.exists() && Path::new(&process).exists());
    drop(engine);
    assert!(!folder.exists() && !Path::new(&process).exists());
    Ok(())
}

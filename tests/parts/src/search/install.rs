//! The engines' jars: fetched by Maven once, the class that makes a node out of them compiled beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Product;
use crate::cache::Entry;
use crate::{maven, packages};

const OPENSEARCH: &str = include_str!("../../search/opensearch/pom.xml");
const SECURE: &str = include_str!("../../search/opensearch/secure.xml");
const OPENSEARCH_NODE: (&str, &str) =
    ("OpenSearchNode.java", include_str!("../../search/opensearch/OpenSearchNode.java"));

const ELASTICSEARCH: &str = include_str!("../../search/elasticsearch/pom.xml");
const ELASTICSEARCH_NODE: [(&str, &str); 3] = [
    ("ElasticsearchNode.java", include_str!("../../search/elasticsearch/ElasticsearchNode.java")),
    ("ListedPlugins.java", include_str!("../../search/elasticsearch/ListedPlugins.java")),
    ("RootPage.java", include_str!("../../search/elasticsearch/RootPage.java")),
];

/// The plugin's folder below an installation.
const PLUGIN: &str = "security";

/// OpenSearch's place in the cache.
pub(crate) const OPENSEARCH_ENTRY: Entry<'static> =
    Entry { part: "opensearch", pins: &[OPENSEARCH, OPENSEARCH_NODE.1] };
/// The place of OpenSearch with its security plugin.
pub(crate) const SECURE_ENTRY: Entry<'static> =
    Entry { part: "opensearch-secure", pins: &[SECURE, OPENSEARCH_NODE.1] };
/// Elasticsearch's place in the cache.
pub(crate) const ELASTICSEARCH_ENTRY: Entry<'static> = Entry {
    part: "elasticsearch",
    pins: &[ELASTICSEARCH, ELASTICSEARCH_NODE[0].1, ELASTICSEARCH_NODE[1].1, ELASTICSEARCH_NODE[2].1],
};

/// The version in the pom.
pub(crate) fn version(product: Product) -> &'static str {
    match product {
        Product::OpenSearch => maven::version_in(OPENSEARCH, "opensearch"),
        Product::Elasticsearch => maven::version_in(ELASTICSEARCH, "elasticsearch"),
    }
}

/// An installed engine.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    folder: PathBuf,
    product: Product,
    secure: bool,
}

impl Installed {
    /// Fetches the engine unless the cache has it.
    pub(crate) fn get(product: Product, secure: bool) -> Result<Self> {
        packages::ensure(&[("java", "default-jdk-headless"), ("curl", "curl")])?;
        let folder = match (product, secure) {
            (Product::OpenSearch, false) => OPENSEARCH_ENTRY.get(fetch_opensearch)?,
            (Product::OpenSearch, true) => SECURE_ENTRY.get(fetch_secure)?,
            (Product::Elasticsearch, _) => ELASTICSEARCH_ENTRY.get(fetch_elasticsearch)?,
        };
        Ok(Self { folder, product, secure })
    }

    /// The command of a node; its home and settings are yet to be added.
    pub(crate) fn java(&self, heap_mib: u32) -> Command {
        let folder = self.folder.display();
        let mut java = Command::new("java");
        // What makes a JVM start fast and stay small; the compiler that it leaves out pays off after minutes.
        java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xms64m"]).arg(format!("-Xmx{heap_mib}m"));
        if self.secure {
            java.arg("-Dplugins=org.opensearch.security.OpenSearchSecurityPlugin");
        }
        java.arg("-cp").arg(format!("{folder}/lib/*:{folder}/{PLUGIN}/*:{folder}/classes"));
        java.arg(match self.product {
            Product::OpenSearch => "OpenSearchNode",
            Product::Elasticsearch => "org.elasticsearch.node.ElasticsearchNode",
        });
        java
    }

    /// Copies the plugin's own users and roles to where the plugin of a node looks for them.
    pub(crate) fn copy_users(&self, into: &Path) -> Result<()> {
        let from = self.folder.join(PLUGIN).join("config");
        fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
        for file in fs::read_dir(&from).with_context(|| format!("cannot list {}", from.display()))? {
            let file = file?;
            let to = into.join(file.file_name());
            fs::copy(file.path(), &to).with_context(|| format!("cannot write {}", to.display()))?;
        }
        Ok(())
    }
}

fn fetch_opensearch(folder: &Path) -> Result<()> {
    maven::fetch(folder, OPENSEARCH)?;
    maven::compile(folder, &[OPENSEARCH_NODE])
}

fn fetch_secure(folder: &Path) -> Result<()> {
    maven::fetch(folder, SECURE)?;
    maven::unpack(folder, SECURE, PLUGIN)?;
    drop_doubles(&folder.join("lib"), &folder.join(PLUGIN))?;
    maven::compile(folder, &[OPENSEARCH_NODE])
}

fn fetch_elasticsearch(folder: &Path) -> Result<()> {
    maven::fetch(folder, ELASTICSEARCH)?;
    maven::compile(folder, &ELASTICSEARCH_NODE)
}

/// The plugin brings jars that the engine has: one class path needs each once.
fn drop_doubles(library: &Path, plugin: &Path) -> Result<()> {
    for file in fs::read_dir(library).with_context(|| format!("cannot list {}", library.display()))? {
        let double = plugin.join(file?.file_name());
        if double.exists() {
            fs::remove_file(&double).with_context(|| format!("cannot remove {}", double.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_poms() {
        for (product, begin) in [(Product::OpenSearch, "2."), (Product::Elasticsearch, "8.")] {
            assert!(version(product).starts_with(begin), "{product:?}: {}", version(product));
        }
    }
}

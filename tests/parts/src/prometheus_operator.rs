//! What Prometheus Operator calls its objects: the definitions that it has an API server learn.

use std::path::PathBuf;

use anyhow::Result;

use crate::go;

const MODULE: &str = "github.com/prometheus-operator/prometheus-operator";
const VERSION: &str = "v0.79.2";
const SUM: &str = "h1:H/HCiMS4dXQyiFHw28PFlWMh15YUraL3MFe8u7k7dGA=";

/// The file that defines one of its kinds, such as `podmonitors`, as a CustomResourceDefinition. It is larger than what
/// `kubectl apply` may keep beside an object: create it.
///
/// # Errors
/// When Go is not there, or the module proxy does not have it.
pub fn definition(plural: &str) -> Result<PathBuf> {
    let folder = go::module(MODULE, VERSION, SUM)?.join("example/prometheus-operator-crd");
    Ok(folder.join(format!("monitoring.coreos.com_{plural}.yaml")))
}

//! Which files there are.

use std::fs;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use taffrail_kernfs::Roots;

/// The `*.prom` files of all directories as the host names them, in order, and the first trouble.
pub(super) fn files(directories: &[PathBuf], roots: &Roots) -> (Vec<PathBuf>, Option<String>) {
    let mut found = Vec::new();
    let mut trouble = None;
    for pattern in directories {
        for directory in expanded(pattern, roots) {
            match list(&directory, roots) {
                Ok(mut files) => found.append(&mut files),
                Err(error) => trouble = trouble.or(Some(format!("{}: {error}", directory.display()))),
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    (found, trouble)
}

fn list(directory: &Path, roots: &Roots) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(roots.host(directory))? {
        let name = entry?.file_name();
        if name.as_encoded_bytes().ends_with(b".prom") {
            files.push(directory.join(name));
        }
    }
    Ok(files)
}

/// The directories that a pattern stands for; itself when there are none, so that its absence is noticed.
fn expanded(pattern: &Path, roots: &Roots) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from("/")];
    for part in pattern.components() {
        let Component::Normal(part) = part else { continue };
        let text = part.to_string_lossy();
        match matcher(&text) {
            Some(matcher) => paths = paths.iter().flat_map(|path| matching(path, &matcher, roots)).collect(),
            None => paths.iter_mut().for_each(|path| path.push(part)),
        }
    }
    if paths.is_empty() { vec![pattern.to_owned()] } else { paths }
}

/// For a part with something in it that stands for others.
fn matcher(part: &str) -> Option<GlobMatcher> {
    let wild = part.contains(['*', '?', '[']);
    let glob = || GlobBuilder::new(part).literal_separator(true).build().ok();
    wild.then(glob).flatten().map(|glob| glob.compile_matcher())
}

fn matching(path: &Path, matcher: &GlobMatcher, roots: &Roots) -> Vec<PathBuf> {
    let entries = fs::read_dir(roots.host(path)).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.file_name())
        .filter(|name| matcher.is_match(name))
        .map(|name| path.join(name))
        .collect();
    found.sort_unstable();
    found
}

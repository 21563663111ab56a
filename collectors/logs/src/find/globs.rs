//! Plain files named by globs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use globset::{GlobMatcher, GlobSet};
use taffrail_record::{Input, Node, Origin};

use super::naming::rotated_from;
use super::{Naming, Target};
use crate::config::{FileInput, LineFormat, glob, glob_set};
use crate::decode::Format;

/// Finds the files that one input's globs name. A rotated sibling of a file that is found belongs to that
/// file's lane and makes none of its own.
#[derive(Debug)]
pub struct Globs {
    input: FileInput,
    patterns: Vec<(PathBuf, bool, GlobMatcher)>,
    exclude: GlobSet,
    node: Arc<Node>,
}

/// How many directories deep `**` looks: a link or mount loop must not trap the scan.
const MAX_DEPTH: usize = 32;

impl Globs {
    /// A finder for valid globs.
    #[must_use]
    pub fn new(input: &FileInput, node: Arc<Node>) -> Self {
        let patterns = input
            .paths
            .iter()
            .filter_map(|pattern| {
                Some((fixed_prefix(pattern), crosses(pattern), glob(pattern).ok()?.compile_matcher()))
            })
            .collect();
        Globs { exclude: glob_set(&input.exclude), input: input.clone(), patterns, node }
    }

    /// Looks for the files; also returns the directories in which more may appear.
    #[must_use]
    pub fn scan(&self) -> (Vec<Target>, Vec<Arc<Path>>) {
        let mut files = BTreeSet::new();
        let mut directories = BTreeSet::new();
        for (prefix, deep, matcher) in &self.patterns {
            let depth = if *deep { MAX_DEPTH } else { matcher.glob().glob().matches('/').count() };
            walk(prefix, depth, &mut directories, &mut |path| {
                if matcher.is_match(path) && !self.exclude.is_match(path) {
                    files.insert(path.to_owned());
                }
            });
        }
        let lanes = files
            .iter()
            .filter(|path| !is_rotated_sibling(path, &files))
            .map(|path| self.target(path))
            .collect();
        (lanes, directories.into_iter().map(Into::into).collect())
    }

    fn target(&self, path: &Path) -> Target {
        let name = path.file_name().unwrap_or_default();
        Target {
            key: format!("file:{}", path.display()).into(),
            origin: Arc::new(Origin {
                node: Arc::clone(&self.node),
                input: Input::File,
                pod: None,
                container: None,
            }),
            format: match self.input.format {
                LineFormat::Plain => Format::Plain,
                LineFormat::Container => Format::Container,
            },
            directory: path.parent().unwrap_or(Path::new("/")).into(),
            naming: Naming::Base(name.as_bytes().to_vec()),
            within: None,
            start: self.input.start,
        }
    }
}

/// The directory part of a pattern before its first wildcard.
fn fixed_prefix(pattern: &str) -> PathBuf {
    let path = Path::new(pattern);
    let mut prefix = PathBuf::new();
    let parent = path.parent().unwrap_or(Path::new("/"));
    for component in parent.components() {
        if let Component::Normal(name) = component
            && name.as_bytes().iter().any(|b| b"*?[{".contains(b))
        {
            break;
        }
        prefix.push(component);
    }
    prefix
}

fn crosses(pattern: &str) -> bool {
    pattern.contains("**")
}

fn walk(directory: &Path, depth: usize, directories: &mut BTreeSet<PathBuf>, each: &mut impl FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    directories.insert(directory.to_owned());
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => walk(&path, depth - 1, directories, each),
            Ok(kind) if !kind.is_dir() => each(&path),
            _ => {}
        }
    }
}

fn is_rotated_sibling(path: &Path, files: &BTreeSet<PathBuf>) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    rotated_from(name).any(|base| files.contains(&path.with_file_name(std::ffi::OsStr::from_bytes(base))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(root: &Path, patterns: &[&str], exclude: &[&str]) -> Vec<String> {
        let owned = |list: &[&str]| list.iter().map(|p| format!("{}/{p}", root.display())).collect();
        let input = FileInput { paths: owned(patterns), exclude: owned(exclude), ..FileInput::default() };
        let (targets, _) = Globs::new(&input, Arc::default()).scan();
        let prefix = format!("file:{}/", root.display());
        targets.iter().map(|t| t.key.trim_start_matches(&prefix).to_owned()).collect()
    }

    #[test]
    fn globs_find_files_and_fold_rotated_siblings_into_their_lane() {
        let root = tempfile::tempdir().expect("a directory");
        for name in ["a/app.log", "a/app.log.1", "a/b/deep.log", "a/skip.log", "other.txt"] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            fs::File::create(path).expect("a file");
        }
        assert_eq!(scan(root.path(), &["a/*"], &["a/skip*"]), ["a/app.log"]);
        assert_eq!(scan(root.path(), &["**/*.log"], &[]), ["a/app.log", "a/b/deep.log", "a/skip.log"]);
        assert_eq!(scan(root.path(), &["a/app.log.1"], &[]), ["a/app.log.1"], "named by itself");
    }
}

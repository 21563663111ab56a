//! Plain files named by globs.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use globset::{GlobMatcher, GlobSet};
use taffrail_record::{Input, Node, Origin};

use super::naming::rotated_from;
use super::{Naming, Target};
use crate::config::{FileInput, glob, glob_set};

/// Finds the files that one input's globs name. A rotated sibling of a file that is found belongs to that
/// file's lane and makes none of its own.
#[derive(Debug)]
pub struct Globs {
    input: FileInput,
    patterns: Vec<(PathBuf, bool, GlobMatcher)>,
    exclude: GlobSet,
    /// Device and inode of directories whose files are never followed.
    own: Vec<(u64, u64)>,
    node: Arc<Node>,
}

/// What one look found.
#[derive(Debug, Default)]
pub struct Globbed {
    /// The files.
    pub targets: Vec<Target>,
    /// The directories in which more may appear.
    pub directories: Vec<Arc<Path>>,
    /// The directories that could not be looked into, and why.
    pub refused: Vec<(PathBuf, RefusedDirectory)>,
}

/// Why a directory was not looked into.
#[derive(Debug, thiserror::Error)]
pub enum RefusedDirectory {
    /// It cannot be listed.
    #[error("cannot be listed: {0}; grant the agent read access")]
    Unlisted(std::io::Error),
    /// The agent writes into it: what it writes about itself would never end.
    #[error("is where the agent itself writes; its files are not followed")]
    Own,
}

impl RefusedDirectory {
    /// A short name for counting.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            RefusedDirectory::Unlisted(_) => "unlisted_directory",
            RefusedDirectory::Own => "own_directory",
        }
    }
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
        Globs { exclude: glob_set(&input.exclude), input: input.clone(), patterns, own: Vec::new(), node }
    }

    /// Leaves out what lies below these directories: the agent's own.
    #[must_use]
    pub fn without(mut self, own: &[PathBuf]) -> Self {
        let found = own.iter().filter_map(|directory| fs::metadata(directory).ok());
        self.own = found.map(|meta| (meta.dev(), meta.ino())).collect();
        self
    }

    /// Looks for the files.
    #[must_use]
    pub fn scan(&self) -> Globbed {
        let mut walk = Walk {
            own: &self.own,
            files: BTreeSet::new(),
            directories: BTreeSet::new(),
            refused: Vec::new(),
        };
        for (prefix, deep, matcher) in &self.patterns {
            let pattern = matcher.glob().glob();
            let depth = if *deep { MAX_DEPTH } else { levels(pattern, prefix) };
            let last = pattern.rsplit('/').next().unwrap_or_default();
            // A directory that is named like a log is said to be none; one that any name would match is no surprise.
            let by_name = last.bytes().any(|byte| byte != b'*');
            walk.look(prefix, depth, &|path, is_directory| {
                (by_name || !is_directory) && matcher.is_match(path) && !self.exclude.is_match(path)
            });
        }
        let Walk { files, directories, refused, .. } = walk;
        let lanes = files.iter().filter(|path| !is_rotated_sibling(path, &files));
        Globbed {
            targets: lanes.map(|path| self.target(path)).collect(),
            directories: directories.into_iter().map(Into::into).collect(),
            refused,
        }
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
            format: self.input.format.into(),
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

/// How many directories of a pattern without `**` lie below its prefix. What is deeper is not touched: another's mount
/// may hang whoever lists it.
fn levels(pattern: &str, prefix: &Path) -> usize {
    let known = prefix.components().filter(|component| matches!(component, Component::Normal(_))).count();
    pattern.matches('/').count().saturating_sub(known + 1)
}

fn crosses(pattern: &str) -> bool {
    pattern.contains("**")
}

/// A search through directories.
struct Walk<'a> {
    own: &'a [(u64, u64)],
    files: BTreeSet<PathBuf>,
    directories: BTreeSet<PathBuf>,
    refused: Vec<(PathBuf, RefusedDirectory)>,
}

impl Walk<'_> {
    fn look(&mut self, directory: &Path, depth: usize, wanted: &impl Fn(&Path, bool) -> bool) {
        if self.is_own(directory) {
            return self.refused.push((directory.to_owned(), RefusedDirectory::Own));
        }
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return,
            Err(error) => {
                return self.refused.push((directory.to_owned(), RefusedDirectory::Unlisted(error)));
            }
        };
        self.directories.insert(directory.to_owned());
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            if wanted(&path, kind.is_dir()) {
                self.files.insert(path.clone());
            }
            if kind.is_dir() && depth > 0 {
                self.look(&path, depth - 1, wanted);
            }
        }
    }

    fn is_own(&self, directory: &Path) -> bool {
        !self.own.is_empty()
            && fs::metadata(directory).is_ok_and(|meta| self.own.contains(&(meta.dev(), meta.ino())))
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
        let targets = Globs::new(&input, Arc::default()).scan().targets;
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

    #[test]
    fn a_directory_named_like_a_log_is_found_and_the_agents_own_are_left_out() {
        let root = tempfile::tempdir().expect("a directory");
        for name in ["app.log/inner.log", "state/records/logs-1.log", "plain"] {
            fs::create_dir_all(root.path().join(name)).expect("directories");
        }
        fs::File::create(root.path().join("state/records/own.log")).expect("a file");
        fs::File::create(root.path().join("a.log")).expect("a file");
        assert_eq!(scan(root.path(), &["*.log"], &[]), ["a.log", "app.log"]);
        assert_eq!(scan(root.path(), &["*"], &[]), ["a.log"], "every directory matches this");
        let input =
            FileInput { paths: vec![format!("{}/**/*.log", root.path().display())], ..FileInput::default() };
        let found = Globs::new(&input, Arc::default()).without(&[root.path().join("state")]).scan();
        assert!(found.targets.iter().all(|target| !target.key.contains("/state/")), "{:?}", found.targets);
        let refused: Vec<_> = found.refused.iter().map(|(path, why)| (path.clone(), why.reason())).collect();
        assert_eq!(refused, [(root.path().join("state"), "own_directory")]);
    }

    #[test]
    fn no_deeper_directory_is_touched_than_a_pattern_reaches() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("a/b/c")).expect("directories");
        let touched = |pattern: &str| {
            let paths = vec![format!("{}/{pattern}", root.path().display())];
            let input = FileInput { paths, ..FileInput::default() };
            Globs::new(&input, Arc::default()).scan().directories.len()
        };
        let patterns = ["x.log", "*.log", "*/x.log", "a/*.log", "a/*/x.log", "{a,x/y}/*.log"];
        assert_eq!(patterns.map(touched), [1, 1, 2, 1, 2, 3]);
    }
}

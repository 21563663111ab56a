//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;
use std::path::PathBuf;

use super::redact::is_secret;

/// A place in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1, in characters.
    pub column: u64,
    /// The line's text, without what might be a secret.
    pub text: String,
}

impl Place {
    /// A place in the text `source`, of which `shows` says how much may be seen.
    pub(super) fn new(path: PathBuf, source: &str, (line, column): (u64, u64), shows: Shows) -> Place {
        let index = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
        let text = source.lines().nth(index).map(|text| shown(text, shows)).unwrap_or_default();
        Place { path, line, column, text }
    }
}

/// How much of a line an error may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    /// All but the value of a key that could be a secret.
    Line,
    /// No value behind a key: nobody knows what stands behind a misspelt one.
    Keys,
    /// The key at the line's beginning and nothing else: any value could be a secret.
    KeysAlone,
}

/// A line as it may be shown.
fn shown(line: &str, shows: Shows) -> String {
    let hidden = |key: &str| shows != Shows::Line || line.contains('{') && is_secret(line) || is_secret(key);
    match line.split_once(": ") {
        Some((key, _)) if hidden(key) => format!("{key}: ..."),
        None if shows == Shows::KeysAlone && !line.ends_with(':') => "...".to_owned(),
        _ => line.chars().take(160).collect(),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// In the file.
    File(Place),
    /// By an environment variable.
    Variable(String),
    /// Nowhere: it is the default, or it is missing.
    Default,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub given: Given,
    /// What, with the key, the value and the remedy.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.given {
            Given::File(place) => {
                write!(f, "{place}: {}", self.message)?;
                let gutter = " ".repeat(place.line.to_string().len());
                let indent = " ".repeat(usize::try_from(place.column.saturating_sub(1)).unwrap_or(0));
                write!(f, "\n {gutter} |\n {} | {}\n {gutter} | {indent}^", place.line, place.text)
            }
            Given::Variable(name) => write!(f, "variable {name}: {}", self.message),
            Given::Default => f.write_str(&self.message),
        }
    }
}

/// Why there is no configuration. The command ends with exit code 78.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {cause}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// Something in it, or in the environment, is wrong.
    #[error("{}", joined(.0))]
    Invalid(Vec<Problem>),
}

fn joined(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

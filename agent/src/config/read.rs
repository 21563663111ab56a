//! From text to values: the file, then the environment over it, then the types.

use std::path::Path;

use schemars::JsonSchema;
use serde::de::{DeserializeOwned, DeserializeSeed};
use serde_json::{Map, Value};

use super::Config;
use super::env::{Override, overrides};
use super::error::{ConfigError, Given, Place, Problem, Shows};
use super::guide::{Guide, TRIPPED};
use super::shape::Shape;
use super::validate::validate;

/// A configuration file's text and where it lies.
struct File<'a> {
    path: &'a Path,
    text: String,
    /// Whether any value in it could be a secret.
    secret: bool,
}

/// Another file that is read as strictly as the configuration itself. None of its values is ever shown.
pub(crate) struct Strict<'a> {
    file: File<'a>,
    shape: Shape,
}

impl<'a> Strict<'a> {
    /// The file at `path` with the text `text`, and what it says as a `T`.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub(crate) fn read<T: JsonSchema + DeserializeOwned>(
        path: &'a Path,
        text: String,
    ) -> Result<(Strict<'a>, T), Problem> {
        let strict = Strict { file: File { path, text, secret: true }, shape: Shape::of::<T>() };
        let value = read(&strict.file, &strict.shape, None)?;
        match serde_json::from_value(value) {
            Ok(value) => Ok((strict, value)),
            Err(error) => Err(strict.problem("", error.to_string())),
        }
    }

    /// A mistake in the value of the dotted `key`, found later.
    pub(crate) fn problem(&self, key: &str, message: String) -> Problem {
        let given = match given(key, Some(&self.file), &self.shape, &[]) {
            Given::File(place) => Given::File(place),
            _ => Given::File(Place::new(self.file.path.to_owned(), "", (1, 1), Shows::KeysAlone)),
        };
        Problem { given, message }
    }
}

/// Reads the configuration: defaults, over them the file at `path`, over that the overrides among `variables`.
///
/// # Errors
/// [`ConfigError`] with every problem found, each with its place and remedy.
pub fn load(
    path: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let file = path.map(read_file).transpose()?;
    build(file.as_ref(), variables)
}

/// As [`load`], of a text that is read already; `path` is for messages.
///
/// # Errors
/// [`ConfigError::Invalid`].
pub fn parse(
    path: &Path,
    text: &str,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    build(Some(&File { path, text: text.to_owned(), secret: false }), variables)
}

fn build(
    file: Option<&File<'_>>,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let shape = Shape::of::<Config>();
    let mut problems = Vec::new();
    let mut value = Value::Object(Map::new());
    match file.map(|file| read(file, &shape, None)) {
        Some(Ok(written)) => value = written,
        Some(Err(problem)) => problems.push(problem),
        None => {}
    }
    let overrides = overrides(&shape, variables).unwrap_or_else(|more| {
        problems.extend(more);
        Vec::new()
    });
    if !problems.is_empty() {
        return Err(ConfigError::Invalid(problems));
    }
    let mut config = typed(&value, &overrides, None)
        .map_err(|message| ConfigError::Invalid(vec![blame(message, file, &value, &overrides)]))?;
    config.resolve();
    let found = validate(&config).into_iter().map(|invalid| Problem {
        given: given(&invalid.key, file, &shape, &overrides),
        message: invalid.to_string(),
    });
    let problems: Vec<Problem> = found.collect();
    if problems.is_empty() { Ok(config) } else { Err(ConfigError::Invalid(problems)) }
}

fn read_file(path: &Path) -> Result<File<'_>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
    Ok(File { path, text, secret: false })
}

fn read(file: &File<'_>, shape: &Shape, trip: Option<&str>) -> Result<Value, Problem> {
    let guide = Guide { shape, path: "", root: shape, trip };
    let parsed = serde_saphyr::with_deserializer_from_str(&file.text, |yaml| guide.deserialize(yaml));
    parsed.map_err(|error| file.problem(&error))
}

impl File<'_> {
    fn problem(&self, error: &serde_saphyr::Error) -> Problem {
        let message = message(error);
        let at = error.location().map_or((1, 1), |at| (at.line().max(1), at.column().max(1)));
        let shows = match self.secret {
            true => Shows::KeysAlone,
            false if message.starts_with("unknown key") => Shows::Keys,
            false => Shows::Line,
        };
        Problem { given: Given::File(Place::new(self.path.to_owned(), &self.text, at, shows)), message }
    }
}

/// The error's own words, without the place and the excerpt that its display adds.
pub(super) fn message(error: &serde_saphyr::Error) -> String {
    match error.without_snippet() {
        serde_saphyr::Error::Message { msg, .. } => msg.clone(),
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("key `{key}` is written twice; keep one")
        }
        other => {
            let text = other.to_string();
            let end = text.find(" at line ").unwrap_or(text.len());
            text.lines().next().map_or(String::new(), |line| line[..end.min(line.len())].to_owned())
        }
    }
}

/// Makes the typed configuration, without the override at `skip`.
fn typed(value: &Value, overrides: &[Override], skip: Option<usize>) -> Result<Config, String> {
    let mut value = value.clone();
    let applied = overrides.iter().enumerate().filter(|(index, _)| Some(*index) != skip);
    applied.for_each(|(_, one)| one.apply(&mut value));
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Finds whose fault it is when a type refuses a value: the override without which it would not, else the place in
/// the file that the same types refuse when they read it directly.
fn blame(message: String, file: Option<&File<'_>>, value: &Value, overrides: &[Override]) -> Problem {
    if let Some(index) = (0..overrides.len()).find(|index| typed(value, overrides, Some(*index)).is_ok()) {
        return Problem { given: Given::Variable(overrides[index].variable.clone()), message };
    }
    let refused = file.and_then(|file| Some((file, serde_saphyr::from_str::<Config>(&file.text).err()?)));
    match refused {
        Some((file, error)) => file.problem(&error),
        None => Problem { given: Given::Default, message },
    }
}

/// Where the value of `key` came from.
fn given(key: &str, file: Option<&File<'_>>, shape: &Shape, overrides: &[Override]) -> Given {
    if let Some(one) = overrides.iter().rev().find(|one| one.touches(key)) {
        return Given::Variable(one.variable.clone());
    }
    let Some(file) = file else { return Given::Default };
    // The nearest key that is really written: the key itself, its table, or the table around that.
    let mut key = key;
    loop {
        match read(file, shape, Some(key)) {
            Err(Problem { given, message }) if message == TRIPPED => return given,
            _ => match key.rfind(['.', '[']) {
                Some(end) => key = &key[..end],
                None => return Given::Default,
            },
        }
    }
}

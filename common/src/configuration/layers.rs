//! Lays presets, files and the command line over the defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml::{Table, Value};

use super::violation::{ConfigurationError, Key, Problem, Source, Violation};
use super::{Configuration, decode, presets};

/// The layers of a configuration: defaults < preset < file < `--set` < named flags.
///
/// The kind of a layer decides which one wins, not the order of the calls; of one kind, the later
/// call wins. Tables are merged key by key, everything else is replaced as a whole. The text
/// `"none"` unsets an optional key that a lower layer has set.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    layers: Vec<(Source, Content)>,
}

/// What a layer holds before it is read.
#[derive(Clone, Debug)]
enum Content {
    Preset,
    File,
    Text(String),
    Assignment(String),
    Value(String, Value),
}

impl Layers {
    /// No layers: the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a preset of [`Configuration::presets`] by its name.
    #[must_use]
    pub fn preset(self, name: impl Into<String>) -> Self {
        self.with(Source::Preset(name.into()), Content::Preset)
    }

    /// Adds a TOML file, which is read by [`build`](Self::build).
    #[must_use]
    pub fn file(self, path: impl Into<PathBuf>) -> Self {
        self.with(Source::File(path.into()), Content::File)
    }

    /// Adds a TOML text that messages call `name`. It ranks just above files.
    #[must_use]
    pub fn text(self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.with(Source::Text(name.into()), Content::Text(text.into()))
    }

    /// Adds one `path.to.key=value`. The value is TOML, or a plain text that needs no quotes where
    /// it is not the beginning of anything in TOML: `environment.id=Pendulum-v1`.
    #[must_use]
    pub fn set(self, assignment: impl Into<String>) -> Self {
        self.with(Source::Set, Content::Assignment(assignment.into()))
    }

    /// Adds the value that a named flag gives to the key at the dotted `path`.
    #[must_use]
    pub fn value(self, path: impl Into<String>, value: impl Into<Value>) -> Self {
        self.with(Source::Flag, Content::Value(path.into(), value.into()))
    }

    fn with(mut self, source: Source, content: Content) -> Self {
        self.layers.push((source, content));
        self
    }

    /// Reads and merges the layers.
    ///
    /// # Errors
    /// Everything that is wrong with them, at once: layers that cannot be read, unknown keys,
    /// wrong types, values out of range and impossible combinations.
    pub fn build(self) -> Result<Configuration, ConfigurationError> {
        let mut violations = Vec::new();
        let mut merged = Merged {
            table: super::to_table(&Configuration::default()),
            sources: BTreeMap::new(),
        };
        let mut layers = self.layers;
        layers.sort_by_key(|(source, _)| rank(source));
        for (source, content) in layers {
            match read(&source, content) {
                Ok(table) => merged.lay(table, &source),
                Err(problem) => violations.push(Violation {
                    keys: Vec::new(),
                    problem,
                }),
            }
        }
        let decoded = decode::decode(merged.table.clone());
        let broken: Vec<String> = decoded
            .faults
            .iter()
            .map(|(path, _)| path.clone())
            .collect();
        violations.extend(decoded.faults.into_iter().map(|(path, problem)| Violation {
            keys: vec![Key {
                source: merged.source(&path),
                value: None,
                path,
            }],
            problem,
        }));
        // What stands on the default of an unreadable key says nothing about the user's intent.
        let depends_on_broken = |violation: &Violation| {
            violation.keys.iter().any(|key| {
                broken
                    .iter()
                    .any(|path| is_within(&key.path, path) || is_within(path, &key.path))
            })
        };
        for mut violation in decoded.configuration.validate() {
            if depends_on_broken(&violation) {
                continue;
            }
            for key in &mut violation.keys {
                key.source = merged.source(&key.path);
            }
            violations.push(violation);
        }
        if violations.is_empty() {
            Ok(decoded.configuration)
        } else {
            Err(ConfigurationError { violations })
        }
    }
}

/// The place of a layer's kind in the precedence.
const fn rank(source: &Source) -> u8 {
    match source {
        Source::Preset(_) => 0,
        Source::File(_) => 1,
        Source::Text(_) => 2,
        Source::Set => 3,
        Source::Flag => 4,
    }
}

/// Whether `path` is `ancestor` or below it.
fn is_within(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Reads a layer.
fn read(source: &Source, content: Content) -> Result<Table, Problem> {
    let unreadable = |reason: String| Problem::Unreadable {
        source: source.clone(),
        reason,
    };
    let parse = |text: &str| {
        text.parse::<Table>()
            .map_err(|error| unreadable(error.to_string()))
    };
    match (source, content) {
        (Source::Preset(name), _) => parse(presets::find(name)?.text),
        (Source::File(path), _) => {
            let text =
                std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
            parse(&text)
        }
        (_, Content::Text(text)) => parse(&text),
        (_, Content::Assignment(assignment)) => {
            let (path, value) = assignment.split_once('=').ok_or_else(|| {
                unreadable(format!(
                    "{assignment:?} is not of the form path.to.key=value"
                ))
            })?;
            let value = value_from_text(value.trim())
                .map_err(|reason| unreadable(format!("{assignment:?}: {reason}")))?;
            nest(path.trim(), value)
                .ok_or_else(|| unreadable(format!("{assignment:?} has an empty name in its path")))
        }
        (_, Content::Value(path, value)) => nest(&path, value)
            .ok_or_else(|| unreadable(format!("{path:?} has an empty name in it"))),
        (_, Content::Preset | Content::File) => {
            unreachable!("presets and files are named by their sources")
        }
    }
}

/// Reads the right side of an assignment: TOML, or else a plain text.
fn value_from_text(text: &str) -> Result<Value, String> {
    match text.parse::<Value>() {
        Ok(value) => Ok(value),
        Err(error) if text.starts_with(['"', '\'', '[', '{']) => Err(error.message().to_owned()),
        Err(_) => Ok(Value::String(text.to_owned())),
    }
}

/// The table that holds `value` at the dotted `path`; `None` where a name in it is empty.
fn nest(path: &str, value: Value) -> Option<Table> {
    let (name, value) = match path.split_once('.') {
        Some((name, rest)) => (name, Value::Table(nest(rest, value)?)),
        None => (path, value),
    };
    (!name.is_empty()).then(|| Table::from_iter([(name.to_owned(), value)]))
}

/// The layers so far, and who wrote what.
struct Merged {
    table: Table,
    sources: BTreeMap<String, Source>,
}

impl Merged {
    fn lay(&mut self, layer: Table, source: &Source) {
        merge(&mut self.table, layer, "", source, &mut self.sources);
    }

    /// Who wrote the value at `path`, or a table or list around it.
    fn source(&self, path: &str) -> Option<Source> {
        let parent = path.rfind(['.', '[']).map(|end| &path[..end]);
        self.sources
            .get(path)
            .cloned()
            .or_else(|| self.source(parent?))
    }
}

fn merge(
    below: &mut Table,
    above: Table,
    parent: &str,
    source: &Source,
    sources: &mut BTreeMap<String, Source>,
) {
    for (name, value) in above {
        let path = if parent.is_empty() {
            name.clone()
        } else {
            format!("{parent}.{name}")
        };
        match (below.get_mut(&name), value) {
            (Some(Value::Table(below)), Value::Table(above)) => {
                merge(below, above, &path, source, sources);
            }
            (_, value) => {
                sources.insert(path, source.clone());
                below.insert(name, value);
            }
        }
    }
}

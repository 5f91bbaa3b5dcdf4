//! Gymnasium's keyword arguments as text, while an environment reads them.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;

use rookery_common::spaces::{EnvironmentSpec, Space};

use super::registry::EnvironmentError;

/// Similarity (Jaro and Winkler) from which on a name is taken for a misspelling of another.
const SUGGESTION_THRESHOLD: f64 = 0.75;

/// The arguments of one environment while its constructor reads them: each once, by the method of its
/// kind, with the value that it has where it is not given.
#[derive(Debug)]
pub struct Arguments<'a> {
    id: &'a str,
    given: &'a BTreeMap<String, String>,
    known: Vec<&'static str>,
    canonical: BTreeMap<String, String>,
}

impl<'a> Arguments<'a> {
    pub(super) fn new(id: &'a str, given: &'a BTreeMap<String, String>) -> Self {
        Self {
            id,
            given,
            known: Vec::new(),
            canonical: BTreeMap::new(),
        }
    }

    /// The environment's id.
    pub const fn id(&self) -> &'a str {
        self.id
    }

    /// The boolean argument `name`, in Rust's or Python's spelling.
    ///
    /// # Errors
    /// Where it was given as something else.
    pub fn flag(&mut self, name: &'static str, default: bool) -> Result<bool, EnvironmentError> {
        self.read(name, default, "true or false", |text| {
            let value = match text {
                "true" | "True" => true,
                "false" | "False" => false,
                _ => return None,
            };
            Some((value, value.to_string()))
        })
    }

    /// The finite number `name`.
    ///
    /// # Errors
    /// Where it was given as something else.
    pub fn number(&mut self, name: &'static str, default: f64) -> Result<f64, EnvironmentError> {
        self.read(name, default, "a finite number", |text| {
            let number = f64::from_str(text).ok()?;
            number.is_finite().then(|| (number, number.to_string()))
        })
    }

    /// The number `name` from 0 to 1.
    ///
    /// # Errors
    /// Where it was given as something else.
    pub fn probability(
        &mut self,
        name: &'static str,
        default: f64,
    ) -> Result<f64, EnvironmentError> {
        self.read(name, default, "a number from 0 to 1", |text| {
            let number = f64::from_str(text).ok()?;
            (0.0..=1.0)
                .contains(&number)
                .then(|| (number, number.to_string()))
        })
    }

    /// The whole number `name`, which lies in `range`.
    ///
    /// # Errors
    /// Where it was given as something else.
    pub fn whole_number(
        &mut self,
        name: &'static str,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> Result<u32, EnvironmentError> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(name, default, &expected, |text| {
            let number = u32::from_str(text).ok()?;
            range
                .contains(&number)
                .then(|| (number, number.to_string()))
        })
    }

    /// The argument `name`, which names one of `choices`; the first is the default.
    ///
    /// # Errors
    /// Where it was given as something else.
    pub fn choice<T>(
        &mut self,
        name: &'static str,
        choices: &'static [T],
        name_of: fn(&T) -> &'static str,
    ) -> Result<&'static T, EnvironmentError> {
        let names: Vec<_> = choices.iter().map(name_of).collect();
        let expected = format!("one of {}", names.join(", "));
        let index = self.read(name, 0, &expected, |text| {
            let index = names.iter().position(|name| *name == text)?;
            Some((index, text.to_owned()))
        })?;
        Ok(&choices[index])
    }

    /// The text `name`; `expected` says what it is.
    ///
    /// # Errors
    /// Where it was given as something else.
    pub fn text(
        &mut self,
        name: &'static str,
        default: &str,
        expected: &str,
    ) -> Result<String, EnvironmentError> {
        self.read(name, default.to_owned(), expected, |text| {
            (!text.is_empty()).then(|| (text.to_owned(), text.to_owned()))
        })
    }

    /// The two bounds `name`, the lower first, with or without brackets; they may be infinite.
    ///
    /// # Errors
    /// Where it was given as something else.
    pub fn range(
        &mut self,
        name: &'static str,
        default: [f64; 2],
    ) -> Result<[f64; 2], EnvironmentError> {
        let expected = "two numbers, the lower first, such as `0.8, 2` or `0.7, inf`";
        self.read(name, default, expected, |text| {
            let inner = text.trim().trim_start_matches(['(', '[']);
            let (low, high) = inner.trim_end_matches([')', ']']).split_once(',')?;
            let low = f64::from_str(low.trim()).ok()?;
            let high = f64::from_str(high.trim()).ok()?;
            (low <= high).then(|| ([low, high], format!("{low}, {high}")))
        })
    }

    /// The argument `name`, which is `value` and can be nothing else: `expected` says why. The spec
    /// always holds it.
    pub(super) fn settled(
        &mut self,
        name: &'static str,
        value: &str,
        expected: &str,
    ) -> Result<(), EnvironmentError> {
        let expected = format!("{value}, {expected}");
        self.read(name, (), &expected, |text| {
            (text == value).then(|| ((), text.to_owned()))
        })?;
        self.canonical.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        default: T,
        expected: &str,
        parse: impl Fn(&str) -> Option<(T, String)>,
    ) -> Result<T, EnvironmentError> {
        self.known.push(name);
        let Some(text) = self.given.get(name) else {
            return Ok(default);
        };
        let (value, canonical) = parse(text).ok_or_else(|| EnvironmentError::InvalidArgument {
            id: self.id.to_owned(),
            argument: name.to_owned(),
            expected: expected.to_owned(),
            got: text.clone(),
        })?;
        self.canonical.insert(name.to_owned(), canonical);
        Ok(value)
    }

    /// Completes the spec, once every argument that the environment takes has been read.
    ///
    /// # Errors
    /// Where an argument was given that nothing read.
    pub fn into_spec(
        self,
        observation: Space,
        action: Space,
        max_episode_steps: impl Into<Option<u32>>,
    ) -> Result<EnvironmentSpec, EnvironmentError> {
        let mut names = self.given.keys();
        if let Some(unknown) = names.find(|name| !self.known.contains(&name.as_str())) {
            return Err(EnvironmentError::UnknownArgument {
                id: self.id.to_owned(),
                argument: unknown.clone(),
                suggestion: most_similar(unknown, self.known.iter().copied()),
                known: self.known.iter().map(|&name| name.to_owned()).collect(),
            });
        }
        Ok(EnvironmentSpec {
            id: self.id.to_owned(),
            arguments: self.canonical,
            observation,
            action,
            max_episode_steps: max_episode_steps.into(),
            goal: None,
            wrappers: Vec::new(),
            action_mask: false,
        })
    }
}

/// The candidate most like `name`, if it is similar enough to have been meant.
pub(super) fn most_similar<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let name = name.to_lowercase();
    candidates
        .map(|candidate| {
            let similarity = strsim::jaro_winkler(&name, &candidate.to_lowercase());
            (similarity, candidate)
        })
        .filter(|(similarity, _)| *similarity >= SUGGESTION_THRESHOLD)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.to_owned())
}

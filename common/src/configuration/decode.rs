//! Turns a table into a [`Configuration`] and says everything that is wrong with it, not only the
//! first thing.
//!
//! serde stops at the first error. So an offending key is recorded and removed, which leaves its
//! default in its place, until the rest decodes. Unknown keys are seen by each struct on the way,
//! because serde tells the deserialiser which fields a struct has.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use toml::{Table, Value};

use super::Configuration;
use super::units::NONE;
use super::violation::Problem;

/// What came out of a table.
pub(super) struct Decoded {
    /// The configuration, with defaults in the place of whatever could not be read.
    pub(super) configuration: Configuration,
    /// Dotted path and fault of each key that was not understood.
    pub(super) faults: Vec<(String, Problem)>,
}

/// Decodes `table`, collecting every fault.
pub(super) fn decode(mut table: Table) -> Decoded {
    let keys = RefCell::new(Keys::default());
    let mut faults = Vec::new();
    let configuration = loop {
        let root = Value::Table(table);
        let outcome = Configuration::deserialize(Node {
            path: String::new(),
            value: &root,
            keys: &keys,
        });
        let Value::Table(next) = root else {
            unreachable!("the root was made from a table")
        };
        table = next;
        match outcome {
            Ok(configuration) => break configuration,
            Err(fault) => {
                remove(&mut table, &fault.path);
                faults.push((fault.path, fault.problem));
            }
        }
    };
    let keys = keys.into_inner();
    for path in keys.unknown {
        let problem = if path.contains('[') {
            unknown_setting(&path, &keys.known)
        } else {
            let suggestion = suggest(&path, &keys.known);
            Problem::UnknownKey { suggestion }
        };
        faults.push((path, problem));
    }
    Decoded {
        configuration,
        faults,
    }
}

/// Removes what stands at a dotted path; of a list, the whole list.
fn remove(table: &mut Table, path: &str) {
    let path = path.split('[').next().unwrap_or(path);
    match path.split_once('.') {
        Some((parent, rest)) => {
            if let Some(Value::Table(table)) = table.get_mut(parent) {
                remove(table, rest);
            }
        }
        None => {
            table.remove(path);
        }
    }
}

/// The keys that exist and those that do not, as dotted paths.
#[derive(Default)]
struct Keys {
    known: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

/// Names from other trainers, by which people look for what is called otherwise here.
const FOREIGN_NAMES: [(&str, &str); 21] = [
    ("batch_size", "ppo.minibatch_size"),
    ("buffer_size", "replay.capacity"),
    ("clip_coef", "ppo.clip_range"),
    ("clip_range_vf", "ppo.value_clip_range"),
    ("ent_coef", "ppo.entropy_coefficient"),
    ("env_id", "environment.id"),
    ("gamma", "ppo.discount"),
    ("learning_starts", "replay.minimum_size"),
    ("log_std_init", "policy.initial_log_std"),
    ("lr", "ppo.learning_rate"),
    ("max_grad_norm", "ppo.max_gradient_norm"),
    ("n_envs", "environment.num_envs"),
    ("n_epochs", "ppo.epochs"),
    ("n_sampled_goal", "replay.hindsight_goals"),
    ("n_steps", "rollout.unroll_length"),
    ("net_arch", "policy.hidden"),
    ("norm_obs", "normalisation.observations"),
    ("norm_reward", "normalisation.rewards"),
    ("num_steps", "rollout.unroll_length"),
    ("total_timesteps", "run.total_env_steps"),
    ("vf_coef", "ppo.value_coefficient"),
];

/// The known key that was probably meant by `path`.
fn suggest(path: &str, known: &BTreeSet<String>) -> Option<String> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let name = last(path).replace('-', "_");
    if let Some((_, meant)) = FOREIGN_NAMES.iter().find(|(foreign, _)| *foreign == name) {
        return Some((*meant).to_owned());
    }
    let parent = path.rsplit_once('.').map(|(parent, _)| parent);
    known
        .iter()
        .map(|candidate| {
            let neighbour = candidate.rsplit_once('.').map(|(parent, _)| parent) == parent;
            let likeness = strsim::normalized_damerau_levenshtein(&name, &last(candidate));
            (likeness + if neighbour { 0.2 } else { 0.0 }, candidate)
        })
        .filter(|(likeness, _)| *likeness >= 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.clone())
}

/// What is wrong with a key that its kind of list element does not have: one of another kind may.
fn unknown_setting(path: &str, known: &BTreeSet<String>) -> Problem {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    if name == "training_only" {
        return Problem::Impossible {
            reason: "a policy that has learnt with this kind cannot do without it in evaluation"
                .to_owned(),
            remedy: "remove training_only".to_owned(),
        };
    }
    let known: Vec<String> = known
        .iter()
        .filter_map(|candidate| candidate.rsplit_once('.'))
        .filter(|(place, _)| *place == parent)
        .map(|(_, key)| key.to_owned())
        .collect();
    Problem::UnknownSetting {
        suggestion: most_similar(name, known.iter().map(String::as_str)),
        known,
    }
}

/// The candidate that was probably meant by `name`.
fn most_similar<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    candidates
        .map(|candidate| {
            let likeness = strsim::normalized_damerau_levenshtein(name, candidate);
            (likeness, candidate)
        })
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.to_owned())
}

/// A fault and where it was found.
#[derive(Debug)]
struct Fault {
    path: String,
    problem: Problem,
}

impl Fault {
    fn new(problem: Problem) -> Self {
        Self {
            path: String::new(),
            problem,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path, self.problem)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Problem::Invalid {
            got: String::new(),
            reason: in_words(&message.to_string()),
        })
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(Problem::Unexpected {
            expected: in_words(&expected.to_string()),
            got: String::new(),
        })
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Problem::Missing { key: field })
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        let choices: Vec<String> = expected.iter().map(|name| format!("\"{name}\"")).collect();
        Self::new(Problem::Unexpected {
            expected: choices.join(" or "),
            got: String::new(),
        })
    }
}

/// What serde calls a type or the standard library a mistake, in the words of who writes a configuration.
fn in_words(expected: &str) -> String {
    match expected {
        "f64" => "a number".to_owned(),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "string" | "path string" => "text in quotes".to_owned(),
        "a sequence" => "a list".to_owned(),
        "socket address" => "a number with a port in quotes, such as \"127.0.0.1:9464\"".to_owned(),
        "invalid socket address syntax" => {
            "not a numeric address with a port, such as \"127.0.0.1:9464\"".to_owned()
        }
        other if other.starts_with("struct ") || other == "a map" => "a table".to_owned(),
        other => other.to_owned(),
    }
}

/// A value and where it stands.
#[derive(Clone)]
struct Node<'a> {
    path: String,
    value: &'a Value,
    keys: &'a RefCell<Keys>,
}

impl<'a> Node<'a> {
    /// Deserialises the value, and adds to an error what only this place knows.
    fn deserialize<T>(
        self,
        deserialize: impl FnOnce(Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let Self { path, value, .. } = self.clone();
        deserialize(self).map_err(|mut fault| {
            if fault.path.is_empty() {
                if let Problem::Unexpected { got, .. } | Problem::Invalid { got, .. } =
                    &mut fault.problem
                {
                    *got = match value {
                        Value::Table(_) => "a table".to_owned(),
                        other => without_credentials(&other.to_string()),
                    };
                }
                fault.path = path;
            }
            fault
        })
    }

    /// Keeps which keys of `table`, which stands here, are its fields and which are not.
    fn note(&self, table: &Table, fields: &[&str], tag: Option<&str>) {
        let mut keys = self.keys.borrow_mut();
        keys.known
            .extend(fields.iter().map(|field| join(&self.path, field)));
        let is_unknown = |key: &&String| !fields.contains(&key.as_str()) && tag != Some(key);
        let unknown = table.keys().filter(is_unknown);
        keys.unknown
            .extend(unknown.map(|key| join(&self.path, key)));
    }

    fn child(&self, key: &str, value: &'a Value) -> Self {
        Self {
            path: join(&self.path, key),
            value,
            keys: self.keys,
        }
    }
}

/// A value without the name and the password that an address in it holds: what is refused is printed and logged.
fn without_credentials(value: &str) -> String {
    match value.split_once("://") {
        Some((scheme, rest)) => match rest.rfind('@') {
            Some(at) => format!("{scheme}://...{}", &rest[at..]),
            None => value.to_owned(),
        },
        None => value.to_owned(),
    }
}

/// The path of `key` in the table at `parent`.
fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() {
        key.to_owned()
    } else {
        format!("{parent}.{key}")
    }
}

/// Reads a whole number; a float that is one, as people write `1e6`, is taken for it.
macro_rules! deserialize_whole_number {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            // Below 2^53 a float that has no fraction stands for one whole number only.
            match *self.value {
                Value::Float(float) if float.fract() == 0.0 && (0.0..=9e15).contains(&float) => {
                    visitor.visit_u64(float as u64)
                }
                _ => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Integer(integer) => visitor.visit_i64(*integer),
            Value::Float(float) => visitor.visit_f64(*float),
            Value::Boolean(boolean) => visitor.visit_bool(*boolean),
            Value::Datetime(_) => Err(de::Error::invalid_type(Unexpected::Other("date"), &visitor)),
            Value::Array(values) => visitor.visit_seq(Elements {
                node: self,
                remaining: values.iter().enumerate(),
            }),
            Value::Table(table) => visitor.visit_map(Entries {
                remaining: table.iter(),
                next: None,
                node: self,
                known: None,
            }),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let Value::Table(table) = self.value else {
            return self.deserialize_any(visitor);
        };
        self.note(table, fields, None);
        visitor.visit_map(Entries {
            remaining: table.iter(),
            next: None,
            node: self,
            known: Some(fields),
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.value {
            Value::String(text) if text == NONE => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.value {
            Value::String(text) => {
                let name: StrDeserializer<'_, Fault> = text.as_str().into_deserializer();
                visitor.visit_enum(name)
            }
            Value::Table(table) => visitor.visit_enum(Tagged {
                node: self,
                table,
                variants,
            }),
            _ => Err(de::Error::unknown_variant("", variants)),
        }
    }

    deserialize_whole_number! { deserialize_u32 deserialize_u64 }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// The key that names the variant of a table.
const TAG: &str = "kind";

/// A variant as people write it: a table of its fields with one more key that names it.
struct Tagged<'a> {
    node: Node<'a>,
    table: &'a Table,
    variants: &'static [&'static str],
}

impl<'de> EnumAccess<'de> for Tagged<'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Fault> {
        let Some(kind) = self.table.get(TAG) else {
            return Err(Fault::new(Problem::Missing { key: TAG }));
        };
        let known = kind
            .as_str()
            .and_then(|kind| self.variants.iter().find(|known| **known == kind));
        let Some(known) = known else {
            return Err(Fault {
                path: join(&self.node.path, TAG),
                problem: Problem::UnknownKind {
                    got: kind.to_string(),
                    suggestion: kind
                        .as_str()
                        .and_then(|kind| most_similar(kind, self.variants.iter().copied())),
                    known: self.variants,
                },
            });
        };
        let name: StrDeserializer<'_, Fault> = (*known).into_deserializer();
        seed.deserialize(name).map(|variant| (variant, self))
    }
}

impl<'de> VariantAccess<'de> for Tagged<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Err(de::Error::unknown_variant("", self.variants))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Fault> {
        Err(de::Error::unknown_variant("", self.variants))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Fault> {
        Err(de::Error::unknown_variant("", self.variants))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.node.note(self.table, fields, Some(TAG));
        visitor.visit_map(Entries {
            remaining: self.table.iter(),
            next: None,
            node: self.node,
            known: Some(fields),
        })
    }
}

/// The elements of a list.
struct Elements<'a> {
    node: Node<'a>,
    remaining: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some((index, value)) = self.remaining.next() else {
            return Ok(None);
        };
        let element = Node {
            path: format!("{}[{index}]", self.node.path),
            value,
            keys: self.node.keys,
        };
        element
            .deserialize(|element| seed.deserialize(element))
            .map(Some)
    }
}

/// The entries of a table, of a struct only those that are its fields.
struct Entries<'a> {
    node: Node<'a>,
    remaining: toml::map::Iter<'a, String, Value>,
    next: Option<Node<'a>>,
    known: Option<&'static [&'static str]>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        for (key, value) in self.remaining.by_ref() {
            if self.known.is_none_or(|known| known.contains(&key.as_str())) {
                self.next = Some(self.node.child(key, value));
                let key: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
                return seed.deserialize(key).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        match self.next.take() {
            Some(node) => node.deserialize(|node| seed.deserialize(node)),
            None => Err(de::Error::custom("a value was asked for before its key")),
        }
    }
}

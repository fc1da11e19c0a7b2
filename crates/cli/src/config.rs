//! Configuration of a role from its layers: defaults, the file, `COCOON_*` variables, `--set` flags.
//!
//! Later layers win. A key that the role does not have is refused wherever it stands, with the nearest
//! right name: a misspelt limit must never be a missing limit.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Variables that begin with `COCOON_` and are no configuration keys.
const OTHER_VARIABLES: &[&str] = &["COCOON_LOG", "COCOON_LOG_FORMAT", "COCOON_TEST_PROGRAM"];

/// Where the values of a configuration come from, weakest first.
#[derive(Default)]
pub(crate) struct Layers {
    /// What the program chose itself: ports of the instance, the state folder.
    pub(crate) defaults: Table,
    /// The file that `--config` names.
    pub(crate) file: Option<PathBuf>,
    /// The process's environment.
    pub(crate) environment: Vec<(String, String)>,
    /// `--set key=value`, in order.
    pub(crate) flags: Vec<String>,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is not TOML", path.display())]
    Syntax { path: PathBuf, source: toml::de::Error },
    #[error("{origin}: there is no key {key:?}{}", hint.as_ref().map(|near| format!(", did you mean {near:?}?")).unwrap_or_default())]
    UnknownKey { origin: String, key: String, hint: Option<String> },
    #[error("{origin}: {value:?} is not KEY=VALUE")]
    NotAnAssignment { origin: &'static str, value: String },
    #[error("{origin}: {reason}")]
    Value { origin: String, reason: String },
}

/// Composes and checks a role's configuration.
///
/// # Errors
/// [`ConfigError`] names the layer, the key and, for unknown keys, the nearest right one.
pub(crate) fn load<T: DeserializeOwned>(layers: &Layers) -> Result<T, ConfigError> {
    let mut table = Table::new();
    merge::<T>(&mut table, &layers.defaults, "defaults")?;
    if let Some(path) = &layers.file {
        merge::<T>(&mut table, &read(path)?, &path.display().to_string())?;
    }
    for (variable, text) in &layers.environment {
        let Some(name) = variable.strip_prefix("COCOON_") else { continue };
        if OTHER_VARIABLES.contains(&variable.as_str()) {
            continue;
        }
        assign::<T>(&mut table, &name.to_lowercase(), text, &format!("variable {variable}"))?;
    }
    for flag in &layers.flags {
        let (key, text) = flag
            .split_once('=')
            .ok_or_else(|| ConfigError::NotAnAssignment { origin: "flag --set", value: flag.clone() })?;
        assign::<T>(&mut table, key.trim(), text, &format!("flag --set {key}"))?;
    }
    parse(&table, "configuration")
}

/// The effective configuration as TOML, for `cocoon config print`.
///
/// # Errors
/// If the type cannot be written as TOML.
pub(crate) fn print<T: Serialize>(config: &T) -> Result<String, toml::ser::Error> {
    toml::to_string_pretty(config)
}

fn read(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    text.parse().map_err(|source| ConfigError::Syntax { path: path.to_owned(), source })
}

/// Lays `upper` over `table`, and checks the result so that an error names this layer.
fn merge<T: DeserializeOwned>(table: &mut Table, upper: &Table, origin: &str) -> Result<(), ConfigError> {
    for (key, value) in upper {
        table.insert(key.clone(), value.clone());
    }
    parse::<T>(table, origin).map(drop)
}

/// Sets one key from text: read as a TOML value where that fits the key, else as a string.
fn assign<T: DeserializeOwned>(
    table: &mut Table,
    key: &str,
    text: &str,
    origin: &str,
) -> Result<(), ConfigError> {
    let before = table.get(key).cloned();
    let typed = format!("value = {text}").parse::<Table>().ok().and_then(|mut line| line.remove("value"));
    if let Some(value) = typed {
        table.insert(key.to_owned(), value);
        if parse::<T>(table, origin).is_ok() {
            return Ok(());
        }
    }
    table.insert(key.to_owned(), Value::String(text.to_owned()));
    let outcome = parse::<T>(table, origin).map(drop);
    if outcome.is_err() {
        match before {
            Some(value) => table.insert(key.to_owned(), value),
            None => table.remove(key),
        };
    }
    outcome
}

fn parse<T: DeserializeOwned>(table: &Table, origin: &str) -> Result<T, ConfigError> {
    T::deserialize(table.clone()).map_err(|error| explain(&error, origin))
}

/// Turns serde's refusal into ours. Serde words an unknown field as "unknown field `x`, expected one of `a`,
/// `b`": the names in backticks are the refused one and, after it, the right ones.
fn explain(error: &toml::de::Error, origin: &str) -> ConfigError {
    let message = error.message();
    if !message.starts_with("unknown field") {
        return ConfigError::Value { origin: origin.to_owned(), reason: error.to_string().trim().to_owned() };
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let key = names.next().unwrap_or_default().to_owned();
    let hint = nearest(&key, names).map(str::to_owned);
    ConfigError::UnknownKey { origin: origin.to_owned(), key, hint }
}

/// The candidate that a person most probably meant by `key`, if any is near.
fn nearest<'a>(key: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored =
        candidates.map(|candidate| (strsim::normalized_damerau_levenshtein(key, candidate), candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    // Below this, the "nearest" name is only confusing.
    (best.0 >= 0.6).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Sample {
        port: u16,
        name: String,
        models: Vec<Model>,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Model {
        coefficient: u32,
    }

    fn file(text: &str) -> (tempfile::TempDir, Layers) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("role.toml");
        std::fs::write(&path, text).unwrap();
        (folder, Layers { file: Some(path), ..Layers::default() })
    }

    #[test]
    fn later_layers_win() {
        let (_folder, mut layers) = file("port = 2\nname = \"file\"");
        layers.defaults = "port = 1\nname = \"default\"".parse().unwrap();
        let sample: Sample = load(&layers).unwrap();
        assert_eq!((sample.port, sample.name.as_str()), (2, "file"));

        layers.environment = vec![("COCOON_PORT".into(), "3".into()), ("PATH".into(), "x".into())];
        assert_eq!(load::<Sample>(&layers).unwrap().port, 3);

        layers.flags = vec!["port=4".into(), "models=[{ coefficient = 7 }]".into()];
        let sample: Sample = load(&layers).unwrap();
        assert_eq!((sample.port, &sample.models), (4, &vec![Model { coefficient: 7 }]));
    }

    #[test]
    fn a_number_may_be_a_name() {
        let layers = Layers { flags: vec!["name=11000".into()], ..Layers::default() };
        assert_eq!(load::<Sample>(&layers).unwrap().name, "11000");
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_name() {
        let (_folder, layers) = file("prot = 2");
        let message = load::<Sample>(&layers).unwrap_err().to_string();
        assert!(message.ends_with("there is no key \"prot\", did you mean \"port\"?"), "{message}");

        let (_folder, layers) = file("[[models]]\ncoeficient = 2");
        let message = load::<Sample>(&layers).unwrap_err().to_string();
        assert!(message.contains("did you mean \"coefficient\"?"), "{message}");

        let environment = vec![("COCOON_NAMES".into(), "x".into())];
        let message = load::<Sample>(&Layers { environment, ..Layers::default() }).unwrap_err().to_string();
        assert_eq!(message, "variable COCOON_NAMES: there is no key \"names\", did you mean \"name\"?");

        let flags = vec!["zzzzzz=1".into()];
        let message = load::<Sample>(&Layers { flags, ..Layers::default() }).unwrap_err().to_string();
        assert_eq!(message, "flag --set zzzzzz: there is no key \"zzzzzz\"");
    }

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let candidates = ["http", "root_config", "owner_address"];
        assert_eq!(nearest("htpp", candidates.into_iter()), Some("http"));
        assert_eq!(nearest("root_confg", candidates.into_iter()), Some("root_config"));
        assert_eq!(nearest("zzz", candidates.into_iter()), None);
        assert_eq!(nearest("http", std::iter::empty()), None);
    }

    #[test]
    fn values_of_the_wrong_kind_are_refused_by_layer() {
        let (_folder, layers) = file("port = 70000");
        assert!(load::<Sample>(&layers).unwrap_err().to_string().contains("role.toml"));
        let flags = vec!["port=eighty".into()];
        let message = load::<Sample>(&Layers { flags, ..Layers::default() }).unwrap_err().to_string();
        assert!(message.starts_with("flag --set port: "), "{message}");
        let flags = vec!["port".into()];
        assert!(load::<Sample>(&Layers { flags, ..Layers::default() }).is_err());
    }

    #[test]
    fn missing_and_broken_files_are_named() {
        let layers = Layers { file: Some("/nowhere/role.toml".into()), ..Layers::default() };
        assert!(load::<Sample>(&layers).unwrap_err().to_string().contains("/nowhere/role.toml"));
        let (_folder, layers) = file("port = ");
        assert!(load::<Sample>(&layers).unwrap_err().to_string().ends_with("is not TOML"));
    }
}

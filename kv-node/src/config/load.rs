//! From file, environment and flags to a `Config`: each value is judged where it comes from, so
//! that an error names the file, variable or flag to look at.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Parser;
use serde::Deserialize;
use toml::{Table, Value};

use super::ConfigError;
use super::nearest::nearest;
use super::settings::{Config, Key, SECTIONS};

/// Variables beginning so are settings.
const PREFIX: &str = "KV_";
/// Variables that are none: where the file is, and what `kv` reads in the same environment.
const NO_SETTINGS: &[&str] = &["config", "connect", "secret_file"];

/// What the binary is told on its command line.
#[derive(Clone, Debug, Default, Parser)]
#[command(
    name = "kv-node",
    version,
    about = "A node of a leaderless key-value store for Redis clients"
)]
pub struct Flags {
    /// Read settings from this TOML file; also KV_CONFIG.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Keep everything in this directory.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Set one setting, such as listen.resp=127.0.0.1:7001; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Ask the cluster of the seeds to make this node a member, if it is new. Members admit it by
    /// themselves where `cluster.admit` is `auto`; else it waits for an operator.
    #[arg(long)]
    pub join: bool,
    /// Allow addresses other than loopback: nothing on the wire is encrypted.
    #[arg(long)]
    pub insecure: bool,
    /// Start although the log is damaged in what had been synced: what can't be read is passed
    /// over, and everything is filled from other nodes before it counts for reads again. A node
    /// that is alone loses it.
    #[arg(long)]
    pub accept_log_damage: bool,
    /// Say whether the settings are sound, and end.
    #[arg(long)]
    pub check_config: bool,
    /// Print every setting with its meaning and value, and end.
    #[arg(long)]
    pub print_config: bool,
}

/// Of these variables those that begin as settings do and are none: of another program, or
/// misspelt beyond recognition.
pub fn ignored_variables(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let is_known = |name: &str| {
        let Some(rest) = name.strip_prefix(PREFIX) else { return true };
        let wanted = rest.to_ascii_lowercase();
        NO_SETTINGS.contains(&&*wanted)
            || all_keys().any(|(section, key)| wanted == flat(section, key))
    };
    names.into_iter().filter(|name| !is_known(name)).collect()
}

/// The settings of a node: defaults, then the file, then `KV_*` variables, then flags.
///
/// # Errors
/// The first value that can't be used, with where it came from.
pub fn load(
    flags: &Flags,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let mut merged = Merged::default();
    let sorted: BTreeMap<String, String> = environment.into_iter().collect();
    let named = flags.config.as_ref().map(|path| path.display().to_string());
    if let Some(path) = named.as_ref().or_else(|| sorted.get("KV_CONFIG")) {
        merged.file(path)?;
    }
    for (name, text) in &sorted {
        merged.variable(name, text)?;
    }
    if let Some(dir) = &flags.data_dir {
        merged.put("--data-dir", "", "data_dir", Value::String(dir.display().to_string()))?;
    }
    if flags.join {
        merged.put("--join", "cluster", "join", Value::Boolean(true))?;
        merged.put("--join", "cluster", "bootstrap_expect", Value::Integer(0))?;
    }
    for pair in &flags.set {
        merged.flag(pair)?;
    }
    Config::deserialize(merged.0).map_err(|error| ConfigError::Value {
        origin: "settings".into(),
        key: "all".into(),
        why: error.to_string(),
    })
}

/// Values of all sources so far, by section.
#[derive(Default)]
struct Merged(Table);

impl Merged {
    fn file(&mut self, path: &str) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::File { path: path.into(), why: error.to_string() })?;
        let table: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
            path: path.into(),
            why: error.to_string().trim_end().into(),
        })?;
        for (name, value) in table {
            match value {
                Value::Table(keys) if section(&name).is_some() => {
                    for (key, value) in keys {
                        self.put(path, &name, &key, value)?;
                    }
                }
                value => self.put(path, "", &name, value)?,
            }
        }
        Ok(())
    }

    fn variable(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let Some(rest) = name.strip_prefix(PREFIX) else { return Ok(()) };
        let wanted = rest.to_ascii_lowercase();
        if NO_SETTINGS.contains(&&*wanted) {
            return Ok(());
        }
        for (section, keys) in SECTIONS {
            for key in *keys {
                if wanted == flat(section, key) {
                    return self.put(name, section, key.name, typed(key, text));
                }
            }
        }
        // Other programs have variables of that prefix; what begins like a section is ours.
        let ours = SECTIONS
            .iter()
            .any(|(section, _)| !section.is_empty() && wanted.starts_with(&format!("{section}_")));
        let names: Vec<String> = all_keys().map(|(section, key)| flat(section, key)).collect();
        let near = same_ending(&wanted, "_", &names)
            .or_else(|| nearest(&wanted, names.iter().map(String::as_str)));
        if !ours && near.is_none() {
            return Ok(());
        }
        Err(ConfigError::UnknownKey {
            origin: "environment".into(),
            key: name.into(),
            nearest: near.map(|near| format!("{PREFIX}{}", near.to_ascii_uppercase())),
        })
    }

    fn flag(&mut self, pair: &str) -> Result<(), ConfigError> {
        let Some((name, text)) = pair.split_once('=') else {
            return Err(ConfigError::Value {
                origin: "--set".into(),
                key: pair.into(),
                why: "expected KEY=VALUE".into(),
            });
        };
        let (in_section, name) = name.trim().split_once('.').unwrap_or_else(|| ("", name.trim()));
        let known = section(in_section).and_then(|keys| keys.iter().find(|key| key.name == name));
        let value = known.map_or_else(|| Value::String(text.into()), |key| typed(key, text));
        self.put("--set", in_section, name, value)
    }

    /// Takes one value, if there is such a setting and it can have that value.
    fn put(
        &mut self,
        origin: &str,
        in_section: &str,
        name: &str,
        value: Value,
    ) -> Result<(), ConfigError> {
        let known = section(in_section).is_some_and(|keys| keys.iter().any(|key| key.name == name));
        if !known {
            return Err(unknown(origin, in_section, name));
        }
        let mut alone = Table::new();
        insert(&mut alone, in_section, name, value.clone());
        Config::deserialize(alone).map_err(|error| ConfigError::Value {
            origin: origin.into(),
            key: dotted(in_section, name),
            why: error.message().trim().replace('\n', "; "),
        })?;
        insert(&mut self.0, in_section, name, value);
        Ok(())
    }
}

fn insert(table: &mut Table, in_section: &str, name: &str, value: Value) {
    if in_section.is_empty() {
        table.insert(name.into(), value);
    } else {
        let keys = table.entry(in_section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(keys) = keys {
            keys.insert(name.into(), value);
        }
    }
}

/// The shortest setting whose last words these are: who leaves its section out means it.
fn same_ending<'n>(words: &str, joint: &str, names: &'n [String]) -> Option<&'n str> {
    let ends = |name: &&String| {
        let before = name.strip_suffix(words);
        before.is_some_and(|before| before.is_empty() || before.ends_with(joint))
    };
    names.iter().filter(ends).min_by_key(|name| name.len()).map(String::as_str)
}

fn unknown(origin: &str, in_section: &str, name: &str) -> ConfigError {
    let key = dotted(in_section, name);
    let mut names: Vec<String> =
        all_keys().map(|(section, key)| dotted(section, key.name)).collect();
    if in_section.is_empty() {
        names.extend(SECTIONS.iter().map(|(section, _)| (*section).to_owned()));
    }
    let same = same_ending(name, ".", &names).filter(|same| *same != key);
    let others = names.iter().map(String::as_str).filter(|known| *known != key);
    let nearest = same.or_else(|| nearest(&key, others)).map(str::to_owned);
    ConfigError::UnknownKey { origin: origin.into(), key, nearest }
}

/// The value that a text stands for, by the setting's type. What it can't be stays a text, which
/// is then refused with the type named.
fn typed(key: &Key, text: &str) -> Value {
    let kind = key.kind;
    if kind.starts_with("Vec") {
        if let Ok(Value::Array(list)) = format!("v = {text}")
            .parse::<Table>()
            .map(|table| table.get("v").cloned().unwrap_or(Value::Array(Vec::new())))
        {
            return Value::Array(list);
        }
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        return Value::Array(items.map(|item| Value::String(item.into())).collect());
    }
    let number = ["u8", "u16", "u32", "u64", "usize"].iter().any(|name| kind.contains(name));
    if number && let Ok(number) = text.parse() {
        return Value::Integer(number);
    }
    if kind == "bool"
        && let Ok(flag) = text.parse()
    {
        return Value::Boolean(flag);
    }
    Value::String(text.into())
}

fn section(name: &str) -> Option<&'static [Key]> {
    SECTIONS.iter().find(|(section, _)| *section == name).map(|(_, keys)| *keys)
}

fn all_keys() -> impl Iterator<Item = (&'static str, &'static Key)> {
    SECTIONS.iter().flat_map(|(section, keys)| keys.iter().map(move |key| (*section, key)))
}

fn dotted(in_section: &str, name: &str) -> String {
    if in_section.is_empty() { name.into() } else { format!("{in_section}.{name}") }
}

fn flat(in_section: &str, key: &Key) -> String {
    dotted(in_section, key.name).replace('.', "_")
}

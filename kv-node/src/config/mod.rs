//! What an operator decides about a node: one documented struct, from a file, the environment and
//! flags, where later beats earlier.
//!
//! ```text
//! defaults < kv.toml < KV_SECTION_KEY < --data-dir, --set section.key=value
//! ```
//! Every setting is named once, in `settings`; the list of keys, the reference that
//! `--print-config` prints and the names of the variables follow from it. A key that nobody knows
//! is refused with the nearest one named, since a setting that is silently ignored is worse than
//! a node that does not start. Names end in their unit.
//!
//! Invariant: a `Config` that `check` lets pass can be started, unless the machine refuses.

mod check;
mod level;
mod load;
mod nearest;
mod print;
mod secret;
mod settings;

pub use check::Checked;
pub use load::{Flags, ignored_variables, load};
pub use secret::SecretText;
pub use settings::{
    AaeConfig, Admit, AnnounceAs, AnnounceConfig, AutoscaleConfig, ClusterConfig, CollectionConfig,
    CompatConfig, Config, ConfigSet, EngineKind, HandoffConfig, KeyspaceConfig, ListenConfig,
    LogConfig, LogFormat, MembershipConfig, Preset, ProvisionerKind, RequestConfig, RespConfig,
    StorageConfig, WholeKeyspace,
};

/// Why a configuration can't be used. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file that a setting names can't be read.
    File {
        /// The file.
        path: String,
        /// What the system said.
        why: String,
    },
    /// The file is not TOML.
    Syntax {
        /// The file.
        path: String,
        /// What is wrong, and where.
        why: String,
    },
    /// There is no such setting.
    UnknownKey {
        /// The file, variable or flag.
        origin: String,
        /// The key as it was written.
        key: String,
        /// The setting whose name is nearest, if one is near.
        nearest: Option<String>,
    },
    /// A setting's value is not one that it can have.
    Value {
        /// The file, variable or flag.
        origin: String,
        /// The setting.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// Settings contradict each other or a rule.
    Rule {
        /// The setting to change.
        key: &'static str,
        /// The rule.
        why: String,
    },
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { path, why } => write!(f, "{path} can't be read: {why}"),
            Self::Syntax { path, why } => write!(f, "{path} is not TOML: {why}"),
            Self::UnknownKey { origin, key, nearest: Some(nearest) } => {
                write!(f, "{origin}: there is no setting `{key}`; did you mean `{nearest}`?")
            }
            Self::UnknownKey { origin, key, nearest: None } => {
                write!(f, "{origin}: there is no setting `{key}`; --print-config shows them all")
            }
            Self::Value { origin, key, why } => write!(f, "{origin}: {key}: {why}"),
            Self::Rule { key, why } => write!(f, "{key}: {why}"),
        }
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;

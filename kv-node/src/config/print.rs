//! The settings as a file that could be loaded again, secrets apart: the reference of them all.

use std::fmt::Write as _;

use super::secret::HIDDEN;
use super::settings::{Config, SECTIONS};

impl Config {
    /// Every setting with its meaning and value, as TOML. Secrets that are set are shown as a
    /// comment, `***`: a file that is loaded again must not set them to that.
    pub fn to_toml(&self) -> String {
        let table = toml::Table::try_from(self).unwrap_or_default();
        let mut out = String::new();
        for (section, keys) in SECTIONS {
            let values = if section.is_empty() {
                Some(&table)
            } else {
                let _ = writeln!(out, "[{section}]");
                table.get(*section).and_then(toml::Value::as_table)
            };
            for key in *keys {
                for line in key.doc {
                    let _ = writeln!(out, "#{line}");
                }
                let _ = match values.and_then(|values| values.get(key.name)) {
                    Some(toml::Value::String(text)) if text == HIDDEN => {
                        writeln!(out, "# {} = \"{HIDDEN}\"", key.name)
                    }
                    Some(value) => writeln!(out, "{} = {value}", key.name),
                    None => writeln!(out, "# {} =", key.name),
                };
            }
            out.push('\n');
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }
}

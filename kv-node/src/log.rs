//! Logs, for people or for machines, on standard error.
//!
//! Standard output is left to what was asked for (`--print-config`, `--version`). tarpc opens a
//! span for each call, which costs more than many calls do: below `warn` it is off unless a level
//! of its own is given.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Begins to log. The first call in a process holds.
///
/// # Errors
/// The level is not one; nothing was begun.
pub(crate) fn begin(config: &LogConfig) -> Result<(), String> {
    let quiet = if config.level.contains("tarpc") { "" } else { ",tarpc=warn" };
    let filter = EnvFilter::try_new(format!("{}{quiet}", config.level))
        .map_err(|error| format!("log.level: {error}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let begun = match config.format {
        LogFormat::Text => lines.with_target(false).compact().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if begun.is_err() {
        tracing::debug!("logs are taken by the embedding program");
    }
    Ok(())
}

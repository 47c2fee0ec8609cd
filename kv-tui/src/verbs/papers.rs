//! `kv completions` and `kv man`: what packages and shells want of a command, made from the same
//! description as its help.

use std::path::PathBuf;

use clap::builder::TypedValueParser as _;
use clap::{Args, Command, CommandFactory as _, ValueEnum};
use clap_complete::Shell;

use super::Output;
use crate::Error;
use crate::args::Kv;
use crate::error::Exit;
use crate::screen::KvTui;

/// Which command.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    /// The verbs for scripts.
    Kv,
    /// The terminal.
    KvTui,
}

impl Which {
    fn command(self) -> Command {
        match self {
            Self::Kv => Kv::command(),
            Self::KvTui => KvTui::command(),
        }
    }
}

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// For which shell.
    shell: Shell,
    /// Of which command.
    #[arg(long, value_name = "COMMAND", default_value = "kv")]
    of: Which,
}

impl Completions {
    pub(crate) fn run(&self, output: &mut Output<'_>) -> Result<Exit, Error> {
        let mut command = self.of.command();
        let name = command.get_name().to_owned();
        // Made in memory, since the generator panics where it can't write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        output.to.write_all(&script)?;
        Ok(Exit::Ok)
    }
}

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Of which command.
    #[arg(long, value_name = "COMMAND", default_value = "kv")]
    of: Which,
    /// Write the pages of the command and of each of its verbs into this directory, instead of the
    /// command's own to standard output.
    #[arg(
        long,
        value_name = "DIRECTORY",
        value_parser = clap::builder::OsStringValueParser::new().map(PathBuf::from)
    )]
    to: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(&self, output: &mut Output<'_>) -> Result<Exit, Error> {
        match &self.to {
            Some(directory) => clap_mangen::generate_to(self.of.command(), directory)?,
            None => clap_mangen::Man::new(self.of.command()).render(output.to)?,
        }
        Ok(Exit::Ok)
    }
}

//! `kv tui`: the terminal, for who knows one command only. It is the `kv-tui` command in this
//! process, with its arguments and those that all verbs share.

use std::ffi::OsString;

use clap::Args;

use crate::args::Connect;

/// Its arguments are those of the other command, which has its own help.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Tui {
    /// Arguments of kv-tui; `kv tui -- --help` lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

impl Tui {
    /// The command line of `kv-tui`, its name first. Options that all verbs share may stand among
    /// its own, and count there.
    pub(crate) fn arguments(&self, connect: &Connect) -> Vec<OsString> {
        let mut line = vec![OsString::from("kv-tui")];
        let shared = connect.arguments();
        line.extend(
            shared
                .into_iter()
                .filter(|(name, _)| !self.has(name))
                .flat_map(|(name, value)| [name.into(), value]),
        );
        line.extend_from_slice(&self.arguments);
        line
    }

    fn has(&self, name: &str) -> bool {
        let is_it = |argument: &OsString| {
            let argument = argument.to_string_lossy();
            argument.split('=').next() == Some(name)
        };
        self.arguments.iter().any(is_it)
    }
}

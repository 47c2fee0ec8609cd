//! `kv del KEY`: deletes what R replicas hold, as Redis's DEL, or what a context covers.

use clap::Args;
use kv_client::Versioned;
use kv_client::wire::Level;

use super::{Output, written};
use crate::args::{Connect, KeyArg};
use crate::error::Exit;
use crate::{Error, text};

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct Del {
    #[command(flatten)]
    key: KeyArg,
    /// Delete what this context covers, and nothing else: what `get --context` printed.
    #[arg(long, value_name = "HEX")]
    context: Option<String>,
    /// Copies that must be durable: one, quorum, all, local-quorum, each-quorum or a number; the
    /// keyspace's unless given.
    #[arg(long, value_name = "COPIES", value_parser = text::level, default_value = "keyspace")]
    w: Level,
}

impl Del {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let key = self.key.bytes()?;
        let seen = match &self.context {
            Some(context) => Some(text::unhex("the context", context)?),
            None => None,
        };
        let client = connect.client(Level::Keyspace, self.w).await?;
        let out = match seen {
            Some(context) => client.delete(&Versioned::resume(key, context)).await?,
            None => client.blind_delete(key).await?,
        };
        written(output, &self.key, &out, "nothing to delete")
    }
}

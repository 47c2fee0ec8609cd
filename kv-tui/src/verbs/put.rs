//! `kv put KEY VALUE`: over whatever is there, as Redis's SET; over what a context covers; or
//! beside what is there.

use std::io::Read as _;

use bytes::Bytes;
use clap::Args;
use kv_client::Versioned;
use kv_client::wire::Level;

use super::{Output, written};
use crate::args::{Connect, KeyArg};
use crate::error::Exit;
use crate::{Error, text};

/// Bytes read from standard input at most: no cluster takes more.
const STDIN_BYTES_MAX: u64 = 16 * 1_024 * 1_024;

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct Put {
    #[command(flatten)]
    key: KeyArg,
    /// The value; `-` reads it from standard input.
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// Replace what this context covers, and nothing else: what `get --context` printed.
    #[arg(long, value_name = "HEX")]
    context: Option<String>,
    /// Replace nothing: the value becomes a sibling of what is there.
    #[arg(long, conflicts_with = "context")]
    sibling: bool,
    /// Copies that must be durable: one, quorum, all, local-quorum, each-quorum or a number; the
    /// keyspace's unless given.
    #[arg(long, value_name = "COPIES", value_parser = text::level, default_value = "keyspace")]
    w: Level,
}

impl Put {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let (key, value) = (self.key.bytes()?, self.value()?);
        let seen = match &self.context {
            Some(context) => Some(text::unhex("the context", context)?),
            None => None,
        };
        let client = connect.client(Level::Keyspace, self.w).await?;
        let out = match seen {
            Some(context) => client.put(&Versioned::resume(key, context), value).await?,
            None if self.sibling => client.add_sibling(key, value).await?,
            None => client.blind_put(key, value).await?,
        };
        written(output, &self.key, &out, "nothing written")
    }

    fn value(&self) -> Result<Bytes, Error> {
        if self.value != "-" {
            return self.key.given("VALUE", &self.value);
        }
        let mut bytes = Vec::new();
        let read = std::io::stdin().take(STDIN_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if read as u64 > STDIN_BYTES_MAX {
            return Err(Error::Input("standard input is longer than 16 MiB".to_owned()));
        }
        if !self.key.hex {
            return Ok(bytes.into());
        }
        let text = String::from_utf8_lossy(&bytes);
        text::unhex("standard input", text.trim_end())
    }
}

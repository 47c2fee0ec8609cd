//! `kv import --from redis://...|FILE`: a Redis server's strings, or an export, into the cluster.

use std::path::{Path, PathBuf};

use clap::Args;
use kv_client::wire::Level;

use super::Output;
use super::copying::{self, CopyArgs};
use crate::args::Connect;
use crate::copy::{Cluster, Reader, Server, Sink, Source};
use crate::error::Exit;
use crate::resp::Target;
use crate::{Error, text};

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Where from: redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], or a file that `kv export` wrote.
    /// A password may also come from `REDISCLI_AUTH`.
    #[arg(long, value_name = "SOURCE")]
    from: String,
    /// Remembers how far the import got; it is removed at the end.
    #[arg(long, value_name = "FILE", default_value = "kv-import.checkpoint",
          value_parser = copying::path())]
    checkpoint: PathBuf,
    /// Copies that must be durable before a key counts as stored; the keyspace's unless given.
    #[arg(long, value_name = "COPIES", value_parser = text::level, default_value = "keyspace")]
    w: Level,
    /// A longer value is refused and not read.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    value_bytes_max: u64,
    #[command(flatten)]
    copy: CopyArgs,
}

impl Import {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let (source, from, identity) = self.source(connect).await?;
        let to = copying::cluster_name(connect).await?;
        let begun = copying::begin(self.checkpoint.clone(), &from, &identity, &to)?;
        let client = connect.patient_client(copying::wait_ms(connect)).await?;
        let sink = Cluster::new(client, self.copy.options(connect, self.w), None);
        self.copy.run(begun, source, Sink::Cluster(sink), output).await
    }

    async fn source(&self, connect: &Connect) -> Result<(Source, String, String), Error> {
        if Target::is_meant_by(&self.from) {
            let limits = self.copy.limits(connect, self.value_bytes_max);
            let server = Server::open(copying::target(&self.from)?, limits).await?;
            let (name, process) = (server.name(), server.process().to_owned());
            Ok((Source::Server(server), name, process))
        } else if !Path::new(&self.from).exists() {
            let what =
                format!("{}: there is no such file; a server is redis://HOST:PORT", self.from);
            Err(Error::Input(what))
        } else {
            let reader = Reader::open(Path::new(&self.from))?;
            let identity = reader.identity().to_owned();
            Ok((Source::File(reader, self.copy.page_keys()), self.from.clone(), identity))
        }
    }
}

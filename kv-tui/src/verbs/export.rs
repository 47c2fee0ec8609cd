//! `kv export --to FILE|redis://...`: the cluster's keys into a file, siblings and all, or into a
//! Redis server, which is given what a GET would show.

use std::path::{Path, PathBuf};

use clap::Args;
use kv_client::wire::Level;

use super::Output;
use super::copying::{self, Begun, CopyArgs};
use crate::Error;
use crate::args::Connect;
use crate::clock::unix_ms;
use crate::copy::{Cluster, Server, Sink, Source, Writer};
use crate::error::Exit;
use crate::resp::Target;

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Where to: a file that is not there yet, or redis://[[USER]:PASSWORD@]HOST[:PORT][/DB].
    /// A password may also come from `REDISCLI_AUTH`.
    #[arg(long, value_name = "TARGET")]
    to: String,
    /// The node's Redis port, which tells the keys: redis://HOST:PORT; what the node says of itself
    /// unless given.
    #[arg(long, value_name = "ADDRESS")]
    resp: Option<String>,
    /// Remembers how far the export got; it is removed at the end.
    #[arg(long, value_name = "FILE", default_value = "kv-export.checkpoint",
          value_parser = copying::path())]
    checkpoint: PathBuf,
    #[command(flatten)]
    copy: CopyArgs,
}

impl Export {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let from = copying::cluster_name(connect).await?;
        let limits = self.copy.limits(connect, u64::MAX);
        let resp = match &self.resp {
            Some(address) => address.clone(),
            None => connect.admin().await?.status().await?.endpoints.resp,
        };
        let keys = Server::open(copying::target(&resp)?, limits).await?;
        let client = connect.patient_client(copying::wait_ms(connect)).await?;
        let options = self.copy.options(connect, Level::Keyspace);
        let source = Source::Cluster(Cluster::new(client, options, Some(keys)));
        // A cursor names a place among the keys, so any node of the cluster goes on from it.
        let (begun, sink) = if Target::is_meant_by(&self.to) {
            let server = Server::open(copying::target(&self.to)?, limits).await?;
            let begun = copying::begin(self.checkpoint.clone(), &from, &from, &server.name())?;
            (begun, Sink::Server(server))
        } else {
            let begun = copying::begin(self.checkpoint.clone(), &from, &from, &self.to)?;
            let writer = self.writer(&begun)?;
            (begun, Sink::File(writer))
        };
        self.copy.run(begun, source, sink, output).await
    }

    fn writer(&self, begun: &Begun) -> Result<Writer, Error> {
        let path = Path::new(&self.to);
        match begun.checkpoint.written {
            Some(written) => Writer::resume(path, written),
            None => Writer::begin(path, &begun.checkpoint.from, unix_ms()),
        }
    }
}

//! `kv repair`: brings the replicas of all partitions, of one, or of one key to the same, now.
//!
//! Partitions go one after the other, so that it can be stopped at any time: what was mended stays
//! mended. Progress goes to stderr where a person looks on.

use std::io::{self, IsTerminal, Write};

use clap::Args;
use kv_client::Admin;
use kv_client::wire::RepairOut;
use serde_json::{Map, Value, json};

use super::Output;
use crate::args::Connect;
use crate::error::Exit;
use crate::{Error, text};

/// Its arguments.
#[derive(Debug, Args)]
pub(crate) struct Repair {
    /// The partition; all of them if none is given.
    #[arg(conflicts_with = "key")]
    partition: Option<u16>,
    /// Only this key.
    #[arg(long)]
    key: Option<String>,
    /// The key is given as hexadecimal digits.
    #[arg(long, requires = "key")]
    hex: bool,
}

/// A partition may take so long, whatever `--deadline-ms` says.
const PARTITION_MS_MIN: u32 = 600_000;

/// What all partitions came to.
#[derive(Default)]
struct Sum {
    partitions: u64,
    out: RepairOut,
    failed: Vec<(u16, String)>,
}

impl Repair {
    pub(crate) async fn run(
        &self,
        connect: &Connect,
        output: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let admin = connect.patient_admin(PARTITION_MS_MIN).await?;
        let mut sum = Sum::default();
        match (&self.key, self.partition) {
            (Some(key), _) => {
                let key = if self.hex { text::unhex("--key", key)? } else { key.clone().into() };
                let place = admin.locate(key.clone()).await?;
                sum.add(place.partition, admin.repair(place.partition, Some(key)).await);
            }
            (None, Some(partition)) => sum.add(partition, admin.repair(partition, None).await),
            (None, None) => all(&admin, &mut sum).await?,
        }
        if output.json {
            output.object(object(&sum))?;
        } else {
            print(&sum, output)?;
        }
        Ok(if sum.failed.is_empty() { Exit::Ok } else { Exit::Error })
    }
}

async fn all(admin: &Admin, sum: &mut Sum) -> Result<(), Error> {
    let count = admin.ring().await?.partitions();
    let shown = io::stderr().is_terminal();
    for partition in 0..u16::try_from(count).unwrap_or(u16::MAX) {
        sum.add(partition, admin.repair(partition, None).await);
        if shown {
            let (done, mended) = (partition + 1, sum.out.mended);
            let failed = sum.failed.len();
            let _unwritable = write!(
                io::stderr(),
                "\r{done} of {count} partitions compared, {mended} keys mended, {failed} failed "
            );
        }
    }
    if shown {
        let _unwritable = writeln!(io::stderr());
    }
    Ok(())
}

impl Sum {
    fn add(&mut self, partition: u16, repaired: kv_client::Result<RepairOut>) {
        match repaired {
            Ok(out) => {
                self.partitions += 1;
                self.out.replicas = self.out.replicas.max(out.replicas);
                self.out.leaves += out.leaves;
                self.out.found += out.found;
                self.out.mended += out.mended;
                self.out.bytes += out.bytes;
            }
            Err(error) => self.failed.push((partition, error.to_string())),
        }
    }
}

fn print(sum: &Sum, output: &mut Output<'_>) -> Result<(), Error> {
    let out = &sum.out;
    let partitions = match sum.partitions {
        1 => "1 partition".to_owned(),
        count => format!("{count} partitions"),
    };
    output.line(format!("{partitions} compared with {} replicas", out.replicas))?;
    output.line(format!("{} keys differed, {} mended", out.found, out.mended))?;
    output.line(format!("{} leaves, {} sent and received", out.leaves, text::size(out.bytes)))?;
    for (partition, why) in &sum.failed {
        output
            .line(format!("partition {partition} failed: {}", text::shown(why.as_bytes(), 200)))?;
    }
    Ok(())
}

fn object(sum: &Sum) -> Map<String, Value> {
    let failed: Vec<Value> = sum
        .failed
        .iter()
        .map(|(partition, why)| json!({"partition": partition, "why": why}))
        .collect();
    Map::from_iter([
        ("partitions".to_owned(), sum.partitions.into()),
        ("replicas".to_owned(), sum.out.replicas.into()),
        ("leaves".to_owned(), sum.out.leaves.into()),
        ("found".to_owned(), sum.out.found.into()),
        ("mended".to_owned(), sum.out.mended.into()),
        ("bytes".to_owned(), sum.out.bytes.into()),
        ("failed".to_owned(), failed.into()),
    ])
}

//! Where a snapshot comes from: questions to one node.

use std::time::Duration;

use kv_client::wire::{RingView, ServiceError};
use kv_client::{Admin, Error};

use crate::model::Snapshot;

/// What a question may take that the screen can do without: others are asked by the node to answer
/// it, and one of them may be down.
const EXTRA: Duration = Duration::from_millis(800);

/// Asks for how the cluster is. A node without a layout is part of the answer.
pub(crate) async fn snapshot(admin: &Admin) -> Result<Snapshot, Error> {
    let status = admin.status().await?;
    let nodes = admin.nodes().await?;
    Ok(Snapshot { status, nodes, ring: ring(admin).await?, ..Snapshot::default() })
}

/// Asks for everything that the screen shows. The ring is large and seldom changes: the one that
/// was heard before is taken again while the node's newest layout is the same.
pub(crate) async fn everything(
    admin: &Admin,
    before: Option<&RingView>,
) -> Result<Snapshot, Error> {
    let status = admin.status().await?;
    let newest = status.layouts.last().map(|layout| (layout.epoch, layout.digest));
    let same = |ring: &&RingView| newest == Some((ring.epoch, ring.digest));
    let known = before.filter(same).cloned();
    let ring = async {
        match known {
            Some(ring) => Ok(Some(ring)),
            None => ring(admin).await,
        }
    };
    let (nodes, ring, hints, layouts, aae) = tokio::join!(
        admin.nodes(),
        ring,
        tokio::time::timeout(EXTRA, admin.hints()),
        tokio::time::timeout(EXTRA, admin.layouts()),
        tokio::time::timeout(EXTRA, admin.aae()),
    );
    Ok(Snapshot {
        status,
        nodes: nodes?,
        ring: ring?,
        hints: hints.ok().and_then(Result::ok),
        layouts: layouts.ok().and_then(Result::ok),
        aae: aae.ok().and_then(Result::ok),
    })
}

async fn ring(admin: &Admin) -> Result<Option<RingView>, Error> {
    match admin.ring().await {
        Ok(ring) => Ok(Some(ring)),
        Err(Error::Service(ServiceError::NotServing(_))) => Ok(None),
        Err(error) => Err(error),
    }
}

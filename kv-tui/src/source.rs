//! Where a snapshot comes from: three questions to one node.

use kv_client::wire::ServiceError;
use kv_client::{Admin, Error};

use crate::model::Snapshot;

/// Asks for everything that the model holds. A node without a layout is part of the answer.
pub(crate) async fn snapshot(admin: &Admin) -> Result<Snapshot, Error> {
    let status = admin.status().await?;
    let nodes = admin.nodes().await?;
    let ring = match admin.ring().await {
        Ok(ring) => Some(ring),
        Err(Error::Service(ServiceError::NotServing(_))) => None,
        Err(error) => return Err(error),
    };
    Ok(Snapshot { status, nodes, ring, ..Snapshot::default() })
}

//! The contract of `Provisioner`, as one suite that every provisioner passes.

use kv_client::NodeId;

use super::{Ask, Gone, Provisioner};

/// Runs every check; `started` counts the nodes that were started so far.
///
/// # Panics
/// When the provisioner breaks the contract.
pub async fn suite(provisioner: &dyn Provisioner, started: impl Fn() -> usize) {
    assert!(!provisioner.name().is_empty(), "it has a name");
    let before = started();
    let more = |nodes: usize| before + if provisioner.acts() { nodes } else { 0 };
    let ask = |request: &str| Ask {
        request: request.to_owned(),
        cluster: "contract \"quoted\"\n".into(),
        seeds: vec!["127.0.0.1:7101".into(), "127.0.0.1:7102".into()],
        nodes: 3,
        desired: 4,
        reason: "because".into(),
    };
    provisioner.add(&ask("add-1")).await.expect("one more can be had");
    assert_eq!(started(), more(1), "one that acts starts one, one that does not none");
    provisioner.add(&ask("add-1")).await.expect("the same request is done already");
    assert_eq!(started(), more(1), "the same request starts nothing more");
    provisioner.add(&ask("add-2")).await.expect("one more can be had");
    assert_eq!(started(), more(2), "another request is another node");
    let gone = Gone { node: NodeId(9), rpc: "127.0.0.1:7109".into(), ..Gone::default() };
    provisioner.remove(&ask("remove-9"), &gone).await.expect("who is not there is gone");
    provisioner.remove(&ask("remove-9"), &gone).await.expect("and is gone still");
    assert_eq!(started(), more(2), "a removal starts nothing");
}

//! Two carts are written at the same time through two replicas. Nothing is lost: the reader is
//! shown both, makes one of them, and writes it back with the context of the read, which replaces
//! exactly what it was made of.
//!
//! `cargo run -p kv-quorum --example resolve`

#![expect(clippy::print_stdout, reason = "an example is there to be seen")]

use kv_quorum::{
    Actor, Context, Dot, Draft, Error, HybridTime, LatestWins, Limits, Record, Resolver, Sibling,
};
use std::collections::BTreeSet;

/// Every item of every cart.
struct Union;

impl Resolver for Union {
    fn resolve(&self, siblings: &[Sibling<'_, [u8]>]) -> Option<Vec<u8>> {
        let carts = siblings.iter().filter_map(|sibling| sibling.value);
        let items: BTreeSet<&[u8]> = carts.flat_map(|cart| cart.split(|b| *b == b' ')).collect();
        let items: Vec<&[u8]> = items.into_iter().collect();
        (!items.is_empty()).then(|| items.join(&b' '))
    }
}

fn main() -> Result<(), Error> {
    let limits = Limits::default();
    let (here, there) = (Actor::new(1, 0x51), Actor::new(2, 0x52));
    let at = |actor, ms| Dot::new(actor, HybridTime::new(ms, 0));

    let mut ours = Record::new();
    ours.mint(at(here, 1_000), &Context::new(), Draft::string(b"tea milk".to_vec()), &limits)?;
    let mut theirs = Record::new();
    theirs.mint(
        at(there, 1_001),
        &Context::new(),
        Draft::string(b"tea bread".to_vec()),
        &limits,
    )?;

    ours.join(&theirs);
    for sibling in ours.siblings(2_000) {
        let value = sibling.value.map(|value| String::from_utf8_lossy(value));
        println!("a sibling of node {}: {}", sibling.dot.actor.node, value.unwrap_or_default());
    }
    let latest = ours.resolve(2_000, &LatestWins).unwrap_or_default();
    println!("a plain GET shows: {}", String::from_utf8_lossy(&latest));

    let merged = ours.resolve(2_000, &Union).unwrap_or_default();
    let shown = ours.context().clone();
    ours.mint(at(here, 2_001), &shown, Draft::string(merged), &limits)?;
    theirs.join(&ours);
    assert_eq!(theirs.siblings(3_000).len(), 1, "what was shown is replaced, everywhere");
    let value = theirs.shown(3_000).cloned().unwrap_or_default();
    println!("after the merge:   {}", String::from_utf8_lossy(&value));
    Ok(())
}

//! Two replicas with 200,000 entries each, of which one missed a few: what an exchange costs.
//!
//! ```text
//! cargo run --release -p kv-merkle --example exchange
//! ```
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "it is a program")]

use std::time::Instant;

use kv_merkle::{Digest, DigestKey, Error, Exchange, Framer, Leaves, Pace, Shape, Tree, answer};

fn main() -> Result<(), Error> {
    let key = DigestKey::new(*b"a cluster secret");
    let mut framer = key.framer();
    for depth in [8, 10, 14, 16] {
        compare(Shape::new(depth)?, &mut framer)?;
    }
    Ok(())
}

fn compare(shape: Shape, framer: &mut Framer<'_>) -> Result<(), Error> {
    const ENTRIES: u64 = 200_000;
    let (mut ours, mut theirs) = (Leaves::new(shape), Leaves::new(shape));
    let started = Instant::now();
    for entry in 0..ENTRIES {
        let (position, digest) = digest(framer, entry);
        let leaf = shape.leaf_of(position);
        ours.add(leaf, digest)?;
        if entry % 50_000 != 7 {
            theirs.add(leaf, digest)?;
        }
    }
    let digested_ns = started.elapsed().as_nanos() / u128::from(ENTRIES);

    let mut built_ns = u128::MAX;
    let (mut our_tree, their_tree) = (Tree::build(&ours), Tree::build(&theirs));
    for _ in 0..20 {
        let started = Instant::now();
        our_tree = Tree::build(&ours);
        built_ns = built_ns.min(started.elapsed().as_nanos());
    }

    let mut exchange = Exchange::new(&our_tree, Pace::default());
    let mut bytes = 0;
    while let Some(request) = exchange.request(&our_tree) {
        let answer = answer(&their_tree, &request)?;
        bytes += request.encode().len() + answer.encode().len();
        exchange.on_answer(&our_tree, &answer)?;
    }
    println!(
        "{:5} leaves: {digested_ns} ns for an entry, {} us for a tree, {} leaves differ, \
         found in {} rounds and {bytes} bytes",
        shape.leaves(),
        built_ns / 1_000,
        exchange.differing().len(),
        exchange.rounds(),
    );
    Ok(())
}

/// An entry's position in the key space and its digest: key, version, in a store.
fn digest(framer: &mut Framer<'_>, entry: u64) -> (u64, Digest) {
    let position = (framer.number(entry).finish().get() >> 64) as u64;
    (position, framer.number(position).bytes(b"key").number(entry).finish())
}

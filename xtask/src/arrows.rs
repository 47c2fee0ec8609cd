//! Which crate may know which: the one table, and its check against `cargo metadata`.
//!
//! Arrows are what keeps the leaves reusable: they know nothing of each other, and nothing
//! asynchronous is below kv-client. A change that adds an arrow edits this table and
//! ARCHITECTURE.md. (The habit is rust-analyzer's, which checks its own with `cargo tree -i`.)

use crate::error::{Error, Result};
use crate::metadata::{Graph, Kind};
use crate::term;

/// The crates that stand alone: no arrow to any of ours, and nothing asynchronous below them.
pub(crate) const LEAVES: &[&str] = &["kv-ring", "kv-gossip", "kv-quorum", "kv-merkle", "kv-lsm"];

/// What no leaf may reach, at any depth.
const ASYNCHRONOUS: &[&str] = &["tokio", "tarpc", "async-trait", "futures", "mio"];

/// From each package of the workspace to those of ours that it may use, in any kind of dependency.
const ALLOWED: &[(&str, &[&str])] = &[
    ("kv-ring", &[]),
    ("kv-gossip", &[]),
    ("kv-quorum", &[]),
    ("kv-merkle", &[]),
    ("kv-lsm", &[]),
    ("kv-client", &["kv-ring", "kv-quorum"]),
    ("kv-node", &["kv-ring", "kv-gossip", "kv-quorum", "kv-merkle", "kv-lsm", "kv-client"]),
    ("kv-tui", &["kv-client"]),
    ("xtask", &[]),
    (
        "kv-tests",
        &[
            "kv-ring",
            "kv-gossip",
            "kv-quorum",
            "kv-merkle",
            "kv-lsm",
            "kv-client",
            "kv-node",
            "kv-tui",
        ],
    ),
];

/// `cargo xtask arrows`: prints the arrows that there are, and fails on one that may not be.
pub(crate) fn run() -> Result<()> {
    let graph = Graph::for_host()?;
    for package in graph.own() {
        let mut to: Vec<&str> = own_dependencies(&graph, &package.name);
        to.dedup();
        let to = if to.is_empty() { "-".to_owned() } else { to.join(" ") };
        term::out(format_args!("{:<10} -> {to}", package.name));
    }
    let found = check(&graph);
    if found.is_empty() {
        return Ok(());
    }
    for line in &found {
        term::error(line);
    }
    Err(Error::Failed(format!("{} arrows that may not be", found.len())))
}

/// Every breach, in words; empty when all is well.
pub(crate) fn check(graph: &Graph) -> Vec<String> {
    let mut found = Vec::new();
    for package in graph.own() {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
            found.push(format!(
                "{}: not in the table of arrows (xtask/src/arrows.rs)",
                package.name
            ));
            continue;
        };
        for to in own_dependencies(graph, &package.name) {
            if !allowed.contains(&to) {
                found.push(format!("{} -> {to}: no such arrow is allowed", package.name));
            }
        }
    }
    for leaf in LEAVES {
        for id in graph.reach(&[leaf]) {
            let name = graph.packages.get(id).map_or("", |package| package.name.as_str());
            if ASYNCHRONOUS.contains(&name) {
                found.push(format!("{leaf} reaches {name} (see `cargo tree -p {leaf} -i {name}`)"));
            }
        }
    }
    found
}

/// The packages of ours that `name` declares, sorted. A crate's own dev-dependency on itself (to
/// turn a feature on in tests) is no arrow.
fn own_dependencies<'a>(graph: &'a Graph, name: &str) -> Vec<&'a str> {
    let Some(package) = graph.member(name) else { return Vec::new() };
    let mut to: Vec<&str> = package
        .declared
        .iter()
        .filter(|dependency| graph.member(&dependency.name).is_some())
        .filter(|dependency| dependency.kind != Kind::Dev || dependency.name != name)
        .map(|dependency| dependency.name.as_str())
        .collect();
    to.sort_unstable();
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace with a list of `from -> to`; what isn't one of ours becomes an outside package.
    fn graph(arrows: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::default();
        for (name, _) in ALLOWED {
            let package = crate::metadata::Package { name: (*name).into(), ..Default::default() };
            graph.packages.insert((*name).into(), package);
            graph.members.insert((*name).into());
        }
        for (from, to) in arrows {
            graph.packages.entry((*to).into()).or_insert_with(|| crate::metadata::Package {
                name: (*to).into(),
                ..Default::default()
            });
            let package = graph.packages.entry((*from).into()).or_default();
            package.name = (*from).into();
            package.edges.push(((*to).into(), Kind::Normal));
            package.declared.push(crate::metadata::Declared {
                name: (*to).into(),
                kind: Kind::Normal,
                optional: false,
            });
        }
        graph
    }

    #[test]
    fn the_designed_arrows_pass() {
        let arrows = [
            ("kv-client", "kv-ring"),
            ("kv-client", "tokio"),
            ("kv-node", "kv-lsm"),
            ("kv-tui", "kv-client"),
            ("kv-tests", "kv-node"),
        ];
        assert_eq!(check(&graph(&arrows)), Vec::<String>::new());
    }

    #[test]
    fn a_leaf_that_knows_another_is_found() {
        let found = check(&graph(&[("kv-merkle", "kv-ring")]));
        assert_eq!(found, ["kv-merkle -> kv-ring: no such arrow is allowed"]);
    }

    #[test]
    fn xtask_may_use_nothing_of_ours() {
        assert_eq!(check(&graph(&[("xtask", "kv-client")])).len(), 1);
    }

    #[test]
    fn a_runtime_below_a_leaf_is_found_at_any_depth() {
        let found = check(&graph(&[("kv-lsm", "some-cache"), ("some-cache", "tokio")]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("kv-lsm reaches tokio"), "{found:?}");
    }

    #[test]
    fn an_unknown_member_must_be_put_in_the_table() {
        let mut graph = graph(&[]);
        let package = crate::metadata::Package { name: "kv-common".into(), ..Default::default() };
        graph.packages.insert("kv-common".into(), package);
        graph.members.insert("kv-common".into());
        assert_eq!(check(&graph).len(), 1);
    }

    #[test]
    fn every_leaf_is_in_the_table_without_arrows() {
        for leaf in LEAVES {
            assert!(ALLOWED.iter().any(|(name, to)| name == leaf && to.is_empty()), "{leaf}");
        }
    }
}

//! Rules over the package graph: how many packages a build takes, and which are never taken.

use super::Finding;
use crate::metadata::Graph;

/// More packages than this in the tree that a user builds is a change to be talked about.
const PACKAGES_MAX: usize = 300;

/// Packages that were looked at and refused: name, the first good version if there is one, and why.
/// deny.toml holds the same list for cargo-deny.
const DENIED: &[(&str, Option<[u64; 3]>, &str)] = &[
    ("bincode", None, "no longer maintained; postcard is our codec"),
    ("crossbeam-skiplist", None, "a range never frees the nodes it visited (crossbeam #1178)"),
    ("figment", None, "no longer maintained; toml and clap are enough"),
    ("lz4_flex", Some([0, 12, 1]), "RUSTSEC-2026-0041"),
    ("rocksdb", None, "kv-lsm is the engine"),
    ("librocksdb-sys", None, "kv-lsm is the engine"),
    ("openssl-sys", None, "the build needs nothing but Rust and a C compiler"),
];

/// Whether the normal and build tree of all our packages is of a bearable size.
pub(super) fn size(graph: &Graph) -> Option<Finding> {
    let names: Vec<&str> = graph.own().map(|package| package.name.as_str()).collect();
    let count = graph.reach(&names).len();
    (count > PACKAGES_MAX).then(|| {
        Finding::fail(
            "Cargo.lock",
            format!("{count} packages to build; {PACKAGES_MAX} is the most"),
        )
    })
}

/// One finding for each refused package in the graph.
pub(super) fn denied(graph: &Graph) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in graph.packages.values() {
        for (name, good_from, why) in DENIED {
            let good = good_from.is_some_and(|from| version(&package.version) >= from);
            if package.name == *name && !good {
                findings.push(Finding::fail(format!("{name} {}", package.version), *why));
            }
        }
    }
    findings
}

/// Major, minor, patch; what isn't a number counts as 0, so an unreadable version is an old one.
fn version(text: &str) -> [u64; 3] {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let mut numbers = core.split('.').map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Package;

    fn with(name: &str, version: &str) -> Graph {
        let package = Package { name: name.into(), version: version.into(), ..Package::default() };
        let mut graph = Graph::default();
        graph.packages.insert(name.into(), package);
        graph
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(version("0.9.9") < version("0.12.1"));
        assert_eq!(version("1.2.3-alpha.1+build"), [1, 2, 3]);
        assert_eq!(version("x"), [0, 0, 0]);
    }

    #[test]
    fn a_refused_package_is_found_and_a_mended_one_is_not() {
        assert_eq!(denied(&with("bincode", "2.0.1")).len(), 1);
        assert_eq!(denied(&with("lz4_flex", "0.11.3")).len(), 1);
        assert_eq!(denied(&with("lz4_flex", "0.12.1")), []);
        assert_eq!(denied(&with("lz4_flex", "0.14.0")), []);
        assert_eq!(denied(&with("postcard", "1.1.0")), []);
    }

    #[test]
    fn a_tree_over_the_bound_is_found() {
        let mut graph = with("kv", "0.1.0");
        graph.members.insert("kv".into());
        assert_eq!(size(&graph), None);
        for number in 0..PACKAGES_MAX {
            let name = format!("p{number}");
            let edge = (name.clone(), crate::metadata::Kind::Normal);
            graph.packages.get_mut("kv").unwrap().edges.push(edge);
            graph.packages.insert(name, Package::default());
        }
        assert!(size(&graph).is_some());
    }
}

//! The package graph, read from `cargo metadata`.
//!
//! Only what the checks ask for is kept: names, versions, licences, direct dependencies as
//! declared, and the edges as resolved with their kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::cmd;
use crate::error::{Error, Result};

/// The workspace and everything it can reach.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// All packages by cargo's package id.
    pub(crate) packages: BTreeMap<String, Package>,
    /// The ids of the workspace's own packages.
    pub(crate) members: BTreeSet<String>,
}

/// One package.
#[derive(Debug, Default, Clone)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The SPDX expression; empty when the manifest has none.
    pub(crate) license: String,
    /// As written in the manifest.
    pub(crate) declared: Vec<Declared>,
    /// As resolved for the asked platform: package id and kind.
    pub(crate) edges: Vec<(String, Kind)>,
    /// Names of binary and example targets.
    pub(crate) bins: Vec<String>,
    pub(crate) examples: Vec<String>,
}

/// A dependency as a manifest writes it.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) optional: bool,
}

/// For what a dependency is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Build,
    Dev,
}

impl Graph {
    /// Reads the graph as it is on this machine's platform.
    pub(crate) fn for_host() -> Result<Self> {
        let version = cmd::read(Command::new("rustc").arg("-vV"))?;
        let host = version
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .ok_or_else(|| Error::Failed("`rustc -vV` names no host".into()))?;
        Self::read(&["--filter-platform", host])
    }

    /// Reads the graph over all platforms.
    pub(crate) fn for_all() -> Result<Self> {
        Self::read(&[])
    }

    fn read(more: &[&str]) -> Result<Self> {
        let mut command = cmd::cargo(&["metadata", "--format-version", "1", "--locked"]);
        Self::parse(&cmd::read(command.args(more))?)
    }

    /// Parses the JSON of `cargo metadata`.
    pub(crate) fn parse(json: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(json)
            .map_err(|error| Error::Failed(format!("cargo metadata: {error}")))?;
        let mut graph = Self::default();
        for package in items(&value, "packages") {
            graph.packages.insert(text(package, "id"), parse_package(package));
        }
        graph.members = items(&value, "workspace_members")
            .filter_map(|id| id.as_str().map(str::to_owned))
            .collect();
        for node in value.get("resolve").into_iter().flat_map(|resolve| items(resolve, "nodes")) {
            if let Some(package) = graph.packages.get_mut(&text(node, "id")) {
                package.edges = items(node, "deps").flat_map(parse_edges).collect();
            }
        }
        if graph.members.is_empty() {
            return Err(Error::Failed("cargo metadata names no workspace member".into()));
        }
        Ok(graph)
    }

    /// The workspace's own packages, in the order of their ids.
    pub(crate) fn own(&self) -> impl Iterator<Item = &Package> {
        self.members.iter().filter_map(|id| self.packages.get(id))
    }

    /// The workspace's package of that name.
    pub(crate) fn member(&self, name: &str) -> Option<&Package> {
        self.own().find(|package| package.name == name)
    }

    /// Everything that is reached from `names` over normal and build edges, themselves included.
    pub(crate) fn reach(&self, names: &[&str]) -> BTreeSet<&str> {
        let mut open: Vec<&str> = self
            .members
            .iter()
            .filter(|id| {
                self.packages.get(*id).is_some_and(|package| names.contains(&package.name.as_str()))
            })
            .map(String::as_str)
            .collect();
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            let edges = self.packages.get(id).into_iter().flat_map(|package| &package.edges);
            open.extend(edges.filter(|(_, kind)| *kind != Kind::Dev).map(|(to, _)| to.as_str()));
        }
        seen
    }
}

fn parse_package(value: &Value) -> Package {
    let targets = |kind: &str| {
        items(value, "targets")
            .filter(|target| items(target, "kind").any(|is| is.as_str() == Some(kind)))
            .map(|target| text(target, "name"))
            .collect()
    };
    Package {
        name: text(value, "name"),
        version: text(value, "version"),
        license: text(value, "license"),
        declared: items(value, "dependencies")
            .map(|dependency| Declared {
                name: text(dependency, "name"),
                kind: parse_kind(dependency),
                optional: dependency.get("optional").and_then(Value::as_bool).unwrap_or(false),
            })
            .collect(),
        edges: Vec::new(),
        bins: targets("bin"),
        examples: targets("example"),
    }
}

fn parse_edges(dependency: &Value) -> Vec<(String, Kind)> {
    let id = text(dependency, "pkg");
    items(dependency, "dep_kinds").map(|kind| (id.clone(), parse_kind(kind))).collect()
}

fn parse_kind(value: &Value) -> Kind {
    match value.get("kind").and_then(Value::as_str) {
        Some("dev") => Kind::Dev,
        Some("build") => Kind::Build,
        _ => Kind::Normal,
    }
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"{
      "packages": [
        {"id": "a", "name": "a", "version": "0.1.0", "license": "MIT",
         "dependencies": [{"name": "b", "kind": null, "optional": true},
                          {"name": "c", "kind": "dev", "optional": false}],
         "targets": [{"name": "show", "kind": ["example"]}, {"name": "a", "kind": ["lib"]}]},
        {"id": "b", "name": "b", "version": "1.0.0", "license": null, "dependencies": []},
        {"id": "c", "name": "c", "version": "1.0.0", "license": "MIT", "dependencies": []}],
      "workspace_members": ["a"],
      "resolve": {"nodes": [
        {"id": "a", "deps": [{"pkg": "b", "dep_kinds": [{"kind": null}]},
                             {"pkg": "c", "dep_kinds": [{"kind": "dev"}]}]},
        {"id": "b", "deps": []}, {"id": "c", "deps": []}]}}"#;

    #[test]
    fn reach_follows_normal_edges_and_leaves_dev_ones() {
        let graph = Graph::parse(SMALL).unwrap();
        assert_eq!(graph.reach(&["a"]).into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_package_keeps_what_its_manifest_says() {
        let graph = Graph::parse(SMALL).unwrap();
        let package = graph.member("a").unwrap();
        assert_eq!(package.examples, ["show"]);
        assert!(package.declared[0].optional && package.declared[0].kind == Kind::Normal);
        assert_eq!(package.declared[1].kind, Kind::Dev);
        assert_eq!(graph.packages["b"].license, "", "a missing licence is an empty one");
    }

    #[test]
    fn an_empty_answer_is_an_error() {
        assert!(Graph::parse("{}").is_err());
        assert!(Graph::parse("not json").is_err());
    }
}

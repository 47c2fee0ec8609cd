//! What a node is started with: a TOML file like a production one, and the cluster's secret.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;

use super::place::{Place, Ports};
use super::{Durability, Engine, Shape, faults, name_of};
use crate::error::{Error, Result};

const SECRET_BYTES: usize = 32;
/// Copies of each key, when there are as many nodes.
const COPIES: u16 = 3;

/// Writes the secret (once) and the configuration of every node.
pub(crate) fn write_all(place: &Place, name: &str, shape: &Shape) -> Result<()> {
    fs::create_dir_all(place.dir()).map_err(Error::io(place.dir()))?;
    write_secret(place)?;
    for node in 1..=shape.nodes {
        let dir = place.node_dir(node);
        fs::create_dir_all(&dir).map_err(Error::io(&dir))?;
        let path = place.config_file(node);
        let all: Vec<String> =
            (1..=shape.nodes).map(|other| format!("127.0.0.1:{}", shape.told_rpc(other))).collect();
        let text = render(place, name, shape, node, (shape.nodes, &all));
        fs::write(&path, text).map_err(Error::io(&path))?;
    }
    Ok(())
}

/// Writes the configuration of a node that waits to be joined.
pub(crate) fn write_joiner(
    place: &Place,
    name: &str,
    shape: &Shape,
    node: u16,
    seeds: &[String],
) -> Result<()> {
    let dir = place.node_dir(node);
    fs::create_dir_all(&dir).map_err(Error::io(&dir))?;
    let path = place.config_file(node);
    fs::write(&path, render(place, name, shape, node, (0, seeds))).map_err(Error::io(&path))
}

/// A secret that is there stays: the nodes' data belongs to it.
fn write_secret(place: &Place) -> Result<()> {
    let path = place.secret_file();
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(Error::io(&path)(error)),
    };
    let source = std::path::Path::new("/dev/urandom");
    let mut bytes = [0; SECRET_BYTES];
    fs::File::open(source)
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(Error::io(source))?;
    let mut text = String::with_capacity(2 * SECRET_BYTES + 1);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    file.write_all(text.as_bytes()).map_err(Error::io(&path))
}

/// The configuration of one node: how many begin the cluster, and where it looks for others.
fn render(
    place: &Place,
    name: &str,
    shape: &Shape,
    node: u16,
    (expect, seeds): (u16, &[String]),
) -> String {
    let Ports { resp, rpc, http, proxy } = Ports::of(shape.base_port, node);
    let seeds: Vec<String> = seeds.iter().map(|seed| quoted(seed)).collect();
    let (mut announce, mut source) = (String::new(), String::new());
    if shape.faults {
        // Peers reach it through the proxy, which knows each by where it dials from. At the pace
        // of one machine, a slow link would look like a dead node.
        announce = format!(
            "\n[announce]\nrpc = \"127.0.0.1:{proxy}\"\n\n[membership]\npreset = \"lan\"\n"
        );
        source = format!("bind_source = \"{}\"\n", faults::source(node));
    }
    format!(
        "# Node {node} of `{name}`, written by `cargo xtask cluster up`.\n\
         data_dir = {data}\n\
         \n[listen]\n\
         resp = \"127.0.0.1:{resp}\"\nrpc = \"127.0.0.1:{rpc}\"\nhttp = \"127.0.0.1:{http}\"\n\
         {announce}\n[cluster]\n\
         name = {name_quoted}\nbootstrap_expect = {expect}\nseeds = [{seeds}]\n\
         {source}secret_file = {secret}\n\
         \n[keyspace]\nn = {copies}\n\
         \n[storage]\nengine = {engine}\ndurability = {durability}\n\
         \n[log]\nformat = \"text\"\n",
        data = quoted(&place.data_dir(node).to_string_lossy()),
        name_quoted = quoted(name),
        seeds = seeds.join(", "),
        secret = quoted(&place.secret_file().to_string_lossy()),
        copies = shape.nodes.min(COPIES),
        engine = quoted(name_of(Engine::NAMES, shape.engine)),
        durability = quoted(name_of(Durability::NAMES, shape.durability)),
    )
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_configuration_reads_like_a_production_one() {
        let place = Place::at(PathBuf::from("kv/local"));
        let shape = Shape { engine: Engine::Memory, ..Shape::default() };
        let expected = r#"# Node 2 of `local`, written by `cargo xtask cluster up`.
data_dir = "kv/local/n2/data"

[listen]
resp = "127.0.0.1:7002"
rpc = "127.0.0.1:7102"
http = "127.0.0.1:7202"

[cluster]
name = "local"
bootstrap_expect = 3
seeds = ["127.0.0.1:7101", "127.0.0.1:7102", "127.0.0.1:7103"]
secret_file = "kv/local/secret"

[keyspace]
n = 3

[storage]
engine = "memory"
durability = "sync"

[log]
format = "text"
"#;
        let seeds = [1, 2, 3].map(|node| format!("127.0.0.1:710{node}"));
        assert_eq!(render(&place, "local", &shape, 2, (3, &seeds)), expected);
    }

    #[test]
    fn with_faults_peers_are_told_of_the_proxy_and_of_nothing_else() {
        let place = Place::at(PathBuf::from("x"));
        let shape = Shape { faults: true, ..Shape::default() };
        let text = render(&place, "x", &shape, 2, (3, &["127.0.0.1:7301".to_owned()]));
        assert!(text.contains("\n[announce]\nrpc = \"127.0.0.1:7302\"\n"), "{text}");
        assert!(text.contains("\nbind_source = \"127.0.0.12\"\nsecret_file"), "{text}");
        assert_eq!(shape.told_rpc(2), 7302);
        assert_eq!(Shape::default().told_rpc(2), 7102);
    }

    #[test]
    fn copies_are_three_or_as_many_as_there_are_nodes() {
        let place = Place::at(PathBuf::from("x"));
        let copies = |nodes| {
            let shape = Shape { nodes, ..Shape::default() };
            let text = render(&place, "x", &shape, 1, (nodes, &[]));
            text.lines().find(|line| line.starts_with("n = ")).map(str::to_owned)
        };
        assert_eq!(copies(1).as_deref(), Some("n = 1"));
        assert_eq!(copies(5).as_deref(), Some("n = 3"));
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(quoted("a\"b\\c\n"), r#""a\"b\\c\u000A""#);
    }

    #[test]
    fn the_secret_is_private_and_stays() {
        let place = crate::cluster::tests::scratch("secret");
        let shape = Shape { nodes: 1, ..Shape::default() };
        write_all(&place.0, "x", &shape).unwrap();
        let path = place.0.secret_file();
        let first = fs::read_to_string(&path).unwrap();
        assert_eq!(first.trim().len(), 2 * SECRET_BYTES);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        write_all(&place.0, "x", &shape).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
    }
}

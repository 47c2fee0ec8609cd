//! Precedence, names, rules.

use std::path::PathBuf;

use super::*;
use crate::cluster::record::{Durability, LevelSetting};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("kv-node-config-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn flags(set: &[&str]) -> Flags {
    Flags { set: set.iter().map(|pair| (*pair).to_owned()).collect(), ..Flags::default() }
}

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn from(set: &[&str], variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    load(&flags(set), environment(variables))
}

#[test]
fn later_sources_beat_earlier_ones() {
    let file = Scratch::new(
        "precedence.toml",
        "threads = 2\n[listen]\nresp = \"127.0.0.1:1\"\n\
         rpc = \"127.0.0.1:2\"\nhttp = \"127.0.0.1:3\"\n",
    );
    let flags = Flags { config: Some(file.0.clone()), ..flags(&["listen.http=127.0.0.1:33"]) };
    let variables = [("KV_LISTEN_RPC", "127.0.0.1:22"), ("KV_LISTEN_HTTP", "127.0.0.1:32")];
    let config = load(&flags, environment(&variables)).unwrap();
    assert_eq!(config.threads, 2);
    assert_eq!(config.listen.resp, "127.0.0.1:1");
    assert_eq!(config.listen.rpc, "127.0.0.1:22");
    assert_eq!(config.listen.http, "127.0.0.1:33");
    let path = file.0.display().to_string();
    let named = load(&Flags::default(), environment(&[("KV_CONFIG", &path)])).unwrap();
    assert_eq!(named.listen.resp, "127.0.0.1:1", "KV_CONFIG names the file too");
}

#[test]
fn texts_become_what_their_setting_is() {
    let config = from(
        &["keyspace.read=one", "keyspace.write=2", "storage.durability=os", "data_dir=/x"],
        &[("KV_CLUSTER_SEEDS", "a:1, b:2"), ("KV_CLUSTER_BOOTSTRAP_EXPECT", "3"), ("HOME", "/")],
    )
    .unwrap();
    assert_eq!(config.keyspace.read, LevelSetting::One);
    assert_eq!(config.keyspace.write, LevelSetting::Copies(2));
    assert_eq!(config.storage.durability, Durability::Os);
    assert_eq!(config.cluster.seeds, ["a:1", "b:2"]);
    assert_eq!(config.cluster.bootstrap_expect, Some(3));
    assert_eq!(config.data_dir, PathBuf::from("/x"));
    let quoted = from(&["cluster.seeds=[\"a:1\"]", "keyspace.sloppy=false"], &[]).unwrap();
    assert_eq!(quoted.cluster.seeds, ["a:1"]);
    assert!(!quoted.keyspace.sloppy);
}

#[test]
fn an_unknown_key_names_where_it_is_and_the_nearest() {
    let file = Scratch::new("unknown.toml", "[listen]\nrsp = \"127.0.0.1:1\"\n");
    let flags = Flags { config: Some(file.0.clone()), ..Flags::default() };
    let error = load(&flags, Vec::new()).unwrap_err().to_string();
    assert!(error.contains("unknown.toml") && error.contains("`listen.rsp`"), "{error}");
    assert!(error.contains("`listen.resp`"), "{error}");
    for (error, wanted) in [
        (from(&["storge.engine=lsm"], &[]), "`storage.engine`"),
        (from(&["datadir=x"], &[]), "`data_dir`"),
        (from(&[], &[("KV_LISTEN_RSEP", "x")]), "`KV_LISTEN_RESP`"),
        (from(&[], &[("KV_DATADIR", "x")]), "`KV_DATA_DIR`"),
        (from(&["nonsense_of_somebody=1"], &[]), "--print-config"),
    ] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    assert!(from(&[], &[("KV_SOMEBODY_ELSES_VARIABLE", "x")]).is_ok());
    let names = ["KV_PASSWORD", "KV_LISTEN_RESP", "KV_CONFIG", "KV_CONNECT", "PATH", "KV_PORT"];
    let ignored = ignored_variables(names.map(String::from));
    assert_eq!(ignored, ["KV_PASSWORD", "KV_PORT"], "a node says so when it starts");
}

#[test]
fn a_bad_value_names_its_source_and_setting() {
    for (error, wanted) in [
        (from(&["threads=many"], &[]), ["--set", "threads"]),
        (from(&["keyspace.write=0"], &[]), ["keyspace.write", "quorum"]),
        (from(&["storage.engine=rocks"], &[]), ["storage.engine", "rocks"]),
        (from(&[], &[("KV_KEYSPACE_N", "300")]), ["KV_KEYSPACE_N", "keyspace.n"]),
        (from(&["threads"], &[]), ["--set", "KEY=VALUE"]),
    ] {
        let error = error.unwrap_err().to_string();
        assert!(wanted.iter().all(|part| error.contains(part)), "{error}");
    }
    let file = Scratch::new("syntax.toml", "[listen\n");
    let flags = Flags { config: Some(file.0.clone()), ..Flags::default() };
    assert!(matches!(load(&flags, Vec::new()), Err(ConfigError::Syntax { .. })));
    let flags = Flags { config: Some("/nowhere/kv.toml".into()), ..Flags::default() };
    assert!(matches!(load(&flags, Vec::new()), Err(ConfigError::File { .. })));
}

#[test]
fn rules_name_the_setting_to_change() {
    for (set, key) in [
        (&["listen.rpc=localhost"][..], "listen.rpc"),
        (&["listen.resp=0.0.0.0:7001"], "listen.resp"),
        (&["cluster.partitions=1000"], "cluster.partitions"),
        (&["keyspace.n=3", "keyspace.write=4"], "keyspace.write"),
        (&["keyspace.pair_bytes_max=2000000"], "keyspace.pair_bytes_max"),
        (&["cluster.seeds=a:1"], "cluster.bootstrap_expect"),
        (&["cluster.seeds_dns=a:1"], "cluster.bootstrap_expect"),
        (&["cluster.seeds_dns=a", "cluster.bootstrap_expect=3"], "cluster.seeds_dns"),
        (&["cluster.bootstrap_expect=3"], "cluster.seeds"),
        (&["cluster.join=true"], "cluster.seeds"),
        (&["cluster.join=true", "cluster.seeds=a:1", "cluster.bootstrap_expect=3"], "cluster.join"),
        (&["log.level=loud=very"], "log.level"),
        (&["storage.log_segment_bytes=1000"], "storage"),
        (&["cluster.bind_source=here"], "cluster.bind_source"),
        (&["storage.durability=os", "keyspace.durability=sync"], "storage.durability"),
        (&["request.link_down_ms=5000"], "request.link_down_ms"),
        (&["request.link_down_ms=10"], "request.link_down_ms"),
        (&["autoscale.provisioner=command"], "autoscale.command"),
        (&["autoscale.nodes_max=2"], "autoscale"),
        (&["autoscale.interval_ms=100"], "autoscale"),
        (&["autoscale.interval_ms=1"], "autoscale.interval_ms"),
    ] {
        let error = from(set, &[]).unwrap().check(false).unwrap_err();
        let ConfigError::Rule { key: found, .. } = &error else { panic!("{error}") };
        assert_eq!(*found, key, "{error}");
    }
    let open = from(&["listen.rpc=0.0.0.0:7101"], &[]).unwrap();
    let error = open.check(false).unwrap_err().to_string();
    assert!(error.contains("--insecure") && error.contains("TLS"), "{error}");
    let error = open.check(true).unwrap_err().to_string();
    assert!(error.contains("secret"), "not even so without a secret: {error}");
    let everywhere = ["listen.rpc=0.0.0.0:7101", "cluster.secret=s"];
    let told = from(&everywhere, &[]).unwrap().check(true).unwrap_err().to_string();
    assert!(told.contains("announce.rpc"), "nobody can dial 0.0.0.0: {told}");
    for (announced, is_sound) in
        [("kv1:7101", true), ("kv1", false), (":7101", false), ("kv1:0", false), ("kv1:x", false)]
    {
        let announced = format!("announce.rpc={announced}");
        let set = [everywhere[0], everywhere[1], &announced];
        assert_eq!(from(&set, &[]).unwrap().check(true).is_ok(), is_sound, "{announced}");
    }
    let checked = Config::default().check(false).unwrap();
    assert_eq!(checked.bootstrap_expect, 1, "a node alone begins a cluster");
    let joins = from(&["cluster.join=true", "cluster.seeds=a:1"], &[]).unwrap();
    assert_eq!(joins.check(false).unwrap().bootstrap_expect, 0, "it begins none");
}

#[test]
fn secrets_are_never_shown_and_the_rest_can_be_loaded_again() {
    let config = from(&["cluster.secret=hunter2", "resp.requirepass=hunter3"], &[]).unwrap();
    let printed = config.to_toml();
    assert!(!printed.contains("hunter") && printed.contains("# secret = \"***\""), "{printed}");
    assert!(!format!("{config:?}").contains("hunter"));
    let file = Scratch::new("printed.toml", &Config::default().to_toml());
    let flags = Flags { config: Some(file.0.clone()), ..Flags::default() };
    assert_eq!(load(&flags, Vec::new()).unwrap(), Config::default());
}

#[test]
fn the_secret_comes_from_its_file_without_white_space_at_its_end() {
    let file = Scratch::new("secret", "word\n");
    let path = format!("cluster.secret_file={}", file.0.display());
    let checked = from(&[&path], &[]).unwrap().check(false).unwrap();
    assert_eq!(checked.secret, kv_client::Secret::new("word"));
    let both = from(&[&path, "cluster.secret=x"], &[]).unwrap().check(false);
    assert!(both.is_err());
    let empty = Scratch::new("empty-secret", "\n");
    let path = format!("cluster.secret_file={}", empty.0.display());
    assert!(from(&[&path], &[]).unwrap().check(false).is_err());
}

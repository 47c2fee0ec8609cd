//! The rules between settings, and what they come to: addresses parsed, secrets read.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use kv_client::Secret;

use super::ConfigError;
use super::settings::{Config, Preset, ProvisionerKind};
use crate::cluster::birth::BirthPlan;
use crate::cluster::dots::CLOCK_SKEW_MS_MAX;
use crate::cluster::record::{Durability, KeyspaceSettings, LevelSetting};
use crate::keys::DEFAULT_KEYSPACE;
use crate::plug::discovery::DNS_NAMES_MAX;
use crate::plug::lsm::{LsmDurability, LsmEngine};
use crate::plug::memory::MemoryConfig;
use crate::scale::{Policy, ScaleSettings, check_windows};

/// Partitions of a cluster, at most: one a slot.
const PARTITIONS_MAX: u16 = 16_384;
/// What is logged, and more with each.
const LOG_LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
/// A pair limit is at most so much: 1 MiB.
const PAIR_BYTES_LIMIT: u32 = 1 << 20;

/// What sound settings come to.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Where Redis clients are listened for.
    pub resp: Option<SocketAddr>,
    /// Where peers are listened for.
    pub rpc: SocketAddr,
    /// Where metrics and health are asked for.
    pub http: Option<SocketAddr>,
    /// The local address to dial from.
    pub bind_source: Option<IpAddr>,
    /// The cluster's secret.
    pub secret: Secret,
    /// How many empty nodes begin a cluster.
    pub bootstrap_expect: u16,
    /// The cluster that they begin.
    pub birth: BirthPlan,
    /// Pace of membership.
    pub gossip: kv_gossip::Config,
    /// The LSM engine's settings.
    pub lsm: kv_lsm::Config,
    /// When its writes count.
    pub lsm_durability: LsmDurability,
    /// The in-memory engine's settings; its hash seed is yet to be drawn.
    pub memory: MemoryConfig,
    /// The file with further seeds.
    pub seeds_file: Option<PathBuf>,
    /// How many nodes there should be.
    pub scale: ScaleSettings,
}

impl Config {
    /// The rules of requests, of what is handed over, and of what is logged.
    fn check_requests(&self) -> Result<(), ConfigError> {
        rule(self.threads >= 1 && self.threads <= 256, "threads", "from 1 to 256")?;
        rule(self.request.deadline_ms >= 30, "request.deadline_ms", "at least 30")?;
        rule(
            (20..self.request.deadline_ms).contains(&self.request.link_down_ms),
            "request.link_down_ms",
            "at least 20, and below request.deadline_ms",
        )?;
        rule(
            self.handoff.replay_bytes_per_s >= 1_024,
            "handoff.replay_bytes_per_s",
            "at least 1024",
        )?;
        rule(self.resp.clients_max >= 1, "resp.clients_max", "at least 1")?;
        rule(
            self.resp.output_bytes_max >= 1 << 16,
            "resp.output_bytes_max",
            "at least 65536: no longer answer could be given",
        )?;
        let is_level =
            |part: &str| part.contains('=') || LOG_LEVELS.contains(&&*part.trim().to_lowercase());
        rule(
            self.log.level.split(',').all(is_level),
            "log.level",
            "error, warn, info, debug, trace or off, and MODULE=LEVEL behind commas",
        )?;
        tracing_subscriber::EnvFilter::try_new(&self.log.level)
            .map_err(|error| ConfigError::Rule { key: "log.level", why: error.to_string() })?;
        Ok(())
    }

    /// Checks every rule between the settings. `insecure` allows addresses other than loopback.
    /// Reads the secret's file.
    ///
    /// # Errors
    /// The first rule that does not hold, with the setting to change.
    pub fn check(&self, insecure: bool) -> Result<Checked, ConfigError> {
        let resp = optional_address("listen.resp", &self.listen.resp)?;
        let rpc = address("listen.rpc", &self.listen.rpc)?;
        let http = optional_address("listen.http", &self.listen.http)?;
        let secret = self.secret()?;
        for (key, bound) in
            [("listen.resp", resp), ("listen.rpc", Some(rpc)), ("listen.http", http)]
        {
            let Some(bound) = bound.filter(|bound| !bound.ip().is_loopback()) else { continue };
            rule(
                insecure,
                key,
                format_args!(
                    "{bound} is not loopback, and what is sent there is not encrypted (there is no \
                     TLS yet); listen on 127.0.0.1, or start with --insecure in a network that \
                     you trust"
                ),
            )?;
        }
        rule(
            rpc.ip().is_loopback() || !secret.is_open(),
            "cluster.secret",
            "anybody who reaches the rpc port could join without a secret: set cluster.secret_file",
        )?;
        for (bound, key, announced) in [
            (resp, "announce.resp", &self.announce.resp),
            (Some(rpc), "announce.rpc", &self.announce.rpc),
        ] {
            check_announced(bound, key, announced.as_deref())?;
        }
        rule(
            self.collection.floor_lag_ms >= 2 * CLOCK_SKEW_MS_MAX
                && self.collection.floor_lag_ms >= 4 * self.request.deadline_ms,
            "collection.floor_lag_ms",
            format_args!(
                "a delete could be forgotten while a copy of what it deleted is under way: at \
                 least {} and four times request.deadline_ms",
                2 * CLOCK_SKEW_MS_MAX
            ),
        )?;
        let bind_source = self.cluster.bind_source.as_deref().map(parse_ip).transpose()?;
        self.check_requests()?;
        let local = match self.membership.preset {
            Preset::Auto => rpc.ip().is_loopback(),
            Preset::Local => true,
            Preset::Lan => false,
        };
        Ok(Checked {
            resp,
            rpc,
            http,
            bind_source,
            secret,
            bootstrap_expect: self.bootstrap_expect()?,
            birth: self.birth()?,
            gossip: if local { kv_gossip::Config::local() } else { kv_gossip::Config::lan() },
            lsm: self.lsm()?,
            lsm_durability: match self.storage.durability {
                Durability::Sync => LsmDurability::Sync,
                Durability::Periodic => LsmDurability::Periodic { ms: self.storage.periodic_ms },
                Durability::Os => LsmDurability::Os,
            },
            memory: MemoryConfig {
                memory_bytes_max: self.storage.memory_bytes_max,
                compress_bytes_min: Some(self.storage.compress_bytes_min).filter(|min| *min > 0),
                hash_seed: 0,
                locks: if self.threads == 1 { 1 } else { 64 },
            },
            seeds_file: self.cluster.seeds_file.as_ref().map(PathBuf::from),
            scale: self.scale()?,
        })
    }

    fn scale(&self) -> Result<ScaleSettings, ConfigError> {
        let of = &self.autoscale;
        let policy = Policy {
            nodes_min: of.nodes_min,
            nodes_max: of.nodes_max,
            ops_per_node: of.ops_per_node,
            cpu_percent: of.cpu_percent,
            disk_bytes_per_node: of.disk_bytes_per_node,
            margin_percent: of.margin_percent,
            out_after_ms: of.out_after_ms,
            in_after_ms: of.in_after_ms,
            cool_down_ms: of.cool_down_ms,
        };
        rule(of.interval_ms >= 50, "autoscale.interval_ms", "at least 50")?;
        rule(of.command_ms_max >= 100, "autoscale.command_ms_max", "at least 100")?;
        let needed = of.provisioner == ProvisionerKind::Command;
        rule(
            !needed || !of.command.is_empty(),
            "autoscale.command",
            "say which program starts nodes and ends them",
        )?;
        if let Err((key, why)) = policy.check() {
            return Err(ConfigError::Rule { key: "autoscale", why: format!("{key}: {why}") });
        }
        check_windows(&policy, of.interval_ms)
            .map_err(|why| ConfigError::Rule { key: "autoscale", why })?;
        Ok(ScaleSettings {
            mode: of.mode,
            policy,
            interval_ms: of.interval_ms,
            add_ms_max: of.add_ms_max,
        })
    }

    fn secret(&self) -> Result<Secret, ConfigError> {
        let Some(path) = &self.cluster.secret_file else {
            return Ok(Secret::new(self.cluster.secret.reveal()));
        };
        rule(
            self.cluster.secret.is_empty(),
            "cluster.secret",
            "set either cluster.secret or cluster.secret_file",
        )?;
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::File {
            path: format!("cluster.secret_file {path}"),
            why: error.to_string(),
        })?;
        rule(!text.trim_end().is_empty(), "cluster.secret_file", format_args!("{path} is empty"))?;
        Ok(Secret::new(text.trim_end()))
    }

    fn bootstrap_expect(&self) -> Result<u16, ConfigError> {
        let cluster = &self.cluster;
        let alone = cluster.seeds.is_empty()
            && cluster.seeds_file.is_none()
            && cluster.seeds_dns.is_empty();
        for name in &cluster.seeds_dns {
            let port = name.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            rule(port.is_some(), "cluster.seeds_dns", format_args!("{name} is no host:port"))?;
        }
        let few = cluster.seeds_dns.len() <= DNS_NAMES_MAX;
        rule(few, "cluster.seeds_dns", format_args!("at most {DNS_NAMES_MAX} names"))?;
        let expect = match cluster.bootstrap_expect {
            Some(expect) => expect,
            None if cluster.join => 0,
            None if alone => 1,
            None => {
                return Err(ConfigError::Rule {
                    key: "cluster.bootstrap_expect",
                    why: "with seeds, say how many empty nodes begin the cluster; 0 waits to be \
                          joined to one"
                        .into(),
                });
            }
        };
        rule(
            !cluster.join || expect == 0,
            "cluster.join",
            "a node that asks to join begins no cluster: leave cluster.bootstrap_expect out",
        )?;
        rule(
            !(cluster.join && alone),
            "cluster.seeds",
            "say where the cluster is that this node is to join",
        )?;
        rule(
            expect <= 1 || !alone,
            "cluster.seeds",
            format_args!("{expect} nodes can't find each other without seeds"),
        )?;
        Ok(expect)
    }

    fn birth(&self) -> Result<BirthPlan, ConfigError> {
        let (cluster, keyspace) = (&self.cluster, &self.keyspace);
        rule(
            cluster.partitions.is_power_of_two() && cluster.partitions <= PARTITIONS_MAX,
            "cluster.partitions",
            "a power of two, at most 16384",
        )?;
        rule(cluster.weight >= 1, "cluster.weight", "at least 1")?;
        rule(
            !cluster.name.is_empty() && cluster.name.len() <= 64,
            "cluster.name",
            "1 to 64 bytes",
        )?;
        rule((1..=16).contains(&keyspace.n), "keyspace.n", "from 1 to 16")?;
        rule(
            (1..=PAIR_BYTES_LIMIT).contains(&keyspace.pair_bytes_max),
            "keyspace.pair_bytes_max",
            "from 1 to 1048576 (1 MiB)",
        )?;
        let promised = keyspace.durability.unwrap_or(self.storage.durability);
        rule(
            self.storage.durability <= promised,
            "storage.durability",
            format_args!(
                "{} is less than keyspace.durability = \"{promised}\" promises: set both alike",
                self.storage.durability
            ),
        )?;
        for (key, level) in [("keyspace.read", keyspace.read), ("keyspace.write", keyspace.write)] {
            let most = if let LevelSetting::Copies(copies) = level { copies } else { 1 };
            rule(most <= keyspace.n, key, format_args!("{most} of {} copies", keyspace.n))?;
        }
        Ok(BirthPlan {
            name: cluster.name.clone(),
            partitions: cluster.partitions,
            keyspace: KeyspaceSettings {
                id: DEFAULT_KEYSPACE,
                name: "default".into(),
                n: keyspace.n,
                read: keyspace.read,
                write: keyspace.write,
                mode: keyspace.mode,
                sloppy: keyspace.sloppy,
                rmw: keyspace.rmw,
                durability: promised,
            },
            pair_bytes_max: keyspace.pair_bytes_max,
        })
    }

    fn lsm(&self) -> Result<kv_lsm::Config, ConfigError> {
        let storage = &self.storage;
        let config = kv_lsm::Config {
            memtable_bytes_max: storage.memtable_bytes_max,
            cache_bytes_max: storage.block_cache_bytes_max,
            log_bytes_max: storage.log_bytes_max,
            log_segment_bytes: storage.log_segment_bytes,
            table_bytes_max: storage.table_bytes_max,
            level1_bytes: storage.level1_bytes,
            stall_ms_max: storage.stall_ms_max,
            ..LsmEngine::default_config()
        };
        config
            .check()
            .map_err(|error| ConfigError::Rule { key: "storage", why: error.to_string() })?;
        Ok(config)
    }
}

fn rule(holds: bool, key: &'static str, why: impl std::fmt::Display) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError::Rule { key, why: why.to_string() }) }
}

/// What others are told to dial must be dialable: a host and a port, and no wildcard.
fn check_announced(
    bound: Option<SocketAddr>,
    key: &'static str,
    announced: Option<&str>,
) -> Result<(), ConfigError> {
    if let Some(announced) = announced {
        let parts = announced.rsplit_once(':');
        let is_sound = |(host, port): (&str, &str)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        };
        let why = format_args!("`{announced}` is not host:port, such as kv1.example:7001");
        return rule(parts.is_some_and(is_sound), key, why);
    }
    let any = bound.filter(|bound| bound.ip().is_unspecified());
    let why = "it listens on every address, and others have to be told one: set host:port";
    rule(any.is_none(), key, why)
}

fn address(key: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| ConfigError::Rule {
        key,
        why: format!("`{text}` is not ip:port, such as 127.0.0.1:7001"),
    })
}

fn optional_address(key: &'static str, text: &str) -> Result<Option<SocketAddr>, ConfigError> {
    if text.is_empty() { Ok(None) } else { address(key, text).map(Some) }
}

fn parse_ip(text: &str) -> Result<IpAddr, ConfigError> {
    text.parse().map_err(|_| ConfigError::Rule {
        key: "cluster.bind_source",
        why: format!("`{text}` is not an IP address"),
    })
}

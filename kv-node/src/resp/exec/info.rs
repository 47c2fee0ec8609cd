//! INFO: Redis's sections where clients and tools look, and `# kv` with what is ours.
//!
//! It answers while the node has no layout, with `loading:1`: clients poll it until it is ready.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use super::Exec;
use super::connection::REDIS_VERSION;
use crate::cluster::view::Liveness;
use crate::config::AnnounceAs;
use crate::resp::request::Request;

const SECTIONS: [&str; 9] = [
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cluster",
    "keyspace",
    "kv",
];

impl Exec<'_> {
    /// The sections that are named; all without a name or with `all`, `default`, `everything`.
    pub(super) async fn info(&mut self, request: &Request<'_>) -> String {
        let all = request.count() == 1
            || request.args_from(1).any(|name| {
                [&b"all"[..], b"default", b"everything"]
                    .iter()
                    .any(|word| name.eq_ignore_ascii_case(word))
            });
        let mut text = String::with_capacity(4096);
        for section in SECTIONS {
            let named =
                request.args_from(1).any(|name| name.eq_ignore_ascii_case(section.as_bytes()));
            if !all && !named {
                continue;
            }
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            match section {
                "server" => self.server(&mut text),
                "clients" => self.clients(&mut text),
                "memory" => self.memory(&mut text),
                "persistence" => self.persistence(&mut text),
                "stats" => self.stats(&mut text),
                "replication" => replication(&mut text),
                "cluster" => {
                    heading(&mut text, "Cluster");
                    line(&mut text, "cluster_enabled", u8::from(self.announces_cluster()));
                }
                "keyspace" => self.keyspace(&mut text).await,
                _ => self.own(&mut text),
            }
        }
        text
    }

    fn announces_cluster(&self) -> bool {
        self.shared.resp.announce == AnnounceAs::Cluster
    }

    fn server(&self, text: &mut String) {
        heading(text, "Server");
        line(text, "redis_version", REDIS_VERSION);
        line(text, "redis_git_sha1", "00000000");
        line(text, "redis_git_dirty", 0);
        let mode = if self.announces_cluster() { "cluster" } else { "standalone" };
        line(text, "redis_mode", mode);
        line(text, "os", std::env::consts::OS);
        line(text, "arch_bits", usize::BITS);
        line(text, "process_id", std::process::id());
        line(text, "run_id", self.shared.node.id().cluster_hex());
        line(text, "tcp_port", self.shared.port);
        let up = self.shared.started.elapsed().as_secs();
        line(text, "uptime_in_seconds", up);
        line(text, "uptime_in_days", up / 86_400);
        line(text, "kv_version", env!("CARGO_PKG_VERSION"));
    }

    fn clients(&self, text: &mut String) {
        heading(text, "Clients");
        line(text, "connected_clients", self.shared.clients.load(Ordering::Relaxed));
        line(text, "maxclients", self.shared.resp.clients_max);
    }

    fn memory(&self, text: &mut String) {
        let (status, _) = self.shared.node.engine().status(None);
        heading(text, "Memory");
        line(text, "used_memory", status.memory_bytes);
        line(text, "used_memory_human", format_args!("{}K", status.memory_bytes / 1024));
        line(text, "maxmemory", status.memory_bytes_max());
        line(text, "maxmemory_policy", "noeviction");
    }

    fn persistence(&self, text: &mut String) {
        heading(text, "Persistence");
        line(text, "loading", u8::from(!self.shared.node.is_ready()));
        line(text, "async_loading", 0);
        line(text, "rdb_bgsave_in_progress", 0);
        line(text, "aof_enabled", u8::from(!self.shared.node.engine().status(None).0.volatile));
    }

    fn stats(&self, text: &mut String) {
        let figures = self.shared.node.figures();
        heading(text, "Stats");
        line(text, "total_connections_received", figures.connections.value());
        line(text, "total_commands_processed", figures.commands.value());
        line(text, "evicted_keys", 0);
    }

    async fn keyspace(&mut self, text: &mut String) {
        heading(text, "Keyspace");
        let Ok(node) = self.coordinator() else { return };
        let local = self.shared.resp.whole_keyspace == crate::config::WholeKeyspace::Local;
        // A member that does not answer is no reason to answer nothing: the line is left out.
        if let Ok(count) = node.count_keys(local).await
            && count > 0
        {
            line(text, "db0", format_args!("keys={count},expires=0,avg_ttl=0"));
        }
    }

    fn own(&self, text: &mut String) {
        let node = &self.shared.node;
        let view = node.view().now();
        heading(text, "kv");
        line(text, "kv_node_id", node.id());
        line(text, "kv_draining", u8::from(view.is_draining(view.me)));
        if let Some(record) = &view.record {
            line(text, "kv_cluster_id", record.id);
            line(text, "kv_cluster_name", &record.name);
        }
        let up = |node| view.is_up(node);
        let (members, live, epoch) = if let Some(layouts) = &view.layouts {
            let newest = layouts.newest();
            let live = newest.members().iter().filter(|node| up(**node)).count();
            (newest.members().len(), live, newest.epoch())
        } else {
            let live = view.members.values().filter(|m| m.liveness == Liveness::Up).count();
            (view.members.len(), live, 0)
        };
        line(text, "kv_members", members);
        line(text, "kv_members_up", live);
        line(text, "kv_layout_epoch", epoch);
        if let Some(coordinator) = node.coordinator() {
            line(text, "kv_conflict_keys", coordinator.conflicts_counted());
            let hints = coordinator.parts().replica.hints().queued();
            let keys: u64 = hints.values().map(|queued| queued.keys).sum();
            line(text, "kv_hint_keys", keys);
        }
        let (engine, _) = node.engine().status(None);
        line(text, "kv_engine", engine.name);
        line(text, "kv_engine_memory_bytes", engine.memory_bytes);
        line(text, "kv_engine_disk_bytes", engine.disk_bytes);
        for (name, value) in &engine.figures {
            line(text, format_args!("kv_engine_{name}"), value);
        }
        node.figures().each(|name, value| line(text, format_args!("kv_{name}"), value));
    }
}

fn replication(text: &mut String) {
    heading(text, "Replication");
    line(text, "role", "master");
    line(text, "connected_slaves", 0);
    line(text, "master_repl_offset", 0);
}

fn heading(text: &mut String, name: &str) {
    let _infallible = write!(text, "# {name}\r\n");
}

fn line(text: &mut String, name: impl std::fmt::Display, value: impl std::fmt::Display) {
    let _infallible = write!(text, "{name}:{value}\r\n");
}

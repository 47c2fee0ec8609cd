//! CONFIG GET and SET under Redis's names: what clients and tools look for.
//!
//! A setting can't be changed while the node runs. CONFIG SET therefore answers OK only where the
//! value is what holds already; `compat.config_set = accept` answers OK to everything that is
//! known, for frameworks that give up otherwise, and does nothing. A password is never said to be
//! set: who believes that would be open to all.

use super::{Exec, Executed, Failure, arg};
use crate::cluster::record::Durability;
use crate::config::{AnnounceAs, ConfigSet};
use crate::keys::DEFAULT_KEYSPACE;
use crate::resp::accept::KEEPALIVE_S;
use crate::resp::args;
use crate::resp::request::Request;
use crate::resp::slow::{SLOWER_THAN_US, SLOWLOG_LEN_MAX, SPIKE_MS};

impl Exec<'_> {
    /// What is known, by Redis's names, in their order.
    fn settings(&self) -> Vec<(&'static str, String)> {
        let resp = &self.shared.resp;
        let cluster = if resp.announce == AnnounceAs::Cluster { "yes" } else { "no" };
        let password = if resp.requirepass.is_empty() { "" } else { "***" };
        let (engine, _) = self.shared.node.engine().status(None);
        let bulk_max = self.shared.bulk_bytes_max();
        vec![
            ("appendfsync", self.appendfsync(engine.volatile).into()),
            ("appendonly", if engine.volatile { "no" } else { "yes" }.into()),
            ("cluster-enabled", cluster.into()),
            ("databases", "1".into()),
            ("latency-monitor-threshold", SPIKE_MS.to_string()),
            ("maxclients", resp.clients_max.to_string()),
            ("maxmemory", engine.memory_bytes_max().to_string()),
            ("maxmemory-policy", "noeviction".into()),
            ("notify-keyspace-events", String::new()),
            ("port", self.shared.port.to_string()),
            ("proto-max-bulk-len", bulk_max.to_string()),
            ("client-query-buffer-limit", resp.query_bytes_max.to_string()),
            ("requirepass", password.into()),
            ("save", String::new()),
            ("slowlog-log-slower-than", SLOWER_THAN_US.to_string()),
            ("slowlog-max-len", SLOWLOG_LEN_MAX.to_string()),
            ("tcp-keepalive", KEEPALIVE_S.to_string()),
            ("timeout", (resp.idle_ms_max / 1000).to_string()),
        ]
    }

    /// What the keyspace's durability is in Redis's words.
    fn appendfsync(&self, volatile: bool) -> &'static str {
        let view = self.shared.node.view().now();
        let keyspace = view.record.as_ref().and_then(|record| record.keyspace(DEFAULT_KEYSPACE));
        match keyspace.map(|keyspace| keyspace.durability) {
            Some(Durability::Sync) if !volatile => "always",
            Some(Durability::Periodic) if !volatile => "everysec",
            _ => "no",
        }
    }

    pub(super) fn config_get(&mut self, request: &Request<'_>) -> Executed {
        let mut patterns = Vec::new();
        for pattern in request.args_from(2) {
            patterns.push(args::glob(pattern)?);
        }
        let mut settings = self.settings();
        settings.retain(|(name, _)| {
            patterns.iter().any(|pattern| pattern.matches_ignore_case(name.as_bytes()))
        });
        let mut reply = self.reply();
        reply.map(settings.len());
        for (name, value) in &settings {
            reply.text(name);
            reply.text(value);
        }
        Ok(())
    }

    pub(super) fn config_set(&mut self, request: &Request<'_>) -> Executed {
        if !request.count().is_multiple_of(2) {
            return Err(args::ArgError::Arity("config|set").into());
        }
        let settings = self.settings();
        let accepts = self.shared.compat.config_set == ConfigSet::Accept;
        let mut named: Vec<&'static str> = Vec::new();
        for place in (2..request.count()).step_by(2) {
            let (name, value) = (arg(request, place)?, arg(request, place + 1)?);
            let shown = String::from_utf8_lossy(name.get(..128).unwrap_or(name)).into_owned();
            let known = settings.iter().find(|(own, _)| name.eq_ignore_ascii_case(own.as_bytes()));
            let Some((own, holds)) = known else {
                let text = "ERR Unknown option or number of arguments for CONFIG SET - ";
                return Err(Failure::Owned(format!("{text}'{shown}'")));
            };
            let failed = |why: &str| {
                let what = format!("CONFIG SET failed (possibly related to argument '{own}')");
                Err(Failure::Owned(format!("ERR {what} - {why}")))
            };
            if named.contains(own) {
                return failed("duplicate parameter");
            }
            named.push(own);
            let secret = *own == "requirepass";
            let same = !secret && holds.as_bytes().eq_ignore_ascii_case(value);
            if !same && (secret || !accepts) {
                return failed("can't be set while the node runs: change its settings file");
            }
        }
        self.reply().ok();
        Ok(())
    }
}

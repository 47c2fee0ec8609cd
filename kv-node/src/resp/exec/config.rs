//! CONFIG GET and SET under Redis's names: what clients and tools look for.
//!
//! A setting can't be changed while the node runs. CONFIG SET therefore answers OK only where the
//! value is what holds already; `compat.config_set = accept` answers OK to everything that is
//! known, for frameworks that give up otherwise.

use super::{Exec, Executed, Failure, arg};
use crate::config::{AnnounceAs, ConfigSet};
use crate::resp::args;
use crate::resp::request::Request;

impl Exec<'_> {
    /// What is known, by Redis's names, in their order.
    fn settings(&self) -> Vec<(&'static str, String)> {
        let resp = &self.shared.resp;
        let cluster = if resp.announce == AnnounceAs::Cluster { "yes" } else { "no" };
        let password = if resp.requirepass.is_empty() { "" } else { "***" };
        let durable = !self.shared.node.engine().status(None).0.volatile;
        vec![
            ("appendfsync", if durable { "always" } else { "no" }.into()),
            ("appendonly", if durable { "yes" } else { "no" }.into()),
            ("cluster-enabled", cluster.into()),
            ("databases", "1".into()),
            ("maxclients", resp.clients_max.to_string()),
            ("maxmemory", "0".into()),
            ("maxmemory-policy", "noeviction".into()),
            ("notify-keyspace-events", String::new()),
            ("port", self.shared.port.to_string()),
            ("proto-max-bulk-len", "536870912".into()),
            ("client-query-buffer-limit", resp.query_bytes_max.to_string()),
            ("requirepass", password.into()),
            ("save", String::new()),
            ("tcp-keepalive", "0".into()),
            ("timeout", (resp.idle_ms_max / 1000).to_string()),
        ]
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
        for place in (2..request.count()).step_by(2) {
            let (name, value) = (arg(request, place)?, arg(request, place + 1)?);
            let shown = String::from_utf8_lossy(name.get(..128).unwrap_or(name)).into_owned();
            let known = settings.iter().find(|(own, _)| name.eq_ignore_ascii_case(own.as_bytes()));
            let Some((own, holds)) = known else {
                let text = "ERR Unknown option or number of arguments for CONFIG SET - ";
                return Err(Failure::Owned(format!("{text}'{shown}'")));
            };
            let same = *own != "requirepass" && holds.as_bytes() == value;
            if !same && !accepts {
                return Err(Failure::Owned(format!(
                    "ERR CONFIG SET failed (possibly related to argument '{own}') - can't be set \
                     while the node runs: change its settings file"
                )));
            }
        }
        self.reply().ok();
        Ok(())
    }
}

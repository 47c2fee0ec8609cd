//! Commands about the node: INFO, CONFIG, ROLE, and the cluster as Redis clients see it.

use super::{Exec, Executed, not_here};
use crate::resp::request::Request;
use crate::resp::table::{Command, CommandId, Group};

impl Exec<'_> {
    pub(super) async fn admin(
        &mut self,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Executed {
        if command.group == Group::Cluster {
            return self.cluster(command, request);
        }
        match command.id {
            CommandId::Info => {
                let text = self.info(request).await;
                self.reply().verbatim(&text);
                Ok(())
            }
            CommandId::ConfigGet => self.config_get(request),
            CommandId::ConfigSet => self.config_set(request),
            CommandId::Role => {
                let mut reply = self.reply();
                reply.array(3);
                reply.text("master");
                reply.integer(0);
                reply.array(0);
                Ok(())
            }
            CommandId::Lastsave => {
                // Every write is durable before it is acknowledged, so that is now.
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                self.reply().integer(now.unwrap_or_default().as_secs() as i64);
                Ok(())
            }
            _ => Err(not_here(command)),
        }
    }
}

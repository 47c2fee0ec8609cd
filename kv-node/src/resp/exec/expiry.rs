//! EXPIRE and its kin, TTL and its kin.
//!
//! Expiry is a register of the version: changing it rewrites no value and covers no sibling.

use super::{Exec, Executed, arg, not_here};
use crate::coordinator::Coordinator;
use crate::mutation::Mutation;
use crate::resp::args::{self, ExpireForm};
use crate::resp::request::Request;
use crate::resp::table::{Command, CommandId};

impl Exec<'_> {
    pub(super) async fn expiry(
        &mut self,
        node: &Coordinator,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Executed {
        let form = match command.id {
            CommandId::Expire => ExpireForm::Seconds,
            CommandId::Pexpire => ExpireForm::Millis,
            CommandId::Expireat => ExpireForm::SecondsAt,
            CommandId::Pexpireat => ExpireForm::MillisAt,
            CommandId::Persist => return self.change_expiry(node, request, None, None).await,
            _ => return self.time_left(node, command, request).await,
        };
        let expire = args::expire(request, form, node.now_ms())?;
        self.change_expiry(node, request, Some(expire.at_ms), expire.only).await
    }

    async fn change_expiry(
        &mut self,
        node: &Coordinator,
        request: &Request<'_>,
        expires_at_ms: Option<u64>,
        condition: Option<crate::mutation::ExpireIf>,
    ) -> Executed {
        let mutation = Mutation::Expire { expires_at_ms, condition };
        let answer = self.mutate(node, arg(request, 1)?, mutation).await?;
        self.answer(&answer);
        Ok(())
    }

    /// -2 without a value, -1 without an expiry.
    async fn time_left(
        &mut self,
        node: &Coordinator,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Executed {
        let seen = self.look(node, arg(request, 1)?).await?;
        let Some(seen) = seen else {
            self.reply().integer(-2);
            return Ok(());
        };
        let number = match seen.expires_at_ms {
            None => -1,
            Some(at_ms) => {
                let left_ms = at_ms.saturating_sub(node.now_ms());
                // Redis rounds to the nearest second.
                let number = match command.id {
                    CommandId::Ttl => (left_ms + 500) / 1000,
                    CommandId::Pttl => left_ms,
                    CommandId::Expiretime => at_ms.saturating_add(500) / 1000,
                    CommandId::Pexpiretime => at_ms,
                    _ => return Err(not_here(command)),
                };
                i64::try_from(number).unwrap_or(i64::MAX)
            }
        };
        self.reply().integer(number);
        Ok(())
    }
}

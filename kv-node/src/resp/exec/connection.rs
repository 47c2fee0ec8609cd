//! Commands about the connection itself: they touch no key and need no layout.

use subtle::ConstantTimeEq;

use super::{Exec, Executed, Failure, arg};
use crate::config::AnnounceAs;
use crate::resp::args;
use crate::resp::reply::Protocol;
use crate::resp::request::Request;
use crate::resp::table::{self, Command, CommandId};

/// The version of Redis whose behaviour is followed: clients gate commands on it.
pub(super) const REDIS_VERSION: &str = "7.2.0";

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_PASSWORD_SET: &str = "ERR AUTH <password> called without any password configured for \
    the default user. Are you sure your configuration is correct?";
const HELLO_WITHOUT_AUTH: &str = "NOAUTH HELLO must be called with the client already \
    authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to \
    authenticate the client and select the RESP protocol version at the same time";

impl Exec<'_> {
    pub(super) fn connection(
        &mut self,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Executed {
        match command.id {
            CommandId::Ping => match (request.arg(1), request.count()) {
                (None, _) => self.reply().simple("PONG"),
                (Some(text), 2) => self.reply().bulk(text),
                _ => return Err(args::ArgError::Arity("ping").into()),
            },
            CommandId::Echo => self.reply().bulk(arg(request, 1)?),
            CommandId::Quit => {
                self.session.closing = true;
                self.reply().ok();
            }
            CommandId::Reset => {
                self.session.reset(self.shared);
                self.reply().simple("RESET");
            }
            CommandId::Select => {
                args::database(arg(request, 1)?)?;
                self.reply().ok();
            }
            CommandId::Readonly | CommandId::Readwrite | CommandId::Asking => self.reply().ok(),
            CommandId::Time => self.time(),
            CommandId::Auth => return self.auth(request),
            CommandId::Hello => return self.hello(request),
            CommandId::KvConsistency => return self.consistency(request),
            CommandId::ClusterKeyslot => {
                let slot = kv_ring::Slot::of(arg(request, 2)?);
                self.reply().integer(i64::from(slot.index()));
            }
            CommandId::Multi | CommandId::Discard | CommandId::Unwatch => {
                return self.transactions(command.id);
            }
            CommandId::Command
            | CommandId::CommandInfo
            | CommandId::CommandCount
            | CommandId::CommandDocs
            | CommandId::CommandList => return self.commands(command.id, request),
            CommandId::ClientHelp
            | CommandId::ClusterHelp
            | CommandId::CommandHelp
            | CommandId::ConfigHelp
            | CommandId::LatencyHelp
            | CommandId::MemoryHelp
            | CommandId::ObjectHelp
            | CommandId::SlowlogHelp => table::command_help(&mut self.reply(), command),
            CommandId::SlowlogGet
            | CommandId::SlowlogLen
            | CommandId::SlowlogReset
            | CommandId::LatencyDoctor
            | CommandId::LatencyHistory
            | CommandId::LatencyLatest
            | CommandId::LatencyReset => return self.observe(command, request),
            _ => return self.client(command, request),
        }
        Ok(())
    }

    fn time(&mut self) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap_or_default();
        let mut reply = self.reply();
        reply.array(2);
        reply.text(&now.as_secs().to_string());
        reply.text(&now.subsec_micros().to_string());
    }

    fn commands(&mut self, id: CommandId, request: &Request<'_>) -> Executed {
        let names = request.args_from(2);
        if names.len() > table::NAMES_MAX {
            return Err(Failure::Text("ERR at most 1024 commands are described at once"));
        }
        match id {
            CommandId::Command => {
                table::command_info(&mut self.reply(), None::<std::iter::Empty<&[u8]>>);
            }
            CommandId::CommandInfo => table::command_info(&mut self.reply(), Some(names)),
            CommandId::CommandDocs => table::command_docs(&mut self.reply(), Some(names)),
            CommandId::CommandList => {
                let filter = args::command_list(request)?;
                table::command_list(&mut self.reply(), filter);
            }
            _ => self.reply().integer(table::command_count() as i64),
        }
        Ok(())
    }

    fn auth(&mut self, request: &Request<'_>) -> Executed {
        let (user, password) = args::auth(request)?;
        if request.count() == 2 && self.shared.resp.requirepass.is_empty() {
            return Err(Failure::Text(NO_PASSWORD_SET));
        }
        self.check_password(user, password)?;
        self.reply().ok();
        Ok(())
    }

    /// Compares in time that depends on the lengths only. Without a password every one is right,
    /// as for Redis's default user.
    fn check_password(&mut self, user: &[u8], password: &[u8]) -> Executed {
        let wanted = self.shared.resp.requirepass.reveal().as_bytes();
        let right = wanted.is_empty() || bool::from(wanted.ct_eq(password));
        if user == b"default" && right {
            self.session.authenticated = true;
            return Ok(());
        }
        Err(Failure::Text(WRONG_PASSWORD))
    }

    fn hello(&mut self, request: &Request<'_>) -> Executed {
        let hello = args::hello(request)?;
        if let Some((user, password)) = hello.auth {
            self.check_password(user, password)?;
        }
        if !self.session.authenticated {
            return Err(Failure::Text(HELLO_WITHOUT_AUTH));
        }
        if let Some(protocol) = hello.protocol {
            self.session.protocol = protocol;
        }
        if let Some(name) = hello.name {
            self.session.name = name.to_vec();
        }
        self.session.say();
        let id = self.session.card.id as i64;
        let cluster = self.shared.resp.announce == AnnounceAs::Cluster;
        let mut reply = self.reply();
        reply.map(7);
        reply.text("server");
        reply.text("redis");
        reply.text("version");
        reply.text(REDIS_VERSION);
        reply.text("proto");
        reply.integer(if reply.protocol() == Protocol::Resp3 { 3 } else { 2 });
        reply.text("id");
        reply.integer(id);
        reply.text("mode");
        reply.text(if cluster { "cluster" } else { "standalone" });
        reply.text("role");
        reply.text("master");
        reply.text("modules");
        reply.array(0);
        Ok(())
    }
}

//! CLIENT: what concerns connections, this one and the others.
//!
//! A connection that is ended closes by itself between two commands. Nothing is evicted here, so
//! NO-EVICT and NO-TOUCH are answered and change nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Exec, Executed, Failure, arg, not_here};
use crate::resp::args::{self, ClientKill, ClientReply, KillFilter, SetInfo};
use crate::resp::clients::{Card, Said, Seen};
use crate::resp::request::Request;
use crate::resp::table::{Command, CommandId};

/// Which commands a connection answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::resp) enum Replies {
    /// All.
    #[default]
    All,
    /// None.
    Nothing,
    /// All but the next.
    SkipNext,
    /// This one is not, all that come are.
    Skipping,
}

impl Exec<'_> {
    pub(super) fn client(&mut self, command: &'static Command, request: &Request<'_>) -> Executed {
        match command.id {
            CommandId::ClientId => {
                let id = self.session.card.id as i64;
                self.reply().integer(id);
            }
            CommandId::ClientGetname => {
                let name = std::mem::take(&mut self.session.name);
                self.reply().bulk_or_nil((!name.is_empty()).then_some(&name));
                self.session.name = name;
            }
            CommandId::ClientSetname => {
                self.session.name = args::client_name(arg(request, 2)?)?.to_vec();
                self.session.say();
                self.reply().ok();
            }
            CommandId::ClientSetinfo => {
                match args::set_info(request)? {
                    SetInfo::LibName(name) => self.session.lib_name = name.to_vec(),
                    SetInfo::LibVersion(version) => self.session.lib_version = version.to_vec(),
                }
                self.session.say();
                self.reply().ok();
            }
            CommandId::ClientInfo => {
                self.show_card(command.name);
                let line = self.session.card.line();
                self.reply().verbatim(&line);
            }
            CommandId::ClientList => {
                let list = args::client_list(request)?;
                self.show_card(command.name);
                let wanted = |card: &Card| {
                    !list.none && (list.ids.is_empty() || list.ids.contains(&card.id))
                };
                let cards = self.shared.open.choose(wanted);
                let text: String = cards.iter().map(|card| card.line()).collect();
                self.reply().verbatim(&text);
            }
            CommandId::ClientKill => return self.kill(request),
            CommandId::ClientNoEvict | CommandId::ClientNoTouch => {
                args::on_or_off(arg(request, 2)?)?;
                self.reply().ok();
            }
            CommandId::ClientReply => match args::client_reply(arg(request, 2)?)? {
                ClientReply::On => {
                    self.session.replies = Replies::All;
                    self.reply().ok();
                }
                ClientReply::Off => self.session.replies = Replies::Nothing,
                ClientReply::Skip if self.session.replies == Replies::Nothing => {}
                ClientReply::Skip => self.session.replies = Replies::SkipNext,
            },
            _ => return Err(not_here(command)),
        }
        Ok(())
    }

    /// Its own line tells of this command.
    fn show_card(&self, command: &'static str) {
        let queued = self.session.queue.as_ref().map(super::multi::Queue::len);
        self.session.card.see(Seen { command, queued, output_bytes: self.out.capacity() });
    }

    fn kill(&mut self, request: &Request<'_>) -> Executed {
        match args::client_kill(request)? {
            ClientKill::Address(address) => {
                let cards = self.shared.open.choose(|card| is_at(card.peer, address));
                if cards.is_empty() {
                    return Err(Failure::Text("ERR No such client"));
                }
                self.end(&cards);
                self.reply().ok();
            }
            ClientKill::Chosen(filter) => {
                let me = self.session.card.id;
                let chosen = |card: &Card| chooses(&filter, card, me);
                let cards = self.shared.open.choose(chosen);
                self.end(&cards);
                self.reply().integer(cards.len() as i64);
            }
        }
        Ok(())
    }

    /// Ends them; this connection only once its answer is written.
    fn end(&mut self, cards: &[Arc<Card>]) {
        for card in cards {
            if card.id == self.session.card.id {
                self.session.closing = true;
            } else {
                card.end();
            }
        }
    }
}

impl super::Session {
    /// Tells others what the last batch came to.
    pub(in crate::resp) fn seen(&self, output_bytes: usize) {
        let command = self.command.map_or("", |command| command.name);
        let queued = self.queue.as_ref().map(super::multi::Queue::len);
        self.card.see(Seen { command, queued, output_bytes });
    }

    /// Tells others what this connection says of itself.
    pub(super) fn say(&self) {
        self.card.say(Said {
            name: self.name.clone(),
            lib_name: self.lib_name.clone(),
            lib_version: self.lib_version.clone(),
            protocol: self.protocol,
        });
    }
}

fn is_at(address: Option<SocketAddr>, wanted: &[u8]) -> bool {
    address.is_some_and(|address| address.to_string().as_bytes() == wanted)
}

fn chooses(filter: &KillFilter<'_>, card: &Card, me: u64) -> bool {
    !filter.none
        && (filter.me_too || card.id != me)
        && filter.id.is_none_or(|id| id == card.id)
        && filter.address.is_none_or(|wanted| is_at(card.peer, wanted))
        && filter.local_address.is_none_or(|wanted| is_at(card.local, wanted))
        && filter.age_s_min.is_none_or(|age_s| card.age_s() >= age_s)
}

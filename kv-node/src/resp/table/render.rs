//! COMMAND and its subcommands, in the shapes of Redis 7: drivers read arity, flags and key places
//! from here (redis-py's cluster client refuses to send a command that is not listed).

use super::{Command, Found, Group, SERVED, Touch, cat, flag, lookup};
use crate::resp::glob::Glob;
use crate::resp::reply::Reply;

/// What COMMAND LIST FILTERBY asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFilter<'a> {
    /// Commands of a module; there are none.
    Module,
    /// Commands of a category, named without its `@`.
    Category(&'a [u8]),
    /// Commands whose name matches.
    Pattern(Glob<'a>),
}

/// COMMAND COUNT's number: subcommands are not counted.
pub fn command_count() -> usize {
    top_level().count()
}

/// COMMAND and COMMAND INFO: all commands, or those that are named (a nil for each unknown one).
pub fn command_info<'a>(
    reply: &mut Reply<'_>,
    names: Option<impl ExactSizeIterator<Item = &'a [u8]>>,
) {
    match names.filter(|names| names.len() > 0) {
        None => {
            reply.array(command_count());
            top_level().for_each(|command| info(reply, command));
        }
        Some(names) => {
            reply.array(names.len());
            for name in names {
                match named(name) {
                    Some(command) => info(reply, command),
                    None => reply.nil(),
                }
            }
        }
    }
}

/// COMMAND DOCS: all commands, or those of the named that are known.
pub fn command_docs<'a>(
    reply: &mut Reply<'_>,
    names: Option<impl ExactSizeIterator<Item = &'a [u8]>>,
) {
    match names.filter(|names| names.len() > 0) {
        None => {
            reply.map(command_count());
            top_level().for_each(|command| docs(reply, command));
        }
        Some(names) => {
            let known: Vec<_> = names.filter_map(named).collect();
            reply.map(known.len());
            for command in known {
                docs(reply, command);
            }
        }
    }
}

/// HELP of a container: its subcommands, as lines for people.
pub fn command_help(reply: &mut Reply<'_>, help: &'static Command) {
    let name = help.container().unwrap_or(help.name);
    let subcommands = || {
        SERVED.iter().filter(|command| command.container() == Some(name) && command.id != help.id)
    };
    reply.array(3 + 2 * subcommands().count());
    let container = name.to_ascii_uppercase();
    reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for command in subcommands() {
        let own = command.name.get(name.len() + 1..).unwrap_or_default().to_ascii_uppercase();
        let key = if command.keys.first == 0 { "" } else { " <key>" };
        reply.simple(&format!("{own}{key}"));
        reply.simple(&format!("    {}.", command.summary));
    }
    reply.simple("HELP");
    reply.simple("    Prints this help.");
}

/// COMMAND LIST, with its filter.
pub fn command_list(reply: &mut Reply<'_>, filter: Option<ListFilter<'_>>) {
    let wanted = |command: &&Command| match filter {
        None => command.container().is_none(),
        Some(ListFilter::Module) => false,
        Some(ListFilter::Category(name)) => names_of(command.categories, &cat::NAMES)
            .any(|own| own.as_bytes().get(1..).is_some_and(|own| own.eq_ignore_ascii_case(name))),
        Some(ListFilter::Pattern(glob)) => glob.matches_ignore_case(command.name.as_bytes()),
    };
    reply.array(SERVED.iter().filter(wanted).count());
    SERVED.iter().filter(wanted).for_each(|command| reply.text(command.name));
}

fn top_level() -> impl Iterator<Item = &'static Command> {
    SERVED.iter().filter(|command| command.container().is_none())
}

/// A command or, as `container|name`, a subcommand.
fn named(name: &[u8]) -> Option<&'static Command> {
    if name.contains(&b'|') {
        return SERVED.iter().find(|command| command.name.as_bytes().eq_ignore_ascii_case(name));
    }
    match lookup(name)? {
        Found::Served(command) => Some(command),
        Found::Refused(_) => None,
    }
}

fn info(reply: &mut Reply<'_>, command: &'static Command) {
    reply.array(10);
    reply.text(command.name);
    reply.integer(i64::from(command.arity));
    status_set(reply, command.flags, &flag::NAMES);
    reply.integer(i64::from(command.keys.first));
    reply.integer(i64::from(command.keys.last));
    reply.integer(i64::from(command.keys.step));
    status_set(reply, command.categories, &cat::NAMES);
    reply.set(command.tips.len());
    command.tips.iter().for_each(|tip| reply.text(tip));
    key_specs(reply, command);
    match command.subcommands() {
        [] => reply.set(0),
        subcommands => {
            reply.array(subcommands.len());
            for command in subcommands {
                info(reply, command);
            }
        }
    }
}

fn names_of<'n>(bits: u32, names: &'n [&'static str]) -> impl Iterator<Item = &'static str> + 'n {
    names.iter().enumerate().filter(move |(bit, _)| bits & (1 << bit) != 0).map(|(_, name)| *name)
}

fn status_set(reply: &mut Reply<'_>, bits: u32, names: &[&'static str]) {
    reply.set(names_of(bits, names).count());
    names_of(bits, names).for_each(|name| reply.simple(name));
}

/// One range for all keys, or one for each where they are treated differently.
fn key_specs(reply: &mut Reply<'_>, command: &Command) {
    let keys = command.keys;
    let flags: &[&str] = match keys.touch {
        Touch::Nothing => return reply.set(0),
        Touch::Move => {
            return two_specs(reply, &["RW", "access", "delete"], &["OW", "update"]);
        }
        Touch::MoveToNew => {
            return two_specs(reply, &["RW", "access", "delete"], &["OW", "insert"]);
        }
        Touch::Copy => return two_specs(reply, &["RO", "access"], &["OW", "update"]),
        Touch::Access => &["RO", "access"],
        Touch::Metadata => &["RO"],
        Touch::Overwrite => &["OW", "update"],
        Touch::Variable => &["RW", "access", "update", "variable_flags"],
        Touch::AccessUpdate => &["RW", "access", "update"],
        Touch::Update => &["RW", "update"],
        Touch::Insert => &["RW", "insert"],
        Touch::InsertOnly => &["OW", "insert"],
        Touch::Take => &["RW", "access", "delete"],
        Touch::Delete => &["RM", "delete"],
    };
    let (first, last) = (i64::from(keys.first), i64::from(keys.last));
    reply.set(1);
    // The last key is counted from the first, unless from the end.
    key_spec(reply, flags, first, if last < 0 { last } else { last - first }, keys.step);
}

fn two_specs(reply: &mut Reply<'_>, first: &[&str], second: &[&str]) {
    reply.set(2);
    key_spec(reply, first, 1, 0, 1);
    key_spec(reply, second, 2, 0, 1);
}

fn key_spec(reply: &mut Reply<'_>, flags: &[&str], first: i64, last: i64, step: u8) {
    reply.map(3);
    reply.text("flags");
    reply.set(flags.len());
    for flag in flags {
        reply.simple(flag);
    }
    reply.text("begin_search");
    reply.map(2);
    reply.text("type");
    reply.text("index");
    reply.text("spec");
    reply.map(1);
    reply.text("index");
    reply.integer(first);
    reply.text("find_keys");
    reply.map(2);
    reply.text("type");
    reply.text("range");
    reply.text("spec");
    reply.map(3);
    reply.text("lastkey");
    reply.integer(last);
    reply.text("keystep");
    reply.integer(i64::from(step));
    reply.text("limit");
    reply.integer(0);
}

fn docs(reply: &mut Reply<'_>, command: &'static Command) {
    let subcommands = command.subcommands();
    reply.text(command.name);
    reply.map(3 + usize::from(!subcommands.is_empty()));
    for (name, text) in [
        ("summary", command.summary),
        ("since", command.since),
        ("group", group_name(command.group)),
    ] {
        reply.text(name);
        reply.text(text);
    }
    if !subcommands.is_empty() {
        reply.text("subcommands");
        reply.map(subcommands.len());
        for command in subcommands {
            docs(reply, command);
        }
    }
}

fn group_name(group: Group) -> &'static str {
    match group {
        Group::Connection => "connection",
        Group::Generic => "generic",
        Group::String => "string",
        Group::Server => "server",
        Group::Cluster => "cluster",
        Group::Transactions => "transactions",
        Group::Kv => "kv",
    }
}

//! The CLUSTER family: the layout as Redis Cluster clients want to see it.
//!
//! For each slot only nodes that are believed to be alive are shown, the first live primary as
//! master, the others as its replicas; not those that are about to be stopped, unless all are. Any
//! node serves any key, so a client that is sent elsewhere or is out of date loses nothing but a
//! hop; nobody is ever redirected.
//!
//! Clients read all of CLUSTER SLOTS whenever a node dies, and some take a tenth of a second for a
//! thousand ranges. So of many ranges neighbours with one master are listed as one, with the
//! replicas that hold all of it.
//!
//! Clients such as redis-py keep a node in the role in which they saw it first, and send
//! whole-keyspace commands to masters only. So the first range of each master is listed before
//! everything else and without replicas: every node that is a master anywhere is seen as one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kv_client::NodeId;

use super::{Exec, Executed, not_here};
use crate::cluster::view::{Liveness, View};
use crate::error::RequestError;
use crate::resp::args;
use crate::resp::reply::Reply;
use crate::resp::request::Request;
use crate::resp::table::{Command, CommandId};

const SLOTS: usize = 16_384;
/// More ranges than this are listed by master.
const RANGES_BY_OWNERS_MAX: usize = 256;

/// Slots with the same live owners, master first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    owners: Vec<NodeId>,
}

impl Exec<'_> {
    pub(super) fn cluster(&mut self, command: &'static Command, request: &Request<'_>) -> Executed {
        let view = self.shared.node.view().now();
        match command.id {
            CommandId::ClusterMyid => self.reply().text(&view.me.cluster_hex()),
            CommandId::ClusterCountkeysinslot => {
                let slot = args::slot(request)?;
                let node = self.coordinator()?;
                let count = node.parts().replica.counts().of(slot);
                self.reply().integer(i64::try_from(count).unwrap_or(i64::MAX));
            }
            CommandId::ClusterInfo => {
                let text = cluster_info(&view);
                self.reply().verbatim(&text);
            }
            CommandId::ClusterNodes => {
                let text = nodes(&view);
                self.reply().verbatim(&text);
            }
            CommandId::ClusterSlots => slots(&mut self.reply(), &view, ranges(&view)?),
            CommandId::ClusterShards => shards(&mut self.reply(), &view, &ranges(&view)?),
            _ => return Err(not_here(command)),
        }
        Ok(())
    }
}

/// Ranges of slots in order, neighbours with the same owners merged. Slots without a live owner
/// are left out.
fn ranges(view: &View) -> Result<Vec<Range>, RequestError> {
    let layouts = view.layouts.as_ref().ok_or(RequestError::Loading)?;
    let layout = layouts.newest();
    let mut ranges: Vec<Range> = Vec::new();
    for partition in layout.partitions().iter() {
        let owners = takers(view, layout.owners(partition));
        let slots = partition.slots();
        let (first, last) = (*slots.start(), *slots.end());
        match ranges.last_mut() {
            Some(range) if range.owners == owners && range.last + 1 == first => range.last = last,
            _ if owners.is_empty() => {}
            _ => ranges.push(Range { first, last, owners }),
        }
    }
    Ok(ranges)
}

/// Those of the owners whom clients should ask: up, and not about to be stopped unless all are.
fn takers(view: &View, owners: &[NodeId]) -> Vec<NodeId> {
    let up: Vec<NodeId> = owners.iter().copied().filter(|node| view.is_up(*node)).collect();
    let stay: Vec<NodeId> = up.iter().copied().filter(|node| !view.is_draining(*node)).collect();
    if stay.is_empty() { up } else { stay }
}

/// Neighbours with one master made one range, with those replicas that hold all of it.
fn by_master(ranges: Vec<Range>) -> Vec<Range> {
    let mut merged: Vec<Range> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(before)
                if before.owners.first() == range.owners.first()
                    && before.last + 1 == range.first =>
            {
                before.last = range.last;
                before.owners.retain(|node| range.owners.contains(node));
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// Each master's first range with the master alone, then the other ranges.
fn masters_first(ranges: &[Range]) -> Vec<Range> {
    let mut firsts: BTreeMap<NodeId, usize> = BTreeMap::new();
    for (place, range) in ranges.iter().enumerate() {
        if let Some(master) = range.owners.first() {
            firsts.entry(*master).or_insert(place);
        }
    }
    let is_first = |place: usize, range: &Range| {
        range.owners.first().and_then(|master| firsts.get(master)) == Some(&place)
    };
    let (mut front, mut behind) = (Vec::new(), Vec::new());
    for (place, range) in ranges.iter().enumerate() {
        let mut range = range.clone();
        if firsts.len() > 1 && is_first(place, &range) {
            range.owners.truncate(1);
            front.push(range);
        } else {
            behind.push(range);
        }
    }
    front.append(&mut behind);
    front
}

/// Host and port where clients reach a node; an empty host is "where you are already".
fn address(view: &View, node: NodeId) -> (String, u16) {
    let announced = view.members.get(&node).map_or("", |member| &member.client_address);
    match announced.rsplit_once(':') {
        Some((host, port)) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            (host.to_owned(), port.parse().unwrap_or(0))
        }
        None => (announced.to_owned(), 0),
    }
}

fn slots(reply: &mut Reply<'_>, view: &View, mut ranges: Vec<Range>) {
    if ranges.len() > RANGES_BY_OWNERS_MAX {
        ranges = by_master(ranges);
    }
    let ranges = masters_first(&ranges);
    reply.array(ranges.len());
    for range in ranges {
        reply.array(2 + range.owners.len());
        reply.integer(i64::from(range.first));
        reply.integer(i64::from(range.last));
        for node in &range.owners {
            let (host, port) = address(view, *node);
            reply.array(4);
            reply.text(&host);
            reply.integer(i64::from(port));
            reply.text(&node.cluster_hex());
            reply.array(0);
        }
    }
}

fn shards(reply: &mut Reply<'_>, view: &View, ranges: &[Range]) {
    let mut by_owners: BTreeMap<&[NodeId], Vec<&Range>> = BTreeMap::new();
    for range in ranges {
        by_owners.entry(&range.owners).or_default().push(range);
    }
    reply.array(by_owners.len());
    for (owners, ranges) in by_owners {
        reply.map(2);
        reply.text("slots");
        reply.array(ranges.len() * 2);
        for range in ranges {
            reply.integer(i64::from(range.first));
            reply.integer(i64::from(range.last));
        }
        reply.text("nodes");
        reply.array(owners.len());
        for (place, node) in owners.iter().enumerate() {
            let (host, port) = address(view, *node);
            reply.map(7);
            reply.text("id");
            reply.text(&node.cluster_hex());
            reply.text("port");
            reply.integer(i64::from(port));
            reply.text("ip");
            reply.text(&host);
            reply.text("endpoint");
            reply.text(&host);
            reply.text("role");
            reply.text(if place == 0 { "master" } else { "replica" });
            reply.text("replication-offset");
            reply.integer(0);
            reply.text("health");
            reply.text("online");
        }
    }
}

/// One line for each member. Everyone who is first somewhere has its slots behind it; who is first
/// nowhere is a master without slots, as a new node is in Redis.
fn nodes(view: &View) -> String {
    let ranges = by_master(ranges(view).unwrap_or_default());
    let epoch = view.layouts.as_ref().map_or(0, |layouts| layouts.newest().epoch());
    let mut text = String::new();
    for (node, member) in &view.members {
        if member.liveness == Liveness::Left {
            continue;
        }
        let (host, port) = address(view, *node);
        let up = view.is_up(*node);
        let myself = if *node == view.me { "myself," } else { "" };
        let (flags, link) =
            if up { ("master", "connected") } else { ("master,fail", "disconnected") };
        let _infallible = write!(
            text,
            "{} {host}:{port}@{port} {myself}{flags} - 0 0 {epoch} {link}",
            node.cluster_hex(),
        );
        for range in ranges.iter().filter(|range| range.owners.first() == Some(node)) {
            let _infallible = if range.first == range.last {
                write!(text, " {}", range.first)
            } else {
                write!(text, " {}-{}", range.first, range.last)
            };
        }
        text.push('\n');
    }
    text
}

fn cluster_info(view: &View) -> String {
    let ranges = ranges(view).unwrap_or_default();
    let served: usize =
        ranges.iter().map(|range| usize::from(range.last) - usize::from(range.first) + 1).sum();
    let mut masters: Vec<NodeId> =
        ranges.iter().filter_map(|r| r.owners.first().copied()).collect();
    masters.sort_unstable();
    masters.dedup();
    let epoch = view.layouts.as_ref().map_or(0, |layouts| layouts.newest().epoch());
    let state = if served == SLOTS { "ok" } else { "fail" };
    let members = view.members.values().filter(|m| m.liveness != Liveness::Left).count();
    format!(
        "cluster_enabled:1\r\ncluster_state:{state}\r\ncluster_slots_assigned:{SLOTS}\r\n\
         cluster_slots_ok:{served}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:{}\r\n\
         cluster_known_nodes:{members}\r\ncluster_size:{}\r\ncluster_current_epoch:{epoch}\r\n\
         cluster_my_epoch:{epoch}\r\ncluster_stats_messages_sent:0\r\n\
         cluster_stats_messages_received:0\r\n",
        SLOTS - served,
        masters.len(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u16, last: u16, owners: &[u64]) -> Range {
        Range { first, last, owners: owners.iter().copied().map(NodeId).collect() }
    }

    #[test]
    fn neighbours_with_one_master_are_one_range_with_those_who_hold_all_of_it() {
        let ranges = vec![
            range(0, 15, &[1, 2, 3]),
            range(16, 31, &[1, 3, 4]),
            range(32, 47, &[1, 4, 3]),
            range(48, 63, &[2, 3, 1]),
            range(80, 95, &[2, 3, 1]),
            range(96, 111, &[1, 2, 3]),
        ];
        let expected = vec![
            range(0, 47, &[1, 3]),
            range(48, 63, &[2, 3, 1]),
            range(80, 95, &[2, 3, 1]),
            range(96, 111, &[1, 2, 3]),
        ];
        assert_eq!(by_master(ranges), expected, "a gap is nobody's");
    }
}

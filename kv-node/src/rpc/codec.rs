//! The wire format of a peer call, and what operations weigh.
//!
//! A request travels as `(envelope, operations)`, which is also what the tarpc method takes, so the
//! in-process transport exercises the bytes that production sends. The count of operations is
//! bounded while it is decoded: an operation of one byte on the wire is a hundred in memory.

use bytes::Bytes;
use kv_client::codec::{CodecError, decode, encode};
use kv_client::wire::{Bounded, EventView};

use crate::cluster::wire::{BallotOp, BallotOut, BirthOp, BirthOut};
use crate::coordinator::exchange::wire::{ExchangeOp, ExchangeOut};
use crate::mutation::{Mutation, Promise};
use crate::wire::{
    CALL_OPS_MAX, Envelope, OpFailure, PeerOp, PeerOut, PeerReply, PeerRequest, Refusal,
};

/// Operations as they are decoded.
pub type Ops = Bounded<PeerOp, CALL_OPS_MAX>;

/// Encodes a request.
///
/// # Errors
/// It is over the limit: nothing is to be sent.
pub fn encode_request(request: &PeerRequest, frame_bytes_max: u32) -> Result<Bytes, CodecError> {
    encode(&(&request.envelope, &request.ops), frame_bytes_max)
}

/// Decodes a request.
///
/// # Errors
/// It is malformed, or has more than `CALL_OPS_MAX` operations.
pub fn decode_request(frame: &[u8]) -> Result<PeerRequest, CodecError> {
    let (envelope, ops) = decode::<(Envelope, Ops)>(frame)?;
    Ok(PeerRequest { envelope, ops: ops.into_vec() })
}

/// An answer that fits a frame: an oversized one fails its operations instead of the connection,
/// on which other calls wait.
pub fn fitting(mut reply: PeerReply, frame_bytes_max: u32) -> PeerReply {
    let bytes_max = (frame_bytes_max as usize).saturating_sub(REPLY_HEAD_BYTES);
    let bytes = match &reply.outs {
        Ok(outs) => outs.iter().map(out_bytes).sum::<usize>(),
        Err(Refusal::StaleLayout { decided }) => list_bytes(decided),
        Err(_) => 0,
    };
    if bytes > bytes_max
        && let Ok(outs) = &mut reply.outs
    {
        let refusal = || OpFailure::Refused("the answers do not fit a frame".to_owned());
        for out in outs {
            *out = PeerOut::Failed(refusal());
        }
    }
    reply
}

/// An envelope with as many layouts as are allowed, tarpc's own head, and room.
const REPLY_HEAD_BYTES: usize = 1_024;

/// What any operation or answer needs beside its byte strings, at most.
const FIXED_BYTES: usize = 64;

/// Bytes of an operation on the wire, never less than it needs.
pub fn op_bytes(op: &PeerOp) -> usize {
    FIXED_BYTES
        + match op {
            PeerOp::Apply { key, record, .. } | PeerOp::Hint { key, record, .. } => {
                key.len() + record.len()
            }
            PeerOp::Read { key, .. }
            | PeerOp::Explain { key }
            | PeerOp::Holds { key, .. }
            | PeerOp::HintsAbout { key } => key.len(),
            PeerOp::Forward { key, mutation, .. } => key.len() + mutation_bytes(mutation),
            PeerOp::Scan { from, to, .. } => from.len() + to.len(),
            PeerOp::Gossip(packet) => packet.len(),
            PeerOp::Marks { marks, .. } => 12 * marks.len(),
            PeerOp::Birth(BirthOp::Hello { me }) => {
                me.address.len() + me.client_address.len() + me.zone.len() + 10 * me.sees.len()
            }
            PeerOp::Birth(BirthOp::Accept { record, layout }) => record.len() + layout.len(),
            PeerOp::Ballot(
                BallotOp::Accept { decree: bytes, .. } | BallotOp::Learn { decided: bytes, .. },
            ) => bytes.len(),
            PeerOp::Exchange(op) => exchange_bytes(op),
            PeerOp::Birth(BirthOp::Fetch)
            | PeerOp::Ballot(BallotOp::Prepare { .. })
            | PeerOp::Count
            | PeerOp::Time
            | PeerOp::Heard
            | PeerOp::HintsHeld
            | PeerOp::Conflicts { .. }
            | PeerOp::Events { .. }
            | PeerOp::Hot
            | PeerOp::Flush { .. } => 0,
        }
}

fn list_bytes(list: &[Bytes]) -> usize {
    list.iter().map(|bytes| 10 + bytes.len()).sum()
}

fn exchange_bytes(op: &ExchangeOp) -> usize {
    match op {
        ExchangeOp::Roots { request, .. } | ExchangeOp::Partition { request, .. } => request.len(),
        ExchangeOp::List { from, to, .. } => from.len() + to.len(),
        // Seven numbers of a tally, and the partitions.
        ExchangeOp::Ended { except, .. } => 7 * 10 + 3 * except.len(),
        ExchangeOp::Repair { key, .. } => key.len(),
        ExchangeOp::Begin | ExchangeOp::Doubt { .. } => 0,
    }
}

fn mutation_bytes(mutation: &Mutation) -> usize {
    match mutation {
        Mutation::Set { value, .. } => value.len(),
        Mutation::Put { value, context, .. } => {
            value.len() + context.as_ref().map_or(0, Bytes::len)
        }
        Mutation::DeleteSeen { context } => context.len(),
        Mutation::Promise(
            Promise::SetIf { value, .. } | Promise::SetRange { value, .. } | Promise::Append(value),
        ) => value.len(),
        Mutation::Promise(Promise::AddFloat(text)) => text.len(),
        Mutation::Promise(Promise::TakeOut | Promise::Add(_))
        | Mutation::Delete
        | Mutation::Expire { .. }
        | Mutation::ReadAndExpire { .. } => 0,
    }
}

/// Its numbers, each at its longest, and its words.
fn event_bytes(event: &EventView) -> usize {
    48 + event.code.len() + event.text.len()
}

fn out_bytes(out: &PeerOut) -> usize {
    FIXED_BYTES
        + match out {
            PeerOut::Applied { uncovered, coverage, .. } => 30 * uncovered.len() + coverage.len(),
            PeerOut::Record { record, .. } => record.len(),
            PeerOut::Page { rows, .. } => {
                rows.iter().map(|(key, row)| 20 + key.len() + row.len()).sum()
            }
            PeerOut::Text(text) => text.len(),
            PeerOut::Exchange(ExchangeOut::Compared { answer, .. }) => answer.len(),
            PeerOut::Exchange(ExchangeOut::Listed { rows, until, .. }) => {
                until.len() + rows.iter().map(|(key, _)| 20 + key.len()).sum::<usize>()
            }
            PeerOut::Exchange(_) => 0,
            PeerOut::HintsAbout(hints) => hints.iter().map(|(_, record)| 20 + record.len()).sum(),
            PeerOut::HintsHeld(queues) => 64 * queues.len(),
            PeerOut::Events(page) => page.events.iter().map(event_bytes).sum::<usize>(),
            PeerOut::Hot(page) => {
                let keys = page.keys.iter().map(|hot| 40 + hot.key.len()).sum::<usize>();
                keys + 33 * page.partitions.len() + 30
            }
            PeerOut::Conflicts(page) => {
                page.rows.iter().map(|(key, ..)| 20 + key.len()).sum::<usize>()
            }
            PeerOut::Forwarded(answer) => match answer {
                Ok(crate::mutation::MutationOut::Written { holders, context, answer, .. }) => {
                    10 * holders.len() + context.len() + answer_bytes(answer)
                }
                Ok(crate::mutation::MutationOut::Nothing(answer)) => answer_bytes(answer),
                // Errors hold short texts and the members' names.
                Err(_) => 16 * 1_024,
            },
            PeerOut::Birth(BirthOut::State { record, decided, .. }) => {
                record.len() + list_bytes(decided)
            }
            PeerOut::Birth(BirthOut::Me(me)) => {
                me.address.len() + me.client_address.len() + me.zone.len() + 10 * me.sees.len()
            }
            PeerOut::Birth(BirthOut::Refused(text))
            | PeerOut::Ballot(BallotOut::MayNotVote(text)) => text.len(),
            PeerOut::Ballot(
                BallotOut::Decided { decided: bytes }
                | BallotOut::Promised { accepted: Some((_, bytes)) },
            ) => bytes.len(),
            PeerOut::Failed(
                OpFailure::Storage(text) | OpFailure::Unknown(text) | OpFailure::Refused(text),
            ) => text.len(),
            PeerOut::Birth(BirthOut::Accepted | BirthOut::Empty)
            | PeerOut::Ballot(
                BallotOut::Promised { accepted: None }
                | BallotOut::Accepted
                | BallotOut::Rejected { .. },
            )
            | PeerOut::Same { .. }
            | PeerOut::Count(_)
            | PeerOut::Holds(_)
            | PeerOut::Time(_)
            | PeerOut::Heard(_)
            | PeerOut::Done
            | PeerOut::Failed(OpFailure::Malformed) => 0,
        }
}

fn answer_bytes(answer: &crate::mutation::Answer) -> usize {
    match answer {
        crate::mutation::Answer::Value(Some(value)) => value.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use kv_client::wire::{HintQueue, HintState};
    use kv_client::{ClusterId, NodeId};

    use super::*;
    use crate::cluster::record::LevelSetting;
    use crate::cluster::wire::{Ballot, Newborn};
    use crate::events::EventPage;
    use crate::mutation::{Answer, ExpiryRule, MutationOut};
    use crate::scale::load::{HotKey, Rate};
    use crate::wire::{ConflictPage, HotPage, LayoutName, PROTOCOL_VERSION};

    const LIMIT: u32 = 1 << 20;

    fn envelope() -> Envelope {
        Envelope {
            version: PROTOCOL_VERSION,
            capabilities: u64::MAX,
            cluster: Some(ClusterId(u64::MAX)),
            node: NodeId(u64::MAX),
            layouts: vec![LayoutName { epoch: u64::MAX, digest: u64::MAX }; 8],
            time: u64::MAX,
            wall_ms: u64::MAX,
            life: u64::MAX,
            position: u64::MAX,
            budget_ms: u32::MAX,
        }
    }

    fn bytes(count: usize) -> Bytes {
        Bytes::from(vec![0xa5; count])
    }

    fn newborn() -> Newborn {
        Newborn {
            node: NodeId(u64::MAX),
            address: "host.example:7100".to_owned(),
            client_address: "host.example:7000".to_owned(),
            zone: "zone".to_owned(),
            weight: u32::MAX,
            expect: u16::MAX,
            sees: vec![NodeId(u64::MAX); 100],
            has_record: true,
        }
    }

    /// One of each operation, with its fields at their widest.
    fn ops() -> Vec<PeerOp> {
        let key = bytes(300);
        let ballot = Ballot { round: u64::MAX, node: NodeId(u64::MAX) };
        let forward = |mutation| PeerOp::Forward {
            operation: u64::MAX,
            key: bytes(300),
            mutation,
            write: LevelSetting::Copies(255),
            read: LevelSetting::Copies(255),
            zone: Some(u64::MAX),
            above_ms: u64::MAX,
        };
        vec![
            PeerOp::Apply { key: key.clone(), record: bytes(20_000), mark: u64::MAX, minted: true },
            PeerOp::Read { key: key.clone(), have: Some(u128::MAX) },
            forward(Mutation::Set { value: bytes(999), expiry: ExpiryRule::At(u64::MAX) }),
            forward(Mutation::Put {
                value: bytes(999),
                context: Some(bytes(400)),
                expiry: ExpiryRule::Keep,
            }),
            forward(Mutation::DeleteSeen { context: bytes(400) }),
            forward(Mutation::Promise(Promise::Add(i64::MIN))),
            forward(Mutation::Promise(Promise::AddFloat("1.5".to_owned()))),
            forward(Mutation::Promise(Promise::SetRange { offset: u32::MAX, value: bytes(77) })),
            PeerOp::Scan {
                from: key.clone(),
                to: key.clone(),
                rows_max: u32::MAX,
                bytes_max: u32::MAX,
                keys_only: true,
            },
            PeerOp::Count,
            PeerOp::Explain { key: key.clone() },
            PeerOp::Holds { key, dot: (u64::MAX, u64::MAX, u64::MAX), stamp: u64::MAX },
            PeerOp::Time,
            PeerOp::Heard,
            PeerOp::Flush { keyspace: u32::MAX, mark: u64::MAX },
            PeerOp::Gossip(bytes(1_400)),
            PeerOp::Marks { witness: u64::MAX, marks: vec![(u16::MAX, u64::MAX); 4] },
            PeerOp::Birth(BirthOp::Hello { me: newborn() }),
            PeerOp::Birth(BirthOp::Accept { record: bytes(500), layout: bytes(5_000) }),
            PeerOp::Birth(BirthOp::Fetch),
            PeerOp::Ballot(BallotOp::Prepare { epoch: u64::MAX, ballot }),
            PeerOp::Ballot(BallotOp::Accept {
                epoch: u64::MAX,
                ballot,
                decree: bytes(5_000),
                found: true,
            }),
            PeerOp::Ballot(BallotOp::Learn { epoch: u64::MAX, decided: bytes(5_000) }),
            PeerOp::Hint {
                target: NodeId(u64::MAX),
                key: bytes(300),
                record: bytes(20_000),
                counted: true,
                minted: true,
            },
            PeerOp::HintsAbout { key: bytes(300) },
            PeerOp::HintsHeld,
            PeerOp::Conflicts { from: u64::MAX, rows_max: u32::MAX },
            PeerOp::Events { after: Some(u64::MAX), count: u32::MAX },
            PeerOp::Hot,
        ]
    }

    #[test]
    fn a_request_survives_its_frame() {
        let request = PeerRequest { envelope: envelope(), ops: ops() };
        let frame = encode_request(&request, LIMIT).expect("it fits");
        let back = decode_request(&frame).expect("it is one");
        assert_eq!(format!("{back:?}"), format!("{request:?}"));
    }

    #[test]
    fn an_operation_never_needs_more_than_its_weight() {
        for op in ops() {
            let needs = encode(&op, LIMIT).expect("it fits").len();
            let weighs = op_bytes(&op);
            assert!(needs <= weighs && weighs <= needs + FIXED_BYTES, "{needs} {weighs} {op:?}");
        }
    }

    #[test]
    fn an_answer_never_needs_more_than_its_weight() {
        let answer = Answer::Value(Some(bytes(900)));
        let queue = HintQueue {
            on: NodeId(u64::MAX),
            target: NodeId(u64::MAX),
            keys: u64::MAX,
            bytes: u64::MAX,
            age_ms: u64::MAX,
            state: HintState::BackedOff,
        };
        let event = EventView {
            on: NodeId(u64::MAX),
            number: u64::MAX,
            unix_ms: u64::MAX,
            code: "collection.freed".into(),
            warns: true,
            about: Some(NodeId(u64::MAX)),
            text: "words".repeat(60),
        };
        let rate = Rate { reads_per_s: u64::MAX, writes_per_s: u64::MAX, bytes_per_s: u64::MAX };
        let hot = HotKey {
            key: vec![7; 256],
            token: u64::MAX,
            slot: u16::MAX,
            ops_per_s: u64::MAX,
            error_per_s: u64::MAX,
        };
        let outs = vec![
            PeerOut::Hot(HotPage {
                keys: vec![hot; 30],
                partitions: vec![(u16::MAX, rate); 30],
                total: rate,
            }),
            PeerOut::Applied {
                complete: true,
                uncovered: vec![(u64::MAX, u64::MAX, u64::MAX); 100],
                coverage: bytes(800),
            },
            PeerOut::Record { complete: true, mark: u64::MAX, record: bytes(20_000) },
            PeerOut::Page { rows: vec![(bytes(30), bytes(200)); 50], end: true, mark: u64::MAX },
            PeerOut::Text("found".repeat(100)),
            PeerOut::Forwarded(Ok(MutationOut::Nothing(answer.clone()))),
            PeerOut::Birth(BirthOut::Me(newborn())),
            PeerOut::Birth(BirthOut::State {
                record: bytes(500),
                decided: vec![bytes(5_000); 3],
                flushed: u64::MAX,
            }),
            PeerOut::Ballot(BallotOut::Promised {
                accepted: Some((Ballot { round: u64::MAX, node: NodeId(u64::MAX) }, bytes(99))),
            }),
            PeerOut::Ballot(BallotOut::MayNotVote("because".to_owned())),
            PeerOut::Failed(OpFailure::Storage("disk".repeat(50))),
            PeerOut::HintsAbout(vec![(NodeId(u64::MAX), bytes(700)); 30]),
            PeerOut::HintsHeld(vec![queue; 30]),
            PeerOut::Events(EventPage { events: vec![event; 30], lost: true }),
            PeerOut::Conflicts(ConflictPage {
                rows: vec![(bytes(300), u32::MAX, u64::MAX); 30],
                end: true,
                all: true,
                counted: u64::MAX,
            }),
        ];
        for out in outs {
            let needs = encode(&out, LIMIT).expect("it fits").len();
            let weighs = out_bytes(&out);
            assert!(needs <= weighs, "{needs} {weighs} {out:?}");
        }
    }

    #[test]
    fn an_answer_at_its_heaviest_fits_the_frame_it_was_judged_for() {
        for size in (0..70_000).step_by(997) {
            let outs =
                Ok(vec![PeerOut::Record { complete: true, mark: 1, record: bytes(size) }; 2]);
            let reply = fitting(PeerReply { envelope: envelope(), outs }, 65_536);
            let whole = matches!(reply.outs.as_deref(), Ok([PeerOut::Record { .. }, _]));
            assert_eq!(whole, size * 2 + 2 * FIXED_BYTES + REPLY_HEAD_BYTES <= 65_536, "{size}");
            // tarpc adds a request id and a tag.
            let frame = encode(&(u64::MAX, 1_u8, &reply), 65_536);
            assert!(frame.is_ok(), "{size}: {frame:?}");
        }
    }

    #[test]
    fn a_claim_of_many_operations_is_refused_before_they_are_made() {
        let mut frame = encode(&envelope(), LIMIT).expect("it fits").to_vec();
        let head = frame.len();
        // As many operations as a call may hold, of one byte each, and one more.
        for (count, fits) in [(CALL_OPS_MAX, true), (CALL_OPS_MAX + 1, false)] {
            frame.truncate(head);
            frame.extend_from_slice(&encode(&(count as u64), LIMIT).expect("it fits"));
            frame.resize(frame.len() + count, 4);
            assert_eq!(decode_request(&frame).is_ok(), fits, "{count}");
        }
    }
}

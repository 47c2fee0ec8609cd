//! The wire format of a peer call, and what operations weigh.
//!
//! A request travels as `(envelope, operations)`, which is also what the tarpc method takes, so the
//! in-process transport exercises the bytes that production sends. The count of operations is
//! bounded while it is decoded: an operation of one byte on the wire is a hundred in memory.

use bytes::Bytes;
use kv_client::codec::{CodecError, decode, encode};
use kv_client::wire::Bounded;

use crate::cluster::wire::{BallotOp, BallotOut, BirthOp, BirthOut};
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
        Err(Refusal::StaleLayout { layout }) => layout.len(),
        Err(_) => 0,
    };
    if bytes > bytes_max
        && let Ok(outs) = &mut reply.outs
    {
        let refusal = || OpFailure::Refused("the answers do not fit a frame".to_owned());
        outs.iter_mut().for_each(|out| *out = PeerOut::Failed(refusal()));
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
            PeerOp::Apply { key, record } => key.len() + record.len(),
            PeerOp::Read { key, .. } | PeerOp::Explain { key } => key.len(),
            PeerOp::Forward { key, mutation, .. } => key.len() + mutation_bytes(mutation),
            PeerOp::Scan { from, to, .. } => from.len() + to.len(),
            PeerOp::Gossip(packet) => packet.len(),
            PeerOp::Birth(BirthOp::Hello { me }) => {
                me.address.len() + me.client_address.len() + me.zone.len() + 10 * me.sees.len()
            }
            PeerOp::Birth(BirthOp::Accept { record, layout }) => record.len() + layout.len(),
            PeerOp::Ballot(BallotOp::Accept { layout, .. } | BallotOp::Learn { layout, .. }) => {
                layout.len()
            }
            PeerOp::Birth(BirthOp::Fetch)
            | PeerOp::Ballot(BallotOp::Prepare { .. })
            | PeerOp::Count
            | PeerOp::Time
            | PeerOp::Flush { .. } => 0,
        }
}

fn mutation_bytes(mutation: &Mutation) -> usize {
    match mutation {
        Mutation::Set { value, .. } => value.len(),
        Mutation::Put { value, context, .. } => {
            value.len() + context.as_ref().map_or(0, Bytes::len)
        }
        Mutation::DeleteSeen { context } => context.len(),
        Mutation::Promise(Promise::SetIf { value, .. } | Promise::SetRange { value, .. })
        | Mutation::Promise(Promise::Append(value)) => value.len(),
        Mutation::Promise(Promise::AddFloat(text)) => text.len(),
        Mutation::Promise(Promise::TakeOut | Promise::Add(_))
        | Mutation::Delete
        | Mutation::Expire { .. }
        | Mutation::ReadAndExpire { .. } => 0,
    }
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
            PeerOut::Forwarded(answer) => match answer {
                Ok(crate::mutation::MutationOut::Written { holders, context, answer, .. }) => {
                    10 * holders.len() + context.len() + answer_bytes(answer)
                }
                Ok(crate::mutation::MutationOut::Nothing(answer)) => answer_bytes(answer),
                // Errors hold short texts and the members' names.
                Err(_) => 16 * 1_024,
            },
            PeerOut::Birth(BirthOut::State { record, layouts }) => {
                record.len() + layouts.iter().map(|layout| 10 + layout.len()).sum::<usize>()
            }
            PeerOut::Birth(BirthOut::Me(me)) => {
                me.address.len() + me.client_address.len() + me.zone.len() + 10 * me.sees.len()
            }
            PeerOut::Birth(BirthOut::Refused(text))
            | PeerOut::Ballot(BallotOut::MayNotVote(text)) => text.len(),
            PeerOut::Ballot(
                BallotOut::Decided { layout } | BallotOut::Promised { accepted: Some((_, layout)) },
            ) => layout.len(),
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
            | PeerOut::Time(_)
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

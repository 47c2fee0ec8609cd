//! SLOWLOG and LATENCY: what took long on this node, as its clients felt it.

use super::{Exec, Executed, Failure, arg, not_here};
use crate::resp::request::Request;
use crate::resp::slow::{SLOWER_THAN_US, SPIKE_MS, Spike};
use crate::resp::table::{Command, CommandId};

/// The one event of LATENCY: a step of a connection.
const EVENT: &str = "command";
/// Entries that SLOWLOG GET shows if it does not say how many: Redis's number.
const COUNT_DEFAULT: usize = 10;

impl Exec<'_> {
    pub(super) fn observe(&mut self, command: &'static Command, request: &Request<'_>) -> Executed {
        match command.id {
            CommandId::SlowlogGet => return self.slowlog(request),
            CommandId::SlowlogLen => {
                let count = self.shared.slowness.len() as i64;
                self.reply().integer(count);
            }
            CommandId::SlowlogReset => {
                self.shared.slowness.reset();
                self.reply().ok();
            }
            CommandId::LatencyLatest => {
                let (spikes, max_ms) = self.shared.slowness.spikes();
                let mut reply = self.reply();
                match spikes.last() {
                    None => reply.array(0),
                    Some(last) => {
                        reply.array(1);
                        reply.array(4);
                        reply.text(EVENT);
                        for number in [last.unix_s, last.ms, max_ms] {
                            reply.integer(integer(number));
                        }
                    }
                }
            }
            CommandId::LatencyHistory => {
                let ours = arg(request, 2)?.eq_ignore_ascii_case(EVENT.as_bytes());
                let (spikes, _) = self.shared.slowness.spikes();
                let shown: &[Spike] = if ours { &spikes } else { &[] };
                let mut reply = self.reply();
                reply.array(shown.len());
                for spike in shown {
                    reply.array(2);
                    reply.integer(integer(spike.unix_s));
                    reply.integer(integer(spike.ms));
                }
            }
            CommandId::LatencyReset => {
                let named = |name: &[u8]| name.eq_ignore_ascii_case(EVENT.as_bytes());
                let ours = request.count() == 2 || request.args_from(2).any(named);
                let reset = ours && self.shared.slowness.reset_spikes();
                self.reply().integer(i64::from(reset));
            }
            CommandId::LatencyDoctor => {
                let (spikes, max_ms) = self.shared.slowness.spikes();
                let text = diagnosis(&spikes, max_ms);
                self.reply().verbatim(&text);
            }
            _ => return Err(not_here(command)),
        }
        Ok(())
    }

    fn slowlog(&mut self, request: &Request<'_>) -> Executed {
        let text = "ERR count should be greater than or equal to -1";
        let count = match request.arg(2) {
            None => COUNT_DEFAULT,
            Some(count) => match crate::resp::parse::decimal(count) {
                Some(-1) => usize::MAX,
                Some(count) => usize::try_from(count).map_err(|_| Failure::Text(text))?,
                None => return Err(Failure::Text(text)),
            },
        };
        let slowest = self.shared.slowness.slowest(count);
        let mut reply = self.reply();
        reply.array(slowest.len());
        for slow in &slowest {
            reply.array(6);
            for number in [slow.id, slow.unix_s, slow.us] {
                reply.integer(integer(number));
            }
            reply.array(slow.args.len());
            slow.args.iter().for_each(|arg| reply.bulk(arg));
            reply.text(&slow.peer);
            reply.bulk(&slow.name);
        }
        Ok(())
    }
}

fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What LATENCY DOCTOR says.
fn diagnosis(spikes: &[Spike], max_ms: u64) -> String {
    let Some(last) = spikes.last() else {
        return format!(
            "No command took {SPIKE_MS} ms or more on this node since it started, or since LATENCY \
             RESET.\n"
        );
    };
    let sum: u64 = spikes.iter().map(|spike| spike.ms).sum();
    let mean = sum / spikes.len() as u64;
    format!(
        "{} seconds had a command that took {SPIKE_MS} ms or more: {mean} ms on average, {max_ms} \
         ms at worst, {} ms at last.\nA command's time holds its waits for other replicas and for \
         the disk. SLOWLOG GET names those above {} ms; kv nodes shows how fast each peer answers, \
         kv events what happened at that time.\n",
        spikes.len(),
        last.ms,
        SLOWER_THAN_US / 1_000,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnosis_counts_what_it_saw() {
        assert!(diagnosis(&[], 0).starts_with("No command took 100 ms"));
        let spikes = [Spike { unix_s: 1, ms: 100 }, Spike { unix_s: 2, ms: 200 }];
        let said = diagnosis(&spikes, 900);
        assert!(said.contains("2 seconds") && said.contains("150 ms on average"), "{said}");
        assert!(said.contains("900 ms at worst, 200 ms at last"), "{said}");
    }
}

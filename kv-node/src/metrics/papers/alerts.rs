//! The alerts: for Prometheus, and for whoever is woken by one. One table makes both.

use std::fmt::Write as _;

/// How soon somebody has to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// Now.
    Critical,
    /// Today.
    Warning,
}

/// One alert.
pub(super) struct Alert {
    /// Its name in Prometheus.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) expression: &'static str,
    /// For how long it must hold.
    pub(super) lasts: &'static str,
    pub(super) severity: Severity,
    /// Where it is seen beside the figures; empty if nowhere.
    pub(super) also: &'static str,
    pub(super) means: &'static str,
    pub(super) do_this: &'static str,
}

use Severity::{Critical, Warning};

macro_rules! alerts {
    ($($severity:ident $id:ident $lasts:literal $title:literal
        when $expression:literal also $also:literal
        means $means:literal do $do:literal;)+) => {
        pub(super) const ALERTS: &[Alert] = &[$(Alert {
            id: stringify!($id),
            title: $title,
            expression: $expression,
            lasts: $lasts,
            severity: $severity,
            also: $also,
            means: $means,
            do_this: $do,
        },)+];
    };
}

alerts! {
    Warning KvMemberDown "5m" "a member is down"
        when "min by (cluster, member) (kv_member_up) == 0"
        also "event `member.down`"
        means "at least one node counts it as down; the others stand in for it"
        do "\"A node is down\", above";
    Critical KvNotReady "5m" "not ready"
        when "kv_ready == 0"
        also "`/health/ready` 503 with the reason"
        means "no layout yet, a poisoned engine, or it sees no majority"
        do "read the reason; look at the network between members";
    Critical KvEnginePoisoned "0m" "the engine takes no more writes"
        when "kv_engine_poisoned == 1"
        also "event `engine.poisoned`"
        means "a sync failed: it is never tried again, since what it lost is not known"
        do "restart the node; if it comes again, replace the disk and the node";
    Critical KvDiskFull "1m" "the disk is full"
        when "kv_engine_disk_full == 1"
        also "`-MISCONF` to clients"
        means "writes are refused, reads go on"
        do "make room, or add nodes; writes go on by themselves";
    Warning KvCompactionStopped "10m" "compaction stands still"
        when "kv_engine_compaction_stopped == 1"
        also ""
        means "a read failed, a table is damaged or the disk is full: reads get slower, and in the \
               end writes wait"
        do "look at the disk; plan to replace it";
    Warning KvWritesStall "10m" "the disk does not keep up"
        when "rate(kv_engine_stalls_total[5m]) > 0"
        also "`kv_engine_level0_tables`, `kv_engine_memtables_sealed`"
        means "writes wait for flushes or compaction"
        do "a faster disk, more nodes, or less load";
    Warning KvDataDamaged "0m" "ranges of stored keys are damaged"
        when "increase(kv_damaged_ranges_total[1h]) > 0"
        also "event `data.damaged`"
        means "a checksum failed; the ranges are not served, and are filled from others"
        do "look at the disk; plan to replace it";
    Warning KvPartitionsFilling "1h" "partitions are not filled"
        when "kv_partitions_filling > 0"
        also "event `data.filling`"
        means "until they are filled this node's copies of them do not count for reads"
        do "wait; if it does not go down, see `kv aae` for the peer that fails";
    Critical KvClockSkewed "1m" "its clock is too far from a majority's"
        when "kv_clock_skewed == 1"
        also "event `clock.skewed`"
        means "it forwards writes and mints nothing"
        do "mend its time service; it goes on by itself";
    Warning KvMarksHeldBack "10m" "a member holds marks back"
        when "kv_floors_late > 0"
        also "`kv_floor_age_seconds`, event `collection.held`"
        means "a member is away or stuck: deletes are kept until it returns or is removed, disks \
               fill slowly"
        do "bring it back or replace it";
    Critical KvForgotOwnWrites "0m" "shown writes of its own that it does not hold"
        when "increase(kv_amnesia_alarms_total[1d]) > 0"
        also "event `tenure.begun`"
        means "its directory was restored, or the disk lost writes that it had confirmed"
        do "replace the node; distrust the disk";
    Warning KvTransitionStuck "1h" "an epoch can't be finished without a member"
        when "kv_layouts_live > 1"
        also "`kv cluster status`"
        means "a change of the layout has not ended: it may wait for a member that is down"
        do "see whom it waits for; bring it back, or replace it too (`kv cluster replace OLD NEW`; \
            without NEW where it is no member of the newest layout)";
    Warning KvHintLogFull "5m" "the hint log is full"
        when "kv_hint_bytes / kv_hint_bytes_max > 0.8 or increase(kv_hints_refused_total[10m]) > 0"
        also ""
        means "a replica is away for longer than the log holds"
        do "bring it back or replace it; raise `handoff.hint_bytes_max`";
    Warning KvIndeterminateWrites "0m" "writes of unknown outcome"
        when "increase(kv_indeterminate_total[10m]) > 0"
        also "`-INDETERMINATE` to clients"
        means "minted, and W was not reached in time"
        do "look for slow or cut peers: `kv nodes`, `kv_peer_call_seconds`";
    Critical KvQuorumFailures "0m" "refused for want of replicas"
        when "increase(kv_no_replicas_total[5m]) + increase(kv_unavailable_total[5m]) > 0"
        also "`-NOREPLICAS`, `-UNAVAILABLE` to clients"
        means "no W, or no R, of some partition is up"
        do "bring nodes back";
    Warning KvManySiblings "0m" "many siblings"
        when "increase(kv_sibling_warnings_total[1h]) > 0"
        also "`kv_conflict_keys`"
        means "clients write without the context that they read"
        do "`kv conflicts`; use `KV.PUT ... CTX`, or a rule";
    Warning KvConflictsNotAllKnown "1h" "the list of siblings is not whole"
        when "kv_conflict_partitions_open > 0"
        also ""
        means "rows are still read, or more keys have siblings than fit 16 MiB"
        do "wait; resolve some";
    Warning KvExchangesFail "30m" "exchanges fail"
        when "increase(kv_aae_exchanges_failed_total[10m]) > 0"
        also "event `aae.failed`"
        means "two replicas can't be compared"
        do "the event says why; usually a cut link";
    Warning KvExchangesOld "0m" "two replicas were not compared for a day"
        when "kv_aae_exchange_age_seconds > 86400"
        also "`kv aae`"
        means "what one of them missed, and no read or hint mended, is missing there still"
        do "if the peer is up: `kv events` of both; else bring it back or replace it";
    Warning KvBusy "5m" "busy"
        when "rate(kv_errors_total{code=\"BUSY\"}[5m]) > 0"
        also "`-BUSY` to clients"
        means "queues are full"
        do "more nodes, or less load";
    Warning KvSlow "10m" "slow answers"
        when "histogram_quantile(0.99, sum by (cluster, node, op, le) \
              (rate(kv_request_seconds_bucket{op=~\"read|write\"}[5m]))) > 0.1"
        also "`SLOWLOG GET`, `kv_load_wait_seconds`, `kv_peer_call_seconds`"
        means "one command in a hundred takes more than 100 ms"
        do "look for a busy CPU, a slow disk, a slow peer, a hot key (`kv hot`)";
    Warning KvFilesRunOut "5m" "open files run out"
        when "process_open_fds / process_max_fds > 0.8"
        also ""
        means "soon no client, peer or table can be opened"
        do "raise the limit (`ulimit -n`), or lower `resp.clients_max`";
}

/// The rules as Prometheus reads them.
pub(super) fn rules() -> String {
    let mut page = "# Written from kv-node's registry of figures: `cargo xtask metrics` writes it \
                    anew.\ngroups:\n  - name: kv\n    rules:\n"
        .to_owned();
    for alert in ALERTS {
        let severity = match alert.severity {
            Critical => "critical",
            Warning => "warning",
        };
        let who = if alert.expression.contains("member)") { "member" } else { "node" };
        let summary = format!("{}: {{{{ $labels.{who} }}}}", alert.title);
        let _infallible = write!(
            page,
            "      - alert: {}\n        expr: {}\n        for: {}\n        labels:\n          \
             severity: {severity}\n        annotations:\n          summary: {}\n          \
             description: {}\n          action: {}\n",
            alert.id,
            quoted(alert.expression),
            alert.lasts,
            quoted(&summary),
            quoted(alert.means),
            quoted(alert.do_this),
        );
    }
    page
}

const OPERATING: &str = "\
`kv status` prints what is wrong now with the asked node (a full disk, a full hint log, a wrong
clock, compaction or exchanges that stand still, partitions that are filled, ...), which other
members say that something is wrong with them, and who is down; it ends with 3 while there is
anything. What is a rate (stalls, `BUSY`, slow answers, refused or indeterminate requests) only
Prometheus knows. It takes its rules from [alerts/kv.rules.yml](alerts/kv.rules.yml), which are
written from the same table as what stands here; figures are listed in [METRICS.md](METRICS.md),
and [grafana/kv.json](grafana/kv.json) is a dashboard of them. **Bold** alerts are for now, the
others for today.

| alert | rule | seen as | what it means | what to do |
|---|---|---|---|---|
";

/// OPERATING.md's table.
pub(super) fn operating() -> String {
    let mut section = OPERATING.to_owned();
    for alert in ALERTS {
        let mark = if alert.severity == Critical { "**" } else { "" };
        let also = if alert.also.is_empty() { "" } else { "; " };
        let _infallible = writeln!(
            section,
            "| {mark}{}{mark} | `{}`, {} | `{}`{also}{} | {} | {} |",
            alert.title,
            alert.id,
            alert.lasts,
            alert.expression.replace('|', "\\|"),
            alert.also,
            alert.means,
            alert.do_this,
        );
    }
    section
}

/// A YAML string in double quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

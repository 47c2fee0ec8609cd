//! The Grafana dashboard: rows of panels, each with its queries. `@` stands for the selector.

use serde_json::{Value, json};

/// Panels beside each other.
const ACROSS: usize = 3;
const WIDTH: usize = 24 / ACROSS;
const HEIGHT: usize = 7;
/// What `@` becomes: the cluster and the nodes that were chosen above.
const SELECTOR: &str = "cluster=\"$cluster\",node=~\"$node\"";

/// One panel: title, unit in Grafana's words, and queries with their legends.
type Panel = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const ROWS: &[(&str, &[Panel])] = &[
    (
        "Requests: rate, errors, duration",
        &[
            ("Commands", "ops", &[("rate(kv_commands_total{@}[$i])", "{{node}}")]),
            (
                "Reads and writes coordinated",
                "ops",
                &[
                    ("rate(kv_coordinator_gets_total{@}[$i])", "{{node}} reads"),
                    ("rate(kv_coordinator_sets_total{@}[$i])", "{{node}} writes"),
                ],
            ),
            (
                "Errors by code",
                "ops",
                &[("sum by (code) (rate(kv_errors_total{@}[$i])) > 0", "{{code}}")],
            ),
            (
                "Duration: 99th percentile",
                "s",
                &[(
                    "histogram_quantile(0.99, sum by (node, op, le) \
             (rate(kv_request_seconds_bucket{@,op=~\"read|write\"}[$i])))",
                    "{{node}} {{op}}",
                )],
            ),
            (
                "Duration: median",
                "s",
                &[(
                    "histogram_quantile(0.5, sum by (node, op, le) \
             (rate(kv_request_seconds_bucket{@,op=~\"read|write\"}[$i])))",
                    "{{node}} {{op}}",
                )],
            ),
            (
                "Quorum failures",
                "ops",
                &[
                    ("rate(kv_no_replicas_total{@}[$i])", "{{node}} no replicas"),
                    ("rate(kv_unavailable_total{@}[$i])", "{{node}} unavailable"),
                    ("rate(kv_indeterminate_total{@}[$i])", "{{node}} indeterminate"),
                ],
            ),
            (
                "Second mints, forwards, begun again",
                "ops",
                &[
                    ("rate(kv_second_mints_total{@}[$i])", "{{node}} second mints"),
                    ("rate(kv_forwarded_total{@}[$i])", "{{node}} forwarded"),
                    ("rate(kv_replans_total{@}[$i])", "{{node}} begun again"),
                ],
            ),
            (
                "Hedged reads",
                "ops",
                &[
                    ("rate(kv_hedged_reads_total{@}[$i])", "{{node}} hedged"),
                    ("rate(kv_hedges_unpaid_total{@}[$i])", "{{node}} over the share"),
                ],
            ),
            (
                "Answered by counting fallbacks",
                "ops",
                &[
                    ("rate(kv_sloppy_writes_total{@}[$i])", "{{node}} writes"),
                    ("rate(kv_sloppy_reads_total{@}[$i])", "{{node}} reads"),
                ],
            ),
        ],
    ),
    (
        "The process: utilisation, saturation",
        &[
            ("CPU of its threads", "percentunit", &[("kv_load_cpu_ratio{@}", "{{node}}")]),
            ("Work waits for its turn", "s", &[("kv_load_wait_seconds{@}", "{{node}}")]),
            ("Memory", "bytes", &[("process_resident_memory_bytes{@}", "{{node}}")]),
            ("Clients", "short", &[("kv_clients{@}", "{{node}}")]),
            (
                "Open files",
                "percentunit",
                &[("process_open_fds{@} / process_max_fds{@}", "{{node}}")],
            ),
            (
                "Operations queued for peers",
                "short",
                &[
                    ("kv_peer_queue_ops{@}", "{{node}} queued"),
                    ("kv_peer_calls_in_flight{@}", "{{node}} calls in flight"),
                ],
            ),
        ],
    ),
    (
        "The cluster",
        &[
            (
                "Members up",
                "short",
                &[("kv_members_up{@}", "{{node}} sees up"), ("max(kv_members{@})", "members")],
            ),
            ("Members down", "short", &[("min by (member) (kv_member_up{@}) == 0", "{{member}}")]),
            (
                "Layouts",
                "short",
                &[
                    ("kv_layout_epoch{@}", "{{node}} epoch"),
                    ("kv_layouts_live{@}", "{{node}} live"),
                ],
            ),
            ("Phi", "short", &[("kv_peer_phi{@}", "{{node}} of {{peer}}")]),
            ("Calls to peers", "s", &[("kv_peer_call_seconds{@}", "{{node}} to {{peer}}")]),
            (
                "Peers that requests count as down",
                "short",
                &[("sum by (peer) (kv_peer_down{@}) > 0", "{{peer}}")],
            ),
        ],
    ),
    (
        "The engine: log, compaction, cache",
        &[
            (
                "Log: written",
                "Bps",
                &[("rate(kv_engine_log_written_bytes_total{@}[$i])", "{{node}}")],
            ),
            (
                "Log: a sync takes",
                "s",
                &[(
                    "rate(kv_engine_log_sync_seconds_total{@}[$i]) \
                     / rate(kv_engine_log_syncs_total{@}[$i])",
                    "{{node}}",
                )],
            ),
            ("Log: syncs", "ops", &[("rate(kv_engine_log_syncs_total{@}[$i])", "{{node}}")]),
            (
                "Tables written",
                "Bps",
                &[
                    ("rate(kv_engine_flush_written_bytes_total{@}[$i])", "{{node}} flushes"),
                    (
                        "rate(kv_engine_compaction_written_bytes_total{@}[$i])",
                        "{{node}} compaction",
                    ),
                ],
            ),
            (
                "Waiting for flush and compaction",
                "short",
                &[
                    ("kv_engine_level0_tables{@}", "{{node}} level 0"),
                    ("kv_engine_memtables_sealed{@}", "{{node}} memtables"),
                    ("rate(kv_engine_stalls_total{@}[$i])", "{{node}} stalls a second"),
                ],
            ),
            ("On disk", "bytes", &[("kv_engine_disk_bytes{@}", "{{node}}")]),
            (
                "Cache filled",
                "percentunit",
                &[("kv_engine_cache_bytes{@} / kv_engine_cache_bytes_max{@}", "{{node}}")],
            ),
            (
                "Blocks read from disk for a read",
                "short",
                &[(
                    "rate(kv_engine_cache_misses_total{@}[$i]) \
                     / rate(kv_replica_reads_total{@}[$i])",
                    "{{node}}",
                )],
            ),
            (
                "In memory",
                "bytes",
                &[
                    ("kv_engine_memory_bytes{@}", "{{node}} all"),
                    ("kv_engine_memtable_bytes{@}", "{{node}} memtable"),
                ],
            ),
        ],
    ),
    (
        "Copies: repair, hints, exchanges",
        &[
            (
                "Repaired by reads",
                "ops",
                &[
                    ("rate(kv_read_conflicts_total{@}[$i])", "{{node}} replies differed"),
                    ("rate(kv_read_repairs_total{@}[$i])", "{{node}} records written"),
                ],
            ),
            (
                "Hints",
                "ops",
                &[
                    ("rate(kv_hints_written_total{@}[$i])", "{{node}} written"),
                    ("rate(kv_hints_delivered_total{@}[$i])", "{{node}} delivered"),
                    ("rate(kv_hints_refused_total{@}[$i])", "{{node}} refused"),
                    ("rate(kv_hints_dropped_total{@}[$i])", "{{node}} dropped"),
                ],
            ),
            (
                "Hint log filled",
                "percentunit",
                &[("kv_hint_bytes{@} / kv_hint_bytes_max{@}", "{{node}}")],
            ),
            (
                "Exchanges",
                "ops",
                &[
                    ("rate(kv_aae_exchanges_total{@}[$i])", "{{node}} ended"),
                    ("rate(kv_aae_exchanges_failed_total{@}[$i])", "{{node}} failed"),
                    ("rate(kv_aae_keys_mended_total{@}[$i])", "{{node}} keys mended"),
                ],
            ),
            (
                "Age of the last exchange",
                "s",
                &[("max by (node) (kv_aae_exchange_age_seconds{@})", "{{node}}")],
            ),
            ("Partitions to be filled", "short", &[("kv_partitions_filling{@}", "{{node}}")]),
        ],
    ),
    (
        "Siblings, collection, load",
        &[
            ("Keys with siblings", "short", &[("sum by (cluster) (kv_conflict_keys{@})", "keys")]),
            ("Floors", "s", &[("max by (member) (kv_floor_age_seconds{@})", "{{member}}")]),
            ("Lowest mark", "s", &[("kv_mark_age_seconds{@}", "{{node}}")]),
            ("Hottest key", "ops", &[("kv_hot_key_ops{@,rank=\"1\"}", "{{node}}")]),
            ("Hottest partition", "ops", &[("kv_hot_partition_ops{@,rank=\"1\"}", "{{node}}")]),
            (
                "Nodes that there should be",
                "short",
                &[("max(kv_desired_nodes{@})", "desired"), ("max(kv_members{@})", "members")],
            ),
        ],
    ),
];

/// A query as Grafana sends it.
fn filled(query: &str) -> String {
    query.replace('@', SELECTOR).replace("$i", "$__rate_interval")
}

/// Every query of the dashboard, with its panel's title.
pub(super) fn queries() -> impl Iterator<Item = (&'static str, String)> {
    let panels = ROWS.iter().flat_map(|(_, panels)| panels.iter());
    panels.flat_map(|(title, _, queries)| queries.iter().map(|(query, _)| (*title, filled(query))))
}

/// The dashboard's JSON.
pub(super) fn dashboard() -> String {
    let mut panels = Vec::new();
    let mut y = 0;
    for (title, row) in ROWS {
        let id = panels.len() + 1;
        let at = json!({ "x": 0, "y": y, "w": 24, "h": 1 });
        panels.push(json!({
            "id": id, "type": "row", "title": title, "gridPos": at, "collapsed": false,
            "panels": [],
        }));
        y += 1;
        for (place, panel) in row.iter().enumerate() {
            let (x, down) = (place % ACROSS * WIDTH, place / ACROSS * HEIGHT);
            let at = json!({ "x": x, "y": y + down, "w": WIDTH, "h": HEIGHT });
            panels.push(graph(panels.len() + 1, panel, &at));
        }
        y += row.len().div_ceil(ACROSS) * HEIGHT;
    }
    let page = json!({
        "title": "kv", "uid": "kv", "tags": ["kv"], "schemaVersion": 39, "version": 1,
        "editable": true, "timezone": "browser", "refresh": "10s", "graphTooltip": 1,
        "time": { "from": "now-1h", "to": "now" },
        "templating": { "list": [
            { "name": "datasource", "type": "datasource", "query": "prometheus" },
            variable("cluster", "label_values(kv_ready, cluster)", false),
            variable("node", "label_values(kv_ready{cluster=\"$cluster\"}, node)", true),
        ] },
        "panels": panels,
    });
    format!("{page:#}\n")
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn variable(name: &str, query: &str, many: bool) -> Value {
    json!({
        "name": name, "type": "query", "datasource": source(), "refresh": 2, "sort": 1,
        "query": { "query": query, "refId": name }, "definition": query,
        "multi": many, "includeAll": many, "allValue": ".*",
        "current": if many { json!({ "text": "All", "value": "$__all" }) } else { json!({}) },
    })
}

fn graph(id: usize, (title, unit, queries): &Panel, at: &Value) -> Value {
    let target = |(place, (query, legend)): (usize, &(&str, &str))| {
        json!({
            "refId": char::from(b'A' + place as u8).to_string(), "datasource": source(),
            "expr": filled(query), "legendFormat": legend,
        })
    };
    let targets: Vec<Value> = queries.iter().enumerate().map(target).collect();
    json!({
        "id": id, "type": "timeseries", "title": title, "datasource": source(), "gridPos": at,
        "fieldConfig": { "defaults": { "unit": unit, "min": 0 }, "overrides": [] },
        "options": { "tooltip": { "mode": "multi" }, "legend": { "displayMode": "list" } },
        "targets": targets,
    })
}

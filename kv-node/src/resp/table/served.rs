//! The commands that are served: one row for each, subcommands behind their container.
//!
//! ```text
//! Id "name" arity Class (first, last, step) Touch Group "since"
//!     [flags] [categories] [tips]
//!     "what it does";
//! ```
//! Arity, flags, keys and categories are those of Redis 7, so that a client that reads COMMAND
//! treats us as it treats Redis. What a row says is what COMMAND answers, what arity is checked,
//! which keys are routed: there is no second place.

use super::{Class, Command, Group, Keys, Touch, cat, flag};

macro_rules! served {
    ($($id:ident $name:literal $arity:literal $class:ident
        ($first:literal, $last:literal, $step:literal) $touch:ident $group:ident $since:literal
        [$($flag:ident)*] [$($cat:ident)*]
        [$($tip:literal)*] $summary:literal;)*) => {
        /// Which command it is, for the executor's dispatch.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum CommandId {
            $(#[doc = $summary] $id,)*
        }

        /// Every served command, containers directly before their subcommands.
        pub(super) const SERVED: &[Command] = &[$(Command {
            id: CommandId::$id,
            name: $name,
            arity: $arity,
            class: Class::$class,
            keys: Keys { first: $first, last: $last, step: $step, touch: Touch::$touch },
            group: Group::$group,
            since: $since,
            flags: 0 $(| flag::$flag)*,
            categories: 0 $(| cat::$cat)*,
            tips: &[$($tip),*],
            summary: $summary,
        },)*];
    };
}

served! {
    Ping "ping" -1 Connection (0, 0, 0) Nothing Connection "1.0.0"
        [FAST] [FAST CONNECTION]
        ["request_policy:all_shards" "response_policy:all_succeeded"]
        "Answers PONG, or its argument";
    Echo "echo" 2 Connection (0, 0, 0) Nothing Connection "1.0.0"
        [LOADING STALE FAST] [FAST CONNECTION] []
        "Answers its argument";
    Quit "quit" -1 Connection (0, 0, 0) Nothing Connection "1.0.0"
        [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [FAST CONNECTION] []
        "Answers OK and closes the connection";
    Reset "reset" 1 Connection (0, 0, 0) Nothing Connection "6.2.0"
        [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [FAST CONNECTION] []
        "Puts the connection back to its first state";
    Hello "hello" -1 Connection (0, 0, 0) Nothing Connection "6.0.0"
        [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [FAST CONNECTION] []
        "Chooses the protocol, and authenticates";
    Select "select" 2 Connection (0, 0, 0) Nothing Connection "1.0.0"
        [LOADING STALE FAST] [FAST CONNECTION] []
        "Chooses database 0, the only one";
    Auth "auth" -2 Connection (0, 0, 0) Nothing Connection "1.0.0"
        [NOSCRIPT LOADING STALE FAST NO_AUTH ALLOW_BUSY] [FAST CONNECTION] []
        "Authenticates the connection";
    Client "client" -2 Connection (0, 0, 0) Nothing Connection "2.4.0"
        [] [SLOW] []
        "What concerns one connection";
    ClientHelp "client|help" 2 Connection (0, 0, 0) Nothing Connection "5.0.0"
        [LOADING STALE] [SLOW CONNECTION] []
        "Lists the subcommands";
    ClientSetname "client|setname" 3 Connection (0, 0, 0) Nothing Connection "2.6.9"
        [NOSCRIPT LOADING STALE] [SLOW CONNECTION] []
        "Names the connection";
    ClientGetname "client|getname" 2 Connection (0, 0, 0) Nothing Connection "2.6.9"
        [NOSCRIPT LOADING STALE] [SLOW CONNECTION] []
        "The connection's name";
    ClientId "client|id" 2 Connection (0, 0, 0) Nothing Connection "5.0.0"
        [NOSCRIPT LOADING STALE] [SLOW CONNECTION] []
        "The connection's number";
    ClientInfo "client|info" 2 Connection (0, 0, 0) Nothing Connection "6.2.0"
        [NOSCRIPT LOADING STALE] [SLOW CONNECTION]
        ["nondeterministic_output"]
        "What is known of this connection";
    ClientSetinfo "client|setinfo" 4 Connection (0, 0, 0) Nothing Connection "7.2.0"
        [NOSCRIPT LOADING STALE] [SLOW CONNECTION] []
        "Notes the client library's name or version";
    ClientList "client|list" -2 Connection (0, 0, 0) Nothing Connection "2.4.0"
        [ADMIN NOSCRIPT LOADING STALE] [ADMIN SLOW DANGEROUS CONNECTION]
        ["nondeterministic_output"]
        "Lists the open connections";
    ClientKill "client|kill" -3 Connection (0, 0, 0) Nothing Connection "2.4.0"
        [ADMIN NOSCRIPT LOADING STALE] [ADMIN SLOW DANGEROUS CONNECTION] []
        "Ends connections, each between two of its commands";
    ClientNoEvict "client|no-evict" 3 Connection (0, 0, 0) Nothing Connection "7.0.0"
        [ADMIN NOSCRIPT LOADING STALE] [ADMIN SLOW DANGEROUS CONNECTION] []
        "OK: no connection is evicted";
    ClientNoTouch "client|no-touch" 3 Connection (0, 0, 0) Nothing Connection "7.2.0"
        [NOSCRIPT LOADING STALE] [SLOW CONNECTION] []
        "OK: accesses are not tracked";
    ClientReply "client|reply" 3 Connection (0, 0, 0) Nothing Connection "3.2.0"
        [NOSCRIPT LOADING STALE] [SLOW CONNECTION] []
        "Whether the connection's commands are answered";
    Slowlog "slowlog" -2 Connection (0, 0, 0) Nothing Server "2.2.12"
        [] [SLOW] []
        "What took long on this node";
    SlowlogGet "slowlog|get" -2 Connection (0, 0, 0) Nothing Server "2.2.12"
        [ADMIN LOADING STALE] [ADMIN SLOW DANGEROUS]
        ["request_policy:all_nodes" "nondeterministic_output"]
        "The newest slow commands, with their waits for other nodes";
    SlowlogHelp "slowlog|help" 2 Connection (0, 0, 0) Nothing Server "6.2.0"
        [LOADING STALE] [SLOW] []
        "Lists the subcommands";
    SlowlogLen "slowlog|len" 2 Connection (0, 0, 0) Nothing Server "2.2.12"
        [ADMIN LOADING STALE] [ADMIN SLOW DANGEROUS]
        ["request_policy:all_nodes" "response_policy:agg_sum" "nondeterministic_output"]
        "How many slow commands are kept";
    SlowlogReset "slowlog|reset" 2 Connection (0, 0, 0) Nothing Server "2.2.12"
        [ADMIN LOADING STALE] [ADMIN SLOW DANGEROUS]
        ["request_policy:all_nodes" "response_policy:all_succeeded"]
        "Forgets the slow commands";
    Latency "latency" -2 Connection (0, 0, 0) Nothing Server "2.8.13"
        [] [SLOW] []
        "Spikes of latency on this node";
    LatencyDoctor "latency|doctor" 2 Connection (0, 0, 0) Nothing Server "2.8.13"
        [ADMIN NOSCRIPT LOADING STALE] [ADMIN SLOW DANGEROUS]
        ["nondeterministic_output" "request_policy:all_nodes" "response_policy:special"]
        "Says what the spikes come to";
    LatencyHelp "latency|help" 2 Connection (0, 0, 0) Nothing Server "2.8.13"
        [LOADING STALE] [SLOW] []
        "Lists the subcommands";
    LatencyHistory "latency|history" 3 Connection (0, 0, 0) Nothing Server "2.8.13"
        [ADMIN NOSCRIPT LOADING STALE] [ADMIN SLOW DANGEROUS]
        ["nondeterministic_output" "request_policy:all_nodes" "response_policy:special"]
        "The worst spike of each second that had one";
    LatencyLatest "latency|latest" 2 Connection (0, 0, 0) Nothing Server "2.8.13"
        [ADMIN NOSCRIPT LOADING STALE] [ADMIN SLOW DANGEROUS]
        ["nondeterministic_output" "request_policy:all_nodes" "response_policy:special"]
        "The last spike, and the worst";
    LatencyReset "latency|reset" -2 Connection (0, 0, 0) Nothing Server "2.8.13"
        [ADMIN NOSCRIPT LOADING STALE] [ADMIN SLOW DANGEROUS]
        ["request_policy:all_nodes" "response_policy:agg_sum"]
        "Forgets the spikes";
    Command "command" -1 Connection (0, 0, 0) Nothing Server "2.8.13"
        [LOADING STALE] [SLOW CONNECTION]
        ["nondeterministic_output_order"]
        "Describes every command that is served";
    CommandHelp "command|help" 2 Connection (0, 0, 0) Nothing Server "5.0.0"
        [LOADING STALE] [SLOW CONNECTION] []
        "Lists the subcommands";
    CommandCount "command|count" 2 Connection (0, 0, 0) Nothing Server "2.8.13"
        [LOADING STALE] [SLOW CONNECTION] []
        "How many commands are served";
    CommandDocs "command|docs" -2 Connection (0, 0, 0) Nothing Server "7.0.0"
        [LOADING STALE] [SLOW CONNECTION]
        ["nondeterministic_output_order"]
        "What the commands do";
    CommandInfo "command|info" -2 Connection (0, 0, 0) Nothing Server "2.8.13"
        [LOADING STALE] [SLOW CONNECTION]
        ["nondeterministic_output_order"]
        "Arity, flags and keys of commands";
    CommandList "command|list" -2 Connection (0, 0, 0) Nothing Server "7.0.0"
        [LOADING STALE] [SLOW CONNECTION]
        ["nondeterministic_output_order"]
        "The names of the commands";
    Config "config" -2 Admin (0, 0, 0) Nothing Server "2.0.0"
        [] [SLOW] []
        "Settings of this node";
    ConfigHelp "config|help" 2 Connection (0, 0, 0) Nothing Server "5.0.0"
        [LOADING STALE] [SLOW] []
        "Lists the subcommands";
    ConfigGet "config|get" -3 Admin (0, 0, 0) Nothing Server "2.0.0"
        [ADMIN NOSCRIPT LOADING STALE] [ADMIN SLOW DANGEROUS] []
        "Shows settings by patterns";
    ConfigSet "config|set" -4 Admin (0, 0, 0) Nothing Server "2.0.0"
        [ADMIN NOSCRIPT LOADING STALE] [ADMIN SLOW DANGEROUS]
        ["request_policy:all_nodes" "response_policy:all_succeeded"]
        "Changes a setting, where that does what it says";
    Info "info" -1 Admin (0, 0, 0) Nothing Server "1.0.0"
        [LOADING STALE] [SLOW DANGEROUS]
        ["nondeterministic_output" "request_policy:all_shards" "response_policy:special"]
        "Facts and counters of this node";
    Dbsize "dbsize" 1 Natural (0, 0, 0) Nothing Server "1.0.0"
        [READONLY FAST] [KEYSPACE READ FAST]
        ["request_policy:all_shards" "response_policy:agg_sum"]
        "How many keys there are, as whole_keyspace says";
    Time "time" 1 Connection (0, 0, 0) Nothing Server "2.6.0"
        [LOADING STALE FAST] [FAST]
        ["nondeterministic_output"]
        "The node's clock";
    Role "role" 1 Admin (0, 0, 0) Nothing Server "2.8.12"
        [NOSCRIPT LOADING STALE FAST] [ADMIN FAST DANGEROUS] []
        "Always a primary: there is no leader";
    Lastsave "lastsave" 1 Admin (0, 0, 0) Nothing Server "1.0.0"
        [LOADING STALE FAST] [ADMIN FAST DANGEROUS]
        ["nondeterministic_output"]
        "When data was last made durable";
    Memory "memory" -2 Admin (0, 0, 0) Nothing Server "4.0.0"
        [] [SLOW] []
        "What concerns memory";
    MemoryHelp "memory|help" 2 Connection (0, 0, 0) Nothing Server "4.0.0"
        [LOADING STALE] [SLOW] []
        "Lists the subcommands";
    MemoryUsage "memory|usage" -3 Natural (2, 2, 1) Metadata Server "4.0.0"
        [READONLY] [READ SLOW] []
        "Bytes that a key and its record take";
    Cluster "cluster" -2 Admin (0, 0, 0) Nothing Cluster "3.0.0"
        [] [SLOW] []
        "The cluster as Redis Cluster clients want to see it";
    ClusterHelp "cluster|help" 2 Connection (0, 0, 0) Nothing Cluster "5.0.0"
        [LOADING STALE] [SLOW] []
        "Lists the subcommands";
    ClusterInfo "cluster|info" 2 Admin (0, 0, 0) Nothing Cluster "3.0.0"
        [STALE] [SLOW]
        ["nondeterministic_output"]
        "State of the cluster";
    ClusterNodes "cluster|nodes" 2 Admin (0, 0, 0) Nothing Cluster "3.0.0"
        [STALE] [SLOW]
        ["nondeterministic_output"]
        "The nodes as lines of text";
    ClusterSlots "cluster|slots" 2 Admin (0, 0, 0) Nothing Cluster "3.0.0"
        [STALE] [SLOW]
        ["nondeterministic_output"]
        "For each range of slots the live replicas";
    ClusterShards "cluster|shards" 2 Admin (0, 0, 0) Nothing Cluster "7.0.0"
        [STALE] [SLOW]
        ["nondeterministic_output"]
        "The nodes by the slots that they share";
    ClusterMyid "cluster|myid" 2 Admin (0, 0, 0) Nothing Cluster "3.0.0"
        [STALE] [SLOW] []
        "This node's id";
    ClusterKeyslot "cluster|keyslot" 3 Connection (0, 0, 0) Nothing Cluster "3.0.0"
        [STALE] [SLOW] []
        "The slot of a key";
    ClusterCountkeysinslot "cluster|countkeysinslot" 3 Admin (0, 0, 0) Nothing Cluster "3.0.0"
        [STALE] [SLOW] []
        "How many keys a slot holds here";
    Readonly "readonly" 1 Connection (0, 0, 0) Nothing Cluster "3.0.0"
        [LOADING STALE FAST] [FAST CONNECTION] []
        "OK: any node serves reads";
    Readwrite "readwrite" 1 Connection (0, 0, 0) Nothing Cluster "3.0.0"
        [LOADING STALE FAST] [FAST CONNECTION] []
        "OK: any node serves writes";
    Asking "asking" 1 Connection (0, 0, 0) Nothing Cluster "3.0.0"
        [FAST] [FAST CONNECTION] []
        "OK: no slot is ever redirected";
    Get "get" 2 Natural (1, 1, 1) Access String "1.0.0"
        [READONLY FAST] [READ STRING FAST] []
        "The live value with the highest dot";
    Set "set" -3 Natural (1, 1, 1) Variable String "1.0.0"
        [WRITE DENYOOM] [WRITE STRING SLOW] []
        "Overwrites what its coordinator knows; NX, XX and GET need rmw";
    Setex "setex" 4 Natural (1, 1, 1) Overwrite String "2.0.0"
        [WRITE DENYOOM] [WRITE STRING SLOW] []
        "SET with an expiry in seconds";
    Psetex "psetex" 4 Natural (1, 1, 1) Overwrite String "2.6.0"
        [WRITE DENYOOM] [WRITE STRING SLOW] []
        "SET with an expiry in milliseconds";
    Getex "getex" -2 Natural (1, 1, 1) AccessUpdate String "6.2.0"
        [WRITE FAST] [WRITE STRING FAST] []
        "GET that changes the expiry";
    Strlen "strlen" 2 Natural (1, 1, 1) Metadata String "2.2.0"
        [READONLY FAST] [READ STRING FAST] []
        "Bytes of the value";
    Getrange "getrange" 4 Natural (1, 1, 1) Access String "2.4.0"
        [READONLY] [READ STRING SLOW] []
        "A part of the value";
    Substr "substr" 4 Natural (1, 1, 1) Access String "1.0.0"
        [READONLY] [READ STRING SLOW] []
        "A part of the value, under its old name";
    Mget "mget" -2 Natural (1, -1, 1) Access String "1.0.0"
        [READONLY FAST] [READ STRING FAST]
        ["request_policy:multi_shard"]
        "The values of several keys, each read by itself";
    Mset "mset" -3 Natural (1, -1, 2) Overwrite String "1.0.1"
        [WRITE DENYOOM] [WRITE STRING SLOW]
        ["request_policy:multi_shard" "response_policy:all_succeeded"]
        "Sets several keys, each by itself";
    Del "del" -2 Natural (1, -1, 1) Delete Generic "1.0.0"
        [WRITE] [KEYSPACE WRITE SLOW]
        ["request_policy:multi_shard" "response_policy:agg_sum"]
        "Deletes what R replicas hold";
    Unlink "unlink" -2 Natural (1, -1, 1) Delete Generic "4.0.0"
        [WRITE FAST] [KEYSPACE WRITE FAST]
        ["request_policy:multi_shard" "response_policy:agg_sum"]
        "The same as DEL";
    Exists "exists" -2 Natural (1, -1, 1) Metadata Generic "1.0.0"
        [READONLY FAST] [KEYSPACE READ FAST]
        ["request_policy:multi_shard" "response_policy:agg_sum"]
        "How many of the keys have a value";
    Touch "touch" -2 Natural (1, -1, 1) Metadata Generic "3.2.1"
        [READONLY FAST] [KEYSPACE READ FAST]
        ["request_policy:multi_shard" "response_policy:agg_sum"]
        "How many of the keys have a value";
    Type "type" 2 Natural (1, 1, 1) Metadata Generic "1.0.0"
        [READONLY FAST] [KEYSPACE READ FAST] []
        "The type of the value";
    Object "object" -2 Natural (0, 0, 0) Nothing Generic "2.2.3"
        [] [SLOW] []
        "What concerns a value's form";
    ObjectHelp "object|help" 2 Connection (0, 0, 0) Nothing Generic "6.2.0"
        [LOADING STALE] [SLOW KEYSPACE] []
        "Lists the subcommands";
    ObjectEncoding "object|encoding" 3 Natural (2, 2, 1) Metadata Generic "2.2.3"
        [READONLY] [KEYSPACE READ SLOW]
        ["nondeterministic_output"]
        "The form in which Redis would keep the value";
    ObjectFreq "object|freq" 3 Natural (2, 2, 1) Metadata Generic "4.0.0"
        [READONLY] [KEYSPACE READ SLOW]
        ["nondeterministic_output"]
        "Refused: accesses are not counted";
    ObjectIdletime "object|idletime" 3 Natural (2, 2, 1) Metadata Generic "2.2.3"
        [READONLY] [KEYSPACE READ SLOW]
        ["nondeterministic_output"]
        "Refused: accesses are not timed";
    Expire "expire" -3 Natural (1, 1, 1) Update Generic "1.0.0"
        [WRITE FAST] [KEYSPACE WRITE FAST] []
        "Expires in seconds; NX, XX, GT and LT need rmw";
    Pexpire "pexpire" -3 Natural (1, 1, 1) Update Generic "2.6.0"
        [WRITE FAST] [KEYSPACE WRITE FAST] []
        "Expires in milliseconds; NX, XX, GT and LT need rmw";
    Expireat "expireat" -3 Natural (1, 1, 1) Update Generic "1.2.0"
        [WRITE FAST] [KEYSPACE WRITE FAST] []
        "Expires at a second; NX, XX, GT and LT need rmw";
    Pexpireat "pexpireat" -3 Natural (1, 1, 1) Update Generic "2.6.0"
        [WRITE FAST] [KEYSPACE WRITE FAST] []
        "Expires at a millisecond; NX, XX, GT and LT need rmw";
    Ttl "ttl" 2 Natural (1, 1, 1) Access Generic "1.0.0"
        [READONLY FAST] [KEYSPACE READ FAST]
        ["nondeterministic_output"]
        "Seconds until the value expires";
    Pttl "pttl" 2 Natural (1, 1, 1) Access Generic "2.6.0"
        [READONLY FAST] [KEYSPACE READ FAST]
        ["nondeterministic_output"]
        "Milliseconds until the value expires";
    Expiretime "expiretime" 2 Natural (1, 1, 1) Access Generic "7.0.0"
        [READONLY FAST] [KEYSPACE READ FAST] []
        "The second at which the value expires";
    Pexpiretime "pexpiretime" 2 Natural (1, 1, 1) Access Generic "7.0.0"
        [READONLY FAST] [KEYSPACE READ FAST] []
        "The millisecond at which the value expires";
    Persist "persist" 2 Natural (1, 1, 1) Update Generic "2.2.0"
        [WRITE FAST] [KEYSPACE WRITE FAST] []
        "Takes the expiry away";
    Scan "scan" -2 Natural (0, 0, 0) Nothing Generic "2.8.0"
        [READONLY] [KEYSPACE READ SLOW]
        ["nondeterministic_output" "request_policy:special"]
        "Walks through the keys";
    Keys "keys" 2 Natural (0, 0, 0) Nothing Generic "1.0.0"
        [READONLY] [KEYSPACE READ SLOW DANGEROUS]
        ["request_policy:all_shards" "nondeterministic_output_order"]
        "All keys that match a pattern";
    Randomkey "randomkey" 1 Natural (0, 0, 0) Nothing Generic "1.0.0"
        [READONLY] [KEYSPACE READ SLOW]
        ["request_policy:all_shards" "nondeterministic_output"]
        "Some key";
    Flushdb "flushdb" -1 Natural (0, 0, 0) Nothing Server "1.0.0"
        [WRITE] [KEYSPACE WRITE SLOW DANGEROUS]
        ["request_policy:all_shards" "response_policy:all_succeeded"]
        "Deletes every key, on all members";
    Flushall "flushall" -1 Natural (0, 0, 0) Nothing Server "1.0.0"
        [WRITE] [KEYSPACE WRITE SLOW DANGEROUS]
        ["request_policy:all_shards" "response_policy:all_succeeded"]
        "Deletes every key, on all members";
    Wait "wait" 3 Natural (0, 0, 0) Nothing Generic "3.0.0"
        [NOSCRIPT] [SLOW CONNECTION]
        ["request_policy:all_shards" "response_policy:agg_min"]
        "The fewest other replicas that hold this connection's writes durably";
    Multi "multi" 1 Connection (0, 0, 0) Nothing Transactions "1.2.0"
        [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [FAST TRANSACTION] []
        "Begins an ordered batch, without atomicity";
    Exec "exec" 1 Connection (0, 0, 0) Nothing Transactions "1.2.0"
        [NOSCRIPT LOADING STALE SKIP_SLOWLOG] [SLOW TRANSACTION] []
        "Executes the batch in order";
    Discard "discard" 1 Connection (0, 0, 0) Nothing Transactions "2.0.0"
        [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [FAST TRANSACTION] []
        "Forgets the batch";
    Unwatch "unwatch" 1 Connection (0, 0, 0) Nothing Transactions "2.2.0"
        [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [FAST TRANSACTION] []
        "OK: nothing is ever watched";
    Setnx "setnx" 3 Promise (1, 1, 1) InsertOnly String "1.0.0"
        [WRITE DENYOOM FAST] [WRITE STRING FAST] []
        "Sets a key that has no value";
    Getset "getset" 3 Promise (1, 1, 1) AccessUpdate String "1.0.0"
        [WRITE DENYOOM FAST] [WRITE STRING FAST] []
        "Sets a key and answers what it had";
    Getdel "getdel" 2 Promise (1, 1, 1) Take String "6.2.0"
        [WRITE FAST] [WRITE STRING FAST] []
        "Answers the value and deletes it";
    Msetnx "msetnx" -3 Promise (1, -1, 2) InsertOnly String "1.0.1"
        [WRITE DENYOOM] [WRITE STRING SLOW]
        ["request_policy:multi_shard" "response_policy:agg_min"]
        "Sets several keys if none has a value";
    Incr "incr" 2 Promise (1, 1, 1) AccessUpdate String "1.0.0"
        [WRITE DENYOOM FAST] [WRITE STRING FAST] []
        "Adds one";
    Decr "decr" 2 Promise (1, 1, 1) AccessUpdate String "1.0.0"
        [WRITE DENYOOM FAST] [WRITE STRING FAST] []
        "Takes one away";
    Incrby "incrby" 3 Promise (1, 1, 1) AccessUpdate String "1.0.0"
        [WRITE DENYOOM FAST] [WRITE STRING FAST] []
        "Adds a number";
    Decrby "decrby" 3 Promise (1, 1, 1) AccessUpdate String "1.0.0"
        [WRITE DENYOOM FAST] [WRITE STRING FAST] []
        "Takes a number away";
    Incrbyfloat "incrbyfloat" 3 Promise (1, 1, 1) AccessUpdate String "2.6.0"
        [WRITE DENYOOM FAST] [WRITE STRING FAST] []
        "Adds a floating-point number";
    Append "append" 3 Promise (1, 1, 1) Insert String "2.0.0"
        [WRITE DENYOOM FAST] [WRITE STRING FAST] []
        "Appends to the value";
    Setrange "setrange" 4 Promise (1, 1, 1) Update String "2.2.0"
        [WRITE DENYOOM] [WRITE STRING SLOW] []
        "Overwrites a part of the value";
    Rename "rename" 3 Promise (1, 2, 1) Move Generic "1.0.0"
        [WRITE] [KEYSPACE WRITE SLOW] []
        "Moves a value to another key";
    Renamenx "renamenx" 3 Promise (1, 2, 1) MoveToNew Generic "1.0.0"
        [WRITE FAST] [KEYSPACE WRITE FAST] []
        "Moves a value to a key that has none";
    Copy "copy" -3 Promise (1, 2, 1) Copy Generic "6.2.0"
        [WRITE DENYOOM] [KEYSPACE WRITE SLOW] []
        "Copies a value to another key";
    KvGet "kv.get" -2 Natural (1, 1, 1) Access Kv "0.1.0"
        [READONLY] [READ STRING SLOW] []
        "All siblings of a key, with the context that covers them";
    KvPut "kv.put" -3 Natural (1, 1, 1) Update Kv "0.1.0"
        [WRITE DENYOOM] [WRITE STRING SLOW] []
        "Replaces what the context covers; without one, nothing";
    KvDel "kv.del" -2 Natural (1, 1, 1) Delete Kv "0.1.0"
        [WRITE] [KEYSPACE WRITE SLOW] []
        "Deletes what the context covers, or what R replicas hold";
    KvExplain "kv.explain" 2 Natural (1, 1, 1) Metadata Kv "0.1.0"
        [READONLY] [KEYSPACE READ SLOW] []
        "Where a key lives, and what each replica says of it";
    KvConflicts "kv.conflicts" -1 Natural (0, 0, 0) Nothing Kv "0.1.0"
        [READONLY] [KEYSPACE READ SLOW] ["nondeterministic_output"]
        "Lists the keys with siblings, page by page";
    KvHotkeys "kv.hotkeys" -1 Natural (0, 0, 0) Nothing Kv "0.1.0"
        [READONLY] [KEYSPACE READ SLOW] ["nondeterministic_output"]
        "Lists the keys that are asked for most, of all nodes";
    KvConsistency "kv.consistency" -1 Connection (0, 0, 0) Nothing Kv "0.1.0"
        [LOADING STALE FAST] [FAST CONNECTION] []
        "Shows or sets the connection's R and W";
}

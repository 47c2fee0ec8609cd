//! Commands of Redis that are known here and not served, each with the reason and what to do
//! instead. A refused command is refused, never faked.

use super::Refused;

const BLOCKING: &str = "blocking pops need one owner per key; poll, or use a queue service";
const LISTS: &str =
    "lists are not served yet; keep a short list in one value, or a key per element";
const HASHES: &str = "hashes are not served yet; use a key per field, or one value with KV.PUT";
const SETS: &str = "sets are not served yet; use a key per member";
const SORTED: &str = "sorted sets are not served yet; use a key per member";
const STREAMS: &str = "streams need one order for all nodes; use a log service";
const BITS: &str = "bitmaps are not served yet; keep the bits in one value with KV.PUT";
const SKETCHES: &str = "HyperLogLogs are not served yet";
const GEO: &str = "geo sets are not served yet";
const SCRIPTS: &str = "scripts need one decision maker for all their keys; do it in the client";
const PUBSUB: &str = "messages are not served; use a message broker";
const WATCHING: &str = "WATCH promises that nothing changed before EXEC, which no leaderless node \
    can; use KV.GET and KV.PUT with its context";
const ONE_DATABASE: &str = "there is one database; use key prefixes or another cluster";
const LEADERLESS: &str = "every node is a primary and copies follow the layout; see kv status";
const SERIALIZED: &str = "values are not carried in Redis's dump format; use GET and SET";
const PERSISTENCE: &str = "every write is durable as the durability setting says; copy a stopped \
    node's directory for a backup";
const OPERATING: &str = "the process belongs to its supervisor; send it SIGTERM";
const OBSERVING: &str = "see INFO, the metrics port and kv status";
const WATCHING_ALL: &str = "showing every command to one client would slow all of them, and show \
    one node's part; see SLOWLOG, LATENCY, kv events";
const USERS: &str = "there is one password and no users; set requirepass";
const MODULES: &str = "there are no modules";
const SORTING: &str = "sort and compare in the client";

macro_rules! refused {
    ($($reason:ident: $($name:literal)+;)*) => {
        /// Every refused command.
        pub(super) const REFUSED: &[Refused] =
            &[$($(Refused { name: $name, reason: $reason },)+)*];
    };
}

refused! {
    BLOCKING: "blmove" "blmpop" "blpop" "brpop" "brpoplpush" "bzmpop" "bzpopmax" "bzpopmin";
    LISTS: "lindex" "linsert" "llen" "lmove" "lmpop" "lpop" "lpos" "lpush" "lpushx" "lrange" "lrem"
        "lset" "ltrim" "rpop" "rpoplpush" "rpush" "rpushx";
    HASHES: "hdel" "hexists" "hget" "hgetall" "hincrby" "hincrbyfloat" "hkeys" "hlen" "hmget"
        "hmset" "hrandfield" "hscan" "hset" "hsetnx" "hstrlen" "hvals" "hexpire" "hpexpire"
        "hexpireat" "hpexpireat" "hexpiretime" "hpexpiretime" "httl" "hpttl" "hpersist" "hgetex"
        "hsetex" "hgetdel";
    SETS: "sadd" "scard" "sdiff" "sdiffstore" "sinter" "sintercard" "sinterstore" "sismember"
        "smembers" "smismember" "smove" "spop" "srandmember" "srem" "sscan" "sunion" "sunionstore";
    SORTED: "zadd" "zcard" "zcount" "zdiff" "zdiffstore" "zincrby" "zinter" "zintercard"
        "zinterstore" "zlexcount" "zmpop" "zmscore" "zpopmax" "zpopmin" "zrandmember" "zrange"
        "zrangebylex" "zrangebyscore" "zrangestore" "zrank" "zrem" "zremrangebylex"
        "zremrangebyrank" "zremrangebyscore" "zrevrange" "zrevrangebylex" "zrevrangebyscore"
        "zrevrank" "zscan" "zscore" "zunion" "zunionstore";
    STREAMS: "xack" "xadd" "xautoclaim" "xclaim" "xdel" "xgroup" "xinfo" "xlen" "xpending" "xrange"
        "xread" "xreadgroup" "xrevrange" "xsetid" "xtrim";
    BITS: "bitcount" "bitfield" "bitfield_ro" "bitop" "bitpos" "getbit" "setbit";
    SKETCHES: "pfadd" "pfcount" "pfdebug" "pfmerge" "pfselftest";
    GEO: "geoadd" "geodist" "geohash" "geopos" "georadius" "georadius_ro" "georadiusbymember"
        "georadiusbymember_ro" "geosearch" "geosearchstore";
    SCRIPTS: "eval" "eval_ro" "evalsha" "evalsha_ro" "fcall" "fcall_ro" "function" "script";
    PUBSUB: "psubscribe" "publish" "pubsub" "punsubscribe" "spublish" "ssubscribe" "subscribe"
        "sunsubscribe" "unsubscribe";
    WATCHING: "watch";
    ONE_DATABASE: "move" "swapdb";
    LEADERLESS: "failover" "psync" "replconf" "replicaof" "slaveof" "sync";
    SERIALIZED: "dump" "migrate" "restore" "restore-asking";
    PERSISTENCE: "bgrewriteaof" "bgsave" "save" "waitaof";
    OPERATING: "shutdown" "debug";
    OBSERVING: "lolwut";
    WATCHING_ALL: "monitor";
    USERS: "acl";
    MODULES: "module";
    SORTING: "sort" "sort_ro" "lcs";
}

//! The bits of a command's flags and categories, and their names in COMMAND's replies.

/// Flags of a command, as COMMAND shows them.
pub mod flag {
    /// Changes keys.
    pub const WRITE: u32 = 1;
    /// Only reads keys.
    pub const READONLY: u32 = 1 << 1;
    /// Refused when storage is at its limit.
    pub const DENYOOM: u32 = 1 << 2;
    /// For operators.
    pub const ADMIN: u32 = 1 << 3;
    /// Not from scripts.
    pub const NOSCRIPT: u32 = 1 << 4;
    /// Served while the node has no layout yet.
    pub const LOADING: u32 = 1 << 5;
    /// Served on stale data.
    pub const STALE: u32 = 1 << 6;
    /// Not in the slow log.
    pub const SKIP_SLOWLOG: u32 = 1 << 7;
    /// Constant or logarithmic time.
    pub const FAST: u32 = 1 << 8;
    /// Served before AUTH.
    pub const NO_AUTH: u32 = 1 << 9;
    /// Served while busy.
    pub const ALLOW_BUSY: u32 = 1 << 10;

    /// The names, in the order of the bits.
    pub(in crate::resp::table) const NAMES: [&str; 11] = [
        "write",
        "readonly",
        "denyoom",
        "admin",
        "noscript",
        "loading",
        "stale",
        "skip_slowlog",
        "fast",
        "no_auth",
        "allow_busy",
    ];
}

/// Categories of a command, named as in Redis's access control lists.
pub mod cat {
    /// About keys, whatever their type.
    pub const KEYSPACE: u32 = 1;
    /// Reads.
    pub const READ: u32 = 1 << 1;
    /// Writes.
    pub const WRITE: u32 = 1 << 2;
    /// About strings.
    pub const STRING: u32 = 1 << 3;
    /// For operators.
    pub const ADMIN: u32 = 1 << 4;
    /// Fast.
    pub const FAST: u32 = 1 << 5;
    /// Not fast.
    pub const SLOW: u32 = 1 << 6;
    /// To be kept from applications.
    pub const DANGEROUS: u32 = 1 << 7;
    /// About the connection.
    pub const CONNECTION: u32 = 1 << 8;
    /// MULTI and its kin.
    pub const TRANSACTION: u32 = 1 << 9;

    /// The names, in the order of the bits.
    pub(in crate::resp::table) const NAMES: [&str; 10] = [
        "@keyspace",
        "@read",
        "@write",
        "@string",
        "@admin",
        "@fast",
        "@slow",
        "@dangerous",
        "@connection",
        "@transaction",
    ];
}

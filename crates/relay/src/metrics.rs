//! The names of all metrics. None carries a name, an id or an address: counts and sizes only.

/// Sessions that are open, authenticated or not.
pub const SESSIONS: &str = "kith_sessions";
/// Links to neighbours that are up.
pub const LINKS: &str = "kith_links";
/// Frames taken from members.
pub const FRAMES_IN: &str = "kith_member_frames_in_total";
/// Messages queued for members, entries for many counted once each.
pub const MESSAGES_OUT: &str = "kith_member_messages_out_total";
/// Times that a session's queue was full and it fell back to reading from the store.
pub const LAGGED: &str = "kith_sessions_lagged_total";
/// Transactions.
pub const COMMITS: &str = "kith_commits_total";
/// Log entries that became durable.
pub const ENTRIES: &str = "kith_entries_total";
/// Transactions that had to wait because the disk is full.
pub const DISK_FULL: &str = "kith_disk_full_total";
/// Connections turned away because too many are open.
pub const TURNED_AWAY: &str = "kith_connections_turned_away_total";

/// Describes each for whoever reads `/metrics`.
pub fn describe() {
    use metrics::{describe_counter as counter, describe_gauge as gauge};
    gauge!(SESSIONS, "Members' sessions that are open.");
    gauge!(LINKS, "Links to neighbours that are up.");
    counter!(FRAMES_IN, "Frames taken from members.");
    counter!(MESSAGES_OUT, "Messages queued for members.");
    counter!(LAGGED, "Times a session's queue was full.");
    counter!(COMMITS, "Transactions.");
    counter!(ENTRIES, "Log entries that became durable.");
    counter!(DISK_FULL, "Transactions that waited for disk space.");
    counter!(TURNED_AWAY, "Connections turned away because too many are open.");
}

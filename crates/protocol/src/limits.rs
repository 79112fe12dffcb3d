//! Every bound of the protocol and of the servers, with its unit in its name. Reaching one gives a typed answer.

/// Largest WebSocket message of a member's session, either way, bytes.
pub const MEMBER_FRAME_BYTES_MAX: usize = 256 * 1024;
/// Largest message before a session is authenticated, bytes.
pub const UNAUTHENTICATED_FRAME_BYTES_MAX: usize = 1024;
/// Largest WebSocket message of a link between co-ops, bytes.
pub const LINK_FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Largest body of an entry, bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Largest ratchet tree that is served or taken, bytes. With everything else that a joiner needs, each at its limit, it
/// fits into a member's frame.
pub const TREE_BYTES_MAX: usize = 104 * 1024;
/// Largest body of a succession, bytes: one with the votes of all voters, each with the longest names, fits.
pub const SUCCESSION_BYTES_MAX: usize = 18 * 1024;
/// Largest proof that a co-op broke its word, bytes.
pub const PROOF_BYTES_MAX: usize = 4 * 1024;
/// How long a hub whose vote alone counts waits after a start for its mirrors' word that they have nothing newer, milliseconds.
pub const SETTLE_MS: u64 = 3_000;
/// How long a hub whose vote alone counts, and which was put back from a backup, waits for its mirrors, milliseconds.
pub const RESTORED_WAIT_MS: u64 = 600_000;
/// How long a holder waits before it compares what has grown with the other holders, milliseconds.
pub const COMPARE_EVERY_MS: u64 = 5_000;
/// Largest creation of a room, bytes.
pub const CREATION_BYTES_MAX: usize = 8 * 1024;
/// Most nodes of a ratchet tree that is served or taken, blank ones included.
pub const TREE_NODES_MAX: usize = 4_096;
/// Largest signed GroupInfo without its tree, bytes.
pub const GROUP_INFO_BYTES_MAX: usize = 8 * 1024;
/// Largest value that is handed to the database, bytes. Everything that comes from outside is bounded far below; this is
/// the last look before it, for a library or a column that counts in 32 bits.
pub const STORED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest opened content, bytes, after unpacking.
pub const CONTENT_BYTES_MAX: usize = 32 * 1024;
/// Longest text of a message, characters.
pub const TEXT_CHARS_MAX: usize = 4_000;
/// Longest note of a check-in, characters.
pub const NOTE_CHARS_MAX: usize = 500;
/// Most feeling words in a check-in.
pub const WORDS_MAX: usize = 5;
/// Longest feeling word, characters.
pub const WORD_CHARS_MAX: usize = 40;
/// Longest display name or room name, characters.
pub const NAME_CHARS_MAX: usize = 64;
/// Longest name of a co-op (a DNS name), bytes.
pub const COOP_NAME_BYTES_MAX: usize = 253;
/// Most entries in one batch on a session or a link.
pub const BATCH_ENTRIES_MAX: usize = 512;
/// Most bytes of bodies in one batch.
pub const BATCH_BYTES_MAX: usize = 128 * 1024;
/// Most headers in one page.
pub const HEADERS_PAGE_MAX: usize = 512;
/// Most senders (pseudonyms that ever wrote) in a room.
pub const SENDERS_MAX: usize = 4_000;
/// Most members of a room who have left and whose leaves still stand.
pub const LEAVES_MAX: usize = 128;
/// Most devices of an account.
pub const DEVICES_MAX: usize = 16;
/// Most open invites in a room.
pub const ROOM_INVITES_MAX: usize = 32;
/// Most roles granted in a room.
pub const ROLE_GRANTS_MAX: usize = 64;
/// Most terms of a room: how often its hub can change.
pub const TERMS_MAX: usize = 1_000;
/// How far beyond the newest term that a voter has a part in a call for votes may go.
pub const TERM_STEPS_MAX: u32 = 100;
/// Messages without a place in one frame to a member.
pub const PROVISIONALS_MAX: usize = 64;
/// Most voters of a room.
pub const VOTERS_MAX: usize = 15;
/// Most times that one invite can be used.
pub const INVITE_USES_MAX: u32 = 1_000;
/// How long a room invite stays open unless told, seconds of header time.
pub const INVITE_LIFETIME_S: u64 = 14 * 24 * 3600;
/// Most marks of co-ops in one attestation.
pub const MARKS_MAX: usize = 64;
/// Past epochs whose application messages the hub still orders and a client still opens.
pub const PAST_EPOCHS_MAX: u64 = 5;
/// Deepest Merkle tree (the log holds fewer than 2^48 entries), levels.
pub const TREE_LEVELS_MAX: usize = 48;
/// Longest detail of a refusal, bytes.
pub const DETAIL_BYTES_MAX: usize = 300;
/// Longest signed note that is parsed, bytes.
pub const NOTE_BYTES_MAX: usize = 16 * 1024;
/// How long a leaf's certificate is valid, seconds; its end is rounded up to a day so that it tells little.
pub const LEAF_CERTIFICATE_LIFETIME_S: u64 = 400 * 24 * 3600;
/// How long a link key's certificate is valid, seconds. It is made anew for each link, so this is only how far two clocks
/// may differ, and how long a stolen link key is good for after it was replaced.
pub const LINK_KEY_LIFETIME_S: u64 = 7 * 24 * 3600;
/// Longest time in which an old root key leads to a new one, seconds.
pub const ROOT_OVERLAP_S_MAX: u64 = 90 * 24 * 3600;
/// How long it does unless told, seconds.
pub const ROOT_OVERLAP_S: u64 = 30 * 24 * 3600;
/// Root keys that a co-op can have had before its present one.
pub const ROOT_SUCCESSIONS_MAX: usize = 16;
/// Longest text in an agreement or a notice, bytes.
pub const AGREEMENT_LINE_BYTES_MAX: usize = 500;
/// Rooms that an agreement can list.
pub const AGREEMENT_ROOMS_LISTED_MAX: usize = 100;
/// Proposals that two neighbours can make to each other.
pub const AGREEMENT_REVISION_MAX: u32 = 1_000_000;
/// Longest retention or notice in an agreement, days.
pub const AGREEMENT_DAYS_MAX: u32 = 36_500;
/// Entries that a neighbour may hand in, in a day, unless the agreement says otherwise.
pub const AGREEMENT_ENTRIES_PER_DAY: u32 = 1_000_000;
/// Most that an agreement can say.
pub const AGREEMENT_ENTRIES_PER_DAY_MAX: u32 = 1_000_000_000;
/// Bytes of entries that a neighbour may hand in, in a day, unless the agreement says otherwise.
pub const AGREEMENT_BYTES_PER_DAY: u64 = 4 << 30;
/// Most that an agreement can say, bytes.
pub const AGREEMENT_BYTES_PER_DAY_MAX: u64 = (1 << 48) - 1;
/// Rooms that a neighbour may follow, unless the agreement says otherwise.
pub const AGREEMENT_ROOMS: u32 = 10_000;
/// Agreements and notices that a neighbour may send on one link.
pub const AGREEMENT_FRAMES_MAX: u32 = 64;

/// A session must have authenticated within this time, milliseconds.
pub const AUTHENTICATION_MS_MAX: u64 = 10_000;
/// HTTP request head, milliseconds.
pub const REQUEST_HEAD_MS_MAX: u64 = 10_000;
/// TLS handshake, milliseconds.
pub const TLS_HANDSHAKE_MS_MAX: u64 = 10_000;
/// A message, once begun, must be complete within this time, milliseconds: a floor under the byte rate beneath the
/// WebSocket's own framing.
pub const MESSAGE_MS_MAX: u64 = 30_000;
/// Silence on a member's connection after which the operating system asks whether the other end is there, seconds. It asks
/// again every tenth of that, and closes what does not answer.
pub const MEMBER_KEEPALIVE_S: u64 = 600;
/// A member's device sends a ping when something that it asked has had no answer, not a byte, for so long, milliseconds.
pub const PING_AFTER_MS: u64 = 10_000;
/// And when it has heard nothing for so long, milliseconds: at first, and after a connection was lost.
pub const PING_FIRST_MS: u64 = 60_000;
/// The same at the most: each answered ping makes the next silence longer.
pub const PING_MS_MAX: u64 = 900_000;
/// A connection on which not a byte came for so long after a ping is lost, milliseconds. So is one that takes nothing.
pub const PONG_MS_MAX: u64 = 20_000;
/// Connections to the members' side that are open at once.
pub const CONNECTIONS_MAX: usize = 12_000;
/// Connections that have not authenticated yet, at once.
pub const UNAUTHENTICATED_MAX: usize = 2_000;
/// Connections on the link port that have not shown a neighbour's key yet, at once.
pub const LINK_STRANGERS_MAX: usize = 32;
/// Outgoing messages queued for one session before it is marked lagging.
pub const SESSION_QUEUE_MESSAGES_MAX: usize = 256;
/// Outgoing messages queued for one link: each room that two co-ops share may have one of each kind.
pub const LINK_QUEUE_MESSAGES_MAX: usize = 300_000;
/// Bytes of outgoing messages queued for one link. What is under way of all rooms fits, each batch as large as it may be.
pub const LINK_QUEUE_BYTES_MAX: usize = 80 * 1024 * 1024;
/// Messages of one link that were read and have not been looked at.
pub const LINK_READ_AHEAD_MESSAGES_MAX: usize = 256;
/// Rooms of which batches are under way to one mirror at once.
pub const LINK_ROOMS_IN_FLIGHT_MAX: usize = 16;
/// Payload of one WebSocket frame to a member, bytes; longer messages go in fragments (RFC 6455 section 5.4). A connection
/// keeps a buffer of this order for as long as it lives.
pub const FRAGMENT_BYTES_MAX: usize = 2 * 1024;
/// Bytes of small messages to one member that are gathered into one write.
pub const GATHER_BYTES_MAX: usize = 16 * 1024;
/// Bytes of one WebSocket's write buffer before it is flushed.
pub const WRITE_BUFFER_BYTES_MAX: usize = 512 * 1024;
/// Frames that a session may send per second, sustained.
pub const SESSION_FRAMES_PER_SECOND: u32 = 200;
/// Frames that a session may send in one burst.
pub const SESSION_FRAMES_BURST: u32 = 400;
/// WebSocket pings and pongs that a connection may send in one burst.
pub const CONTROL_FRAMES_BURST: u32 = 64;
/// Thousandths of one that come back each second.
pub const CONTROL_FRAMES_PER_SECOND_MILLI: u64 = 1_000;
/// Work that a neighbour may cause per second, sustained: a message that it hands in is 1, a commit or a leave
/// [`LINK_COMMIT_WORK`], a request for a group [`LINK_FETCH_WORK`], asking anew for a room [`LINK_FOLLOW_WORK`].
pub const LINK_WORK_PER_SECOND: u32 = 5_000;
/// Work that a neighbour may cause in one burst.
pub const LINK_WORK_BURST: u32 = 10_000;
/// A commit is verified and its tree rebuilt before it can be refused.
pub const LINK_COMMIT_WORK: u32 = 50;
/// An answer of up to [`TREE_BYTES_MAX`].
pub const LINK_FETCH_WORK: u32 = 50;
/// A read of the log from there on.
pub const LINK_FOLLOW_WORK: u32 = 50;
/// Commits that one member may have tried in one room in one burst.
pub const MEMBER_COMMITS_BURST: u32 = 20;
/// Seconds until one of them comes back.
pub const MEMBER_COMMITS_EVERY_S: u64 = 5;
/// Watches that one session may have open.
pub const SESSION_WATCHES_MAX: usize = 64;
/// Entries of members waiting here for their hub, per room.
pub const PENDING_PER_ROOM_MAX: usize = 10_000;
/// Entries handed to a hub and not yet answered, per link.
pub const SUBMITS_IN_FLIGHT_MAX: usize = 128;
/// Batches sent to a mirror and not yet attested, per room.
pub const BATCHES_IN_FLIGHT_MAX: usize = 4;
/// Requests of sessions waiting for a neighbour's answer, per link.
pub const LINK_REQUESTS_MAX: usize = 256;
/// Inputs waiting for the co-op's machine.
pub const INPUTS_QUEUED_MAX: usize = 4_096;
/// Inputs that the co-op's machine takes before it commits.
pub const INPUTS_PER_ROUND_MAX: usize = 512;
/// Things that wait for a commit before no further input is taken.
pub const BACKLOG_MAX: usize = 16_384;
/// Neighbours of a co-op.
pub const NEIGHBOURS_MAX: usize = 256;
/// Rooms of a co-op.
pub const ROOMS_MAX: usize = 100_000;
/// First retry of a lost link comes within this time, milliseconds.
pub const LINK_RETRY_FIRST_MS: u64 = 200;
/// No retry of a lost link waits longer, milliseconds.
pub const LINK_RETRY_MS_MAX: u64 = 1_500;
/// How often a neighbour is dialled with which the agreement is suspended or ended, milliseconds.
pub const LINK_STOPPED_RETRY_MS: u64 = 15_000;
/// A room's hub must have been out of reach for this time before a voter asks for another, milliseconds.
pub const HUB_SILENCE_MS: u64 = 20_000;
/// A candidate waits this long for votes before it tries again in a newer term, milliseconds.
pub const CANDIDACY_MS: u64 = 4_000;
/// Silence on a link after which a ping is sent, milliseconds.
pub const LINK_PING_MS: u64 = 5_000;
/// Silence on a link after which it is closed, milliseconds.
pub const LINK_DEAD_MS: u64 = 15_000;
/// A drain ends after this time whatever is left, milliseconds.
pub const DRAIN_MS_MAX: u64 = 5_000;
/// A neighbour's answer to a member's request, milliseconds.
pub const LINK_REQUEST_MS_MAX: u64 = 10_000;
/// Attempts of a client to join a room whose epoch keeps moving.
pub const JOIN_ATTEMPTS_MAX: u32 = 16;
/// Entries in a client's outbox.
pub const OUTBOX_MAX: usize = 1_000;
/// Rooms that one account may be in or be joining.
pub const ROOMS_PER_ACCOUNT_MAX: usize = 1_000;
/// Frames of messages without a place to one session at once; older ones come with the log.
pub const PROVISIONAL_FRAMES_MAX: usize = 4;
/// Checkpoints of a room that can still be marked. A mirror that is further behind marks a later one.
pub const CHECKPOINTS_MAX: usize = 64;
/// Longest request on the steward's socket, bytes.
pub const STEWARD_REQUEST_BYTES_MAX: usize = 256 * 1024;
/// Longest answer on the steward's socket, bytes: the status of as many rooms as a co-op can have.
pub const STEWARD_ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes on the wire of one message of a session. Headers of fragments are a small part of what they carry; more is nothing
/// but headers.
pub const MEMBER_RAW_BYTES_MAX: u64 = MEMBER_FRAME_BYTES_MAX as u64 * 2;
/// A client's items that got their place, remembered for whoever asks.
pub const DONE_MAX: usize = 64;
/// Messages without a place that a client keeps in a room; the oldest go first.
pub const LOOSE_MAX: usize = 1_000;
/// Roots of recent sizes that a client's session remembers in a room.
pub const ROOTS_MAX: usize = 4_096;
/// Entries of one room that a client may have on their way at once.
pub const IN_FLIGHT_MAX: usize = 32;
/// Times that a client makes an entry anew because the hub wants it otherwise.
pub const TRIES_MAX: u32 = 20;
/// How far ahead a message of one sender may be, generations of its ratchet.
pub const FORWARD_MAX: u32 = 10_000;
/// Messages of one sender that may come out of order.
pub const OUT_OF_ORDER_MAX: u32 = 100;
/// Commas in one frame in JSON: the largest lists that a frame may have, with all fields of their items, stay far below.
pub const JSON_COMMAS_MAX: usize = 16 * 1024;
/// Largest head of an HTTP request, bytes.
pub const REQUEST_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Most header fields of an HTTP request.
pub const REQUEST_HEADERS_MAX: usize = 64;
/// No retry of a client's lost connection waits longer, milliseconds.
pub const RECONNECT_MS_MAX: u64 = 3_000;
/// Newest lines of a room whose state a terminal that stays looks at again.
pub const FOLLOWED_LINES_MAX: u64 = 1_000;
/// Bytes of one statement's blob at which another statement begins: far below SQLite's limit of 10^9.
pub const STATEMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Seconds of a day of header time.
pub const DAY_S: u64 = 86_400;
/// A member that said something within so many days of header time counts as active.
pub const ACTIVE_DAYS: u32 = 14;
/// Fewer active members than this judge no commit; then all members do.
pub const JURY_MIN: usize = 3;
/// A commit may be complained of within this time of header time, seconds.
pub const CONTESTABLE_S: u64 = 7 * 86_400;
/// Commits of a room that may be complained of; beyond it the oldest stands.
pub const CONTESTS_MAX: usize = 1_024;

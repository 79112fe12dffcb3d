//! Raw bytes from clients that do not mean well, in virtual time.

use std::sync::Arc;

use kith_protocol::codec::{decode_to_member, encode_to_server};
use kith_protocol::error::Code;
use kith_protocol::ids::{Coop as CoopId, PublicKey, UnixSeconds};
use kith_protocol::limits::AUTHENTICATION_MS_MAX;
use kith_protocol::member::{ToMember, ToServer, auth_statement, membership_statement};
use kith_protocol::sign::SecretKey;
use kith_storage::memory::Memory;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

use super::*;
use crate::coop::driver::Driver;
use crate::coop::steward::Request;
use crate::coop::{Boot, Coop, Secrets};

/// What lies between client and server unread, bytes.
const PIPE: usize = 256;
/// Beyond every deadline.
const TOO_LONG: Duration = Duration::from_secs(60);

/// A co-op that runs for as long as the test does.
pub(crate) fn coop() -> Handle {
    let root = SecretKey::from_seed([1; 32]);
    let id = CoopId { name: "alder.test".parse().unwrap(), key: root.public() };
    let secrets = Secrets::new(root, PublicKey([2; 32]));
    let (driver, handle) = Driver::new(Coop::new(id, secrets, Boot::default(), UnixSeconds(0)), Arc::new(Memory::new()));
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(async move {
        let _running = stop;
        driver.run(stopping).await
    });
    handle
}

struct Client {
    pipe: DuplexStream,
    opened: Instant,
}

/// A WebSocket frame (RFC 6455 section 5.2) of a client, masked with zeros, that declares `len`.
fn header(first: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match len {
        0..=125 => bytes.push(0x80 | len as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&len.to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

const BINARY: u8 = 0x82;
const BINARY_BEGUN: u8 = 0x02;
const CONTINUED: u8 = 0x00;
const PING: u8 = 0x89;

impl Client {
    fn connect(coop: &Handle) -> Self {
        let (pipe, theirs) = tokio::io::duplex(PIPE);
        tokio::spawn(serve(theirs, Encoding::Binary, coop.clone()));
        Self { pipe, opened: Instant::now() }
    }

    /// The next message; `None` once the connection has ended.
    async fn next(&mut self) -> Option<ToMember> {
        let mut head = [0; 2];
        self.pipe.read_exact(&mut head).await.ok()?;
        let len = match head[1] {
            126 => usize::from(self.pipe.read_u16().await.ok()?),
            len => usize::from(len),
        };
        let mut body = vec![0; len];
        self.pipe.read_exact(&mut body).await.ok()?;
        (head[0] == BINARY).then(|| decode_to_member(body.into(), Encoding::Binary).unwrap())
    }

    async fn challenge(&mut self) -> [u8; 32] {
        let Some(ToMember::Challenge { nonce }) = self.next().await else { panic!("no challenge") };
        nonce
    }

    async fn send(&mut self, frame: &ToServer) {
        let bytes = encode_to_server(frame, Encoding::Binary);
        self.pipe.write_all(&header(BINARY, bytes.len() as u64)).await.unwrap();
        self.pipe.write_all(&bytes).await.unwrap();
    }

    /// Writes the same bytes until the other end no longer takes them. How many it took.
    async fn write_until_closed(&mut self, bytes: &[u8]) -> u64 {
        let mut written = 0;
        while self.pipe.write_all(bytes).await.is_ok() {
            written += bytes.len() as u64;
            assert!(written < 64 << 20, "nothing stops it");
        }
        written
    }

    /// The refusal that comes before the end.
    async fn refusal(&mut self) -> Option<Code> {
        let mut last = None;
        while let Some(frame) = self.next().await {
            if let ToMember::Refused(refused) = frame {
                last = Some(refused.code);
            }
        }
        last
    }
}

/// A session of a member.
async fn member(coop: &Handle, seed: u8) -> Client {
    let (invite, device) = (SecretKey::from_seed([seed; 32]), SecretKey::from_seed([seed ^ 0x80; 32]));
    coop.steward(Request::Invite { key: invite.public(), uses: 1 }).await.unwrap();
    let mut client = Client::connect(coop);
    let nonce = client.challenge().await;
    let name = "alder.test".parse().unwrap();
    client
        .send(&ToServer::Register {
            invite: invite.public(),
            invite_signature: invite.sign(&membership_statement(&name, &nonce, &device.public())),
            device: device.public(),
            device_signature: device.sign(&auth_statement(&name, &nonce, &device.public())),
        })
        .await;
    while client.next().await.expect("it is let in") != ToMember::Synced {}
    client
}

#[tokio::test(start_paused = true)]
async fn fault_24_a_stranger_has_a_deadline() {
    let coop = coop();
    // One says nothing, one a little at a time, one only pings.
    let (mut silent, mut slow, mut pings) = (Client::connect(&coop), Client::connect(&coop), Client::connect(&coop));
    let drip = tokio::spawn(async move {
        slow.challenge().await;
        slow.pipe.write_all(&header(BINARY, 200)).await.unwrap();
        while slow.pipe.write_all(&[0]).await.is_ok() {
            assert!(slow.opened.elapsed() < TOO_LONG);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        slow.opened.elapsed()
    });
    let ping = tokio::spawn(async move {
        pings.challenge().await;
        while pings.pipe.write_all(&header(PING, 0)).await.is_ok() {
            assert!(pings.opened.elapsed() < TOO_LONG);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        pings.opened.elapsed()
    });
    silent.challenge().await;
    let refused = tokio::time::timeout(TOO_LONG, silent.refusal()).await.expect("it is closed");
    assert_eq!(refused, Some(Code::NotAuthenticated));
    let deadline = Duration::from_millis(AUTHENTICATION_MS_MAX);
    for lasted in [silent.opened.elapsed(), drip.await.unwrap(), ping.await.unwrap()] {
        assert!((deadline..deadline + Duration::from_secs(2)).contains(&lasted), "{lasted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault_24_a_message_that_was_begun_has_a_deadline() {
    let coop = coop();
    let mut client = member(&coop, 10).await;
    let begun = Instant::now();
    client.pipe.write_all(&header(BINARY, 10_000)).await.unwrap();
    while client.pipe.write_all(&[0]).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let lasted = begun.elapsed();
    assert!((MESSAGE_MS_MAX..MESSAGE_MS_MAX + 2_000).contains(&(lasted.as_millis() as u64)), "{lasted:?}");
    // Who is only quiet may stay.
    let mut quiet = member(&coop, 11).await;
    tokio::time::sleep(Duration::from_millis(10 * MESSAGE_MS_MAX)).await;
    quiet.send(&ToServer::Open { room: kith_protocol::ids::RoomNumber(1), from: kith_protocol::ids::Seq(0) }).await;
    assert!(matches!(quiet.next().await, Some(ToMember::Refused(refused)) if refused.code == Code::NoSuchRoom));
}

#[tokio::test(start_paused = true)]
async fn fault_25_a_declared_length_is_refused_before_anything_of_it_comes() {
    let coop = coop();
    for len in [MEMBER_FRAME_BYTES_MAX as u64 + 1, 1 << 40, u64::MAX >> 1] {
        let mut member = member(&coop, 20 + len.leading_zeros() as u8).await;
        let at = Instant::now();
        member.pipe.write_all(&header(BINARY, len)).await.unwrap();
        assert_eq!(member.refusal().await, Some(Code::TooLarge), "told, and closed");
        assert!(at.elapsed() <= FAREWELL);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_25_a_stranger_gets_no_large_message_through() {
    let coop = coop();
    for begin in [Vec::new(), header(PING, 0)] {
        let mut stranger = Client::connect(&coop);
        stranger.challenge().await;
        stranger.pipe.write_all(&begin).await.unwrap();
        stranger.pipe.write_all(&header(BINARY, MEMBER_FRAME_BYTES_MAX as u64)).await.unwrap();
        let at = Instant::now();
        let taken = stranger.write_until_closed(&[0; 64]).await;
        assert!(taken <= (UNAUTHENTICATED_FRAME_BYTES_MAX + PIPE + 1024) as u64, "{taken} bytes");
        assert!(at.elapsed() <= FAREWELL, "{:?}", at.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn fault_25_fragments_without_end_are_cut() {
    let coop = coop();
    let slack = (PIPE + 1024) as u64;
    // Empty ones hold nothing and never end; tiny ones are mostly headers.
    for (seed, len) in [(30, 0), (31, 1)] {
        let mut client = member(&coop, seed).await;
        let fragment = |first| [header(first, len), vec![7; len as usize]].concat();
        client.pipe.write_all(&fragment(BINARY_BEGUN)).await.unwrap();
        let at = Instant::now();
        let taken = client.write_until_closed(&fragment(CONTINUED)).await;
        assert!(taken <= MEMBER_RAW_BYTES_MAX + slack, "{taken} bytes of fragments");
        assert!(at.elapsed() <= FAREWELL, "{:?}", at.elapsed());
    }
    let mut stranger = Client::connect(&coop);
    stranger.challenge().await;
    stranger.pipe.write_all(&header(BINARY_BEGUN, 0)).await.unwrap();
    let taken = stranger.write_until_closed(&header(CONTINUED, 0)).await;
    assert!(taken <= UNAUTHENTICATED_FRAME_BYTES_MAX as u64 + slack, "{taken} bytes of a stranger's fragments");
}

/// RFC 6455 section 5.4: the first fragment has the message's opcode, the others continue it, the last is final.
#[test]
fn a_long_message_goes_in_fragments() {
    for (encoding, opcode) in [(Encoding::Binary, Data::Binary), (Encoding::Json, Data::Text)] {
        for (len, lens) in [
            (0, vec![0]),
            (FRAGMENT_BYTES_MAX, vec![FRAGMENT_BYTES_MAX]),
            (FRAGMENT_BYTES_MAX + 1, vec![FRAGMENT_BYTES_MAX, 1]),
            (3 * FRAGMENT_BYTES_MAX, vec![FRAGMENT_BYTES_MAX; 3]),
        ] {
            let message: Bytes = (0..len).map(|at| at as u8).collect();
            let frames: Vec<Frame> = fragments(message.clone(), encoding)
                .map(|fragment| if let Message::Frame(frame) = fragment { frame } else { panic!("{fragment:?}") })
                .collect();
            let opcodes = frames.iter().map(|frame| frame.header().opcode);
            assert!(opcodes.eq(std::iter::once(OpCode::Data(opcode)).chain(vec![OpCode::Data(Data::Continue); lens.len() - 1])));
            let finals: Vec<bool> = frames.iter().map(|frame| frame.header().is_final).collect();
            assert_eq!((finals.iter().filter(|is| **is).count(), finals.last()), (1, Some(&true)));
            assert_eq!(frames.iter().map(|frame| frame.payload().len()).collect::<Vec<_>>(), lens);
            assert_eq!(frames.iter().flat_map(|frame| frame.payload().to_vec()).collect::<Bytes>(), message);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fault_25_pings_have_a_rate() {
    let coop = coop();
    let mut flood = member(&coop, 40).await;
    let reads = async {
        let (mut reader, mut writer) = tokio::io::split(&mut flood.pipe);
        let drain = async { while reader.read_u8().await.is_ok() {} };
        let write = async {
            let mut pings = 0u32;
            while writer.write_all(&header(PING, 0)).await.is_ok() {
                pings += 1;
                assert!(pings < 100_000, "nothing stops it");
            }
            pings
        };
        tokio::join!(drain, write).1
    };
    let pings = reads.await;
    assert!(pings >= CONTROL_FRAMES_BURST && pings <= CONTROL_FRAMES_BURST + PIPE as u32, "{pings}");
    // A steady beat is what clients keep lines open with.
    let mut steady = member(&coop, 41).await;
    for _ in 0..CONTROL_FRAMES_BURST * 4 {
        steady.pipe.write_all(&header(PING, 0)).await.unwrap();
        let mut pong = [0; 2];
        steady.pipe.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong, [0x8a, 0]);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

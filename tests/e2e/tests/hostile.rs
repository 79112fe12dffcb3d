//! Strangers, forgers and broken clients against the real server: each is refused with a typed error, and the server, its
//! link and its rooms live on.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use kith_e2e::{World, http, texts};
use kith_federation::link::driver::{Incoming, Opened, dial};
use kith_federation::link::tls::LinkIdentity;
use kith_protocol::agreement::LinkCertificate;
use kith_protocol::codec::{Encoding, decode_link, decode_to_member, encode_link, encode_to_server};
use kith_protocol::error::Code;
use kith_protocol::ids::{Coop, DeviceHandle, PublicKey, RoomNumber, Seq, UnixSeconds, from_hex};
use kith_protocol::invite_link::MembershipLink;
use kith_protocol::limits::{
    AUTHENTICATION_MS_MAX, LINK_FRAME_BYTES_MAX, MEMBER_FRAME_BYTES_MAX, REQUEST_HEAD_MS_MAX, UNAUTHENTICATED_MAX,
};
use kith_protocol::link::{LinkFrame, VERSIONS, Versions};
use kith_protocol::member::{ToMember, ToServer, auth_statement, membership_statement};
use kith_protocol::sign::SecretKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

type Socket = WebSocketStream<TcpStream>;

async fn open(port: u16, origin: Option<&'static str>) -> Result<Socket, tungstenite::Error> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut request = format!("ws://127.0.0.1:{port}/kith/v1").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("kith.v1"));
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", HeaderValue::from_static(origin));
    }
    client_async(request, tcp).await.map(|(socket, _)| socket)
}

async fn next(socket: &mut Socket) -> Option<ToMember> {
    loop {
        match socket.next().await? {
            Ok(Message::Binary(bytes)) => return Some(decode_to_member(bytes, Encoding::Binary).unwrap()),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

async fn challenge(socket: &mut Socket) -> [u8; 32] {
    match next(socket).await {
        Some(ToMember::Challenge { nonce }) => nonce,
        other => panic!("not a challenge: {other:?}"),
    }
}

async fn send(socket: &mut Socket, frame: &ToServer) {
    socket.send(Message::Binary(encode_to_server(frame, Encoding::Binary))).await.unwrap();
}

async fn refusal(socket: &mut Socket) -> Code {
    loop {
        match next(socket).await {
            Some(ToMember::Refused(refused)) => return refused.code,
            Some(ToMember::Ready | ToMember::Synced | ToMember::Registered { .. }) => {}
            other => panic!("not refused: {other:?}"),
        }
    }
}

/// A registered device of a co-op, authenticated.
async fn member(world: &World, coop: usize) -> (Socket, SecretKey, DeviceHandle) {
    let link = MembershipLink::parse(&world.coops[coop].kithd(&["invite"])).unwrap();
    let device = SecretKey::from_seed([42; 32]);
    let mut socket = open(world.coops[coop].port, None).await.unwrap();
    let nonce = challenge(&mut socket).await;
    let name = &link.coop.name;
    let frame = ToServer::Register {
        invite: link.invite.public(),
        invite_signature: link.invite.sign(&membership_statement(name, &nonce, &device.public())),
        device: device.public(),
        device_signature: device.sign(&auth_statement(name, &nonce, &device.public())),
    };
    send(&mut socket, &frame).await;
    let Some(ToMember::Registered { device: handle, .. }) = next(&mut socket).await else { panic!("not registered") };
    (socket, device, handle)
}

#[tokio::test]
async fn fault_27_a_page_of_somebody_elses_opens_no_session() {
    let world = World::strangers();
    let Err(tungstenite::Error::Http(answer)) = open(world.coops[0].port, Some("https://evil.example")).await else {
        panic!("not refused")
    };
    assert_eq!(answer.status().as_u16(), 403);
    challenge(&mut open(world.coops[0].port, None).await.unwrap()).await;
}

/// Reads until the other end closes.
async fn closed(mut stream: TcpStream) -> Duration {
    let begun = Instant::now();
    let mut bytes = [0; 1024];
    while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
    begun.elapsed()
}

/// All at once, for each has the same ten seconds: a head that never ends, no head at all, nothing on the link, and a
/// session that never authenticates.
#[tokio::test]
async fn fault_24_whoever_dawdles_is_closed() {
    let world = World::strangers();
    let (port, link_port) = (world.coops[0].port, world.coops[0].link_port);
    let connect = async |port: u16| TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut slow = connect(port).await;
    slow.write_all(b"GET /kith/v1 HTTP/1.1\r\nHost: kith\r\nX-Slow: ").await.unwrap();
    let session = open(port, None).await.unwrap().into_inner();
    let (silent, link) = (connect(port).await, connect(link_port).await);
    let waits = async { tokio::join!(closed(slow), closed(silent), closed(link), closed(session)) };
    let (slow, silent, link, session) = tokio::time::timeout(Duration::from_secs(20), waits).await.expect("all are closed");
    for (what, lasted) in [("head", slow), ("silence", silent), ("link", link), ("session", session)] {
        assert!(lasted < Duration::from_millis(REQUEST_HEAD_MS_MAX.max(AUTHENTICATION_MS_MAX) + 3_000), "{what}: {lasted:?}");
    }
    // Too many headers are refused at once.
    let mut many = connect(port).await;
    many.write_all(format!("GET / HTTP/1.1\r\nHost: kith\r\n{}\r\n", "X-Many: 1\r\n".repeat(100)).as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    many.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
}

/// Opens a session, waits for its challenge, and is gone without a word.
async fn come_and_go(port: u16) {
    let socket = TcpSocket::new_v4().unwrap();
    // Reset, not closed: no port waits for two minutes.
    socket.set_zero_linger().unwrap();
    let mut tcp = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
    let head = "GET /kith/v1 HTTP/1.1\r\nHost: kith\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: kith.v1\r\n\r\n";
    tcp.write_all(head.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    // The head of the answer and the first frame behind it.
    while heard.windows(4).position(|end| end == b"\r\n\r\n").is_none_or(|at| heard.len() < at + 4 + 34) {
        assert!(tcp.read_buf(&mut heard).await.unwrap() > 0, "no challenge: {}", String::from_utf8_lossy(&heard));
    }
}

async fn strangers(port: u16, count: usize, until: Instant) -> usize {
    let workers = (0..32).map(|_| {
        tokio::spawn(async move {
            let mut done = 0;
            while done < count / 32 && Instant::now() < until {
                come_and_go(port).await;
                done += 1;
            }
            done
        })
    });
    let mut done = 0;
    for worker in workers.collect::<Vec<_>>() {
        done += worker.await.unwrap();
    }
    done
}

/// The time is there so that a machine which is too slow says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_15_strangers_leave_no_memory_behind() {
    let world = World::strangers();
    let (port, coop) = (world.coops[0].port, &world.coops[0]);
    let forever = Instant::now() + Duration::from_secs(3_600);
    // Buffers and pools have their size once so many were there at once.
    strangers(port, 4_000, forever).await;
    let before = coop.resident_bytes();
    let done = strangers(port, 100_000, Instant::now() + Duration::from_secs(300)).await;
    let grown = coop.resident_bytes().saturating_sub(before);
    println!("{done} strangers, {before} bytes before, {grown} more after");
    assert_eq!(done, 100_000, "so many came in the time");
    // What an allocator keeps for itself, and next to nothing a stranger.
    let bound = (2 << 20) + 40 * done as u64;
    assert!(grown < bound, "{grown} bytes for {done} strangers");
    let sessions = || http(port, "/metrics").unwrap().lines().find(|line| line.starts_with("kith_sessions")).map(str::to_owned);
    let deadline = Instant::now() + Duration::from_secs(15);
    while sessions().as_deref() != Some("kith_sessions 0") {
        assert!(Instant::now() < deadline, "somebody is left: {:?}", sessions());
    }
}

/// Places of those who have not authenticated are bounded, and free again.
#[tokio::test]
async fn fault_15_strangers_at_once_are_bounded() {
    let world = World::strangers();
    let port = world.coops[0].port;
    let mut held = Vec::new();
    for _ in 0..UNAUTHENTICATED_MAX {
        let mut socket = open(port, None).await.unwrap();
        challenge(&mut socket).await;
        held.push(socket);
    }
    assert_eq!(refusal(&mut open(port, None).await.unwrap()).await, Code::Busy);
    held.truncate(UNAUTHENTICATED_MAX - 10);
    let deadline = Instant::now() + Duration::from_secs(10);
    while matches!(next(&mut open(port, None).await.unwrap()).await, Some(ToMember::Refused(_))) {
        assert!(Instant::now() < deadline, "their places are not free");
    }
}

#[tokio::test]
async fn fault_10_17_and_25_broken_clients_are_refused_and_the_session_lives() {
    let world = World::two_coops();
    let room = world.shared_room();
    let port = world.coops[0].port;

    // Malformed before authentication: told, and closed.
    let mut socket = open(port, None).await.unwrap();
    challenge(&mut socket).await;
    socket.send(Message::Binary(Bytes::from_static(b"\xff\xff\xff"))).await.unwrap();
    assert_eq!(refusal(&mut socket).await, Code::Malformed);
    assert_eq!(next(&mut socket).await, None);

    // Anything but authentication first.
    let mut socket = open(port, None).await.unwrap();
    challenge(&mut socket).await;
    send(&mut socket, &ToServer::Open { room: RoomNumber(1), from: Seq(0) }).await;
    assert_eq!(refusal(&mut socket).await, Code::NotAuthenticated);

    // Malformed after it: told, and the session lives. Fault 10: a room that one is not in does not exist.
    let (mut socket, device, handle) = member(&world, 0).await;
    socket.send(Message::Binary(Bytes::from_static(b"\xff\xff\xff"))).await.unwrap();
    assert_eq!(refusal(&mut socket).await, Code::Malformed);
    for frame in [
        ToServer::FetchHeaders { request: 1, room: RoomNumber(1), from: Seq(0) },
        ToServer::Open { room: RoomNumber(1), from: Seq(0) },
        ToServer::Watch { request: 2, room: RoomNumber(1), size: 0, held: 0 },
        ToServer::Cursor { room: RoomNumber(1), next: Seq(1) },
        ToServer::FetchHeaders { request: 3, room: RoomNumber(999), from: Seq(0) },
    ] {
        send(&mut socket, &frame).await;
        assert_eq!(refusal(&mut socket).await, Code::NoSuchRoom, "{frame:?}");
    }

    // Fault 17: an answer to another connection's challenge.
    let mut first = open(port, None).await.unwrap();
    let nonce = challenge(&mut first).await;
    let name = "alder.test".parse().unwrap();
    let answer = ToServer::Authenticate { device: handle, signature: device.sign(&auth_statement(&name, &nonce, &device.public())) };
    let mut second = open(port, None).await.unwrap();
    challenge(&mut second).await;
    send(&mut second, &answer).await;
    assert_eq!(refusal(&mut second).await, Code::BadAuthentication);
    assert_eq!(next(&mut second).await, None);
    send(&mut first, &answer).await;
    assert_eq!(next(&mut first).await, Some(ToMember::Ready));

    // Fault 25: a frame beyond its bound ends its connection only.
    let huge = vec![0; MEMBER_FRAME_BYTES_MAX + 1];
    let _ = first.send(Message::Binary(huge.into())).await;
    assert_eq!(refusal(&mut first).await, Code::TooLarge);
    assert_eq!(next(&mut first).await, None);

    world.kith("H1", &["say", &room, "still here", "--wait", "held"]);
    assert!(http(port, "/metrics").is_some_and(|text| text.contains("kith_sessions") && !text.contains("alder")));
}

/// Says a Hello as somebody, and gives what comes back until the link closes.
async fn greet(port: u16, root: &SecretKey, name: &str, link_seed: u8, versions: Versions) -> Vec<LinkFrame> {
    let identity = LinkIdentity::from_seed(&[link_seed; 32]).unwrap();
    let coop = Coop { name: name.parse().unwrap(), key: root.public() };
    let link_key = PublicKey(identity.public_key());
    let certificate = LinkCertificate::issue(root, &coop, &link_key, UnixSeconds(1 << 40));
    let Opened { outgoing, mut incoming, .. } = dial(&format!("127.0.0.1:{port}"), &identity).await.unwrap();
    assert!(outgoing.push(encode_link(&LinkFrame::Hello { versions, coop, certificate, successions: Vec::new(), incarnation: 0 })));
    let mut heard = Vec::new();
    while let Some(Incoming::Frame(bytes)) = incoming.recv().await {
        heard.push(decode_link(bytes).unwrap());
    }
    heard
}

#[tokio::test]
async fn fault_12_and_32_strangers_on_the_link_are_refused_and_the_link_lives() {
    let world = World::two_coops();
    let room = world.shared_room();
    let port = world.coops[0].link_port;
    let stranger = SecretKey::from_seed([66; 32]);
    for (name, code) in [("cedar.test", Code::NoAgreement), ("birch.test", Code::UnknownNeighbour)] {
        let heard = greet(port, &stranger, name, 67, VERSIONS).await;
        assert!(matches!(heard.first(), Some(LinkFrame::Hello { .. })), "{heard:?}");
        assert!(matches!(heard.last(), Some(LinkFrame::Error { code: said, .. }) if *said == code), "{name}: {heard:?}");
    }
    // Fault 50: a version that nobody here speaks, and one list in which there is a common one.
    let newer = Versions { oldest: VERSIONS.newest + 1, newest: VERSIONS.newest + 2 };
    for (versions, code) in [(newer, Code::Version), (Versions { oldest: VERSIONS.oldest, ..newer }, Code::UnknownNeighbour)] {
        let heard = greet(port, &stranger, "birch.test", 67, versions).await;
        let Some(LinkFrame::Error { code: said, detail }) = heard.last() else { panic!("{heard:?}") };
        assert_eq!(*said, code, "{detail}");
        assert!(code != Code::Version || detail.contains("version 1"), "it says which are spoken: {detail}");
    }
    world.kith("H2", &["say", &room, "the link is there", "--wait", "held"]);
    assert_eq!(texts(&world.kith_lines("H1", &["read", &room])).last().unwrap().1, "the link is there");
}

/// What no frame is: the link goes on. What is too large to be looked at ends it, with a word, and the neighbour is back at once.
#[tokio::test]
async fn fault_06_and_25_bad_frames_of_a_neighbour() {
    let mut world = World::two_coops();
    let room = world.shared_room();
    world.coops[1].stop();
    let keys = std::fs::read_to_string(world.coops[1].folder.join("keys.toml")).unwrap();
    let seed = |name: &str| -> [u8; 32] {
        let line = keys.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        from_hex(line.trim_matches([' ', '=', '"'])).unwrap()
    };
    let (root, identity) = (SecretKey::from_seed(seed("root_seed")), LinkIdentity::from_seed(&seed("link_seed")).unwrap());
    let coop = Coop { name: "birch.test".parse().unwrap(), key: root.public() };
    let certificate = LinkCertificate::issue(&root, &coop, &PublicKey(identity.public_key()), UnixSeconds(1 << 40));
    let address = format!("127.0.0.1:{}", world.coops[0].link_port);
    let Opened { outgoing, mut incoming, .. } = dial(&address, &identity).await.unwrap();
    let hello = LinkFrame::Hello { versions: VERSIONS, coop, certificate, successions: Vec::new(), incarnation: 0 };
    assert!(outgoing.push(encode_link(&hello)));
    let mut error = async || loop {
        match incoming.recv().await {
            Some(Incoming::Frame(bytes)) => match decode_link(bytes).unwrap() {
                LinkFrame::Error { code, .. } => return Some(code),
                _ => continue,
            },
            _ => return None,
        }
    };
    for _ in 0..2 {
        assert!(outgoing.push(Bytes::from_static(b"\xff\xff\xff")));
        assert_eq!(error().await, Some(Code::Malformed));
    }
    assert!(outgoing.push(vec![0; LINK_FRAME_BYTES_MAX + 1].into()));
    assert_eq!(error().await, Some(Code::TooLarge));
    assert_eq!(error().await, None);
    world.coops[1].start();
    world.kith("H2", &["say", &room, "the link is there", "--wait", "held"]);
    assert_eq!(texts(&world.kith_lines("H1", &["read", &room])).last().unwrap().1, "the link is there");
}

//! Strangers, forgers and broken clients against the real server: each is refused with a typed error, and the server, its
//! link and its rooms live on.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use kith_e2e::{World, http, texts};
use kith_federation::link::driver::{Incoming, Opened, dial};
use kith_federation::link::tls::LinkIdentity;
use kith_protocol::agreement::LinkCertificate;
use kith_protocol::codec::{Encoding, decode_link, decode_to_member, encode_link, encode_to_server};
use kith_protocol::error::Code;
use kith_protocol::ids::{Coop, DeviceHandle, PublicKey, RoomNumber, Seq, UnixSeconds};
use kith_protocol::invite_link::MembershipLink;
use kith_protocol::limits::MEMBER_FRAME_BYTES_MAX;
use kith_protocol::link::{LinkFrame, VERSIONS, Versions};
use kith_protocol::member::{ToMember, ToServer, auth_statement, membership_statement};
use kith_protocol::sign::SecretKey;
use tokio::net::TcpStream;
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
async fn broken_clients_are_refused_and_the_session_lives() {
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
    while let Some(frame) = next(&mut first).await {
        assert!(matches!(frame, ToMember::Synced | ToMember::Refused(_)), "{frame:?}");
    }

    // Fault 27: a page of somebody else's.
    let Err(tungstenite::Error::Http(answer)) = open(port, Some("https://evil.example")).await else { panic!("not refused") };
    assert_eq!(answer.status().as_u16(), 403);

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
    outgoing.send(encode_link(&LinkFrame::Hello { versions, coop, certificate, successions: Vec::new() })).await.unwrap();
    let mut heard = Vec::new();
    while let Some(Incoming::Frame(bytes)) = incoming.recv().await {
        heard.push(decode_link(bytes).unwrap());
    }
    heard
}

#[tokio::test]
async fn strangers_on_the_link_are_refused_and_the_link_lives() {
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

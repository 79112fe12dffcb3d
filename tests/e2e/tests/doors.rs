//! The members' other doors: TLS of the server's own, and the form of the protocol that people can read.

use std::process::{Command, Stdio};
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use kith_e2e::{World, http, program, until};
use kith_protocol::codec::{Encoding, decode_to_member, encode_to_server};
use kith_protocol::error::Code;
use kith_protocol::ids::{Pseudonym, RoomId, RoomNumber, Seq};
use kith_protocol::invite_link::MembershipLink;
use kith_protocol::member::{ToMember, ToServer, auth_statement, membership_statement};
use kith_protocol::sign::SecretKey;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{WebSocketStream, client_async};

async fn open<S: AsyncRead + AsyncWrite + Unpin>(stream: S, encoding: Encoding) -> WebSocketStream<S> {
    let mut request = "ws://alder.test/kith/v1".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(encoding.subprotocol()));
    let (socket, answer) = client_async(request, stream).await.unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], encoding.subprotocol());
    socket
}

async fn next<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>, encoding: Encoding) -> ToMember {
    match (socket.next().await.expect("a frame").unwrap(), encoding) {
        (Message::Binary(bytes), Encoding::Binary) => decode_to_member(bytes, encoding).unwrap(),
        (Message::Text(text), Encoding::Json) => {
            let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(value.as_object().map(serde_json::Map::len), Some(1), "one frame: {text}");
            decode_to_member(text.as_bytes().to_vec().into(), encoding).unwrap()
        }
        (other, _) => panic!("not a frame of that form: {other:?}"),
    }
}

/// A whole session as text: challenge, registration, a certificate, refusals, and another session by the same device.
#[tokio::test]
async fn a_session_can_be_read_by_people() {
    let world = World::of(1);
    let link = MembershipLink::parse(&world.coops[0].kithd(&["invite"])).unwrap();
    let json = Encoding::Json;
    let connect = async || open(TcpStream::connect(("127.0.0.1", world.coops[0].port)).await.unwrap(), json).await;
    let mut socket = connect().await;
    let say = |frame: &ToServer| Message::Text(String::from_utf8(encode_to_server(frame, json).to_vec()).unwrap().into());
    let ToMember::Challenge { nonce } = next(&mut socket, json).await else { panic!("not a challenge") };
    let (device, name) = (SecretKey::from_seed([42; 32]), &link.coop.name);
    let register = ToServer::Register {
        invite: link.invite.public(),
        invite_signature: link.invite.sign(&membership_statement(name, &nonce, &device.public())),
        device: device.public(),
        device_signature: device.sign(&auth_statement(name, &nonce, &device.public())),
    };
    socket.send(say(&register)).await.unwrap();
    let ToMember::Registered { device: handle, .. } = next(&mut socket, json).await else { panic!("not registered") };
    assert_eq!(next(&mut socket, json).await, ToMember::Ready);
    assert_eq!(next(&mut socket, json).await, ToMember::Synced);
    // What is no frame is refused, and the session goes on.
    for bad in ["{", "[]", "{\"noSuchFrame\":{}}", "{\"open\":{\"room\":\"x\"}}"] {
        socket.send(Message::Text(bad.into())).await.unwrap();
        let said = next(&mut socket, json).await;
        assert!(matches!(&said, ToMember::Refused(refused) if refused.code == Code::Malformed), "{bad}: {said:?}");
    }
    let (room, pseudonym) = (RoomId([7; 32]), Pseudonym([8; 16]));
    let leaf_key = SecretKey::from_seed([9; 32]).public();
    socket.send(say(&ToServer::Certify { request: 5, room, pseudonym, leaf_key })).await.unwrap();
    let ToMember::Certificate { request: 5, certificate } = next(&mut socket, json).await else { panic!("no certificate") };
    assert_eq!((certificate.pseudonym, &certificate.coop), (pseudonym, &link.coop));
    socket.send(say(&ToServer::Open { room: RoomNumber(1), from: Seq(0) })).await.unwrap();
    assert!(matches!(next(&mut socket, json).await, ToMember::Refused(refused) if refused.code == Code::NoSuchRoom));
    let mut again = connect().await;
    let ToMember::Challenge { nonce } = next(&mut again, json).await else { panic!("not a challenge") };
    let signature = device.sign(&auth_statement(name, &nonce, &device.public()));
    again.send(say(&ToServer::Authenticate { device: handle, signature })).await.unwrap();
    assert_eq!(next(&mut again, json).await, ToMember::Ready);
}

/// A co-op that does TLS for its members itself: its certificate is the one that was configured, plain words get no answer.
#[tokio::test]
async fn members_are_served_by_tls() {
    let mut world = World::of(1);
    let coop = &mut world.coops[0];
    coop.stop();
    let issued = rcgen::generate_simple_self_signed(vec!["alder.test".to_owned()]).unwrap();
    let (certificate, key) = (coop.folder.join("certificate.pem"), coop.folder.join("key.pem"));
    std::fs::write(&certificate, issued.cert.pem()).unwrap();
    std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    let config = coop.folder.join("kithd.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let tls = format!("\n[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
    std::fs::write(&config, text + &tls).unwrap();
    let mut server = Command::new(program("kithd")).arg("serve").arg(&coop.folder).stderr(Stdio::null()).spawn().unwrap();
    let port = coop.port;
    until("the port", std::time::Duration::from_secs(20), || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert!(http(port, "/healthz").is_none_or(|answer| !answer.contains("200 OK")), "plain words");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let tcp = || async { TcpStream::connect(("127.0.0.1", port)).await.unwrap() };
    let name = |name: &'static str| ServerName::try_from(name).unwrap();
    assert!(connector.connect(name("birch.test"), tcp().await).await.is_err(), "another name");
    let stream = connector.connect(name("alder.test"), tcp().await).await.unwrap();
    let mut socket = open(stream, Encoding::Binary).await;
    assert!(matches!(next(&mut socket, Encoding::Binary).await, ToMember::Challenge { .. }));
    drop(socket);
    // Who comes again does without the certificate.
    let again = connector.connect(name("alder.test"), tcp().await).await.unwrap();
    assert_eq!(again.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
    assert!(coop.kithd(&["invite"]).starts_with("https://"));
    server.kill().unwrap();
    server.wait().unwrap();
}

//! A way in to a server through which one can look: what each connection sent is kept, and the frames in it can be read.
//!
//! Members' connections are plain on this machine, so that there is something to look at.

use std::io::{Cursor, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use kith_protocol::codec::{Encoding, decode_to_server};
use kith_protocol::member::ToServer;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket};

type Sent = Arc<Mutex<Vec<u8>>>;

pub struct Door {
    pub port: u16,
    sent: Arc<Mutex<Vec<Sent>>>,
    /// The next entry that comes is kept from the server.
    swallows: Arc<AtomicBool>,
    is_closing: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

fn entries(sent: &[u8]) -> usize {
    frames(sent).iter().filter(|frame| matches!(frame, ToServer::Send(_))).count()
}

/// Copies until either end is gone, and lets the other know.
fn copy(mut from: TcpStream, mut to: TcpStream, keep: Option<(Sent, Arc<AtomicBool>)>) {
    let mut chunk = [0; 4_096];
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        if let Some((keep, swallows)) = &keep {
            let mut sent = keep.lock().expect("nobody failed with it");
            let is_on = swallows.load(Ordering::Relaxed);
            let before = if is_on { entries(&sent) } else { 0 };
            sent.extend_from_slice(&chunk[..read]);
            if is_on && entries(&sent) > before {
                swallows.store(false, Ordering::Relaxed);
                continue;
            }
        }
        if to.write_all(&chunk[..read]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

impl Door {
    /// To a server on this machine.
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (sent, is_closing) = (Arc::new(Mutex::new(Vec::<Sent>::new())), Arc::new(AtomicBool::new(false)));
        let swallows = Arc::new(AtomicBool::new(false));
        let (kept, closing, swallowing) = (sent.clone(), is_closing.clone(), swallows.clone());
        let accepting = std::thread::spawn(move || {
            for here in listener.incoming() {
                if closing.load(Ordering::Relaxed) {
                    return;
                }
                // Without a server behind it the connection just ends.
                let (Ok(here), Ok(there)) = (here, TcpStream::connect(("127.0.0.1", server))) else { continue };
                let (Ok(here_too), Ok(there_too)) = (here.try_clone(), there.try_clone()) else { continue };
                let keep = Sent::default();
                kept.lock().expect("nobody failed with it").push(keep.clone());
                let keep = Some((keep, swallowing.clone()));
                std::thread::spawn(move || copy(here, there, keep));
                std::thread::spawn(move || copy(there_too, here_too, None));
            }
        });
        Self { port, sent, swallows, is_closing, accepting: Some(accepting) }
    }

    /// Keeps the next entry from the server, with what comes in one piece with it.
    pub fn swallow(&self) {
        self.swallows.store(true, Ordering::Relaxed);
    }

    pub fn has_swallowed(&self) -> bool {
        !self.swallows.load(Ordering::Relaxed)
    }

    /// What devices sent so far, connection by connection; of the last message of one that was cut, nothing.
    pub fn frames(&self) -> Vec<Vec<ToServer>> {
        let sent = self.sent.lock().expect("nobody failed with it");
        sent.iter().map(|sent| frames(&sent.lock().expect("nobody failed with it"))).collect()
    }
}

fn frames(sent: &[u8]) -> Vec<ToServer> {
    let Some(head) = sent.windows(4).position(|window| window == b"\r\n\r\n") else { return Vec::new() };
    // It only reads: an answer to a ping goes nowhere.
    let mut socket = WebSocket::from_raw_socket(Cursor::new(sent[head + 4..].to_vec()), Role::Server, None);
    let mut frames = Vec::new();
    while let Ok(message) = socket.read() {
        if message.is_binary() {
            frames.push(decode_to_server(message.into_data(), Encoding::Binary).expect("devices send what decodes"));
        }
    }
    frames
}

impl Drop for Door {
    fn drop(&mut self) {
        self.is_closing.store(true, Ordering::Relaxed);
        // It wakes up for one more connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

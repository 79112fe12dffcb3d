//! A device at work: its home, its connection, and waiting for things to come about.

use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use kith_protocol::error::Code;
use kith_protocol::ids::UnixSeconds;
use kith_protocol::limits::RECONNECT_MS_MAX;
use kith_protocol::member::{ToMember, ToServer};
use tokio::time::Instant;

use super::connection::{ConnectError, Connection};
use super::home::{Home, HomeError, Outcome};
use crate::core::{Core, CoreError, Event};
use crate::pulse::{Beat, Pulse};

/// Between two looks at what was refused for now.
const TICK: Duration = Duration::from_millis(300);
/// First and longest wait before connecting again.
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_millis(RECONNECT_MS_MAX);
/// Frames that are taken in one step.
const FRAMES_PER_STEP: usize = 128;

/// What went wrong, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error(transparent)]
    Core(#[from] CoreError),
    #[error("{0}. Check the network and try again")]
    Connect(ConnectError),
    #[error("it did not come about in time. Try again, or wait longer with --timeout SECONDS")]
    TimedOut,
    #[error("it did not come about in time: {detail}. {advice}", advice = code.advice())]
    PutOff { code: Code, detail: String },
    #[error("the co-op refused: {detail}. {advice}", advice = code.advice())]
    Refused { code: Code, detail: String },
    #[error("what the server sent cannot be trusted: {0}. Run `kith verify` on the room, and tell your steward")]
    Distrust(String),
}

pub fn now() -> UnixSeconds {
    UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

pub struct Client {
    pub home: Home,
    connection: Option<Connection>,
    pulse: Pulse,
    began: Instant,
    backoff: Duration,
    /// What the server said last of what has not come about yet.
    put_off: Option<(Code, String)>,
    tell: Tell,
    told: Option<(Code, String)>,
    /// When whoever waits is told that it takes its time.
    slow_at: Option<Instant>,
    /// The item whose end the caller waits for; of others it hears by [`Tell::failed`].
    pub awaited: Option<u64>,
}

/// What whoever waits may want to be told meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Tell {
    /// Why something has not come about yet, each time that the server gives another reason.
    pub put_off: fn(Code, &str),
    /// Once, when something takes longer than [`PATIENCE`]; `false`: there is no connection.
    pub slow: fn(is_connected: bool),
    /// Something that was said earlier could not be sent, and is not tried again.
    pub failed: fn(&str),
}

/// What takes longer is worth a word.
pub const PATIENCE: Duration = Duration::from_secs(1);

impl Client {
    pub fn new(home: Home, tell: Tell) -> Self {
        Self {
            home,
            connection: None,
            pulse: Pulse::default(),
            began: Instant::now(),
            backoff: RECONNECT_FIRST,
            put_off: None,
            tell,
            told: None,
            slow_at: Some(Instant::now() + PATIENCE),
            awaited: None,
        }
    }

    /// Whoever stays is not told that waiting takes time.
    pub fn stay(&mut self) {
        self.slow_at = None;
    }

    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Runs an operation and sends what comes of it, if there is a connection.
    pub async fn run<T>(&mut self, act: impl FnOnce(&mut Core) -> T) -> Result<(T, Vec<Event>), ClientError> {
        let (result, outcome) = self.home.step(act)?;
        let events = self.send(outcome).await?;
        Ok((result, events))
    }

    async fn send(&mut self, outcome: Outcome) -> Result<Vec<Event>, ClientError> {
        // What came before a question is no answer to it.
        self.listen();
        let is_asking = outcome.sends.iter().any(|frame| !matches!(frame, ToServer::Cursor { .. }));
        if let Some(connection) = self.connection.as_mut().filter(|_| !outcome.sends.is_empty())
            && !connection.send(outcome.sends).await
        {
            self.lost()?;
        }
        if is_asking {
            self.pulse.handle_asked(self.clock_ms());
        }
        Ok(outcome.events)
    }

    fn clock_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Looks whether the other end is there, and asks it if that is due.
    async fn feel(&mut self) -> Result<(), ClientError> {
        self.listen();
        let now = self.clock_ms();
        let Some(connection) = self.connection.as_mut() else { return Ok(()) };
        let beat = self.pulse.poll(now);
        let is_there = match beat {
            Beat::Nothing => true,
            Beat::Ping => connection.ping().await,
            Beat::Lost => false,
        };
        if !is_there {
            return self.lost();
        }
        if beat == Beat::Ping {
            // A full line may have held it up.
            self.pulse.handle_pinged(self.clock_ms());
        }
        Ok(())
    }

    fn listen(&mut self) {
        if self.connection.as_mut().is_some_and(Connection::has_heard) {
            self.pulse.handle_heard(self.clock_ms());
        }
    }

    fn lost(&mut self) -> Result<(), ClientError> {
        self.connection = None;
        self.home.step(Core::handle_disconnected)?;
        Ok(())
    }

    /// Connects if need be, and takes what comes until `done` gives an answer or the time is up. `done` sees the events
    /// of each step; a refusal that is nobody's goes to `done` too.
    pub async fn until<T>(
        &mut self,
        deadline: Instant,
        mut done: impl FnMut(&mut Home, &[Event]) -> Result<Option<T>, ClientError>,
    ) -> Result<T, ClientError> {
        if let Some(answer) = done(&mut self.home, &[])? {
            return Ok(answer);
        }
        let mut failed: Option<ConnectError> = None;
        loop {
            if self.slow_at.take_if(|at| Instant::now() >= *at).is_some() {
                (self.tell.slow)(self.connection.is_some());
            }
            if Instant::now() >= deadline {
                let put_off = self.put_off.clone().map(|(code, detail)| ClientError::PutOff { code, detail });
                return Err(failed.map(ClientError::Connect).or(put_off).unwrap_or(ClientError::TimedOut));
            }
            if self.connection.is_none() {
                match tokio::time::timeout_at(deadline, self.connect()).await {
                    Ok(Ok(())) => failed = None,
                    Ok(Err(ClientError::Connect(error))) => {
                        failed = Some(error);
                        let wait = (Instant::now() + jittered(self.backoff)).min(deadline);
                        self.backoff = (self.backoff * 2).min(LONGEST_WAIT);
                        tokio::time::sleep_until(wait).await;
                        continue;
                    }
                    Ok(Err(error)) => return Err(error),
                    Err(_) => continue,
                }
            }
            let events = self.take(deadline).await?;
            self.feel().await?;
            if let Some(Event::Distrust { why, .. }) = events.iter().find(|event| matches!(event, Event::Distrust { .. })) {
                return Err(ClientError::Distrust(why.clone()));
            }
            self.note(&events);
            if let Some(answer) = done(&mut self.home, &events)? {
                self.put_off = None;
                return Ok(answer);
            }
        }
    }

    /// What whoever waits may want to hear of these.
    fn note(&mut self, events: &[Event]) {
        if let Some(Event::PutOff { code, detail }) = events.iter().rfind(|event| matches!(event, Event::PutOff { .. })) {
            self.note_put_off(*code, detail);
        }
        for event in events {
            if let Event::ItemFailed { item, code, detail, .. } = event
                && self.awaited != Some(*item)
            {
                (self.tell.failed)(&format!("Something that you wrote earlier could not be sent: {detail}. {}", code.advice()));
            }
        }
    }

    fn note_put_off(&mut self, code: Code, detail: &str) {
        let said = Some((code, detail.to_owned()));
        if self.told != said {
            self.told.clone_from(&said);
            (self.tell.put_off)(code, detail);
        }
        self.put_off = said;
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        let (account, _) = self.home.step(|core| core.account().map(|account| (account.address.clone(), account.secure)))?;
        let (address, secure) = account.ok_or(CoreError::NoAccount)?;
        let connection = self.patiently(Connection::open(&address, secure)).await.map_err(ClientError::Connect)?;
        self.home.step(Core::handle_connected)?;
        self.connection = Some(connection);
        // The server speaks first.
        self.listen();
        self.pulse.handle_connected(self.clock_ms());
        self.pulse.handle_asked(self.clock_ms());
        Ok(())
    }

    /// Waits for it, and says once if that takes its time.
    async fn patiently<T>(&mut self, waited: impl Future<Output = T>) -> T {
        let mut waited = pin!(waited);
        if let Some(at) = self.slow_at {
            if let Ok(done) = tokio::time::timeout_at(at, &mut waited).await {
                return done;
            }
            self.slow_at = None;
            (self.tell.slow)(self.connection.is_some());
        }
        waited.await
    }

    /// The next frames, in one step; or a tick if nothing comes.
    async fn take(&mut self, deadline: Instant) -> Result<Vec<Event>, ClientError> {
        let Some(connection) = self.connection.as_mut() else { return Ok(Vec::new()) };
        let wait = (Instant::now() + TICK).min(deadline);
        let Ok(first) = tokio::time::timeout_at(wait, connection.next()).await else {
            let ((), events) = self.run(|core| core.handle_tick(now())).await?;
            return Ok(events);
        };
        let Some(first) = first else {
            self.lost()?;
            // A server that closes at once is not asked again at once.
            tokio::time::sleep_until((Instant::now() + jittered(self.backoff)).min(deadline)).await;
            self.backoff = (self.backoff * 2).min(LONGEST_WAIT);
            return Ok(Vec::new());
        };
        let mut frames = vec![first];
        while frames.len() < FRAMES_PER_STEP {
            match connection.next().now_or_never() {
                Some(Some(frame)) => frames.push(frame),
                Some(None) | None => break,
            }
        }
        if frames.iter().any(|frame| matches!(frame, ToMember::Ready)) {
            self.backoff = RECONNECT_FIRST;
        }
        let ((), events) = self.run(|core| frames.into_iter().for_each(|frame| core.handle_frame(now(), frame))).await?;
        Ok(events)
    }

    /// Reads every room to its end.
    pub async fn sync(&mut self, deadline: Instant) -> Result<(), ClientError> {
        self.until(deadline, |home, events| {
            refusal(events)?;
            let (synced, _) = home.step(|core| core.is_synced())?;
            Ok(synced.then_some(()))
        })
        .await
    }

    pub async fn close(&mut self) {
        if self.connection.is_some() {
            // What the server is not told now it sends again next time: no loss, so no error either.
            let _ = self.run(Core::send_cursors).await;
        }
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }
}

/// Between half of it and all: those who lost a server together do not come back together.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0; 4];
    // Without randomness it is the longest wait.
    let share = getrandom::fill(&mut random).map_or(u32::MAX, |()| u32::from_le_bytes(random));
    wait / 2 + (wait / 2).mul_f64(f64::from(share) / f64::from(u32::MAX))
}

/// A refusal that ends what one is doing.
pub fn refusal(events: &[Event]) -> Result<(), ClientError> {
    for event in events {
        if let Event::Refused { code, detail } = event {
            return Err(ClientError::Refused { code: *code, detail: detail.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::path::Path;
    use std::sync::Mutex;

    use futures_util::{SinkExt, StreamExt};
    use kith_protocol::codec::{Encoding, encode_to_member};
    use kith_protocol::ids::{Coop, RoomId};
    use kith_protocol::invite_link::MembershipLink;
    use kith_protocol::limits::{PING_AFTER_MS, PING_FIRST_MS, PONG_MS_MAX};
    use kith_protocol::sign::SecretKey;
    use tokio::net::{TcpListener, TcpStream};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::handshake::server;
    use tokio_tungstenite::tungstenite::http::HeaderValue;
    use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;

    use super::*;

    /// Errors are shown with all their sources: what the outer one says already has none.
    #[test]
    fn a_cause_is_said_once() {
        let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let errors = [
            ClientError::Connect(ConnectError::Unreachable { address: "alder.test:443".into(), error: refused() }),
            ClientError::Connect(ConnectError::Tls(refused())),
            ClientError::Home(HomeError::Io { path: "home".into(), error: refused() }),
        ];
        for error in errors {
            assert!(error.source().is_none());
            assert_eq!(error.to_string().matches("connection refused").count(), 1, "{error}");
        }
    }

    const QUIET: Tell = Tell { put_off: |_, _| (), slow: |_| (), failed: |_| () };

    #[expect(clippy::result_large_err, reason = "the library's signature")]
    fn choose_subprotocol(_: &server::Request, mut response: server::Response) -> Result<server::Response, server::ErrorResponse> {
        let chosen = HeaderValue::from_static(Encoding::Binary.subprotocol());
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, chosen);
        Ok(response)
    }

    /// A device that wants to become a member of the co-op behind that listener.
    fn newcomer(folder: &Path, server: &TcpListener, tell: Tell) -> Client {
        let mut home = Home::open(&folder.join("home")).unwrap();
        let (root, invite) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        let coop = Coop { name: "alder.test".parse().unwrap(), key: root.public() };
        let link = MembershipLink { secure: false, address: server.local_addr().unwrap().to_string(), coop, invite };
        home.step(|core| core.join_coop(now(), &link, "first")).unwrap().0.unwrap();
        Client::new(home, tell)
    }

    #[test]
    fn fault_45_devices_come_back_at_different_times() {
        let waits: std::collections::BTreeSet<Duration> = (0..100).map(|_| jittered(RECONNECT_FIRST)).collect();
        assert!(waits.len() > 90, "{waits:?}");
        assert!(waits.iter().all(|wait| (RECONNECT_FIRST / 2..=RECONNECT_FIRST).contains(wait)), "{waits:?}");
    }

    /// Whoever waits longer than a second hears once that it takes its time: here nobody shakes hands.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_answer_is_worth_one_word() {
        static SLOW: Mutex<Vec<(bool, Instant)>> = Mutex::new(Vec::new());
        let tell = Tell { slow: |is_connected| SLOW.lock().unwrap().push((is_connected, Instant::now())), ..QUIET };
        let folder = tempfile::tempdir().unwrap();
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = newcomer(folder.path(), &server, tell);
        let asked = Instant::now();
        assert!(matches!(client.sync(asked + 2 * PATIENCE).await, Err(ClientError::TimedOut)));
        let [(is_connected, said)] = SLOW.lock().unwrap()[..] else { panic!("not once") };
        assert!(!is_connected && said < asked + PATIENCE + TICK, "it is said when the second is over, not when all is");
        // Whoever stays wants to hear nothing of the kind.
        let mut client = Client::new(Home::open(&folder.path().join("home")).unwrap(), tell);
        client.stay();
        assert!(matches!(client.sync(Instant::now() + 2 * PATIENCE).await, Err(ClientError::TimedOut)));
        assert_eq!(SLOW.lock().unwrap().len(), 1);
    }

    /// Here there is a connection, and nothing comes.
    #[tokio::test]
    async fn a_server_that_takes_its_time_is_worth_one_word() {
        static SLOW: Mutex<Vec<bool>> = Mutex::new(Vec::new());
        let tell = Tell { slow: |is_connected| SLOW.lock().unwrap().push(is_connected), ..QUIET };
        let folder = tempfile::tempdir().unwrap();
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = newcomer(folder.path(), &server, tell);
        let greeted = async {
            let (tcp, _) = server.accept().await.unwrap();
            tokio_tungstenite::accept_hdr_async(tcp, choose_subprotocol).await.unwrap()
        };
        let (connected, _greeted) = tokio::join!(client.connect(), greeted);
        connected.unwrap();
        tokio::time::pause();
        assert!(matches!(client.sync(Instant::now() + 3 * PATIENCE).await, Err(ClientError::TimedOut)));
        assert_eq!(*SLOW.lock().unwrap(), [true]);
    }

    /// A client that stays, connected, and the other end.
    async fn connected(folder: &Path) -> (Client, WebSocketStream<TcpStream>) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = newcomer(folder, &server, QUIET);
        client.stay();
        let greeted = async {
            let (tcp, _) = server.accept().await.unwrap();
            tokio_tungstenite::accept_hdr_async(tcp, choose_subprotocol).await.unwrap()
        };
        let (connected, other_end) = tokio::join!(client.connect(), greeted);
        connected.unwrap();
        (client, other_end)
    }

    /// Half of a connection is left when a phone changes networks. Whoever reads must not wait on it for ever: neither for
    /// the server's first word, nor for the answer to what was said in answer to it.
    #[tokio::test]
    async fn a_connection_of_which_half_is_left_is_given_up() {
        for has_greeted in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            // The other end keeps its socket and reads nothing: nothing comes, and nothing fails.
            let (mut client, mut half) = connected(folder.path()).await;
            tokio::time::pause();
            if has_greeted {
                let challenge = encode_to_member(&ToMember::Challenge { nonce: [7; 32] }, Encoding::Binary);
                half.send(Message::Binary(challenge)).await.unwrap();
            }
            let began = Instant::now();
            let bound = Duration::from_millis(PING_AFTER_MS + PONG_MS_MAX);
            assert!(matches!(client.until::<()>(began + bound - TICK, |_, _| Ok(None)).await, Err(ClientError::TimedOut)));
            assert!(client.is_connected(), "{has_greeted}");
            // Nobody listens there any more, so that it stays away.
            let ended = client.until::<()>(began + bound + 8 * TICK, |_, _| Ok(None)).await;
            assert!(matches!(ended, Err(ClientError::Connect(_))), "{has_greeted}: {ended:?}");
            tokio::time::resume();
        }
    }

    /// A server that lets one in and then shuts the door is not asked again at once, for ever.
    #[tokio::test]
    async fn fault_45_a_server_that_closes_at_once_is_dialled_ever_less() {
        let folder = tempfile::tempdir().unwrap();
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = newcomer(folder.path(), &server, QUIET);
        client.stay();
        tokio::time::pause();
        let (dials, long) = (std::cell::Cell::new(0), Instant::now() + Duration::from_secs(60));
        let shutting = async {
            loop {
                let (tcp, _) = server.accept().await.unwrap();
                drop(tokio_tungstenite::accept_hdr_async(tcp, choose_subprotocol).await);
                dials.set(dials.get() + 1);
            }
        };
        tokio::select! {
            ended = client.until::<()>(long, |_, _| Ok(None)) => assert!(ended.is_err()),
            () = shutting => {}
        }
        assert!((5..60).contains(&dials.get()), "{} times", dials.get());
    }

    /// One that answers is kept, and is asked ever less.
    #[tokio::test]
    async fn a_quiet_connection_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (mut client, mut other_end) = connected(folder.path()).await;
        tokio::time::pause();
        let mut pings = 0;
        let answering = async {
            while let Some(Ok(message)) = other_end.next().await {
                pings += u32::from(message.is_ping());
            }
        };
        let long = Instant::now() + Duration::from_millis(PING_AFTER_MS + 6 * PING_FIRST_MS);
        tokio::select! {
            ended = client.until::<()>(long, |_, _| Ok(None)) => assert!(matches!(ended, Err(ClientError::TimedOut))),
            () = answering => panic!("it was closed"),
        }
        assert!(client.is_connected());
        // One for the server's first word, which does not come, and two in silence.
        assert_eq!(pings, 3);
    }

    /// What could not be sent is said, but of what the caller waits for: that the caller says itself.
    #[tokio::test]
    async fn what_failed_is_told_to_whoever_waits_for_something_else() {
        static FAILED: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let tell = Tell { failed: |what| FAILED.lock().unwrap().push(what.to_owned()), ..QUIET };
        let folder = tempfile::tempdir().unwrap();
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = newcomer(folder.path(), &server, tell);
        client.awaited = Some(2);
        let failed =
            |item, detail: &str| Event::ItemFailed { room: RoomId([1; 32]), item, code: Code::Forbidden, detail: detail.to_owned() };
        client.note(&[failed(1, "you left"), failed(2, "you left, too")]);
        assert_eq!(
            *FAILED.lock().unwrap(),
            [format!("Something that you wrote earlier could not be sent: you left. {}", Code::Forbidden.advice())]
        );
    }
}

//! Keeps links to neighbours: dials those that are this co-op's to dial, accepts the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kith_federation::backoff::Backoff;
use kith_federation::link::driver::{Incoming, Opened, accept, dial};
use kith_federation::link::tls::LinkIdentity;
use kith_protocol::codec::{DecodeError, decode_link};
use kith_protocol::ids::{CoopName, PublicKey};
use kith_protocol::limits::{LINK_STOPPED_RETRY_MS, LINK_STRANGERS_MAX};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;

use crate::coop::Input;
use crate::coop::driver::{Handle, LinkMeter, Message};

/// This co-op's key in TLS; a new one counts from the next connection.
pub type Identity = watch::Receiver<Arc<LinkIdentity>>;

/// Accepts links until the process ends. Handshakes of strangers are bounded.
pub async fn accept_links(listener: TcpListener, identity: Identity, coop: Handle) {
    let strangers = Arc::new(Semaphore::new(LINK_STRANGERS_MAX));
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = strangers.clone().try_acquire_owned() else { continue };
        let (identity, coop) = (identity.borrow().clone(), coop.clone());
        tokio::spawn(async move {
            match accept(tcp, &identity).await {
                Ok(opened) => {
                    serve(opened, None, &coop, Some(place)).await;
                }
                Err(error) => tracing::info!(%error, "a link was not accepted"),
            }
        });
    }
}

/// Follows the list of neighbours to dial.
pub async fn dial_neighbours(identity: Identity, mut coop: Handle) {
    let mut dialling: HashMap<(CoopName, String), JoinHandle<()>> = HashMap::new();
    loop {
        let wanted = coop.neighbours.borrow_and_update().clone();
        dialling.retain(|(name, address), task| {
            let keep = wanted.iter().any(|dialled| dialled.name == *name && dialled.address == *address);
            if !keep {
                task.abort();
            }
            keep
        });
        for dialled in wanted {
            let (identity, coop) = (identity.clone(), coop.clone());
            let (name, address) = (dialled.name, dialled.address);
            let neighbour = (name.clone(), address.clone());
            dialling.entry(neighbour).or_insert_with(|| tokio::spawn(keep_link(name, address, identity, coop)));
        }
        if coop.neighbours.changed().await.is_err() {
            return;
        }
    }
}

/// Dials one neighbour for ever, with a backoff that a link which came up resets; seldom while the agreement is suspended
/// or ended, and at once when something about neighbours changes.
async fn keep_link(name: CoopName, address: String, identity: Identity, mut coop: Handle) {
    let mut backoff = Backoff::default();
    loop {
        let key = identity.borrow().clone();
        match dial(&address, &key).await {
            Ok(opened) => {
                if serve(opened, Some(name.clone()), &coop, None).await {
                    backoff.reset();
                }
            }
            Err(error) => {
                tracing::debug!(neighbour = %name, %error, "a neighbour cannot be reached");
                coop.input(Input::DialFailed { name: name.clone(), why: error.to_string() }).await;
            }
        }
        let mut random = [0; 8];
        // Without randomness there is no jitter, which is no reason to stop dialling.
        let _ = getrandom::fill(&mut random);
        let is_open = coop.neighbours.borrow_and_update().iter().any(|dialled| dialled.name == name && dialled.is_open);
        let wait_ms = backoff.next_ms(u64::from_le_bytes(random));
        let wait_ms = if is_open { wait_ms } else { wait_ms + LINK_STOPPED_RETRY_MS };
        tracing::debug!(neighbour = %name, wait_ms, "a neighbour is dialled again");
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            changed = coop.neighbours.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

/// Passes frames to the co-op's machine until either side closes. `true` if the link was up.
async fn serve(opened: Opened, dialled: Option<CoopName>, coop: &Handle, mut place: Option<OwnedSemaphorePermit>) -> bool {
    let Opened { peer_link_key, outgoing, mut incoming } = opened;
    let connection = coop.new_connection();
    let meter = Arc::new(LinkMeter::default());
    if !coop.send(Message::Link { connection, queue: outgoing, meter: meter.clone() }).await {
        return false;
    }
    coop.input(Input::LinkOpened { connection, peer_link_key: PublicKey(peer_link_key), dialled }).await;
    while let Some(frame) = incoming.recv().await {
        let frame = match frame {
            Incoming::Frame(bytes) => {
                meter.bytes_in.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                decode_link(bytes)
            }
            Incoming::Malformed => Err(DecodeError::Schema),
            Incoming::TooLarge => Err(DecodeError::TooLarge("the frame")),
        };
        // A neighbour's link is no stranger's any more.
        if meter.is_known.load(Ordering::Relaxed) {
            place = None;
        }
        if !coop.input(Input::LinkFrame { connection, frame }).await {
            break;
        }
    }
    coop.input(Input::LinkClosed { connection }).await;
    drop(place);
    meter.is_up.load(Ordering::Relaxed)
}

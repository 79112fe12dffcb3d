//! A running co-op: opens the folder, binds the ports, runs the machine until it is told to stop.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use kith_storage::sqlite::Sqlite;
use metrics_exporter_prometheus::PrometheusBuilder;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::admin::Admin;
use crate::config::{Folder, FolderError, LOCK_AGAIN, TlsFiles};
use crate::coop::Coop;
use crate::coop::driver::{Driver, boot, wall};
use crate::listener::Listener;
use crate::{admin, listener, metrics as names, neighbours};

/// How long a command may have the folder that a server waits for.
const LONGEST_COMMAND: Duration = Duration::from_secs(3);

fn member_tls(files: &TlsFiles) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let certificates = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read the certificate {}", files.certificate.display()))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).with_context(|| format!("cannot read the key {}", files.key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .context("the certificate and the key do not fit together")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Who comes back does without the certificate (RFC 8446 section 2.2), however many they are: the ticket is with them, not
    // in a table here. A connection needs one.
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// A command that has the folder is done in a moment; another server is not.
async fn lock(folder: &Folder) -> Result<File, FolderError> {
    let deadline = Instant::now() + LONGEST_COMMAND;
    loop {
        match folder.lock() {
            Err(FolderError::Running(_)) if Instant::now() < deadline => sleep(LOCK_AGAIN).await,
            outcome => return outcome,
        }
    }
}

/// Serves until SIGTERM or SIGINT, then drains.
pub async fn serve(path: &Path) -> anyhow::Result<()> {
    let folder = Folder::open(path)?;
    let _lock = lock(&folder).await?;
    let tls = folder.config.tls.as_ref().map(member_tls).transpose()?;
    let store = Arc::new(Sqlite::open(&folder.database()).await.context("cannot open the database")?);
    let members = listener::bind(folder.config.listen)
        .await
        .with_context(|| format!("cannot listen on {}. Is another kithd running? Change `listen` in kithd.toml", folder.config.listen))?;
    let links = TcpListener::bind(folder.config.link_listen)
        .await
        .with_context(|| format!("cannot listen on {}. Change `link_listen` in kithd.toml", folder.config.link_listen))?;
    let socket = admin::bind(&folder.socket())?;
    let owner = std::fs::metadata(&folder.path)?.uid();

    let metrics = PrometheusBuilder::new().install_recorder().context("metrics")?;
    names::describe();
    let boot = boot(store.as_ref(), &folder.coop.name).await.context("cannot read the database")?;
    let coop = Coop::new(folder.coop.clone(), folder.keys.secrets.clone(), boot, wall());
    let (driver, handle) = Driver::new(coop, store.clone());
    let serving = Arc::new(AtomicBool::new(true));
    let front = Listener::new(handle.clone(), tls, folder.config.allowed_origins.clone(), metrics, serving.clone());
    let (identity, seen) = watch::channel(Arc::new(folder.keys.link));

    let (stop, stopping) = watch::channel(false);
    let tasks = [
        tokio::spawn(front.run(members)),
        tokio::spawn(neighbours::accept_links(links, seen.clone(), handle.clone())),
        tokio::spawn(neighbours::dial_neighbours(seen, handle.clone())),
        tokio::spawn(admin::serve(socket, owner, Admin { folder: folder.path.clone(), coop: handle, identity })),
        tokio::spawn(stop_on_signal(stop, serving.clone())?),
    ];
    tracing::info!(coop = %folder.coop.name, listen = %folder.config.listen, links = %folder.config.link_listen, "serving");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    // A task of its own, so that waking a session is a matter among the runtime's threads.
    let outcome = tokio::spawn(driver.run(stopping)).await.context("the co-op's machine failed")?;
    serving.store(false, Ordering::Relaxed);
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    let _ = std::fs::remove_file(folder.path.join("admin.sock"));
    // Everything goes from the write-ahead log into the database, so that the file alone is whole.
    if let Some(store) = Arc::into_inner(store) {
        store.close().await.context("the database could not be closed")?;
    }
    outcome.context("the database failed; nothing unsaved was acknowledged. Look at the disk, then start kithd again")?;
    tracing::info!("stopped");
    Ok(())
}

fn stop_on_signal(stop: watch::Sender<bool>, serving: Arc<AtomicBool>) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("stopping: members are told to come back, what is decided is made durable");
        serving.store(false, Ordering::Relaxed);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        stop.send_replace(true);
    })
}

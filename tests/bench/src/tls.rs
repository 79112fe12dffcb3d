//! Members' sessions through the server's own TLS.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;

use crate::meter;
use crate::process::Coop;

const NAME: &str = "alder.test";

pub type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Whoever trusts the certificate that a co-op was given for this run.
pub struct Dialler {
    connector: TlsConnector,
    port: u16,
}

impl Dialler {
    /// Starts a stopped co-op again, with TLS.
    pub fn to(coop: &mut Coop) -> anyhow::Result<Self> {
        let issued = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        coop.restart_with_tls(&issued.cert.pem(), &issued.signing_key.serialize_pem())?;
        let mut roots = RootCertStore::empty();
        roots.add(issued.cert.der().clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        // Each handshake is a whole one, as of a device that was not here before.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), port: coop.server.port })
    }

    pub async fn connect(&self) -> anyhow::Result<Socket> {
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).await?;
        tcp.set_nodelay(true)?;
        let tls = self.connector.connect(ServerName::try_from(NAME)?, tcp).await?;
        meter::upgrade(tls, self.port).await
    }
}

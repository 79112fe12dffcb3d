//! A co-op's folder: one file of configuration, its keys, its database, and the socket for its steward's commands.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kith_protocol::ids::{Coop, CoopName};
use serde::{Deserialize, Serialize};

use crate::keys::{Keys, write_private};

/// Between two looks at whether a folder's lock is free.
pub const LOCK_AGAIN: Duration = Duration::from_millis(50);

/// What is wrong with the folder, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{path}: {error}. {advice}", advice = advice(error.kind()))]
    Io { path: PathBuf, error: std::io::Error },
    #[error("{0} has no kithd.toml. Make a co-op there first: kithd init {0} --name YOUR.DOMAIN")]
    NoFolder(PathBuf),
    #[error("{0} holds a co-op already. Choose another folder, or delete that one if it is not needed")]
    Exists(PathBuf),
    #[error("kithd.toml: {0}. Mend it there; deploy/kithd.example.toml explains every option")]
    Config(String),
    #[error("keys.toml is damaged: {0}. Restore it from a backup: without it the co-op cannot prove who it is")]
    Keys(String),
    #[error(
        "plain connections are for loopback only, and {0} is not. Set [tls] certificate and key in kithd.toml, or behind_proxy = true if a reverse proxy in front of it does TLS"
    )]
    Insecure(SocketAddr),
    #[error("members cannot dial {0}. Set public_address in kithd.toml to the name or address by which they reach this co-op")]
    NoAddress(SocketAddr),
    #[error("another kithd works in {0}. Stop it first, or wait until it has stopped")]
    Running(PathBuf),
    #[error("the system has no randomness: {0}. No key is made without; try again once the machine has started up")]
    Random(String),
}

/// What a steward can do about a file.
fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::PermissionDenied => "Run kithd as the user whom the folder belongs to",
        ErrorKind::NotFound => "Look whether the path is right",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "Make room on the disk, then try again",
        _ => "Look at the disk and the folder, then try again",
    }
}

/// `kithd.toml`. Every option has a default or is asked for by `kithd init`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The co-op's domain.
    pub name: String,
    /// Where members connect.
    pub listen: SocketAddr,
    /// Where neighbours connect.
    pub link_listen: SocketAddr,
    /// What membership links tell members to dial; the listening address if it is not set.
    #[serde(default)]
    pub public_address: Option<String>,
    /// A reverse proxy in front of `listen` does TLS.
    #[serde(default)]
    pub behind_proxy: bool,
    /// Web origins that may open a session from a browser.
    #[serde(default)]
    pub allowed_origins: Vec<String>,
    #[serde(default)]
    pub tls: Option<TlsFiles>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// PEM, leaf first.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// An opened folder.
pub struct Folder {
    pub path: PathBuf,
    pub config: Config,
    /// As members and rooms know it: with its first root key.
    pub coop: Coop,
    /// As neighbours pin it.
    pub root: Coop,
    pub keys: Keys,
}

pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> FolderError + '_ {
    move |error| FolderError::Io { path: path.to_owned(), error }
}

pub fn random_seed() -> Result<[u8; 32], FolderError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| FolderError::Random(error.to_string()))?;
    Ok(seed)
}

impl Config {
    pub fn template(name: &CoopName, listen: SocketAddr, link_listen: SocketAddr) -> String {
        format!(
            "# A Kith co-op. Changes take effect when kithd starts again.\n\n\
             # The co-op's domain. Neighbours know it by this name and its root key.\nname = \"{name}\"\n\n\
             # Where members connect.\nlisten = \"{listen}\"\n\n\
             # Where neighbouring co-ops connect. It does its own TLS: never put it behind a proxy that ends TLS.\n\
             link_listen = \"{link_listen}\"\n\n\
             # What membership links tell members to dial, if it is not the address above.\n\
             # public_address = \"{name}\"\n\n\
             # Set this if a reverse proxy in front of `listen` does TLS.\n# behind_proxy = true\n\n\
             # Web pages that may open a session from a browser, such as \"https://{name}\".\n# allowed_origins = []\n\n\
             # Certificate and key (PEM) if kithd itself is to do TLS for members.\n\
             # [tls]\n# certificate = \"/etc/kith/fullchain.pem\"\n# key = \"/etc/kith/key.pem\"\n"
        )
    }

    fn check(&self) -> Result<CoopName, FolderError> {
        let name = self.name.parse::<CoopName>().map_err(|error| FolderError::Config(error.to_string()))?;
        if !self.listen.ip().is_loopback() && !self.behind_proxy && self.tls.is_none() {
            return Err(FolderError::Insecure(self.listen));
        }
        if self.listen.ip().is_unspecified() && self.public_address.is_none() {
            return Err(FolderError::NoAddress(self.listen));
        }
        Ok(name)
    }

    pub fn dial_address(&self) -> String {
        self.public_address.clone().unwrap_or_else(|| self.listen.to_string())
    }

    /// Whether members reach it by TLS.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some() || self.behind_proxy
    }
}

impl Folder {
    /// Makes a co-op: folder 0700, configuration, keys 0600.
    pub fn init(path: &Path, name: &CoopName, listen: SocketAddr, link_listen: SocketAddr) -> Result<(), FolderError> {
        if path.join("kithd.toml").exists() {
            return Err(FolderError::Exists(path.to_owned()));
        }
        fs::create_dir_all(path).map_err(io(path))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(io(path))?;
        Keys::init(path)?;
        write_private(&path.join("kithd.toml"), &Config::template(name, listen, link_listen))?;
        Ok(())
    }

    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let file = path.join("kithd.toml");
        if !file.exists() {
            return Err(FolderError::NoFolder(path.to_owned()));
        }
        let text = fs::read_to_string(&file).map_err(io(&file))?;
        let config: Config = toml::from_str(&text).map_err(|error| FolderError::Config(error.to_string()))?;
        let name = config.check()?;
        let keys = Keys::read(path, &name)?;
        let root = keys.secrets.identity.coop(&name);
        let coop = Coop { name, key: keys.secrets.root.public() };
        Ok(Self { path: path.to_owned(), config, coop, root, keys })
    }

    /// Keeps other processes out of the folder for as long as the file is open: two servers on one database and one key
    /// would sign two histories.
    pub fn lock(&self) -> Result<fs::File, FolderError> {
        let path = self.path.join("kithd.lock");
        let file = fs::File::create(&path).map_err(io(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => Err(FolderError::Running(self.path.clone())),
            Err(fs::TryLockError::Error(error)) => Err(io(&path)(error)),
        }
    }

    pub fn database(&self) -> PathBuf {
        self.path.join("kith.db")
    }

    pub fn socket(&self) -> PathBuf {
        self.path.join("admin.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str, extra: &str) -> Result<CoopName, FolderError> {
        let text = format!("name = \"alder.test\"\nlisten = \"{listen}\"\nlink_listen = \"0.0.0.0:7411\"\n{extra}");
        toml::from_str::<Config>(&text).unwrap().check()
    }

    #[test]
    fn plain_connections_are_for_loopback() {
        assert!(config("127.0.0.1:7401", "").is_ok());
        assert!(config("[::1]:7401", "").is_ok());
        assert!(matches!(config("0.0.0.0:7401", ""), Err(FolderError::Insecure(_))));
        let reached = "public_address = \"alder.test\"\n";
        assert!(config("0.0.0.0:7401", &format!("{reached}behind_proxy = true")).is_ok());
        assert!(config("0.0.0.0:7401", &format!("{reached}[tls]\ncertificate = \"a\"\nkey = \"b\"")).is_ok());
        assert!(config("203.0.113.5:7401", "behind_proxy = true").is_ok());
    }

    /// A link that tells members to dial 0.0.0.0 leads nowhere.
    #[test]
    fn an_address_for_everybody_is_nobodys_to_dial() {
        assert!(matches!(config("0.0.0.0:7401", "behind_proxy = true"), Err(FolderError::NoAddress(_))));
        assert!(matches!(config("[::]:7401", "behind_proxy = true"), Err(FolderError::NoAddress(_))));
    }

    #[test]
    fn one_process_works_in_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let (path, address) = (dir.path().join("A"), "127.0.0.1:1".parse().unwrap());
        Folder::init(&path, &"alder.test".parse().unwrap(), address, address).unwrap();
        let (first, second) = (Folder::open(&path).unwrap(), Folder::open(&path).unwrap());
        let lock = first.lock().unwrap();
        assert!(matches!(second.lock(), Err(FolderError::Running(_))));
        drop(lock);
        second.lock().unwrap();
    }

    /// The example that is shipped is a configuration, as it stands and with TLS of its own.
    #[test]
    fn the_example_is_a_configuration() {
        let text = include_str!("../../../deploy/kithd.example.toml");
        toml::from_str::<Config>(text).unwrap().check().unwrap();
        let with_tls = text.replace("# [tls]", "[tls]").replace("# certificate", "certificate").replace("# key", "key");
        assert!(toml::from_str::<Config>(&with_tls).unwrap().tls.is_some());
    }

    #[test]
    fn the_template_is_a_configuration() {
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let text = Config::template(&"alder.test".parse().unwrap(), address, address);
        let config: Config = toml::from_str(&text).unwrap();
        assert_eq!(config.name, "alder.test");
        assert!(toml::from_str::<Config>(&format!("{text}\nno_such_option = 1")).is_err());
    }

    /// Every option of the file, so that a new one is looked at: none lets anybody in unchecked. `behind_proxy` says who
    /// does TLS for members; the links, the challenge and every signature are untouched by all of them.
    #[test]
    fn fault_14_no_option_turns_a_check_off() {
        let tls = Some(TlsFiles { certificate: "c".into(), key: "k".into() });
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let config = Config {
            name: "alder.test".into(),
            listen: address,
            link_listen: address,
            public_address: Some("a".into()),
            behind_proxy: true,
            allowed_origins: vec![],
            tls,
        };
        let text = toml::to_string(&config).unwrap();
        let table: toml::Table = toml::from_str(&text).unwrap();
        let mut keys: Vec<&str> = table.keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, ["allowed_origins", "behind_proxy", "link_listen", "listen", "name", "public_address", "tls"]);
        for unknown in ["authentication = false", "insecure = true", "verify = \"none\"", "dev_mode = true"] {
            let text = format!("name = \"a.test\"\nlisten = \"{address}\"\nlink_listen = \"{address}\"\n{unknown}");
            assert!(toml::from_str::<Config>(&text).is_err(), "{unknown}");
        }
    }

    #[test]
    fn a_folder_keeps_its_keys_to_itself() {
        let dir = tempfile::tempdir().unwrap();
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let name: CoopName = "alder.test".parse().unwrap();
        let path = dir.path().join("A");
        assert!(matches!(Folder::open(&path), Err(FolderError::NoFolder(_))));
        Folder::init(&path, &name, address, address).unwrap();
        assert!(matches!(Folder::init(&path, &name, address, address), Err(FolderError::Exists(_))));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(path.join("keys.toml")).unwrap().permissions().mode() & 0o777, 0o600);
        let folder = Folder::open(&path).unwrap();
        assert_eq!((folder.coop.key, &folder.coop), (folder.keys.secrets.root.public(), &folder.root));
        fs::set_permissions(path.join("keys.toml"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Folder::open(&path), Err(FolderError::Keys(_))));
    }
}

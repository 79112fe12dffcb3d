//! A co-op's own keys and the file that holds them. A root key that was replaced stays in the file: rooms know the first.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kith_federation::link::tls::LinkIdentity;
use kith_protocol::agreement::RootSuccession;
use kith_protocol::ids::{CoopName, PublicKey, UnixSeconds, from_hex, to_hex};
use kith_protocol::limits::ROOT_SUCCESSIONS_MAX;
use kith_protocol::sign::SecretKey;
use serde::{Deserialize, Serialize};

use crate::config::{FolderError, io, random_seed};
use crate::coop::{Identity, Secrets};

const WARNING: &str = "# The co-op's private keys. Whoever has them is the co-op. Back them up; show them to nobody.\n";

#[derive(Serialize, Deserialize)]
struct KeyFile {
    root_seed: String,
    link_seed: String,
    /// Earlier roots, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former: Vec<FormerRoot>,
}

/// A root key that another one has followed, and when it led to that one.
#[derive(Serialize, Deserialize)]
struct FormerRoot {
    seed: String,
    not_before_s: u64,
    not_after_s: u64,
}

/// The co-op's own keys, read into memory.
pub struct Keys {
    pub secrets: Secrets,
    pub link: LinkIdentity,
}

/// What a rotation came to.
pub struct Rotated {
    pub root: PublicKey,
    /// Until then neighbours follow by themselves; only if the root key changed.
    pub overlap_end: Option<UnixSeconds>,
}

fn bad(error: impl ToString) -> FolderError {
    FolderError::Keys(error.to_string())
}

fn seed(hex: &str) -> Result<[u8; 32], FolderError> {
    from_hex::<32>(hex).map_err(bad)
}

fn path(folder: &Path) -> PathBuf {
    folder.join("keys.toml")
}

fn write_new(path: &Path, keys: &KeyFile) -> Result<(), FolderError> {
    write_private(path, &format!("{WARNING}{}", toml::to_string(keys).map_err(bad)?))
}

/// A new file that nobody else can read, on the disk when this returns.
pub fn write_private(path: &Path, text: &str) -> Result<(), FolderError> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io(path))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io(path))
}

fn read_file(folder: &Path) -> Result<KeyFile, FolderError> {
    let file = path(folder);
    let mode = fs::metadata(&file).map_err(io(&file))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(bad(format!("others may read it (mode {:o}); run chmod 600 {}", mode & 0o777, file.display())));
    }
    let text = fs::read_to_string(&file).map_err(io(&file))?;
    toml::from_str(&text).map_err(|_| bad("it is not the file that kithd wrote"))
}

/// In place of the old file, whole or not at all.
fn replace_file(folder: &Path, keys: &KeyFile) -> Result<(), FolderError> {
    let (new, file) = (folder.join("keys.toml.new"), path(folder));
    if new.exists() {
        // Of a rotation that was cut off before it took effect.
        fs::remove_file(&new).map_err(io(&new))?;
    }
    write_new(&new, keys)?;
    fs::rename(&new, &file).map_err(io(&file))?;
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder))
}

impl Keys {
    /// Makes the keys of a new co-op.
    pub fn init(folder: &Path) -> Result<(), FolderError> {
        write_new(&path(folder), &KeyFile { root_seed: to_hex(&random_seed()?), link_seed: to_hex(&random_seed()?), former: Vec::new() })
    }

    pub fn read(folder: &Path, name: &CoopName) -> Result<Self, FolderError> {
        let file = read_file(folder)?;
        let link = LinkIdentity::from_seed(&seed(&file.link_seed)?).map_err(bad)?;
        let mut roots = file.former.iter().map(|former| seed(&former.seed).map(SecretKey::from_seed)).collect::<Result<Vec<_>, _>>()?;
        roots.push(SecretKey::from_seed(seed(&file.root_seed)?));
        let steps = file.former.iter().zip(roots.windows(2));
        let successions = steps.map(|(former, pair)| {
            RootSuccession::sign(name, &pair[0], &pair[1], UnixSeconds(former.not_before_s), UnixSeconds(former.not_after_s))
        });
        let identity = Identity::new(roots.last().expect("one was just pushed").clone(), successions.collect());
        let secrets = Secrets { root: roots[0].clone(), link_key: PublicKey(link.public_key()), identity };
        Ok(Self { secrets, link })
    }

    /// A new root key, to which the old one leads for that long.
    pub fn rotate_root(folder: &Path, now: UnixSeconds, overlap_s: u64) -> Result<Rotated, FolderError> {
        let mut file = read_file(folder)?;
        if file.former.len() >= ROOT_SUCCESSIONS_MAX {
            return Err(bad(format!("a co-op's root key can change at most {ROOT_SUCCESSIONS_MAX} times")));
        }
        let new = random_seed()?;
        let end = UnixSeconds(now.0.saturating_add(overlap_s));
        let old = std::mem::replace(&mut file.root_seed, to_hex(&new));
        file.former.push(FormerRoot { seed: old, not_before_s: now.0, not_after_s: end.0 });
        replace_file(folder, &file)?;
        Ok(Rotated { root: SecretKey::from_seed(new).public(), overlap_end: Some(end) })
    }

    /// A new key for links. The root certifies it; neighbours need not be told.
    pub fn rotate_link(folder: &Path) -> Result<Rotated, FolderError> {
        let mut file = read_file(folder)?;
        file.link_seed = to_hex(&random_seed()?);
        replace_file(folder, &file)?;
        Ok(Rotated { root: SecretKey::from_seed(seed(&file.root_seed)?).public(), overlap_end: None })
    }
}

#[cfg(test)]
mod tests {
    use kith_protocol::agreement::{Inherited, inherit, rooms_key};

    use super::*;

    #[test]
    fn keys_follow_one_another_and_rooms_keep_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let name: CoopName = "alder.test".parse().unwrap();
        let read = || Keys::read(dir.path(), &name).unwrap();
        Keys::init(dir.path()).unwrap();
        let first = read();
        let before = first.secrets.identity.coop(&name).key;
        assert_eq!(first.secrets.root.public(), before);

        Keys::rotate_link(dir.path()).unwrap();
        let linked = read();
        assert_ne!(linked.secrets.link_key, first.secrets.link_key);
        assert_eq!(linked.secrets.identity.coop(&name).key, before);

        for _ in 0..ROOT_SUCCESSIONS_MAX {
            Keys::rotate_root(dir.path(), UnixSeconds(1_000), 500).unwrap();
        }
        assert!(Keys::rotate_root(dir.path(), UnixSeconds(1_000), 500).is_err(), "the list is bounded");
        let last = read();
        let now = last.secrets.identity.coop(&name).key;
        assert_eq!(last.secrets.root.public(), before, "rooms know no other");
        let chain = &last.secrets.identity.successions;
        assert_eq!(inherit(&name, &before, &now, chain, UnixSeconds(1_500)), Ok(Inherited::Newer));
        assert!(inherit(&name, &before, &now, chain, UnixSeconds(1_501)).is_err());
        assert_eq!(rooms_key(&name, &now, chain), Some(before));
        assert_eq!(fs::metadata(path(dir.path())).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!dir.path().join("keys.toml.new").exists());
    }

    /// What is written halfway does not count.
    #[test]
    fn a_rotation_that_was_cut_off_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let name: CoopName = "alder.test".parse().unwrap();
        Keys::init(dir.path()).unwrap();
        let before = Keys::read(dir.path(), &name).unwrap().secrets.link_key;
        write_private(&dir.path().join("keys.toml.new"), "root_se").unwrap();
        assert_eq!(Keys::read(dir.path(), &name).unwrap().secrets.link_key, before);
        Keys::rotate_link(dir.path()).unwrap();
        assert_ne!(Keys::read(dir.path(), &name).unwrap().secrets.link_key, before);
    }
}

//! A device's home: a folder (0700) with one database. Several processes may use it at once: each operation takes the
//! lock, takes over what another process changed, and is durable before the lock is let go.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kith_protocol::ids::RoomId;
use kith_protocol::ids::Seq;
use kith_protocol::member::ToServer;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::core::machine::{is_loaded, row_key};
use crate::core::{Core, CoreError, Effect, Event};

const STATE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("state");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const GENERATION: &str = "generation";

/// The home cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    #[error("{path}: {error}. Choose another folder with --home")]
    Io { path: PathBuf, error: std::io::Error },
    #[error("this device's memory cannot be read or written: {0}. Check the disk; nothing unsaved was sent")]
    Database(String),
    #[error("{0} can be read by others. Run: chmod 700 {0}")]
    Open(PathBuf),
    #[error("the system has no randomness: {0}. No key is made without; try again in a moment")]
    Random(String),
    #[error(transparent)]
    Core(#[from] CoreError),
}

fn database(error: impl std::fmt::Display) -> HomeError {
    HomeError::Database(error.to_string())
}

/// What a step wants done, now that its changes are durable.
#[derive(Debug, Default)]
pub struct Outcome {
    pub sends: Vec<ToServer>,
    pub events: Vec<Event>,
}

pub struct Home {
    path: PathBuf,
    lock: File,
    core: Core,
    generation: Option<u64>,
}

fn seed() -> Result<[u8; 32], HomeError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| HomeError::Random(error.to_string()))?;
    Ok(seed)
}

/// Lets go of the lock whatever happens.
struct Locked<'a>(&'a File);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl Home {
    /// Opens a home, or makes one.
    pub fn open(path: &Path) -> Result<Self, HomeError> {
        let io = |error| HomeError::Io { path: path.to_owned(), error };
        if !path.exists() {
            fs::create_dir_all(path).map_err(io)?;
            fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(io)?;
        }
        if fs::metadata(path).map_err(io)?.permissions().mode() & 0o077 != 0 {
            return Err(HomeError::Open(path.to_owned()));
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join("lock")).map_err(io)?;
        let mut home = Self { path: path.to_owned(), lock, core: Core::load(seed()?, [])?, generation: None };
        home.step(|_| ())?;
        Ok(home)
    }

    fn open_database(&self) -> Result<Database, HomeError> {
        let file = self.path.join("kith.redb");
        if !file.exists() {
            let io = |error| HomeError::Io { path: file.clone(), error };
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&file).map_err(io)?;
        }
        Database::create(&file).map_err(database)
    }

    /// Runs one operation on the device. What it changed is durable when this returns; an error means that nothing of it
    /// counts, and nothing of it may be sent.
    pub fn step<T>(&mut self, act: impl FnOnce(&mut Core) -> T) -> Result<(T, Outcome), HomeError> {
        let lock = self.lock.try_clone().map_err(|error| HomeError::Io { path: self.path.clone(), error })?;
        lock.lock().map_err(|error| HomeError::Io { path: self.path.clone(), error })?;
        let _locked = Locked(&lock);
        let db = self.open_database()?;
        self.take_over(&db)?;
        let result = act(&mut self.core);
        let mut outcome = Outcome::default();
        let mut delta = Vec::new();
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Load { room, from } => {
                    // The lines must be those of the very state that asks for them.
                    let rows = Self::stored_rows(&db, &room, from, &delta)?;
                    self.core.handle_rows(&room, &rows);
                }
                Effect::Persist(changes) => delta.extend(changes),
                Effect::Send(frame) => outcome.sends.push(frame),
                Effect::Event(event) => outcome.events.push(event),
            }
        }
        if !delta.is_empty() {
            // Until it is durable this process's own state is ahead of the disk's: it must not be trusted if this fails.
            let generation = self.generation.take().unwrap_or(0) + 1;
            Self::persist(&db, &delta, generation)?;
            self.generation = Some(generation);
        }
        Ok((result, outcome))
    }

    fn take_over(&mut self, db: &Database) -> Result<(), HomeError> {
        let read = db.begin_read().map_err(database)?;
        let on_disk = match read.open_table(META) {
            Ok(table) => table.get(GENERATION).map_err(database)?.map_or(0, |value| value.value()),
            Err(redb::TableError::TableDoesNotExist(_)) => 0,
            Err(error) => return Err(database(error)),
        };
        if self.generation == Some(on_disk) {
            return Ok(());
        }
        let mut entries = Vec::new();
        match read.open_table(STATE) {
            Ok(table) => {
                for item in table.iter().map_err(database)? {
                    let (key, value) = item.map_err(database)?;
                    if is_loaded(key.value()) {
                        entries.push((key.value().to_vec(), value.value().to_vec()));
                    }
                }
            }
            Err(redb::TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(database(error)),
        }
        self.core.reload(seed()?, entries)?;
        self.generation = Some(on_disk);
        Ok(())
    }

    fn persist(db: &Database, delta: &[(Vec<u8>, Option<Vec<u8>>)], generation: u64) -> Result<(), HomeError> {
        let write = db.begin_write().map_err(database)?;
        {
            let mut table = write.open_table(STATE).map_err(database)?;
            for (key, value) in delta {
                match value {
                    Some(value) => drop(table.insert(key.as_slice(), value.as_slice()).map_err(database)?),
                    None => drop(table.remove(key.as_slice()).map_err(database)?),
                }
            }
            let mut meta = write.open_table(META).map_err(database)?;
            meta.insert(GENERATION, generation).map_err(database)?;
        }
        write.commit().map_err(database)
    }

    /// Lines of a room's timeline from a sequence number on, as they are stored.
    pub fn rows(&self, room: &RoomId, from: Seq) -> Result<Vec<Vec<u8>>, HomeError> {
        let lock = self.lock.try_clone().map_err(|error| HomeError::Io { path: self.path.clone(), error })?;
        lock.lock().map_err(|error| HomeError::Io { path: self.path.clone(), error })?;
        let _locked = Locked(&lock);
        Self::stored_rows(&self.open_database()?, room, from, &[])
    }

    /// As they are stored, with what is about to be.
    fn stored_rows(db: &Database, room: &RoomId, from: Seq, delta: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<Vec<Vec<u8>>, HomeError> {
        let (first, last) = (row_key(room, from), row_key(room, Seq(u64::MAX)));
        let mut rows = BTreeMap::new();
        let read = db.begin_read().map_err(database)?;
        match read.open_table(STATE) {
            Ok(table) => {
                for item in table.range(first.as_slice()..=last.as_slice()).map_err(database)? {
                    let (key, value) = item.map_err(database)?;
                    rows.insert(key.value().to_vec(), value.value().to_vec());
                }
            }
            Err(redb::TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(database(error)),
        }
        for (key, value) in delta.iter().filter(|(key, _)| (&first..=&last).contains(&key)) {
            match value {
                Some(value) => drop(rows.insert(key.clone(), value.clone())),
                None => drop(rows.remove(key)),
            }
        }
        Ok(rows.into_values().collect())
    }
}

//! The suite against every backend.

mod memory {
    use kith_storage::memory::Memory;

    async fn make_store() -> (Memory, ()) {
        (Memory::new(), ())
    }

    kith_storage::conformance!(make_store);
}

mod sqlite {
    use kith_storage::sqlite::Sqlite;

    async fn make_store() -> (Sqlite, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (Sqlite::open(&folder.path().join("kith.db")).await.unwrap(), folder)
    }

    kith_storage::conformance!(make_store);
}

mod faultless {
    use kith_storage::fault::Faulty;
    use kith_storage::memory::Memory;

    async fn make_store() -> (Faulty<Memory>, ()) {
        (Faulty::new(Memory::new()), ())
    }

    kith_storage::conformance!(make_store);
}

//! Retries are counted for the whole process, so this has one of its own.

use std::time::Duration;

use causeway_silo::db::{Attempts, Db, Options, retried, retried_by_code};

#[tokio::test]
async fn retries_are_counted_by_the_code_of_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("x.db").display());
    let impatient = Options { acquire_timeout: Duration::from_millis(50), ..Options::default() };
    let (first, other) =
        (Db::connect(&url, &impatient).await.unwrap(), Db::connect(&url, &impatient).await.unwrap());
    assert!(retried_by_code().is_empty());
    let writing = first.begin().await.unwrap();
    // SQLite says that another process writes; within a process, there is no code.
    for (db, code) in [(&other, "5"), (&first, "none")] {
        let error = db.begin().await.unwrap_err();
        assert!(Attempts::default().should_retry(&error).await, "{error}");
        assert_eq!(retried_by_code().get(code), Some(&1), "{error}");
    }
    assert_eq!(retried(), 2);
    writing.commit().await.unwrap();
}

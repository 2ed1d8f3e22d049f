//! One import into empty databases.

use causeway_harness::{
    cluster::{ImportOptions, Store},
    export,
};

use crate::stage::{cluster, import};

pub(crate) async fn every_model_arrives_as_the_file_has_it(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let export = export::exhaustive().expect("an export");
    let (import, account) = import(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!(account.inserted(), account.after.row_count());
    assert_eq!(import.organization_count, 2);
}

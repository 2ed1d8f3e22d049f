//! What tests of a multi-region Causeway stand on: real servers on free ports and temporary directories, which go
//! when the test does. A library of its own, so that others may test against Causeway with it too.

pub mod account;
pub mod cluster;
pub mod export;
pub mod invariants;
pub mod postgres;
pub mod process;
pub mod snapshot;

/// Makes a test of each behaviour for each store, in the modules `sqlite` and `postgres`. A behaviour is a function of a
/// module of the test that takes the [store](cluster::Store) and knows nothing else of it.
///
/// ```no_run
/// mod once {
///     use causeway_harness::cluster::{Cluster, Store};
///
///     pub(crate) async fn a_cluster_starts(store: Store) {
///         Cluster::start(store, &["us"]).await.unwrap().stop().await;
///     }
/// }
///
/// causeway_harness::on_each_store! {
///     once:
///         a_cluster_starts;
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! on_each_store {
    ($($module:ident: $($behaviour:ident),+ $(,)?;)+) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$module::$behaviour($crate::cluster::Store::Sqlite).await;
                }
            )+)+
        }
        mod postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$module::$behaviour($crate::cluster::Store::Postgres).await;
                }
            )+)+
        }
    };
}

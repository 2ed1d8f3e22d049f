//! Test harness for a multi-region Causeway: it runs real servers on free ports and in temporary directories, and
//! removes them when the test ends. It is a separate library so that other projects can test against Causeway too.

pub mod account;
pub mod cluster;
pub mod export;
pub mod invariants;
pub mod pki;
pub mod postgres;
pub mod process;
pub mod product;
pub mod snapshot;
pub mod workers;

/// Generates a test per behaviour and store, in the modules `sqlite` and `postgres`. A behaviour is a function in a
/// module of the test that takes the [store](cluster::Store) and does not otherwise depend on which store it is.
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

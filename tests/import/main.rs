//! Imports from the first byte to the last, through a real control and real regions, on each store. Every import that
//! succeeds is accounted for: each record, each row, each finding. Each behaviour is one function that knows nothing
//! of the store; the table below makes a test of it for both.

#![expect(clippy::expect_used, clippy::panic, reason = "a behaviour that is not there ends its test")]

mod once;
mod stage;

macro_rules! on_each_store {
    ($($module:ident: $($behaviour:ident),+ $(,)?;)+) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$module::$behaviour(causeway_harness::cluster::Store::Sqlite).await;
                }
            )+)+
        }
        mod postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$module::$behaviour(causeway_harness::cluster::Store::Postgres).await;
                }
            )+)+
        }
    };
}

on_each_store! {
    once:
        every_model_arrives_as_the_file_has_it;
}

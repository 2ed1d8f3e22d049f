//! The metrics of both services, as an operator has them: scraped by hand and by a real Prometheus, in a dashboard and in
//! alerts.

#![expect(clippy::expect_used, clippy::panic, reason = "a behaviour that is not there ends its test")]

mod files;
mod prometheus;
mod refused;
mod shown;
mod slow;
mod support;
mod values;

causeway_harness::on_each_store! {
    shown:
        both_services_show_the_metrics_of_the_table_and_no_others;
}

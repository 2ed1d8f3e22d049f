//! Traces: what a collector gets from the services and from the command, and what happens without one. Services and
//! commands are processes, because a process has one collector.

#![expect(clippy::expect_used, reason = "all of this is test code, the helpers too")]

mod calls;
mod collector;
mod imports;
mod lost;
mod support;

causeway_harness::on_each_store! {
    imports:
        an_import_is_one_connected_trace,
        an_import_that_another_process_continues_stays_in_its_trace,
        an_import_that_is_killed_and_continued_stays_in_its_trace;
}

//! `start`: the time from the start of a process to its first answer, its memory then, and the size of the program.

use std::path::PathBuf;

use serde_json::json;

use crate::{
    report::{Report, median},
    rig::{Rig, Service, Store},
};

/// What a measurement of starts measures, and with which program.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many times to measure each start. The result is the median.
    pub rounds: usize,
    /// Path of the `causeway` program to measure.
    pub causeway: PathBuf,
}

const COLUMNS: &[&str] = &["service", "store", "start", "resident when idle"];

/// Measures on both databases, and returns the results.
///
/// # Errors
/// If a service does not start.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    let mut report = Report::new("Start and size", COLUMNS);
    for store in [Store::Postgres, Store::Sqlite] {
        let rig = Rig::start(store, &options.causeway).await?;
        let databases = rig.named("empty");
        let (mut controls, mut regions) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            let control = rig.control(&databases.control).await?;
            let region = rig.region("us", &databases.region, &control.url()).await?;
            controls.push(processor_and_memory(&control)?);
            regions.push(processor_and_memory(&region)?);
            region.stop()?;
            control.stop()?;
        }
        for (service, figures) in [("control", controls), ("region", regions)] {
            let seconds = median(figures.iter().map(|(seconds, _)| *seconds).collect());
            let mib = median(figures.iter().map(|(_, mib)| *mib).collect());
            report.add(
                vec![
                    service.to_owned(),
                    store.name().to_owned(),
                    format!("{:.0} ms", seconds * 1e3),
                    format!("{mib:.1} MiB"),
                ],
                json!({"service": service, "store": store.name(), "start_seconds": seconds, "resident_mib": mib}),
            );
        }
    }
    let size = std::fs::metadata(&options.causeway)?.len();
    report.note(format!(
        "From the start of the process to its answer that it serves, on a database with a schema that is up to date; \
         medians of {} rounds. One program for both services, of {:.1} MB.",
        options.rounds,
        size as f64 / 1e6
    ));
    Ok(report)
}

fn processor_and_memory(service: &Service) -> anyhow::Result<(f64, f64)> {
    Ok((service.started_in.as_secs_f64(), service.memory()?.resident as f64 / 1024.0))
}

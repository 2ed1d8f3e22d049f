//! `import`: how fast exports are imported, compared with the plainest way to write the same rows, and how much memory
//! that takes.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use causeway_client::{Client, ExportFile, Timeouts, Watch, WatchEvent};
use causeway_proto::{
    region::v1::{Import, ImportHeader, ImportState},
    relocation::v1::Scope,
};
use causeway_silo::env::Environment;
use serde_json::json;

use crate::{
    generate::{Export, Extent},
    plain::Rows,
    report::{Report, median},
    rig::{Databases, Rig, Service, Services, Store},
};

/// What a measurement of imports measures, and with which program.
#[derive(Debug, Clone)]
pub struct Options {
    /// The databases to measure on.
    pub stores: Vec<Store>,
    /// The size of each export to measure.
    pub extents: Vec<Extent>,
    /// How many times to measure each side. The result is the median.
    pub rounds: usize,
    /// The seed of the exports. The same seed gives the same exports.
    pub seed: u64,
    /// Whether to measure the plain writes too. Must be `false` if `before` is not 0.
    pub compare: bool,
    /// Number of organizations that the region has before the import, and of slugs that control has reserved before it.
    pub before: u64,
    /// Path of the `causeway` program to measure.
    pub causeway: PathBuf,
}

/// The figures of one import. Memory is in KiB.
#[derive(Debug)]
struct Imported {
    import: Import,
    upload: Duration,
    plan: Duration,
    write: Duration,
    rest: Duration,
    region_peak: u64,
    region_idle: u64,
    control_peak: u64,
    /// Bytes of the primary key map at the end.
    key_map: f64,
}

impl Imported {
    fn total(&self) -> Duration {
        self.upload + self.plan + self.write + self.rest
    }

    fn rows(&self) -> u64 {
        let inserted: i64 = self.import.models.iter().map(|model| model.inserted).sum();
        u64::try_from(inserted).unwrap_or(0)
    }

    fn records(&self) -> u64 {
        let seen: i64 = self.import.models.iter().map(|model| model.seen).sum();
        u64::try_from(seen).unwrap_or(0)
    }
}

const LOGGED_WITHIN: Duration = Duration::from_secs(5);

const COLUMNS: &[&str] = &[
    "store",
    "records",
    "size",
    "upload",
    "plan",
    "write",
    "rest",
    "rows/s",
    "plain rows/s",
    "ratio",
    "µs/record",
    "region",
    "map",
    "control",
];

/// Measures each export on each database, and returns the results.
///
/// # Errors
/// If an import fails, or the other side does not write the same rows.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    ensure!(
        options.before == 0 || !options.compare,
        "what was there before is not written the plain way: --before goes with --no-compare"
    );
    let mut report = Report::new("Imports, beside the plainest way to write the same rows", COLUMNS);
    for store in &options.stores {
        let rig = Rig::start(*store, &options.causeway).await?;
        if options.before > 0 {
            crate::fill::organizations(&rig.named("empty"), options.before).await?;
        }
        for extent in &options.extents {
            measure(&rig, options, *extent, &mut report).await?;
        }
    }
    report.note(
        "Medians; both sides in turns. Memory is the most that was resident, in MiB, and for the region also the \
         difference to what it had before the import; the map of primary keys is part of it, with its bytes a record. The \
         other side is binary COPY of the same rows on PostgreSQL and \
         prepared inserts of many rows in large transactions on SQLite, into the same tables with all indexes and \
         constraints."
            .to_owned(),
    );
    Ok(report)
}

async fn measure(rig: &Rig, options: &Options, extent: Extent, report: &mut Report) -> anyhow::Result<()> {
    let path = rig.directory().join("export.json");
    let size = write(Export::new(options.seed, extent), &path)?;
    let file = ExportFile::read(&path).await?;
    let (mut imports, mut plain) = (Vec::new(), Vec::new());
    let mut rows: Option<Rows> = None;
    for round in 0..options.rounds {
        let name = format!("import_{round}");
        let databases = rig.copy("empty", &name).await?;
        rig.settle().await?;
        let imported = import(rig, &databases, &file).await?;
        if options.compare {
            if rows.is_none() {
                rows = Some(Rows::dump(rig, &databases).await?);
            }
            let rows = rows.as_ref().context("rows")?;
            let copies = rig.copy("empty", "plain").await?;
            rig.settle().await?;
            let written = rows.write(rig, &copies).await?;
            rig.remove("plain").await?;
            ensure!(
                written.rows == imported.rows(),
                "{} rows were imported, and {} written the plain way",
                imported.rows(),
                written.rows
            );
            plain.push(written.time.as_secs_f64());
        }
        // On SQLite, every round reads the rows from the databases of the first import, so these stay.
        if round > 0 || rig.store() == Store::Postgres {
            rig.remove(&name).await?;
        }
        imports.push(imported);
    }
    if rig.store() == Store::Sqlite {
        rig.remove("import_0").await?;
    }
    if let Some(rows) = rows {
        crate::plain::forget(rows)?;
    }
    std::fs::remove_file(&path)?;
    add(report, rig.store(), size, &imports, plain);
    Ok(())
}

fn add(report: &mut Report, store: Store, size: u64, imports: &[Imported], plain: Vec<f64>) {
    let Some(first) = imports.first() else { return };
    let of = |figure: fn(&Imported) -> f64| median(imports.iter().map(figure).collect());
    let total = of(|it| it.total().as_secs_f64());
    let (rows, records) = (first.rows() as f64, first.records() as f64);
    let plain = (!plain.is_empty()).then(|| median(plain));
    let ratio = plain.map(|plain| plain / total);
    let phases = [
        of(|it| it.upload.as_secs_f64()),
        of(|it| it.plan.as_secs_f64()),
        of(|it| it.write.as_secs_f64()),
        of(|it| it.rest.as_secs_f64()),
    ];
    let mib = |kib: f64| kib / 1024.0;
    let region = mib(of(|it| it.region_peak as f64));
    let beyond = mib(of(|it| (it.region_peak - it.region_idle) as f64));
    let control = mib(of(|it| it.control_peak as f64));
    let key_map = of(|it| it.key_map);
    let or_none = |figure: Option<String>| figure.unwrap_or_else(|| "-".to_owned());
    let mut row = vec![store.name().to_owned(), format!("{records}"), format!("{:.1} MB", size as f64 / 1e6)];
    row.extend(phases.iter().map(|seconds| format!("{seconds:.2} s")));
    row.extend([
        format!("{:.0}", rows / total),
        or_none(plain.map(|plain| format!("{:.0}", rows / plain))),
        or_none(ratio.map(|ratio| format!("{ratio:.2}"))),
        format!("{:.1}", total * 1e6 / records),
        format!("{region:.0} (+{beyond:.0})"),
        format!("{:.1} ({:.1} B)", key_map / 1048576.0, key_map / records),
        format!("{control:.0}"),
    ]);
    let value = json!({
        "store": store.name(), "records": records, "rows": rows, "bytes": size, "rounds": imports.len(),
        "upload_seconds": phases[0], "plan_seconds": phases[1], "write_seconds": phases[2], "rest_seconds": phases[3],
        "total_seconds": total, "plain_seconds": plain, "ratio": ratio,
        "region_peak_mib": region, "region_beyond_idle_mib": beyond, "control_peak_mib": control,
        "key_map_bytes": key_map, "key_map_bytes_per_record": key_map / records,
    });
    report.add(row, value);
}

fn write(export: Export, path: &Path) -> anyhow::Result<u64> {
    let mut out = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    let written = export.write(&mut out)?;
    std::io::Write::flush(&mut out)?;
    Ok(written.bytes)
}

/// The bytes of the primary key map, which a region logs at the end of an import.
fn key_map(log: &str) -> anyhow::Result<f64> {
    let plain: String = log.replace("\u{1b}[3m", "").replace("\u{1b}[0m", "").replace("\u{1b}[2m", "");
    let bytes = plain.rsplit_once("key_map_bytes=").context("the region did not log the size of its map")?.1;
    Ok(bytes.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse()?)
}

/// Like [`key_map`], but waits for the line: the region writes it after others can see that the import has succeeded.
async fn logged_key_map(region: &Service) -> anyhow::Result<f64> {
    let asked = Instant::now();
    loop {
        match key_map(&region.said()) {
            Err(_) if asked.elapsed() < LOGGED_WITHIN => tokio::time::sleep(Duration::from_millis(1)).await,
            found => return found,
        }
    }
}

/// Imports the file into these databases, with processes that are started for it.
async fn import(rig: &Rig, databases: &Databases, file: &ExportFile) -> anyhow::Result<Imported> {
    let services = rig.serve(databases).await?;
    let imported = watch(&services, file).await?;
    services.stop()?;
    Ok(imported)
}

async fn watch(services: &Services, file: &ExportFile) -> anyhow::Result<Imported> {
    let region =
        Client::connect(causeway_client::Service::Region, &services.region.url(), Timeouts::default())
            .await?;
    let region_idle = services.region.memory()?.resident;
    let id = Environment::system().uuid().to_string();
    let header =
        ImportHeader { import_id: id.clone(), scope: Scope::Organization.into(), ..ImportHeader::default() };
    let mut last = Instant::now();
    let mut lap = || {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut last, now))
    };
    file.upload(&region, &header, &Arc::new(AtomicU64::new(0))).await?;
    let upload = lap();
    let (mut plan, mut write) = (Duration::ZERO, Duration::ZERO);
    let mut state = ImportState::Planning;
    let mut watch = Watch::new(region, id);
    let import = loop {
        let WatchEvent::Changed(import) = watch.next().await? else { continue };
        if import.state() != state {
            // A state in between may have been too short to be seen.
            match state {
                ImportState::Planning => plan = lap(),
                ImportState::Writing => write = lap(),
                _ => {}
            }
            state = import.state();
        }
        if import.state().is_final() {
            break *import;
        }
    };
    ensure!(import.state() == ImportState::Succeeded, "the import has failed: {:?}", import.failure);
    let rest = lap();
    Ok(Imported {
        import,
        upload,
        plan,
        write,
        rest,
        region_peak: services.region.memory()?.peak,
        region_idle,
        control_peak: services.control.memory()?.peak,
        key_map: logged_key_map(&services.region).await?,
    })
}

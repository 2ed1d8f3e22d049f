//! Exports from outside the project, if a directory with some is given; otherwise the example.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use causeway_harness::{
    account::Audit,
    cluster::{Cluster, ImportOptions, Store},
};
use causeway_proto::{region::v1::ImportState, relocation::v1::FindingKind};

use crate::{
    encrypted::{PUBLIC, encrypted, opening},
    support::{accounted, cluster, import_bytes, revert_all, rows_now},
};

/// Prints a line on the terminal at once: the test harness captures the output of `println!`.
macro_rules! say {
    ($($what:tt)*) => {
        writeln!(std::io::stderr(), $($what)*).expect("somebody listens")
    };
}

const DIRECTORY: &str = "CAUSEWAY_EXTRA_EXPORTS";

/// Imports every `.json` file of the directory that `CAUSEWAY_EXTRA_EXPORTS` names, or of `examples`: once, again on
/// top, merged, each of its organizations alone, and encrypted. Files whose names begin with `invalid` must be refused, and
/// no others. There may be no unknown model, and nothing may stay after a revert.
pub(crate) async fn exports_from_elsewhere_arrive_as_their_files_have_them(store: Store) {
    let examples = || Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").into_os_string();
    let directory = env::var_os(DIRECTORY).unwrap_or_else(examples);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{DIRECTORY}: {error}"));
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    assert!(!files.is_empty(), "{DIRECTORY} has no .json files");
    let mut landed = 0;
    for file in files {
        let bytes = fs::read(&file).expect("the file can be read");
        let cluster = cluster(store, &["us"]).await;
        let here = all_ways(&cluster, &format!("{store:?} {}", file.display()), &bytes).await;
        let is_invalid = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("invalid"));
        assert!(!is_invalid || here == 0, "{} is imported", file.display());
        landed += here;
        cluster.stop().await;
        let cluster = opening(store).await;
        landed += import_encrypted(&cluster, &format!("{store:?} {}", file.display()), &bytes).await;
        cluster.stop().await;
    }
    assert!(landed > 0, "no file in {} was imported", directory.display());
}

/// Imports the file encrypted, into empty databases. Returns how many records were imported.
async fn import_encrypted(cluster: &Cluster, name: &str, bytes: &[u8]) -> i64 {
    let (options, before) = (ImportOptions::default(), rows_now(cluster, 0).await);
    let import =
        cluster.region(0).import(&encrypted(bytes, PUBLIC), &options).await.expect("the import ends");
    if import.state() == ImportState::Failed {
        say!("{name} is refused encrypted: {}", import.failure.unwrap_or_default().message);
        return 0;
    }
    let account = accounted(Audit::new(cluster, 0, &before, bytes, &options, &import).run().await);
    say!("{name} encrypted: {} of {} records landed", account.inserted(), seen(&import.models));
    landed(&import.models)
}

/// Imports the file in all other ways, and reverts that. Returns how many records were imported the first time.
async fn all_ways(cluster: &Cluster, name: &str, bytes: &[u8]) -> i64 {
    let empty = rows_now(cluster, 0).await;
    let first = ImportOptions::default();
    let trial = cluster.region(0).import(bytes, &first.clone().dry_run()).await.expect("the import ends");
    if trial.state() == ImportState::Failed {
        say!("{name} is refused: {}", trial.failure.unwrap_or_default().message);
        return 0;
    }
    let mut imports = Vec::new();
    let (once, account) = import_bytes(cluster, bytes, &first).await;
    let unknown: Vec<_> =
        account.findings.iter().filter(|it| it.kind() == FindingKind::UnknownModel).collect();
    assert!(unknown.is_empty(), "{name}: {unknown:?}");
    say!("{name} once: {} of {} records landed", account.inserted(), seen(&once.models));
    let mut others = vec![("twice".to_owned(), first.clone()), ("merged".to_owned(), first.merge_users())];
    for organization in &once.organizations {
        let slug = &organization.wanted_slug;
        others.push((format!("{slug} alone"), ImportOptions::default().filter(&[slug])));
    }
    imports.push(once.import_id.clone());
    for (how, options) in others {
        let (import, account) = import_bytes(cluster, bytes, &options).await;
        say!("{name} {how}: {} landed", account.inserted());
        imports.push(import.import_id);
    }
    revert_all(cluster, &imports).await;
    assert_eq!(rows_now(cluster, 0).await, empty, "nothing stays of {name}");
    landed(&once.models)
}

fn landed(models: &[causeway_proto::relocation::v1::ModelCounts]) -> i64 {
    models.iter().map(|counts| counts.inserted).sum()
}

fn seen(models: &[causeway_proto::relocation::v1::ModelCounts]) -> i64 {
    models.iter().map(|counts| counts.seen).sum()
}

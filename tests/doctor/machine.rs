//! Servers on this machine, by the file that they are started with.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path};

use causeway_harness::{
    cluster::{Cluster, Service, Silo, Store},
    pki::Pki,
};
use causeway_silo::{db::Statement, env::Environment};
use causeway_tls::Role;
use tempfile::TempDir;

use crate::doctor_of_file;

/// The keys and values of the file's `[region]` table.
type Table = BTreeMap<&'static str, String>;

/// Keys with other values, the faults that they lead to, and words of the first one.
type Case<'a> = (Vec<(&'static str, String)>, Vec<(&'a str, &'a str)>, &'a str);

fn write(path: &Path, control: &Table, region: &Table) {
    let lines =
        |table: &Table| table.iter().map(|(key, value)| format!("{key} = \"{value}\"\n")).collect::<String>();
    let text = format!("[control]\n{}[region]\n{}", lines(control), lines(region));
    fs::write(path, text).expect("it is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_is_wrong_with_a_machine_has_its_own_finding() {
    let cluster = Cluster::start(Store::Sqlite, &["us"]).await.expect("a cluster");
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("causeway.toml");
    let there = |name: &str| directory.path().join(name).display().to_string();
    let url = |silo| cluster.database_url(silo).to_owned();
    let control = Table::from([("database_url", url(Silo::Control))]);
    let region = Table::from([
        ("name", "us".to_owned()),
        ("control", cluster.control_url()),
        ("database_url", url(Silo::Region(0))),
        ("spool_dir", cluster.spool_dir(0).display().to_string()),
    ]);
    write(&file, &control, &region);
    doctor_of_file(&file).await.has("all is well", &[]);

    fs::write(directory.path().join("text"), "no key, no database".repeat(500)).expect("it is written");
    let open = directory.path().join("open");
    fs::create_dir(&open).expect("it is made");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).expect("it is set");
    let pki = Pki::new(Environment::system()).expect("a CA");
    let pair = |name: &str, from, until| {
        let mut parameters = pki.parameters(Role::Region, name).expect("parameters");
        pki.set_days(&mut parameters, from, until).expect("days");
        let pair = pki.issue(name, &parameters).expect("issued");
        (pair.cert.display().to_string(), pair.key.display().to_string())
    };
    let (soon, over) = (pair("soon", -1, 3), pair("over", -9, -1));

    let error = |check| vec![(check, "error")];
    let warning = |check| vec![(check, "warning")];
    let text = there("text");
    let cases: Vec<Case<'_>> = vec![
        (vec![("shutdown_drain", "1h".to_owned())], error("configuration"), "--shutdown-drain"),
        (
            vec![("listen", "0.0.0.0:50052".to_owned())],
            vec![("configuration", "error"), ("certificates", "warning")],
            "--insecure",
        ),
        (
            vec![("listen", "0.0.0.0:50052".to_owned()), ("insecure", "true".to_owned())],
            warning("certificates"),
            "whoever reaches",
        ),
        (
            vec![("tls_cert", there("absent")), ("tls_key", there("absent"))],
            error("certificates"),
            "cannot be read",
        ),
        (vec![("tls_cert", over.0), ("tls_key", over.1)], error("certificates"), "has expired"),
        (vec![("tls_cert", soon.0), ("tls_key", soon.1)], warning("certificates"), "expires on"),
        (vec![("decryption_key", text.clone())], error("decryption-keys"), "2048 to 4096 bits"),
        (vec![("spool_dir", there("text/spool"))], error("spool"), "not a directory"),
        (vec![("spool_dir", "/proc/spool".to_owned())], error("spool"), "nothing can be written"),
        (vec![("spool_dir", open.display().to_string())], warning("spool"), "chmod 700"),
        (vec![("database_url", url(Silo::Control))], error("database"), "control"),
        (vec![("database_url", format!("sqlite:{text}"))], error("database"), "must be a SQLite database"),
        (vec![("database_url", format!("sqlite:{}", there("absent/us.db")))], error("database"), "mkdir -p"),
        (
            vec![("name", "de".to_owned())],
            vec![("database", "error"), ("registration", "warning")],
            "is that of the region us",
        ),
        (vec![("control", "http://127.0.0.1:9".to_owned())], error("reachable"), "127.0.0.1:9"),
        (
            vec![("control", cluster.url(Service::Region(0)))],
            error("reachable"),
            "is a region, and not control",
        ),
    ];
    for (changes, wanted, words) in cases {
        let mut changed = region.clone();
        let name = format!("{changes:?}");
        changed.extend(changes);
        write(&file, &control, &changed);
        let found = doctor_of_file(&file).await.has(&name, &wanted);
        assert!(found.contains(words), "{name}: {words:?} is not in {found:?}");
    }

    let mut unknown = region.clone();
    unknown.insert("spool_dirr", "x".to_owned());
    write(&file, &control, &unknown);
    let found = doctor_of_file(&file).await.has("an unknown key", &error("configuration"));
    assert!(found.contains("spool_dirr") && found.contains("spool_dir"), "{found}");
    let mut nameless = region.clone();
    nameless.remove("name");
    write(&file, &control, &nameless);
    let found = doctor_of_file(&file).await.has("no name", &error("configuration"));
    assert!(found.contains("--name"), "{found}");
    fs::remove_file(&file).expect("it is removed");
    let found = doctor_of_file(&file).await.has("no file", &error("configuration"));
    assert!(found.contains("cannot be read"), "{found}");

    // A release that is newer than this one has used the database.
    write(&file, &control, &region);
    let row = "INSERT INTO causeway_migration (version, description, installed_on, success, checksum, execution_time) \
               SELECT 9999, description, installed_on, success, checksum, execution_time FROM causeway_migration WHERE version = 1";
    cluster.change(Silo::Region(0), &[Statement::new(row)]).await.expect("it is changed");
    let found = doctor_of_file(&file).await.has("a newer release", &error("database"));
    assert!(found.contains("newer release") && found.contains("9999"), "{found}");
    let row = "DELETE FROM causeway_migration WHERE version = 9999";
    cluster.change(Silo::Region(0), &[Statement::new(row)]).await.expect("it is changed");

    // Control was put back from a copy that is older than the region.
    cluster.stop_service(Service::Region(0)).await;
    let ahead = "UPDATE causeway_feed_cursor SET version = version + 5";
    cluster.change(Silo::Region(0), &[Statement::new(ahead)]).await.expect("it is changed");
    let found = doctor_of_file(&file).await.has("ahead", &[("feed", "error"), ("reachable", "error")]);
    assert!(found.contains("control's database is older than the region"), "{found}");
    cluster.stop().await;
}

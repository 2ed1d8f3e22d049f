//! Servers on this machine, by the configuration that they would start with.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use causeway::serve::Tls;
use causeway_client::ClientTls;
use causeway_silo::{db::DatabaseUrl, env::Environment};
use tokio::time::timeout;

use super::{certificates::Certificates, database, services, spool};
use crate::{
    commands::{control, keys, region, server::ServerArgs},
    output::{
        diagnosis::{About, Check, Report},
        numbers::{count, counted, duration},
        place::CommandTarget,
    },
};

/// Checks a control.
pub(super) async fn control(report: &mut Report, subject: &str, args: &control::Args, env: &Environment) {
    let mut about = About::new(report, subject.to_owned());
    configuration(&mut about, args.check(true));
    own_certificates(&mut about, args.server.tls.load(args.listen, env), args.listen);
    let Some(url) = database_url(&mut about, &args.server) else { return };
    let options = args.server.database();
    match timeout(database::LIMIT, causeway_control::examine(&url, &options)).await {
        Ok(Ok(found)) => database::report(&mut about, &url, &found, options.max_connections, env),
        Ok(Err(error)) => unusable(&mut about, &error.into()),
        Err(_) => too_slow(&mut about),
    }
}

/// Checks a region, and what control knows of it.
pub(super) async fn region(
    report: &mut Report,
    subject: &str,
    args: &region::Args,
    own: &Certificates<'_>,
    env: &Environment,
) {
    let subject = if subject.is_empty() { format!("region {}", args.name) } else { subject.to_owned() };
    let mut about = About::new(report, subject);
    configuration(&mut about, args.check(true));
    own_certificates(&mut about, args.server.tls.load(args.listen, env), args.listen);
    let control_tls = args.control_tls(env);
    if let Ok(Some(tls)) = &control_tls {
        for warning in tls.warnings() {
            about.warning(Check::Certificates, warning, "docs/tls.md says how to renew certificates");
        }
    }
    decryption_keys(&mut about, &args.decryption_key);
    let dir = args.spool_dir();
    spool::check(&mut about, &dir);
    let mut recorded = None;
    if let Some(url) = database_url(&mut about, &args.server) {
        let options = args.server.database();
        match timeout(database::LIMIT, causeway_region::examine(&url, &options)).await {
            Ok(Ok((found, of_region))) => {
                database::report(&mut about, &url, &found, options.max_connections, env);
                if let Some(other) = of_region.as_ref().filter(|it| it.name != args.name) {
                    about.error(
                        Check::Database,
                        format!(
                            "the database is that of the region {}, and a region's name can never change",
                            other.name
                        ),
                        format!("set --name {}, or mend --database-url", other.name),
                    );
                }
                recorded = of_region;
            }
            Ok(Err(error)) => unusable(&mut about, &error.into()),
            Err(_) => too_slow(&mut about),
        }
    }
    match control_tls {
        Ok(tls) => {
            // Commands show the certificates of whoever runs this one, if they are given.
            let words = if own.words().is_empty() { args.operator_tls_words() } else { own.words() };
            known_to_control(&mut about, args, tls, words, recorded.as_ref(), env).await;
        }
        Err(error) => about.error_that_says_what_to_do(Check::Certificates, format!("{error:#}")),
    }
}

fn configuration(about: &mut About<'_>, checked: anyhow::Result<()>) {
    match checked {
        Ok(()) => about.ok(Check::Configuration, "the settings are complete, and fit each other"),
        Err(error) => about.error_that_says_what_to_do(Check::Configuration, format!("{error:#}")),
    }
}

fn own_certificates(about: &mut About<'_>, loaded: anyhow::Result<Option<Tls>>, listen: SocketAddr) {
    match loaded {
        Ok(Some(tls)) => {
            let warnings = tls.certificates.warnings();
            if warnings.is_empty() {
                about.ok(Check::Certificates, "the server's certificate and its CAs are valid");
            }
            for warning in warnings {
                about.warning(Check::Certificates, warning, "docs/tls.md says how to renew certificates");
            }
        }
        Ok(None) if listen.ip().is_loopback() => {
            about.ok(Check::Certificates, "none; the server listens on loopback only");
        }
        Ok(None) => about.warning(
            Check::Certificates,
            format!("whoever reaches {listen} can read and make every call"),
            "give --tls-cert, --tls-key and --tls-client-ca: docs/tls.md",
        ),
        Err(error) => about.error_that_says_what_to_do(Check::Certificates, format!("{error:#}")),
    }
}

fn decryption_keys(about: &mut About<'_>, paths: &[PathBuf]) {
    for path in paths {
        match keys::private(path).and_then(|key| Ok(key.public_key().map(|_| ())?)) {
            Ok(()) => about.ok(Check::DecryptionKeys, format!("{} opens exports", path.display())),
            Err(error) => about.error(
                Check::DecryptionKeys,
                format!("{error:#}"),
                "name a private RSA key of 2048 to 4096 bits in PEM form in --decryption-key",
            ),
        }
    }
}

/// The URL of the database, unless it is wrong or its file is not there yet.
fn database_url(about: &mut About<'_>, args: &ServerArgs) -> Option<DatabaseUrl> {
    // An error has been found with the configuration.
    let url = args.database_url().ok()?;
    (!database::is_absent(about, &url)).then_some(url)
}

fn unusable(about: &mut About<'_>, error: &anyhow::Error) {
    about.error_that_says_what_to_do(Check::Database, format!("{error:#}"));
}

fn too_slow(about: &mut About<'_>) {
    about.error(
        Check::Database,
        format!("it was not examined within {}", duration(database::LIMIT)),
        "look at what else the database is doing",
    );
}

/// Asks the controls of a region, and compares what the first that answers knows with what the region has recorded.
async fn known_to_control(
    about: &mut About<'_>,
    args: &region::Args,
    tls: Option<Arc<ClientTls>>,
    words: Vec<String>,
    recorded: Option<&causeway_region::Recorded>,
    env: &Environment,
) {
    let mut known = None;
    for url in &args.control {
        let Some(control) = services::reach_control(about, url, tls.clone(), words.clone()).await else {
            continue;
        };
        if known.is_none() {
            known = Some(services::region_of_control(about, &control, &args.name, words.clone(), env).await);
        }
    }
    let Some(Some(known)) = known else { return };
    if !known.address.is_empty() {
        services::reach_region(about, &known.address, &args.name, tls, words.clone()).await;
    }
    let Some(recorded) = recorded else { return };
    let address = if known.address.is_empty() { "URL".to_owned() } else { known.address };
    feed(about, recorded.feed_version, known.feed_version, &CommandTarget::Region(address).with_tls(words));
}

/// Compares the version of the feed that a region has applied with that of control. Commands go to the region at `place`.
fn feed(about: &mut About<'_>, applied: i64, newest: i64, place: &CommandTarget) {
    match newest.saturating_sub(applied) {
        0 => about.ok(Check::Feed, format!("the region has applied all of it, up to version {newest}")),
        behind if behind > 0 => about.warning(
            Check::Feed,
            format!("the region has not applied the last {} of {}", count(behind), counted(newest, "change")),
            "check again in a minute; if it is not less then, the region's log says why",
        ),
        _ => about.error(
            Check::Feed,
            format!(
                "the region has applied change {applied}, and control has only {newest}: control's database is older \
                 than the region"
            ),
            format!(
                "if control was put back from a copy, compare the region with it: `{}`",
                place.command(["reconcile", "--check"])
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{diagnosis::Severity, terminal::Width};

    #[test]
    fn a_region_behind_its_feed_or_ahead_of_it_is_found() {
        let place = CommandTarget::Region("http://127.0.0.1:1".to_owned());
        for (applied, severity, words) in [
            (2_000, Severity::Ok, "has applied all of it, up to version 2000"),
            (1_998, Severity::Warning, "has not applied the last 2 of 2,000 changes"),
            (2_001, Severity::Error, "`causeway reconcile --check --region http://127.0.0.1:1`"),
        ] {
            let mut report = Report::default();
            feed(&mut About::new(&mut report, "region us".to_owned()), applied, 2_000, &place);
            let text = report.text(Width::UNLIMITED);
            assert!(report.worst() == severity && text.contains(words), "{text}");
        }
    }
}

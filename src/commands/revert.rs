//! `causeway imports revert`.

use std::{
    cell::Cell,
    io::{IsTerminal as _, stdin},
};

use anyhow::{Context as _, bail};
use causeway_client::Client;
use causeway_proto::region::v1::{GetImportRequest, Import, ImportFailure, ImportState, RevertImportRequest};
use causeway_silo::env::Environment;
use uuid::Uuid;

use super::{
    import_id::ImportId,
    outcome::Outcome,
    target::RegionArgs,
    watching::{ReportArgs, Without, run_interruptible, watch_and_report},
};
use crate::output::{self, numbers::counted, progress::Progress, report};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The import's id
    #[arg(value_name = "ID")]
    pub(super) import_id: ImportId,
    /// Do not ask for confirmation
    #[arg(long)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) region: RegionArgs,
    #[command(flatten)]
    report: ReportArgs,
}

pub(super) async fn run(args: &Args, env: Environment) -> anyhow::Result<Outcome> {
    let without = Cell::new(Without::NotAsked);
    run_interruptible(&args.region, &args.import_id, env, &without, async |region, import_id| {
        revert(region, args, import_id, &without).await
    })
    .await
}

async fn revert(
    region: &Client,
    args: &Args,
    import_id: Uuid,
    without: &Cell<Without>,
) -> anyhow::Result<Outcome> {
    if !args.yes {
        let request = GetImportRequest { import_id: import_id.to_string() };
        let answer = region.ask(request, async |it, request| it.imports().get_import(request).await).await?;
        let import = answer.import.context("the region's answer has no import")?;
        match import.state() {
            ImportState::Reverted => {
                output::note(&format!("import {} is reverted already", import.import_id));
            }
            // The question was answered before.
            ImportState::Reverting => {}
            // A dry run needs no question: the region refuses to revert it.
            _ if import.dry_run => {}
            _ => {
                if !confirmed(&import, args).await? {
                    output::note("nothing was done");
                    return Ok(Outcome::Failed);
                }
            }
        }
    }
    without.set(Without::Unknown);
    let request = RevertImportRequest { import_id: import_id.to_string() };
    let answer = region.ask(request, async |it, request| it.imports().revert_import(request).await).await?;
    let progress = Progress::new(args.region.place());
    let (first, wanted) = (answer.import, &args.report);
    let import = watch_and_report(region, &args.region, import_id, first, wanted, without, progress).await?;
    if import.state() != ImportState::Reverted {
        bail!("import {} is {}", import.import_id, report::state(&import));
    }
    let kept: i64 = import.models.iter().map(|counts| counts.kept).sum();
    if kept > 0 {
        let findings = args.region.place().command(["imports", "show", &import.import_id, "--findings"]);
        output::note(&format!(
            "kept because something else needs them: {}; the findings say what:\n  {findings}",
            counted(kept, "row")
        ));
    }
    Ok(Outcome::Done)
}

/// What reverting an import does, for the person who must confirm it.
fn what_will_happen(import: &Import) -> String {
    if has_written_nothing(import) {
        return format!(
            "import {} is {} and has written nothing, so there is nothing to delete. A revert puts it aside: it is no \
             longer counted as failed.",
            import.import_id,
            report::state(import)
        );
    }
    let inserted: i64 = import.models.iter().map(|counts| counts.inserted).sum();
    format!(
        "import {} is {}. What it has brought disappears at once: {}. What it has inserted here and in control, {}, is \
         deleted, unless something else needs it, and its slugs are free again. Nothing brings all that back but the \
         file, under a new import id.",
        import.import_id,
        report::state(import),
        counted(import.organization_count, "organization"),
        counted(inserted, "row")
    )
}

/// Whether an import failed before it could write anything.
fn has_written_nothing(import: &Import) -> bool {
    let failed_in = import.failure.as_ref().map(ImportFailure::state);
    import.state() == ImportState::Failed
        && matches!(failed_in, Some(ImportState::Receiving | ImportState::Planning | ImportState::Checking))
}

async fn confirmed(import: &Import, args: &Args) -> anyhow::Result<bool> {
    output::note(&what_will_happen(import));
    if !stdin().is_terminal() {
        let unasked = args.region.place().command(["imports", "revert", &import.import_id, "--yes"]);
        bail!("nobody is there to be asked; if that is what you want:\n  {unasked}");
    }
    output::note("Revert it? Type yes:");
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        stdin().read_line(&mut line).map(|_| line)
    });
    Ok(line.await.context("the answer cannot be read")?.context("the answer cannot be read")?.trim() == "yes")
}

#[cfg(test)]
mod tests {
    use causeway_proto::relocation::v1::ModelCounts;

    use super::*;

    #[test]
    fn whoever_is_asked_hears_what_will_happen() {
        let import = Import {
            import_id: "3b1f".to_owned(),
            state: ImportState::Succeeded.into(),
            organization_count: 3,
            models: vec![
                ModelCounts { inserted: 40, ..Default::default() },
                ModelCounts { inserted: 2, ..Default::default() },
            ],
            ..Default::default()
        };
        let text = what_will_happen(&import);
        assert!(
            text.contains("3b1f is SUCCEEDED")
                && text.contains("3 organizations")
                && text.contains("42 rows"),
            "{text}"
        );
        let failed = |state: ImportState| {
            let failure = Some(ImportFailure { state: state.into(), ..Default::default() });
            what_will_happen(&Import { state: ImportState::Failed.into(), failure, ..import.clone() })
        };
        let nothing = failed(ImportState::Planning);
        assert!(nothing.contains("puts it aside") && !nothing.contains("disappears"), "{nothing}");
        assert!(failed(ImportState::Writing).contains("disappears at once"));
        let one = what_will_happen(&Import { organization_count: 1, ..import });
        assert!(one.contains("1 organization."), "{one}");
    }
}

//! `--findings-file`: all findings of an import as lines of JSON.

use std::{io::Write as _, path::Path};

use anyhow::{Context as _, bail};
use causeway_client::{CallError, Client};
use causeway_proto::{
    json::to_json_line,
    region::v1::{ListFindingsRequest, ListFindingsResponse},
};
use tokio::sync::mpsc;

use super::{
    PAGE_SIZE,
    encrypt::{Out, write},
    outcome::Outcome,
};

/// How many pages may wait for the disk.
const PAGES_AHEAD: usize = 2;

/// Refuses a path that cannot be written, before a long import begins rather than at its end.
pub(super) fn check(to: &Path) -> anyhow::Result<()> {
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !directory.is_dir() || to.is_dir() || to == Path::new("-") {
        bail!(
            "the findings cannot be written to {}: it must be a file in a directory that exists",
            to.display()
        );
    }
    Ok(())
}

/// Writes the findings of an import, page by page. The file gets its name once all of them are in it, and replaces an
/// existing one.
pub(super) async fn save(region: &Client, import_id: &str, to: &Path) -> anyhow::Result<Outcome> {
    let (sender, mut pages) = mpsc::channel(PAGES_AHEAD);
    let work = move |out: &mut Out| {
        while let Some(page) = pages.blocking_recv() {
            let page: ListFindingsResponse = page?;
            for finding in &page.findings {
                writeln!(out, "{}", to_json_line(finding, "causeway.relocation.v1.Finding")?)?;
            }
        }
        Ok(())
    };
    let (written, ()) =
        tokio::join!(write(to.to_owned(), true, work), fetch(region, import_id.to_owned(), sender));
    written.with_context(|| format!("the findings were not written to {}", to.display()))
}

/// Fetches page after page, until the last one, an error, or until the receiver is gone.
async fn fetch(
    region: &Client,
    import_id: String,
    pages: mpsc::Sender<Result<ListFindingsResponse, CallError>>,
) {
    let mut request = ListFindingsRequest { import_id, page_size: PAGE_SIZE, ..Default::default() };
    loop {
        let page =
            region.ask(request.clone(), async |it, request| it.imports().list_findings(request).await).await;
        let next = page.as_ref().map(|page| page.next_page_token.clone()).unwrap_or_default();
        if pages.send(page).await.is_err() || next.is_empty() {
            return;
        }
        request.page_token = next;
    }
}

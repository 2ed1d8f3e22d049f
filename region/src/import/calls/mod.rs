//! What callers can do with imports, one file for each call or kind of call.

mod approve;
mod instructed;
mod pause;
mod requester;
mod resume;
mod revert;
mod throttle;
mod upload;
mod view;

pub use requester::Requester;
pub use upload::{Announced, Upload};
pub use view::{ImportView, ModelKey};

use std::sync::Arc;

use uuid::Uuid;

use super::{context::ImportContext, engine::Engine, running::RunningImport};
use crate::permits::Permits;

/// The imports of a region, for callers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Imports {
    context: ImportContext,
    engine: Engine,
}

impl Imports {
    /// The imports that `engine` runs.
    pub(crate) fn new(engine: Engine) -> Self {
        Self { context: engine.context().clone(), engine }
    }

    /// What the parts of an import share.
    pub(crate) fn context(&self) -> &ImportContext {
        &self.context
    }

    /// Permits for uploads and watches.
    pub(crate) fn permits(&self) -> &Permits {
        self.engine.permits()
    }

    /// The import with this id, if it runs in this process.
    pub(crate) fn running(&self, id: Uuid) -> Option<Arc<RunningImport>> {
        self.engine.running(id)
    }
}

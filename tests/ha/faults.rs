//! What happens to the primary, by `deploy/ha/ha`.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::{process::Command, time::sleep};

use crate::record::PATIENCE;

/// The pause between two questions who the primary is.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What happens to the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// All its processes get SIGKILL.
    Killed,
    /// Nothing that it sends reaches the other two. Clients still reach it.
    Cut,
    /// All its processes stop, and go on later as if nothing had happened.
    Frozen,
    /// An operator makes another node the primary.
    Switched,
}

impl Fault {
    pub(crate) const ALL: [Self; 4] = [Self::Killed, Self::Cut, Self::Frozen, Self::Switched];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Cut => "cut off",
            Self::Frozen => "frozen",
            Self::Switched => "switched",
        }
    }
}

/// The servers that `deploy/ha/ha` has started.
pub(crate) struct Servers(PathBuf);

impl Servers {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Runs a command of the script, and returns what it prints.
    async fn ha(&self, command: &str, node: &str) -> Option<String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/ha/ha");
        let mut ha = Command::new(script);
        ha.arg(command).arg(&self.0);
        if !node.is_empty() {
            ha.arg(node);
        }
        let output = ha.output().await.expect("deploy/ha/ha can be run");
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(said)
    }

    async fn must(&self, command: &str, node: &str) -> String {
        self.ha(command, node).await.unwrap_or_else(|| panic!("deploy/ha/ha {command} {node} failed"))
    }

    /// Waits until all three nodes follow one primary, and returns it.
    pub(crate) async fn settled(&self) -> String {
        self.must("settled", "").await
    }

    pub(crate) async fn do_harm(&self, fault: Fault, primary: &str) {
        match fault {
            Fault::Killed => self.must("kill", primary).await,
            Fault::Cut => self.must("cut", primary).await,
            Fault::Frozen => self.must("freeze", primary).await,
            Fault::Switched => self.must("switchover", "").await,
        };
    }

    /// Waits until another node is the primary, and returns it.
    pub(crate) async fn another_primary(&self, former: &str) -> String {
        let began = Instant::now();
        loop {
            if let Some(primary) = self.ha("primary-but", former).await.filter(|primary| !primary.is_empty())
            {
                return primary;
            }
            assert!(
                began.elapsed() < PATIENCE,
                "no other node than {former} is the primary after {PATIENCE:?}"
            );
            sleep(LOOK_EVERY).await;
        }
    }

    pub(crate) async fn heal(&self, fault: Fault, former: &str) {
        if fault == Fault::Frozen {
            self.must("thaw", former).await;
        }
        self.must("heal", former).await;
    }
}

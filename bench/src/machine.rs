//! The machine that the measurement runs on, and what its kernel reports about processes.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde_json::{Value, json};

/// What a reader must know about the machine to interpret a figure: processor, cores, memory, kernel and load.
#[must_use]
pub fn describe() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines()
            .find_map(|line| {
                line.strip_prefix(name)?.trim_start().strip_prefix(':').map(str::trim).map(str::to_owned)
            })
            .unwrap_or_default()
    };
    json!({
        "processor": field(&read("/proc/cpuinfo"), "model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory": field(&read("/proc/meminfo"), "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load": read("/proc/loadavg").split_whitespace().next().unwrap_or_default(),
    })
}

/// Memory of a process, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// The resident size when it was read.
    pub resident: u64,
    /// The largest resident size so far.
    pub peak: u64,
}

/// The memory of a running process.
///
/// # Errors
/// If there is no such process, or this is not Linux.
pub fn memory(process: u32) -> anyhow::Result<Memory> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(Path::new(&path)).with_context(|| format!("{path} cannot be read"))?;
    let kib = |name: &str| -> anyhow::Result<u64> {
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)).context("a line of it is missing")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse()?)
    };
    Ok(Memory { resident: kib("VmRSS:")?, peak: kib("VmHWM:")? })
}

//! The `causeway` command as a process.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

/// Nothing that is waited for here takes this long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command of which nothing of the surroundings decides what it does: without the settings of the environment, and
/// without anything to read.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    let settings = std::env::vars_os()
        .filter(|(name, _)| name.to_str().is_some_and(|name| name.starts_with("CAUSEWAY_")));
    for (name, _) in settings {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Sends a signal, e.g. `TERM`, to a process.
pub(crate) fn send(child: &Child, signal: &str) -> std::io::Result<ExitStatus> {
    Command::new("kill").args(["-s", signal, &child.id().to_string()]).status()
}

/// A process whose log is read, and that ends when this is dropped. What waits for it blocks.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    log: String,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let child = command.stderr(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("{command:?} cannot be run"))?;
        let stderr = child.stderr.take().context("its log is a pipe")?;
        Ok(Self { child, lines: lines(stderr), log: String::new() })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has logged a line with this in it, and gives back that line.
    ///
    /// # Errors
    /// If it ends before, or does not log that.
    pub fn logged(&mut self, mark: &str) -> anyhow::Result<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let Some(line) = self.line(until)? else {
                bail!("it has ended, and has not logged {mark:?}; its log:\n{}", self.log);
            };
            if line.contains(mark) {
                return Ok(line);
            }
        }
    }

    /// Waits until it serves, and says where that is, as a URL.
    ///
    /// # Errors
    /// If it ends before, or does not serve.
    pub fn served_at(&mut self) -> anyhow::Result<String> {
        let line = self.logged("serving")?;
        let address = line.rsplit_once("address=").with_context(|| format!("no address in {line:?}"))?.1;
        Ok(format!("http://{}", address.trim()))
    }

    /// The next line of the log; `None` behind the last one.
    fn line(&mut self, until: Instant) -> anyhow::Result<Option<String>> {
        match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.log.push_str(&line);
                Ok(Some(line))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => Ok(None),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("it has not gone on in {PATIENCE:?}; its log:\n{}", self.log)
            }
        }
    }

    /// What it had logged when it was last waited for.
    #[must_use]
    pub fn log(&self) -> &str {
        &self.log
    }

    /// Sends it a signal, e.g. `TERM`.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, signal: &str) -> anyhow::Result<()> {
        ensure!(send(&self.child, signal)?.success(), "it is gone; its log:\n{}", self.log);
        Ok(())
    }

    /// Waits until it has ended by itself, and says how, and what it has logged.
    ///
    /// # Errors
    /// If it does not end.
    pub fn ended(mut self) -> anyhow::Result<(ExitStatus, String)> {
        let until = Instant::now() + PATIENCE;
        while self.line(until)?.is_some() {}
        Ok((self.child.wait()?, std::mem::take(&mut self.log)))
    }

    /// Kills it, and says what it has logged.
    ///
    /// # Errors
    /// If somebody else still has its log open.
    pub fn kill(mut self) -> anyhow::Result<String> {
        self.child.kill()?;
        Ok(self.ended()?.1)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Reads a log line by line, whether anybody waits for it or not: whoever logs must not wait for a reader.
fn lines(log: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut log = BufReader::new(log);
        let mut line = Vec::new();
        while log.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                // Nobody will ask for it any more.
                let _ended = std::io::copy(&mut log, &mut std::io::sink());
            }
            line.clear();
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut shell = command("sh");
        shell.args(["-c", script]);
        Process::start(shell).expect("there is a shell")
    }

    #[test]
    fn a_process_says_where_it_serves() {
        let mut process = shell("echo one >&2; echo serving name=us address=127.0.0.1:7 >&2; exec cat");
        assert_eq!(process.served_at().expect("it serves"), "http://127.0.0.1:7");
        assert!(process.log().starts_with("one\n"), "{}", process.log());
    }

    #[test]
    fn who_waits_for_a_process_that_has_ended_sees_its_log() {
        let error = shell("echo no port >&2").served_at().expect_err("it does not serve");
        assert!(error.to_string().contains("no port"), "{error}");
        let (status, log) = shell("echo one >&2; exit 3").ended().expect("it ends");
        assert_eq!((status.code(), log.as_str()), (Some(3), "one\n"));
    }
}

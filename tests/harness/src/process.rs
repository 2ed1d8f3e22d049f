//! Runs a command, such as `causeway`, as a process and reads its log.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use tokio::net::TcpSocket;

/// The longest wait. Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port of this machine that belongs to a test as long as this lives. Nobody listens on it, unless the test tells a
/// server to: the system gives it to nobody who asks for any free port.
#[derive(Debug)]
pub struct OwnPort {
    /// Its address.
    pub address: SocketAddr,
    _bound: TcpSocket,
}

impl OwnPort {
    /// Takes a free port.
    ///
    /// # Errors
    /// If there is none.
    pub fn new() -> std::io::Result<Self> {
        let bound = TcpSocket::new_v4()?;
        // So that a server can listen on it.
        bound.set_reuseaddr(true)?;
        bound.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self { address: bound.local_addr()?, _bound: bound })
    }
}

/// A command that does not depend on the environment of the test: without any `CAUSEWAY_*` variable and with an empty
/// standard input.
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

/// A running process. Reads its log (standard error), and kills it when this is dropped. All methods that wait block
/// the thread.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    log: String,
}

impl Process {
    /// Starts the command as a process.
    ///
    /// # Errors
    /// If the command cannot be run.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let child = command.stderr(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("{command:?} cannot be run"))?;
        let stderr = child.stderr.take().context("its log is a pipe")?;
        Ok(Self { child, lines: lines(stderr), log: String::new() })
    }

    /// The process id that the operating system gave it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a log line that contains `mark` and returns that line.
    ///
    /// # Errors
    /// If the process ends first, or logs no such line within a minute.
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

    /// Waits until the service logs that it serves, and returns its URL.
    ///
    /// # Errors
    /// If the process ends first, or does not serve within a minute.
    pub fn served_at(&mut self) -> anyhow::Result<String> {
        let line = self.logged("serving")?;
        let address = line.rsplit_once("address=").with_context(|| format!("no address in {line:?}"))?.1;
        Ok(format!("http://{}", address.trim()))
    }

    /// The next line of the log; `None` after the last one.
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

    /// The log up to the last line that a waiting method has read.
    #[must_use]
    pub fn log(&self) -> &str {
        &self.log
    }

    /// Sends a signal, e.g. `TERM`, to the process.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn signal(&self, signal: &str) -> anyhow::Result<()> {
        ensure!(send(&self.child, signal)?.success(), "it is gone; its log:\n{}", self.log);
        Ok(())
    }

    /// Waits until the process has ended, without ending it. Returns its exit status and its log.
    ///
    /// # Errors
    /// If the process does not end within a minute.
    pub fn ended(mut self) -> anyhow::Result<(ExitStatus, String)> {
        let until = Instant::now() + PATIENCE;
        while self.line(until)?.is_some() {}
        Ok((self.child.wait()?, std::mem::take(&mut self.log)))
    }

    /// Kills the process and returns its log.
    ///
    /// # Errors
    /// If another process, such as a child of it, keeps its log open.
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

/// Reads a log line by line on a thread, whether anybody waits for a line or not: a full pipe would block the process
/// that logs.
fn lines(log: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut log = BufReader::new(log);
        let mut line = Vec::new();
        while log.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                // The receiver is gone. Drain the pipe anyway.
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

//! The commands of the README for two regions with TLS, as a newcomer pastes them.

use std::{
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// The blocks of commands of a section of the README.
fn blocks(heading: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(path).expect("it is there");
    let (_, section) = readme.split_once(&format!("\n{heading}\n")).expect("the section is there");
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let mut blocks = Vec::new();
    for block in section.split("```sh\n").skip(1) {
        blocks.push(block.split_once("```").expect("it ends").0.to_owned());
    }
    blocks
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

#[test]
fn the_two_regions_of_the_readme_speak_tls() {
    let blocks = blocks("### With TLS");
    let [services, calls] = blocks.as_slice() else { panic!("two blocks: {blocks:?}") };
    let [control, us, de] = [free_port(), free_port(), free_port()];
    // The ports of the README may be in use on this machine. Nothing else is changed.
    let with_ports = |commands: &str| {
        let listening = commands
            .replace("causeway control ", &format!("causeway control --listen 127.0.0.1:{control} "))
            .replace(
                "causeway region --name us ",
                &format!("causeway region --name us --listen 127.0.0.1:{us} "),
            );
        listening
            .replace("127.0.0.1:50051", &format!("127.0.0.1:{control}"))
            .replace("127.0.0.1:50052", &format!("127.0.0.1:{us}"))
            .replace("127.0.0.1:50053", &format!("127.0.0.1:{de}"))
    };
    let script = format!(
        "set -e\ntrap 'kill $(jobs -p); wait' EXIT\n{}\n\
         for port in {control} {us} {de}; do\n  \
         until (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null; do sleep 0.05; done\ndone\n{}\n\
         causeway slugs resolve acme --control https://127.0.0.1:{control} > resolved\n\
         until causeway regions list --control https://127.0.0.1:{control} > regions &&\n  \
         test $(grep -c ' registered ' regions) = 2; do sleep 0.05; done\n",
        with_ports(services),
        with_ports(calls)
    );
    let directory = TempDir::new().expect("a directory");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    std::os::unix::fs::symlink(examples, directory.path().join("examples")).expect("it is linked");
    let program = Path::new(env!("CARGO_BIN_EXE_causeway")).parent().expect("a directory");
    let path = std::env::join_paths(
        [program.to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").expect("a path"))),
    );
    // Whatever hangs is ended with all that it has started.
    let output = Command::new("timeout")
        .args(["--kill-after=5", "60", "bash", "-c", &script])
        .env("PATH", path.expect("a path"))
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}\n{log}");
    let resolved = std::fs::read_to_string(directory.path().join("resolved")).expect("it is written");
    let row = resolved.lines().nth(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let address = format!("https://127.0.0.1:{us}");
    assert_eq!(row.as_deref(), Some(&["acme", "acme", "1", "us", &address][..]), "{resolved}");
}

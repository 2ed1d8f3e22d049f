//! The commands of the README for two regions with TLS, and of docs/tls.md for one, as a newcomer pastes them.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use causeway_harness::process::OwnPort;
use tempfile::TempDir;

/// The blocks of commands of a section of a page.
fn blocks(page: &str, heading: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let page = std::fs::read_to_string(path).expect("it is there");
    let (_, section) = page.split_once(&format!("\n{heading}\n")).expect("the section is there");
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let mut blocks = Vec::new();
    for block in section.split("```sh\n").skip(1) {
        blocks.push(block.split_once("```").expect("it ends").0.to_owned());
    }
    blocks
}

/// Runs commands that start a control and regions in the background, and then commands that call them. Returns what the
/// slug `acme` resolves to, without the address of the region, once as many regions as there should be have registered.
fn pasted(services: &str, calls: &str, regions: usize) -> Vec<String> {
    let own = [(); 3].map(|()| OwnPort::new().expect("a free port"));
    let [control, us, de] = own.each_ref().map(|port| port.address.port());
    // The ports of the page may be taken on this machine. Nothing else is changed.
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
    let ports = [control, us, de][..=regions].iter().map(u16::to_string).collect::<Vec<_>>().join(" ");
    let script = format!(
        "set -e\ntrap 'kill $(jobs -p); wait' EXIT\n{}\n\
         for port in {ports}; do\n  \
         until (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null; do sleep 0.05; done\ndone\n{}\n\
         causeway slugs resolve acme --control https://127.0.0.1:{control} > resolved\n\
         until causeway regions list --control https://127.0.0.1:{control} > regions &&\n  \
         test $(grep -c ' registered ' regions) = {regions}; do sleep 0.05; done\n",
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
    let mut row: Vec<String> =
        resolved.lines().nth(1).expect("a row").split_whitespace().map(str::to_owned).collect();
    assert_eq!(row.pop(), Some(format!("https://127.0.0.1:{us}")), "{resolved}");
    row
}

#[test]
fn the_two_regions_of_the_readme_speak_tls() {
    let blocks = blocks("README.md", "### With TLS");
    let [services, calls] = blocks.as_slice() else { panic!("two blocks: {blocks:?}") };
    assert_eq!(pasted(services, calls, 2), ["acme", "acme", "1", "us"]);
}

#[test]
fn the_region_of_the_page_about_tls_speaks_it() {
    let blocks = blocks("docs/tls.md", "## Try it on one machine");
    let [certificates, control, region, calls, grpcurl] = blocks.as_slice() else { panic!("{blocks:#?}") };
    // Each service has a terminal of its own.
    let services = format!("{certificates}\n(exec {control}) &\n(exec {region}) &\n");
    assert_eq!(pasted(&services, calls, 1), ["acme", "acme", "1", "us"]);
    assert!(grpcurl.starts_with("grpcurl -cacert causeway-certs/ca.pem "), "{grpcurl}");
}

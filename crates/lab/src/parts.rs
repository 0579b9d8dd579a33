//! The programs of the lab beside machines and routing daemons.

use crate::control::Part;
use crate::names;
use crate::paths::Paths;
use crate::topology::{API_PORT, EXIT, Fabric, IMAGE_PORT, LEAVES, Leaf, SERVICE_ADDRESS, api_url};

/// Name of the control plane's part.
pub const SERVER: &str = "server";

/// The control plane, in the exit's namespace.
pub fn server(paths: &Paths) -> Part {
    let mut command = vec![paths.program("metal-server").display().to_string(), "serve".into()];
    command.extend(["--listen".into(), format!("[::]:{API_PORT}")]);
    command.extend(database(paths));
    part(SERVER, Some(EXIT.to_owned()), command)
}

/// Where the control plane keeps its data and what its tokens say about it.
pub fn database(paths: &Paths) -> [String; 4] {
    let database = format!("sqlite:{}", paths.database().display());
    ["--database".into(), database, "--url".into(), api_url()]
}

/// The image server.
pub fn files(paths: &Paths) -> Part {
    let listen = format!("{SERVICE_ADDRESS}:{IMAGE_PORT}");
    let folder = paths.images().display().to_string();
    let command = own(paths, &["serve-files", "--listen", &listen, "--folder", &folder]);
    part("files", Some(EXIT.to_owned()), command)
}

/// The power control, in the host's namespace, where machines are started.
pub fn bmc(paths: &Paths) -> Part {
    part("bmc", None, own(paths, &["bmc"]))
}

/// The switch agent of a leaf.
pub fn switch(paths: &Paths, leaf: Leaf, fabric: Fabric) -> Part {
    let names = (fabric == Fabric::Netns).then(|| names::file(leaf));
    Part { names, ..agent(paths, leaf, "metal-switch", "switch") }
}

/// The boot service of a leaf.
pub fn boot(paths: &Paths, leaf: Leaf) -> Part {
    agent(paths, leaf, "metal-boot", "boot")
}

/// The agents of all leaves.
pub fn agents(paths: &Paths, fabric: Fabric) -> Vec<Part> {
    LEAVES.into_iter().flat_map(|leaf| [switch(paths, leaf, fabric), boot(paths, leaf)]).collect()
}

fn agent(paths: &Paths, leaf: Leaf, program: &str, name: &str) -> Part {
    let config = paths.leaf(leaf).join(format!("{name}.toml"));
    let command = [paths.program(program).display().to_string(), "serve".into(), "--config".into()];
    let mut command = command.to_vec();
    command.push(config.display().to_string());
    part(&format!("{}-{name}", leaf.name()), Some(leaf.namespace()), command)
}

fn own(paths: &Paths, args: &[&str]) -> Vec<String> {
    let root = paths.root().display().to_string();
    let mut command = vec![paths.program("metal-lab").display().to_string()];
    command.extend(["--root".into(), root]);
    command.extend(args.iter().map(ToString::to_string));
    command
}

fn part(name: &str, namespace: Option<String>, command: Vec<String>) -> Part {
    Part {
        name: name.to_owned(),
        namespace,
        names: None,
        needs: None,
        taps: Vec::new(),
        command,
        environment: vec![("NO_COLOR".into(), "1".into())],
        restart: true,
    }
}

//! `cargo xtask test`: set-up, format and lint checks, Rust tests, contract comparison, official client, and in the virtual data
//! center a machine from power-on to its second user.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::lab;
use crate::packages::{self, Package};
use crate::shell::{cargo, root, step};

/// Debian packages that the tests need: PostgreSQL itself, certificates, `ip` for links between namespaces, Python's venv.
pub(crate) const PACKAGES: [Package; 4] = [
    ("openssl", "/usr/bin/openssl"),
    ("postgresql", "/usr/lib/postgresql/15/bin/postgres"),
    ("iproute2", "/usr/bin/ip"),
    ("python3-venv", "/usr/bin/python3"),
];

pub(crate) fn run() -> Result<()> {
    let root = root();
    packages::install(&PACKAGES)?;
    // tests of the lab, of routing texts and of boot loaders use the real programs
    packages::install(&lab::PACKAGES)?;
    let python = client(&root)?;
    cargo(&root, &["fmt", "--all", "--check"])?;
    cargo(&root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    cargo(&root, &["build", "--workspace"])?;
    contract(&root, &python)?;
    official_client(&root, &python)?;
    cargo(&root, &["test", "--workspace"])?;
    // last, because this process becomes the story
    lab::run(&["--scenario".to_owned(), "provision".to_owned()])
}

/// The official Python client in a virtual environment of its own.
fn client(root: &Path) -> Result<PathBuf> {
    let venv = root.join("target/venv");
    let python = venv.join("bin/python");
    let requirements = root.join("conformance/requirements.txt");
    let installed = venv.join("installed.txt");
    if std::fs::read(&installed).ok() != Some(std::fs::read(&requirements)?) {
        step(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        step(
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet", "-r"])
                .arg(&requirements),
        )?;
        std::fs::copy(&requirements, &installed)?;
    }
    Ok(python)
}

/// Our descriptor set holds the whole released contract.
fn contract(root: &Path, python: &Path) -> Result<()> {
    let set = root.join("target/contract.binpb");
    std::fs::write(&set, proto::DESCRIPTOR_SET)?;
    let script = root.join("../shared/conformance/contract_diff.py");
    if !script.exists() {
        bail!(
            "{} is missing: the conformance material belongs beside the project",
            script.display()
        );
    }
    step(Command::new(python).arg(script).arg(set))
}

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // it may have ended by itself, which the test has noticed then
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The released client, unmodified, against a real server process.
fn official_client(root: &Path, python: &Path) -> Result<()> {
    let binary = root.join("target/debug/metal-server");
    let folder = root.join("target/official-client");
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder)?;
    let database = format!("sqlite:{}", folder.join("metal.db").display());
    let mut server = Server(
        Command::new(&binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--database", &database])
            .env("NO_COLOR", "1")
            .stderr(Stdio::piped())
            .spawn()?,
    );
    let log = BufReader::new(server.0.stderr.take().context("no log")?);
    let mut lines = log.lines();
    let address = loop {
        let line = lines.next().context("the server ended before it answered")??;
        if let Some((_, address)) = line.split_once("address=") {
            break address.split_whitespace().next().unwrap_or_default().to_owned();
        }
    };
    std::thread::spawn(move || lines.for_each(drop));
    let token = Command::new(&binary)
        .args([
            "token",
            "create",
            "--database",
            &database,
            "--user",
            "metal-stack",
            "--admin-role",
            "editor",
        ])
        .output()?;
    if !token.status.success() {
        bail!("token create failed: {}", String::from_utf8_lossy(&token.stderr));
    }
    step(
        Command::new(python)
            .arg(root.join("conformance/official_client.py"))
            .env("METAL_APIV2_URL", format!("http://{address}"))
            .env("METAL_APIV2_TOKEN", String::from_utf8(token.stdout)?.trim()),
    )
}

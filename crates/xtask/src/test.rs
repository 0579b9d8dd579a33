//! `cargo xtask test`: set-up, format and lint checks, Rust tests, contract comparison, official client, a moment of fuzzing, and in the virtual data
//! center a machine from power-on to its second user.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::conformance;
use crate::fuzz;
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

/// Seconds for each fuzz target: enough to notice what breaks at once.
const FUZZ: u32 = 5;
/// Tests are the same each time; `cargo xtask fuzz` looks for what is new.
const SEED: u32 = 1;

pub(crate) fn run(go: bool) -> Result<()> {
    let root = root();
    if !go {
        eprintln!("not built without --go: coordination server of the VPN");
    } else {
        headscale(&root)?;
    }
    packages::install(&PACKAGES)?;
    // tests of the lab, of routing texts and of boot loaders use the real programs
    packages::install(&lab::PACKAGES)?;
    let python = client(&root)?;
    login_provider(&root)?;
    cargo(&root, &["fmt", "--all", "--check"])?;
    cargo(&root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    cargo(&root, &["build", "--workspace"])?;
    contract(&root, &python)?;
    conformance::run(&root, &python)?;
    // all that fails, not only the first
    cargo(&root, &["test", "--workspace", "--no-fail-fast"])?;
    fuzz::run(FUZZ, None, SEED)?;
    // last, because this process becomes the story
    lab::run(&["--scenario".to_owned(), "provision".to_owned()])
}

/// The coordination server of the VPN, for the tests that join it: some minutes, once.
fn headscale(root: &Path) -> Result<()> {
    const MODULE: &str = "github.com/juanfont/headscale@v0.28.0";
    let program = root.join("target/headscale/headscale");
    if program.exists() {
        return Ok(());
    }
    // not `go install`: it asks for the list of all versions, too
    step(Command::new("go").args(["mod", "download", MODULE]).current_dir("/"))?;
    let cache = Command::new("go").args(["env", "GOMODCACHE"]).output().context("go is missing")?;
    let source = Path::new(String::from_utf8(cache.stdout)?.trim()).join(MODULE);
    step(
        Command::new("go")
            .args(["build", "-mod=readonly", "-o"])
            .arg(&program)
            .arg("./cmd/headscale")
            .current_dir(source),
    )
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

/// The OpenID provider at which people log in in tests; Node.js runs it.
fn login_provider(root: &Path) -> Result<()> {
    if Command::new("npm").arg("--version").output().is_err() {
        packages::install(&[("nodejs", "/usr/bin/node"), ("npm", "/usr/bin/npm")])?;
    }
    let source = root.join("crates/server/tests/login/provider");
    let folder = root.join("target/login-provider");
    std::fs::create_dir_all(&folder)?;
    let (lock, installed) = (source.join("package-lock.json"), folder.join("installed.json"));
    if std::fs::read(&installed).ok() != Some(std::fs::read(&lock)?) {
        for name in ["package.json", "package-lock.json"] {
            std::fs::copy(source.join(name), folder.join(name))?;
        }
        step(
            Command::new("npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"])
                .current_dir(&folder),
        )?;
        std::fs::copy(&lock, &installed)?;
    }
    Ok(())
}

/// Our descriptor set holds the whole released contract.
fn contract(root: &Path, python: &Path) -> Result<()> {
    let set = root.join("target/contract.binpb");
    let printed = Command::new(root.join("target/debug/contract"))
        .output()
        .context("the contract was not built")?;
    std::fs::write(&set, printed.stdout)?;
    let script = root.join("../shared/conformance/contract_diff.py");
    if !script.exists() {
        bail!(
            "{} is missing: the conformance material belongs beside the project",
            script.display()
        );
    }
    step(Command::new(python).arg(script).arg(set))
}

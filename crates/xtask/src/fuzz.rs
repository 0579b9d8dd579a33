//! `cargo xtask fuzz`: builds the targets in `fuzz/` with the compiler that is there and runs each for a while; two at a time.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell::{root, step};

/// What `cargo fuzz` gives to the compiler without a sanitizer: counters at edges, and what is compared with what.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0";
/// With a target named, programs that run during the build are not instrumented.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Targets that run at the same time.
const AT_ONCE: usize = 2;

/// Runs all targets, or one, for so many seconds each. The same seed tries the same inputs; 0 is another one each time.
pub(crate) fn run(seconds: u32, only: Option<&str>, seed: u32) -> Result<()> {
    let root = root();
    let names: Vec<String> =
        targets(&root)?.into_iter().filter(|name| only.is_none_or(|only| only == name)).collect();
    if names.is_empty() {
        bail!("there is no such target: see fuzz/fuzz_targets");
    }
    let folder = root.join("target/fuzz");
    let mut build = Command::new("cargo");
    build
        .args(["build", "--release", "--target", TARGET, "--manifest-path"])
        .arg(root.join("fuzz/Cargo.toml"))
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTFLAGS", FLAGS);
    match only {
        Some(name) => build.args(["--bin", name]),
        None => build.arg("--bins"),
    };
    step(&mut build)?;
    for group in names.chunks(AT_ONCE) {
        let running = group
            .iter()
            .map(|name| Ok((name, start(&root, &folder, name, seconds, seed)?)))
            .collect::<Result<Vec<_>>>()?;
        for (name, child) in running {
            end(name, child)?;
        }
    }
    Ok(())
}

/// Each file in `fuzz/fuzz_targets` is a target.
fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).context("fuzz/fuzz_targets is missing")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// What is found goes to `target/fuzz/corpus`; the committed corpus is only read.
fn start(root: &Path, folder: &Path, name: &str, seconds: u32, seed: u32) -> Result<Child> {
    let (found, artifacts) =
        (folder.join("corpus").join(name), folder.join("artifacts").join(name));
    std::fs::create_dir_all(&found)?;
    std::fs::create_dir_all(&artifacts)?;
    let program: PathBuf = folder.join(TARGET).join("release").join(name);
    eprintln!("▶ fuzz {name} for {seconds} s");
    Command::new(&program)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-seed={seed}"))
        // an input that takes ten seconds, or a gigabyte, is a finding
        .args(["-timeout=10", "-rss_limit_mb=1024", "-max_len=4096", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(found)
        .arg(root.join("fuzz/corpus").join(name))
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}

fn end(name: &str, child: Child) -> Result<()> {
    let output = child.wait_with_output()?;
    let log = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("fuzz target {name} found something:\n{log}");
    }
    let runs = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    eprintln!("  {name}: {} inputs, nothing found", runs.unwrap_or("no").trim());
    Ok(())
}

//! Runs a foreign program and turns its failure into a sentence.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// A command without standard input.
pub fn command<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs it and returns what it printed.
///
/// # Errors
/// It is not installed or it failed; the message has the end of its standard error.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}; is it installed?", name(command)))?;
    check(command, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs it with `input` on its standard input.
///
/// # Errors
/// As [`run`].
pub fn feed(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}; is it installed?", name(command)))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    // a program that fails early closes its input: its own message says more than the broken pipe
    stdin.write_all(input.as_bytes()).ok();
    drop(stdin);
    let output = child.wait_with_output()?;
    check(command, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn check(command: &Command, output: &Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<_> = text.lines().rev().take(8).collect();
    let tail: Vec<_> = tail.into_iter().rev().collect();
    let args: Vec<_> = command.get_args().map(OsStr::to_string_lossy).take(6).collect();
    bail!("{} {} failed ({}): {}", name(command), args.join(" "), output.status, tail.join("\n"))
}

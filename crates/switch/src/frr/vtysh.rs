//! `vtysh`, FRR's own way in.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::daemons::count;
use super::text::Config;

/// A daemon that does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// The daemons of one pathspace.
#[derive(Clone, Debug)]
pub struct Vtysh {
    program: PathBuf,
    pathspace: String,
}

impl Vtysh {
    /// `pathspace` is what the daemons were started with as `-N`; empty for the default instance.
    pub fn new(program: PathBuf, pathspace: String) -> Self {
        Self { program, pathspace }
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// What runs.
    ///
    /// # Errors
    /// When the daemons do not answer.
    pub async fn running(&self) -> Result<Config> {
        let text = self.show("show running-config").await?;
        Ok(Config::parse(&text))
    }

    /// The answer to one command.
    ///
    /// # Errors
    /// When the daemons do not answer, or do not know the command.
    pub async fn show(&self, command: &str) -> Result<String> {
        let output = self.run(&["-c", command], None, true).await?;
        complain("the routing daemons do not answer", &output)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Sends commands of the configuration mode. All of them are tried; what FRR says against some is the error.
    ///
    /// # Errors
    /// What FRR says.
    pub async fn configure(&self, commands: &str) -> Result<()> {
        if commands.is_empty() {
            return Ok(());
        }
        let output = self.run(&["-f", "/dev/stdin"], Some(commands), true).await?;
        complain("FRR refused a part", &output)
    }

    /// Whether FRR would understand the text; the daemons are not asked.
    ///
    /// # Errors
    /// What FRR says.
    pub async fn check(&self, text: &str) -> Result<()> {
        let output = self.run(&["-C", "-f", "/dev/stdin"], Some(text), false).await?;
        complain("FRR does not understand the configuration", &output)
    }

    async fn run(&self, arguments: &[&str], input: Option<&str>, daemons: bool) -> Result<Output> {
        count("vtysh");
        let mut command = Command::new(&self.program);
        if daemons && !self.pathspace.is_empty() {
            command.args(["-N", &self.pathspace]);
        }
        command.args(arguments);
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let program = self.program.display();
        let mut child = command
            .spawn()
            .with_context(|| format!("{program} cannot be started; is FRR installed?"))?;
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            let input = input.to_owned();
            tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
        }
        match tokio::time::timeout(PATIENCE, child.wait_with_output()).await {
            Ok(output) => output.with_context(|| format!("{program} broke off")),
            Err(_) => bail!("{program} did not end within {} s", PATIENCE.as_secs()),
        }
    }
}

/// The error in what vtysh printed, if it says that there is one.
fn complain(what: &str, output: &Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    let said: Vec<_> = said
        .lines()
        .map(str::trim)
        // Said whenever the pathspace has no folder of its own, which is harmless.
        .filter(|line| !line.is_empty() && !line.contains("vtysh.conf"))
        .take(5)
        .collect();
    match said.is_empty() {
        true => bail!("{what} ({})", output.status),
        false => bail!("{what}: {}", said.join("; ")),
    }
}

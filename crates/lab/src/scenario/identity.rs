//! Somebody on the boot network asks for what belongs to another machine.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use client::{Client, ErrorCode};
use proto::ext::{InstallerServiceAllocationRequest, InstallerServiceReportFailureRequest};
use proto::infra;

use super::stage::Stage;
use crate::api::{waits, with_secret};
use crate::fabric;
use crate::netns;
use crate::shell;
use crate::topology::{Fabric, LEAVES, Machine, THIEF};

pub(super) async fn play(stage: &Stage) -> Result<String> {
    ensure!(stage.spec.machines > 0, "this story needs a machine: `-n 1`");
    let victim = Machine { number: 1 };
    stage.until_waiting(victim).await?;
    configuration(stage, victim)?;
    token(stage, victim).await?;
    let seen = stage.look(victim).await?;
    ensure!(waits(&seen), "the victim was disturbed");
    Ok("identity: configuration, token and allocation of another machine are refused".to_owned())
}

/// Somebody on the boot network, removed when dropped.
struct Thief {
    fabric: Fabric,
    /// A machine that is none, whose port is free.
    machine: Machine,
}

impl Thief {
    fn plug_in(fabric: Fabric, machine: Machine) -> Result<Self> {
        fabric::apply(&fabric::thief(fabric, LEAVES[0], machine))?;
        Ok(Self { fabric, machine })
    }
}

impl Drop for Thief {
    fn drop(&mut self) {
        fabric::apply(&fabric::without_thief(self.fabric, LEAVES[0], self.machine)).ok();
    }
}

/// A stranger with an address of its own, and with the victim's, gets no configuration.
fn configuration(stage: &Stage, victim: Machine) -> Result<()> {
    let _thief = Thief::plug_in(stage.spec.fabric, Machine { number: stage.spec.ports() })?;
    let leased = leased_address(stage, victim)?;
    let paths = ["/config".to_owned(), format!("/config?uuid={}", victim.uuid())];
    for address in [Some(Ipv4Addr::new(10, 0, 1, 250)), leased] {
        let Some(address) = address else { continue };
        netns::within(THIEF, || {
            shell::run(&mut shell::command(
                "ip",
                ["address", "flush", "dev", "port0", "scope", "global"],
            ))?;
            let mut add = shell::command("ip", ["address", "add"]);
            shell::run(add.arg(format!("{address}/24")).args(["dev", "port0"])).map(drop)
        })?;
        for path in &paths {
            let answer = netns::within(THIEF, || get(path))?;
            ensure!(!answer.contains("token"), "{address} gets a token: {}", first_line(&answer));
            ensure!(answer.starts_with("HTTP/1.1 403"), "{address}: {}", first_line(&answer));
            stage.note(&format!("{path} from {address}: {}", last_line(&answer)));
        }
    }
    Ok(())
}

/// The address that the first leaf gave the machine, as its neighbour table says.
fn leased_address(stage: &Stage, victim: Machine) -> Result<Option<Ipv4Addr>> {
    let mac = victim.mac(LEAVES[0]);
    let leaf = stage.device(LEAVES[0]);
    let table = leaf.run(&["ip", "-4", "neighbour", "show", "dev", "boot"])?;
    let line = table.lines().find(|line| line.contains(&mac));
    let address = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    stage.note(&format!("the victim's address: {address:?}"));
    Ok(address)
}

fn get(path: &str) -> Result<String> {
    let to = SocketAddr::from((LEAVES[0].boot_address(), 80));
    let mut stream =
        TcpStream::connect_timeout(&to, Duration::from_secs(5)).context("no boot service")?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: boot\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn first_line(answer: &str) -> &str {
    answer.lines().next().unwrap_or_default()
}

fn last_line(answer: &str) -> &str {
    answer.trim().lines().last().unwrap_or_default()
}

/// The token of one machine opens nothing of another.
async fn token(stage: &Stage, victim: Machine) -> Result<()> {
    let thief = Machine { number: stage.spec.ports() };
    let request = infra::BootServiceMachineTokenRequest {
        uuid: thief.uuid(),
        user: crate::seed::MACHINE_USER.to_owned(),
        ..Default::default()
    };
    let answer = stage.client.boot().machine_token(request).await.context("token")?.into_owned();
    let client = with_secret(&answer.secret)?;
    let (own, other) = (thief.uuid(), victim.uuid());
    refused(ask(&client, &other).await, "the allocation")?;
    let wait = infra::BootServiceWaitRequest { uuid: other.clone(), ..Default::default() };
    let waiting = client.boot().wait(wait).await;
    let refusal = match waiting {
        Err(error) => Err(error),
        Ok(mut stream) => stream.message().await.map(drop),
    };
    refused(refusal, "the wait stream")?;
    let failure = InstallerServiceReportFailureRequest {
        uuid: other.clone(),
        phase: "image".to_owned(),
        reason: "a lie".to_owned(),
        ..Default::default()
    };
    refused(client.installer().report_failure(failure).await.map(drop), "a failure report")?;
    let token = infra::BootServiceMachineTokenRequest {
        uuid: other,
        user: crate::seed::MACHINE_USER.to_owned(),
        ..Default::default()
    };
    refused(client.boot().machine_token(token).await.map(drop), "a token")?;
    // positive control: for itself the token is good
    match ask(&client, &own).await {
        Err(error) if error.code == ErrorCode::NotFound => {}
        Err(error) => return Err(error).context("the token is not good for its own machine"),
        Ok(()) => {}
    }
    stage
        .note("with the token of another machine: allocation, wait, failure and token are refused");
    Ok(())
}

async fn ask(client: &Client, uuid: &str) -> Result<(), client::ConnectError> {
    let request = InstallerServiceAllocationRequest { uuid: uuid.to_owned(), ..Default::default() };
    client.installer().allocation(request).await.map(drop)
}

fn refused(result: Result<(), client::ConnectError>, what: &str) -> Result<()> {
    match result {
        Ok(()) => anyhow::bail!("{what} of another machine is given away"),
        Err(error) => {
            ensure!(error.code == ErrorCode::PermissionDenied, "{what}: {error}");
            Ok(())
        }
    }
}

//! The BMC agent of the lab: carries out the control plane's power commands on QEMU and reports what the BMCs know.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::Client;
use proto::api::{MachineBMCCommand as Command, MachineBMCReport};
use proto::{api, infra};

use crate::paths::Paths;
use crate::shape::{BootDevice, Shape};
use crate::topology::{Firmware, Machine, PARTITION};
use crate::{api as lab_api, power};

/// How often all BMCs are reported; at once after each command.
const PERIOD: Duration = Duration::from_secs(30);

/// Serves until the process is told to end.
///
/// # Errors
/// There is no token.
pub async fn serve(paths: Paths) -> Result<()> {
    let client = lab_api::client(&paths, "bmc")?;
    let shutdown = daemon::Shutdown::on_signals();
    let request =
        infra::WaitForBMCCommandRequest { partition: PARTITION.to_owned(), ..Default::default() };
    let bmc = client.bmc();
    let reports = async {
        loop {
            if let Err(error) = report(&client, &paths).await {
                tracing::warn!(error = format!("{error:#}"), "the BMCs are not reported");
            }
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    };
    let commands = client::follow(
        "bmc-commands",
        shutdown.wait(),
        || bmc.wait_for_bmc_command(request.clone()),
        |command| handle(&client, &paths, command),
    );
    tokio::join!(reports, commands);
    Ok(())
}

async fn handle(client: &Client, paths: &Paths, command: infra::WaitForBMCCommandResponse) {
    let infra::WaitForBMCCommandResponse { uuid, bmc_command, command_id, .. } = command;
    // a repeated keep-alive of the stream has no command
    if command_id.is_empty() {
        return;
    }
    let known = bmc_command.as_known().unwrap_or_default();
    let worker = {
        let (paths, uuid) = (paths.clone(), uuid.clone());
        tokio::task::spawn_blocking(move || execute(&paths, &uuid, known))
    };
    let result = worker.await.context("the command panicked").and_then(|result| result);
    let error = result.err().map(|error| format!("{error:#}"));
    tracing::info!(machine = uuid, command = ?known, command_id, error, "command done");
    let done = infra::BMCCommandDoneRequest { command_id, error, ..Default::default() };
    if let Err(error) = client.bmc().bmc_command_done(done).await {
        tracing::warn!(%error, machine = uuid, "the result of the command is not delivered");
    }
    if let Err(error) = report(client, paths).await {
        tracing::warn!(error = format!("{error:#}"), "the BMCs are not reported");
    }
}

/// What a BMC does; the contract's names for it.
fn execute(paths: &Paths, uuid: &str, command: Command) -> Result<()> {
    let machine = Machine::parse(uuid).with_context(|| format!("the lab has no machine {uuid}"))?;
    match command {
        Command::On => power::on(paths, machine),
        Command::Off => power::off(paths, machine),
        Command::Reset => power::reset(paths, machine),
        Command::Cycle => power::cycle(paths, machine),
        Command::BootFromDisk => power::boot_from(paths, machine, BootDevice::Disk),
        // a disk without boot sector would stop a BIOS: such a machine starts its system by the network
        Command::MachineCreated => match Shape::load(paths, machine)?.firmware {
            Firmware::Bios => Ok(()),
            Firmware::Uefi => power::boot_from(paths, machine, BootDevice::Disk),
        },
        Command::BootFromPxe => power::boot_from(paths, machine, BootDevice::Pxe),
        Command::MachineDeleted => {
            power::boot_from(paths, machine, BootDevice::Pxe)?;
            if power::is_on(paths, machine) {
                power::reset(paths, machine)
            } else {
                power::on(paths, machine)
            }
        }
        Command::BootToBios => bail!("the lab's machines have no setup to boot into"),
        Command::IdentifyLedOn | Command::IdentifyLedOff => set_led(paths, machine, command),
        Command::Unspecified => bail!("no command given"),
    }
}

fn led_file(paths: &Paths, machine: Machine) -> std::path::PathBuf {
    paths.machine(machine).join("led")
}

fn set_led(paths: &Paths, machine: Machine, command: Command) -> Result<()> {
    let value = if command == Command::IdentifyLedOn { "LED-ON" } else { "LED-OFF" };
    Ok(std::fs::write(led_file(paths, machine), value)?)
}

/// The BMC password of all machines: nothing outside the lab's folder is behind it.
const PASSWORD: &str = "lab-only";

async fn report(client: &Client, paths: &Paths) -> Result<()> {
    let bmc_reports = machines(paths).map(|shape| describe(paths, &shape)).collect();
    let request = infra::UpdateBMCInfoRequest {
        partition: PARTITION.to_owned(),
        bmc_reports,
        ..Default::default()
    };
    client.bmc().update_bmc_info(request).await?;
    Ok(())
}

/// Machines of the running lab whose UUID is their own: a duplicate has a BMC, but nobody can tell whose.
fn machines(paths: &Paths) -> impl Iterator<Item = Shape> {
    let shapes = Machine::every().filter_map(|machine| Shape::load(paths, machine).ok());
    shapes.filter(|shape| shape.uuid.is_none())
}

fn describe(paths: &Paths, shape: &Shape) -> MachineBMCReport {
    let machine = shape.machine;
    let power_state = if power::is_on(paths, machine) { "ON" } else { "OFF" };
    let led = std::fs::read_to_string(led_file(paths, machine));
    let now = jiff::Timestamp::now();
    let mut report = MachineBMCReport { uuid: shape.uuid(), ..Default::default() };
    report.bmc = api::MachineBMC {
        address: format!("10.255.1.{}:623", machine.number),
        mac: machine.bmc_mac(),
        user: "admin".to_owned(),
        password: PASSWORD.to_owned(),
        interface: "qmp".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        power_state: power_state.to_owned(),
        ..Default::default()
    }
    .into();
    report.fru = api::MachineFRU {
        chassis_part_serial: Some(machine.serial()),
        board_mfg: Some("metal".to_owned()),
        board_mfg_serial: Some(machine.serial()),
        board_part_number: Some("lab-board".to_owned()),
        product_manufacturer: Some("metal".to_owned()),
        product_part_number: Some("lab".to_owned()),
        product_serial: Some(machine.serial()),
        ..Default::default()
    }
    .into();
    report.led_state = api::MachineChassisIdentifyLEDState {
        value: led.unwrap_or_else(|_| "LED-OFF".to_owned()),
        ..Default::default()
    }
    .into();
    report.updated_at = buffa_types::google::protobuf::Timestamp {
        seconds: now.as_second(),
        nanos: now.subsec_nanosecond(),
        ..Default::default()
    }
    .into();
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_for_a_stranger_is_an_error() {
        let root = tempfile::tempdir().expect("folder");
        let paths = Paths::new(root.path()).expect("folder");
        let error = execute(&paths, "00000000-0000-0000-0000-000000000000", Command::On);
        assert!(error.expect_err("stranger").to_string().contains("no machine"), "says why");
    }

    #[test]
    fn the_led_and_the_boot_device_are_remembered() {
        let root = tempfile::tempdir().expect("folder");
        let paths = Paths::new(root.path()).expect("folder");
        let machine = Machine { number: 3 };
        Shape::usual(machine, Firmware::Uefi).save(&paths).expect("saved");
        execute(&paths, &machine.uuid(), Command::IdentifyLedOn).expect("led");
        execute(&paths, &machine.uuid(), Command::MachineCreated).expect("boot order");
        let shape = Shape::load(&paths, machine).expect("shape");
        assert_eq!(shape.boot, BootDevice::Disk);
        let report = describe(&paths, &shape);
        assert_eq!(report.led_state.as_option().map(|led| led.value.as_str()), Some("LED-ON"));
        assert_eq!(report.bmc.as_option().map(|bmc| bmc.power_state.as_str()), Some("OFF"));
    }
}

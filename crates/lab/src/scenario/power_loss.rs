//! A machine loses power in the middle of its installation, and once more when it is installed.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::stage::{Stage, Wish, address, events, phoned_home};
use super::{fabric_check, ssh};
use crate::api::Event;
use crate::power;
use crate::seed::OLD_IMAGE;
use crate::topology::Machine;

pub(super) async fn play(stage: &Stage) -> Result<String> {
    let machine = Machine { number: 1 };
    stage.until_waiting(machine).await?;
    let wish = Wish { image: OLD_IMAGE.to_owned(), ..stage.wish(machine, "unlucky") };
    stage.create(&wish).await?;
    stage.until_event(machine, Event::Installing).await?;
    // far enough to have written something, not far enough to be done
    tokio::time::sleep(Duration::from_secs(5)).await;
    power::off(&stage.paths, machine)?;
    let seen = stage.look(machine).await?;
    ensure!(!phoned_home(&seen), "the machine was faster than the power cut");
    stage.note("power cut while installing");
    ensure!(!power::is_on(&stage.paths, machine), "the power is still on");
    let before = count(&seen, Event::Installing);
    power::on(&stage.paths, machine)?;
    let seen = stage.until_phoned_home(machine).await?;
    ensure!(
        count(&seen, Event::Installing) > before && count(&seen, Event::PxeBooting) > 0,
        "nobody can see what happened: {:?}",
        events(&seen)
    );
    let address = address(&seen)?;
    ensure!(
        ssh::run(stage, machine, &address, "hostname")? == "unlucky",
        "another machine answers"
    );
    stage.note(
        "came back by the network, installed anew and phoned home; events show both installations",
    );

    // an installed machine is started again, not installed again
    let marker = ssh::run(stage, machine, &address, "echo kept | sudo tee /var/tmp/kept; sync")?;
    ensure!(marker == "kept", "the machine does not write");
    power::off(&stage.paths, machine)?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let installations = count(&stage.look(machine).await?, Event::Installing);
    power::on(&stage.paths, machine)?;
    let uptime = "cut -d. -f1 /proc/uptime; cat /var/tmp/kept";
    let alive = ssh::run(stage, machine, &address, uptime)?;
    ensure!(alive.ends_with("kept"), "the data of the user is gone: {alive}");
    fabric_check::both_leaves_have_route(stage, machine, &address)?;
    let seen = stage.look(machine).await?;
    ensure!(count(&seen, Event::Installing) == installations, "it was installed again");
    stage.note("after a second power cut the installed system runs again with its data");
    stage.give_back(machine, &wish.project).await?;
    Ok("power-loss: installed in spite of it, and kept what was installed".to_owned())
}

fn count(machine: &proto::api::Machine, wanted: Event) -> usize {
    events(machine).iter().filter(|(event, _)| *event == wanted).count()
}

//! Somebody works on a leaf by hand: it is seen, taken back, and told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use proto::{admin, api};

use super::leaf;
use super::probe::first_answer;
use super::stage::Stage;
use super::stand_in::StandIn;
use crate::device::Device;
use crate::topology::{LEAVES, Leaf, Machine};
use crate::{api as lab_api, shell};

/// How soon it is as it was, and told.
const PROMISE: Duration = Duration::from_secs(5);
/// How long packets may take afterwards.
const PATIENCE: Duration = Duration::from_secs(20);

/// What somebody does.
struct Hand {
    what: &'static str,
    act: Box<dyn Fn() -> Result<()>>,
    /// Whether it is as it should be.
    healed: Box<dyn Fn() -> Result<bool>>,
    /// What the report must name.
    told: String,
}

pub(super) async fn play(stage: &Stage) -> Result<String> {
    stage.needs_tenant_networks()?;
    let machine = |offset: u8| {
        let machine = Machine { number: stage.spec.machines + offset };
        StandIn::new(stage, stage.wish(machine, &format!("drift-{offset}")))
    };
    let (one, two) = (machine(1).await?, machine(2).await?);
    // everything goes by the first leaf
    for machine in [&one, &two] {
        machine.link(LEAVES[1], false)?;
    }
    let address = one.addresses[0];
    first_answer(&two, address, stage.patience(PATIENCE))?;

    let mut lines = Vec::new();
    for hand in hands(stage, LEAVES[0], &one.machine.port())? {
        let before = told(stage).await?;
        let begin = Instant::now();
        (hand.act)().with_context(|| hand.what.to_owned())?;
        // done for sure before it is looked for
        let (mut healed, mut reported) = (None, None);
        while healed.is_none() || reported.is_none() {
            let passed = begin.elapsed();
            ensure!(
                passed <= stage.patience(PROMISE),
                "{}: healed {healed:?}, told {reported:?} after {PROMISE:?}; last told: {:?}",
                hand.what,
                told(stage).await?
            );
            if healed.is_none() && (hand.healed)()? {
                healed = Some(passed);
            }
            let now = told(stage).await?;
            if reported.is_none()
                && now.time != before.time
                && now.error.as_ref().is_some_and(|error| error.contains(&hand.told))
            {
                stage.note(&format!("{}: {}", hand.what, now.error.unwrap_or_default()));
                reported = Some(passed);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let answered = first_answer(&two, address, stage.patience(PATIENCE))?.duration_since(begin);
        let times = [healed.unwrap_or_default(), reported.unwrap_or_default(), answered];
        let [healed, told, answered] = times.map(|time| format!("{:.1} s", time.as_secs_f64()));
        stage.note(&format!(
            "{}: healed after {healed}, told after {told}, packets after {answered}",
            hand.what
        ));
        lines.push(format!("{} {healed}", hand.what));
    }
    shown(stage)?;
    let calm = told(stage).await?;
    tokio::time::sleep(stage.patience(PROMISE)).await;
    ensure!(told(stage).await?.time == calm.time, "there is more: {:?}", told(stage).await?.error);
    for machine in [&one, &two] {
        stage.delete(machine.machine, &stage.seed.project).await?;
    }
    leaf::until_empty(stage).await?;
    Ok(format!("drift: healed and told: {}", lines.join(", ")))
}

fn hands(stage: &Stage, leaf: Leaf, port: &str) -> Result<Vec<Hand>> {
    let at: Arc<dyn Device> = stage.device(leaf).into();
    let vrf = at.vrf_of(port)?.with_context(|| format!("{port} is in no VRF"))?;
    let router = format!("router bgp {}", leaf.asn());
    let map = format!("metal-{port}-in");
    let running = {
        let at = at.clone();
        move || at.vtysh(&["show running-config"])
    };
    let configure = {
        let at = at.clone();
        move |lines: Vec<String>| {
            let lines = std::iter::once("configure terminal".to_owned()).chain(lines);
            let lines: Vec<_> = lines.collect();
            at.vtysh(&lines.iter().map(String::as_str).collect::<Vec<_>>()).map(drop)
        }
    };
    let there = {
        let (at, vrf, port) = (at.clone(), vrf.clone(), port.to_owned());
        move || Ok(at.vrf_of(&port)?.as_ref() == Some(&vrf))
    };
    let moves = {
        let (at, vrf, port) = (at.clone(), vrf.clone(), port.to_owned());
        move || at.take_out(&vrf, &port)
    };
    let into_boot = {
        let (at, moves, port) = (at.clone(), moves.clone(), port.to_owned());
        move || {
            moves()?;
            at.run(&["ip", "link", "set", &port, "master", "boot"])?;
            at.run(&["ip", "link", "set", &port, "up"]).map(drop)
        }
    };
    let has_tunnel = {
        let (at, vrf) = (at.clone(), vrf.clone());
        move || at.has_tunnel(&vrf)
    };
    let cut_tunnel = {
        let vrf = vrf.clone();
        move || at.cut_tunnel(&vrf)
    };
    let (neighbour, lists) = (router.clone(), map.clone());
    let (open, flushed, filter) = (map.clone(), map.clone(), map.clone());
    Ok(vec![
        Hand {
            what: "a foreign neighbour",
            act: {
                let configure = configure.clone();
                Box::new(move || {
                    configure(vec![neighbour.clone(), "neighbor 10.9.9.9 remote-as 7".to_owned()])
                })
            },
            healed: {
                let running = running.clone();
                Box::new(move || Ok(!running()?.contains("10.9.9.9")))
            },
            told: "10.9.9.9".to_owned(),
        },
        Hand {
            what: "a wider filter",
            act: {
                let configure = configure.clone();
                Box::new(move || {
                    configure(vec![format!(
                        "ip prefix-list {lists} seq 7 permit 10.66.0.0/16 le 32"
                    )])
                })
            },
            healed: {
                let running = running.clone();
                Box::new(move || Ok(!running()?.contains("10.66.0.0/16")))
            },
            told: "10.66.0.0/16".to_owned(),
        },
        Hand {
            what: "a flushed route map",
            act: Box::new(move || configure(vec![format!("no route-map {flushed}")])),
            healed: Box::new(move || {
                Ok(running()?.contains(&format!("route-map {filter} deny 99")))
            }),
            told: format!("route-map {open}"),
        },
        Hand {
            what: "a VXLAN network removed",
            act: Box::new(cut_tunnel),
            healed: Box::new(has_tunnel),
            told: format!("make {vrf}"),
        },
        Hand {
            what: "a port taken out of its VRF",
            act: Box::new(moves),
            healed: Box::new(there.clone()),
            told: format!("put {port} into {vrf}"),
        },
        Hand {
            what: "a port put into the boot network",
            act: Box::new(into_boot),
            healed: Box::new(there),
            told: format!("put {port} into {vrf}"),
        },
    ])
}

/// The last error that the control plane heard from the first leaf.
async fn told(stage: &Stage) -> Result<api::SwitchSync> {
    let request = admin::SwitchServiceGetRequest { id: LEAVES[0].name(), ..Default::default() };
    let answer = stage.client.admin_switch().get(request).await.context("switch")?.into_owned();
    let switch = answer.switch.into_option().context("no switch in the answer")?;
    Ok(switch.last_sync_error.into_option().unwrap_or_default())
}

/// An operator sees it, too.
fn shown(stage: &Stage) -> Result<()> {
    let secret = std::fs::read_to_string(stage.paths.token(lab_api::ADMIN))?;
    let program = stage.paths.program("metalctl").display().to_string();
    let mut metalctl = shell::command(&program, ["switch", "describe", &LEAVES[0].name()]);
    metalctl.env("METAL_APIV2_URL", crate::topology::api_url());
    metalctl.env("METAL_APIV2_TOKEN", secret.trim());
    let text = shell::run(&mut metalctl)?;
    ensure!(text.contains("somebody changed the switch"), "metalctl does not show it:\n{text}");
    Ok(())
}

//! From the first instruction to a configuration: cards, addresses, identity.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use proto::api::MachineProvisioningEventType as Event;

use super::{Context, Failure};
use crate::api::{Api, fetch_config};
use crate::config::Config;
use crate::console::{phase, say};
use crate::hardware::{self, Roots, dmi};
use crate::neighbour::Neighbours;
use crate::network::Network;
use crate::nic::{self, Nic};
use crate::report::Reporter;
use crate::{clock, system};

/// How long drivers may take to show the first card.
const CARDS: Duration = Duration::from_secs(20);
/// How long the boot service may be away before the machine starts over, which lets firmware try other cards.
const CONFIGURATION: Duration = Duration::from_secs(600);

/// Brings the machine up until the API can be called.
///
/// # Errors
/// When the machine has no identity, no network card or no boot service.
pub fn discover() -> Result<Context, Failure> {
    let (began, clock) = (SystemTime::now(), Instant::now());
    system::mount_all();
    system::load_modules();
    system::feed_watchdog();
    let version = env!("CARGO_PKG_VERSION");
    say(&format!("boot      metal-installer {version}, Linux {}", system::kernel_release()));
    let roots = Roots::default();
    let uuid = dmi::uuid(&roots).ok_or_else(|| Failure {
        phase: "boot",
        reason: "the firmware tells no UUID of this machine: set one in the firmware's settings"
            .into(),
    })?;
    let nics = wait_for_cards(&roots)?;
    let network = Network::start(&nics, uuid);
    let uuid = uuid.to_string();
    let neighbours = Neighbours::start(&nics, &uuid);
    let names: Vec<_> =
        nics.iter().map(|nic| format!("{} {}", nic.name, nic::format_mac(nic.mac))).collect();
    say(&format!("boot      {uuid}, {}", names.join(", ")));
    let config = wait_for_config(&network, &uuid)?;
    if let Some(text) = clock::set(&config.ntp_servers) {
        say(&format!("clock     {text}"));
    }
    let api = Api::new(&config, &uuid, &network).map_err(Failure::of("network"))?;
    let reporter = Reporter::start(&api);
    reporter.event(Event::Preparing, format!("metal-installer {version}"));
    let first =
        network.leases().first().map(|(nic, lease)| format!("{} by {}", lease.address, nic.name));
    reporter.finished("network", began, clock.elapsed(), &first.unwrap_or_default());
    Ok(Context { uuid, roots, config, nics, network, neighbours, api, reporter })
}

fn wait_for_cards(roots: &Roots) -> Result<Vec<Nic>, Failure> {
    let deadline = Instant::now() + CARDS;
    loop {
        let nics = hardware::cards(roots);
        if !nics.is_empty() {
            return Ok(nics);
        }
        if Instant::now() > deadline {
            return Err(Failure {
                phase: "boot",
                reason: "no network card appeared: the initrd lacks its driver, or there is none"
                    .into(),
            });
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn wait_for_config(network: &Network, uuid: &str) -> Result<Config, Failure> {
    let deadline = Instant::now() + CONFIGURATION;
    let mut pause = Duration::from_millis(200);
    loop {
        let ready = |leases: &[(Nic, crate::lease::Lease)]| {
            leases.iter().any(|(_, l)| l.config_url.is_some())
        };
        let leases = network.wait(Duration::from_secs(15), ready);
        if !ready(&leases) {
            let carriers: Vec<_> = leases.iter().map(|(nic, _)| nic.name.clone()).collect();
            say(&match carriers.as_slice() {
                [] => "network   no address on any card yet; is a boot service running, is a cable plugged in?".into(),
                some => format!("network   {} got an address, but no boot service (DHCP option 224)", some.join(", ")),
            });
        } else if let Some(config) = fetch_config(network) {
            if config.uuid.eq_ignore_ascii_case(uuid) {
                let url = leases
                    .iter()
                    .find_map(|(_, lease)| lease.config_url.clone())
                    .unwrap_or_default();
                say(&phase(
                    "config",
                    &format!("{url}, partition {}", config.partition),
                    Duration::ZERO,
                ));
                return Ok(config);
            }
            say(&format!(
                "config    the boot service takes us for {}, but the firmware says {uuid}",
                config.uuid
            ));
        }
        if Instant::now() > deadline {
            return Err(Failure {
                phase: "network",
                reason: "no boot service gave a configuration for ten minutes".into(),
            });
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Waits until controllers that start in the background have shown their disks.
pub fn wait_for_disks(roots: &Roots) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline && !ready(&roots.sys) {
        thread::sleep(Duration::from_millis(20));
    }
}

fn ready(sys: &Path) -> bool {
    let Ok(controllers) = std::fs::read_dir(sys.join("class/nvme")) else { return true };
    controllers.flatten().all(|controller| {
        let state = hardware::read_text(&controller.path().join("state"));
        !matches!(state.as_str(), "new" | "resetting" | "connecting")
    })
}

//! Stories in the lab, unattended and with assertions. Each is a file; [`stage`] has what they share.

mod announce;
mod autonomy;
mod bad_image;
mod bench;
mod drift;
mod fabric_check;
mod firewall;
mod firewalls;
mod identity;
mod isolation;
mod leaf;
mod misfits;
mod move_ports;
mod power_loss;
mod probe;
mod provision;
mod redundancy;
mod scale;
mod server_crash;
mod ssh;
mod stage;
mod stand_in;
mod timeline;
mod wire;

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::paths::Paths;
use crate::spec::Spec;
use crate::{down, up};
use stage::Stage;

/// A story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// Allocate, use, delete and allocate again: the product's main path.
    Provision,
    /// The control plane is killed while machines wait, install, boot and are deleted.
    ServerCrash,
    /// Images with a wrong digest, cut off, or not there.
    BadImage,
    /// A machine loses power while it is installed.
    PowerLoss,
    /// Machines that do not fit: unknown size, one leaf, somebody's UUID, a small disk, no disk.
    Misfits,
    /// Somebody on the boot network wants to be another machine.
    Identity,
    /// Two projects with the same addresses; needs the fabric `netns` or `vm` and no machines.
    Isolation,
    /// A link is cut, a leaf loses power or hangs; as `Isolation`, and so are those that follow.
    Redundancy,
    /// New addresses of a machine, asked for and reached from the other leaf.
    Announce,
    /// A machine goes from one project to another with the same addresses.
    Move,
    /// Somebody works on a leaf by hand.
    Drift,
    /// Leaves and machines start again while the control plane is away.
    Autonomy,
    /// A tenant behind a firewall and the internet in front of it; needs the fabric `netns` and one machine.
    Firewall,
    /// Two firewalls of one network, one of which goes; needs the fabric `netns` and two machines.
    Firewalls,
    /// Five hundred agents of switches; no machines and no leaves of these.
    Scale,
}

/// Plays stories one after the other, in the running lab or in one that lives as long as they do.
///
/// # Errors
/// The first assertion that does not hold.
pub fn play(paths: &Paths, spec: Spec, names: &[Name], keep: bool) -> Result<()> {
    within_lab(paths, spec, keep, |runtime| {
        for name in names {
            let stage = Stage::new(paths, *name)?;
            let last_line = runtime.block_on(one(&stage, *name))?;
            println!("{last_line}");
        }
        Ok(())
    })
}

/// Measures.
///
/// # Errors
/// A machine does not come up.
pub fn measure(paths: &Paths, spec: Spec, rounds: u8, keep: bool) -> Result<()> {
    within_lab(paths, spec, keep, |runtime| {
        let stage = Stage::new(paths, Name::Provision)?;
        println!("{}", runtime.block_on(bench::play(&stage, rounds))?);
        Ok(())
    })
}

async fn one(stage: &Stage, name: Name) -> Result<String> {
    match name {
        Name::Provision => provision::play(stage).await,
        Name::ServerCrash => server_crash::play(stage).await,
        Name::BadImage => bad_image::play(stage).await,
        Name::PowerLoss => power_loss::play(stage).await,
        Name::Misfits => misfits::play(stage).await,
        Name::Identity => identity::play(stage).await,
        Name::Isolation => isolation::play(stage).await,
        Name::Redundancy => redundancy::play(stage).await,
        Name::Announce => announce::play(stage).await,
        Name::Move => move_ports::play(stage).await,
        Name::Drift => drift::play(stage).await,
        Name::Autonomy => autonomy::play(stage).await,
        Name::Firewall => firewall::play(stage).await,
        Name::Firewalls => firewalls::play(stage).await,
        Name::Scale => scale::play(stage).await,
    }
}

fn within_lab(
    paths: &Paths,
    spec: Spec,
    keep: bool,
    work: impl FnOnce(&Runtime) -> Result<()>,
) -> Result<()> {
    let ours = !up::runs(paths);
    let result = up::up(paths, spec).and_then(|()| work(&Runtime::new()?));
    if ours && !keep {
        let cleaned = down::down(paths);
        return result.and(cleaned);
    }
    result
}

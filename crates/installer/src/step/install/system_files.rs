//! The installed system's identity and files.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use proto::api::{MachineAllocation, MachineAllocationType};
use ssh_key::{Algorithm, LineEnding, PrivateKey, rand_core::OsRng};

use super::lay::Laid;
use crate::console::say;
use crate::nic::format_mac;
use crate::os::{self, Existing, Machine, account, firewall};
use crate::step::Context;
use crate::untar;

/// The program that tells the leaves that the system runs, in the initrd and in the installed system.
const PHONE_HOME: &str = "usr/sbin/metal-phone-home";

const PHONE_HOME_UNIT: &str = "[Unit]
Description=Tells the switches by LLDP that this machine is provisioned
After=frr.service ssh.service

[Service]
ExecStart=/usr/sbin/metal-phone-home
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
";

/// How long the API may be away.
const PATIENCE: Duration = Duration::from_secs(600);

/// What is made afresh for every installation.
#[derive(Clone)]
pub(super) struct Identity {
    /// For the serial console; the API keeps it for operators.
    pub(super) password: String,
    hash: String,
    machine_id: String,
    host_key: (String, String),
}

impl Identity {
    /// Takes a moment: hashing a password is slow on purpose.
    pub(super) fn new() -> Result<Self, String> {
        let password = account::random_text(16);
        let hash = account::hash(&password, &account::random_text(16).replace('-', "/"))?;
        let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).map_err(|e| e.to_string())?;
        let private = key.to_openssh(LineEnding::LF).map_err(|e| e.to_string())?.to_string();
        let public = key.public_key().to_openssh().map_err(|e| e.to_string())?;
        let machine_id = uuid::Uuid::new_v4().simple().to_string();
        Ok(Self { password, hash, machine_id, host_key: (private, public) })
    }
}

/// Decides and writes.
pub(super) fn write(
    context: &Context,
    allocation: &MachineAllocation,
    laid: &Laid,
    since: &str,
    target: &Path,
) -> Result<((), String)> {
    let identity = &laid.identity;
    let machine = Machine {
        allocation,
        uuid: context.uuid.clone(),
        partition: context.config.partition.clone(),
        links: links(context),
        since: since.to_owned(),
        fstab: laid.plan.fstab.clone(),
        password_hash: identity.hash.clone(),
        today: jiff::Timestamp::now().as_second() / 86_400,
        machine_id: identity.machine_id.clone(),
        host_key: identity.host_key.clone(),
        agent: agent(context, allocation)?,
    };
    let files = os::files(&machine, &Existing::read(target)).map_err(|reason| anyhow!(reason))?;
    let count = files.len();
    let folder = target.to_owned();
    let written = thread::spawn(move || untar::jail(&folder).and_then(|()| os::write(&files)));
    written.join().map_err(|_| anyhow!("a panic"))?.context("a file cannot be written")?;
    phone_home(target).context("metal-phone-home cannot be installed")?;
    if machine.agent.is_some() {
        bring(firewall::PROGRAM, target)?;
    }
    Ok(((), format!("{}, {count} files", allocation.hostname)))
}

/// The way to the control plane of a firewall's agent, whose token may do nothing else. A machine of a user has none.
fn agent(context: &Context, allocation: &MachineAllocation) -> Result<Option<firewall::Agent>> {
    if allocation.allocation_type.as_known() != Some(MachineAllocationType::Firewall) {
        return Ok(None);
    }
    let token =
        context.api.firewall_token(PATIENCE).context("no token for the firewall's agent")?;
    let api_url = context.config.api_url.clone();
    Ok(Some(firewall::Agent { api_url, ca_cert: context.config.ca_cert.clone(), token }))
}

/// A program that the image does not bring comes from the initrd.
fn bring(program: &str, target: &Path) -> Result<()> {
    let (ours, theirs) = (Path::new("/").join(program), target.join(program));
    if theirs.exists() {
        return Ok(());
    }
    fs::copy(&ours, &theirs)
        .with_context(|| format!("neither the image nor the initrd has /{program}"))?;
    Ok(fs::set_permissions(&theirs, fs::Permissions::from_mode(0o755))?)
}

/// Cards with a leaf at the other end; all of them when nobody is heard.
fn links(context: &Context) -> Vec<String> {
    let heard = context.nics.iter().filter(|nic| !context.neighbours.of(nic.index).is_empty());
    let mut macs: Vec<_> = heard.map(|nic| format_mac(nic.mac)).collect();
    if macs.is_empty() {
        macs = context.nics.iter().map(|nic| format_mac(nic.mac)).collect();
    }
    macs
}

/// Into images that do not bring it.
fn phone_home(target: &Path) -> Result<()> {
    let (ours, theirs) = (Path::new("/").join(PHONE_HOME), target.join(PHONE_HOME));
    if theirs.exists() {
        return Ok(());
    }
    if !ours.exists() {
        say(
            "configure neither the image nor the initrd has metal-phone-home: nobody will hear that the system runs",
        );
        return Ok(());
    }
    fs::copy(&ours, &theirs)?;
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o755))?;
    let units = target.join("etc/systemd/system");
    fs::create_dir_all(units.join("multi-user.target.wants"))?;
    fs::write(units.join("metal-phone-home.service"), PHONE_HOME_UNIT)?;
    let link = units.join("multi-user.target.wants/metal-phone-home.service");
    let _ = fs::remove_file(&link);
    symlink("/etc/systemd/system/metal-phone-home.service", link)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_installation_has_its_own_identity() {
        let (one, two) = (Identity::new().unwrap(), Identity::new().unwrap());
        assert_ne!(one.password, two.password);
        assert_ne!(one.host_key, two.host_key);
        assert_ne!(one.machine_id, two.machine_id);
        let salt = one.hash.split('$').nth(2).unwrap();
        assert_eq!(account::hash(&one.password, salt).unwrap(), one.hash);
        let key = PrivateKey::from_openssh(&one.host_key.0).unwrap();
        assert_eq!(key.public_key().to_openssh().unwrap(), one.host_key.1);
    }
}

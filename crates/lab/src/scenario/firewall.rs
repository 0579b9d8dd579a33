//! A project with a private network, a machine and a firewall: what reaches what, told by packets.
//!
//! The firewall is a real guest, installed like every machine. The machine behind it and the internet are namespaces.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use proto::{api, ext};

use super::ssh;
use super::stage::{Stage, Wish};
use super::stand_in::StandIn;
use super::wire::{Ear, Line};
use crate::internet::SOMEBODY;
use crate::seed;
use crate::topology::{INTERNET, Machine, SERVICE_ADDRESS};

/// How long routes may take to be where they belong.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long a changed rule may take to be true for packets.
const EFFECTIVE: Duration = Duration::from_secs(2);
/// Attempts at what must not succeed.
const ATTEMPTS: usize = 5;

/// Open to the outside from the start, and all the time.
pub(super) const HTTPS: u16 = 443;
/// Opened later.
const LATER: u16 = 8443;
/// Open from the outside to the machine's own address.
pub(super) const SERVICE: u16 = 8080;
/// Never open.
const CLOSED: u16 = 8081;
const SSH: u16 = 22;
/// Label of a firewall's allocation.
const DISTANCE: &str = "firewall.metal-stack.io/distance";

pub(super) async fn play(stage: &Stage) -> Result<String> {
    stage.needs_tenant_networks()?;
    ensure!(stage.spec.machines > 0, "this story needs a machine that becomes a firewall: `-n 1`");
    seed::create_namespaced(&stage.client).await?;
    let project = seed::create_project(&stage.client, &stage.seed.tenant, "walled").await?;
    let network =
        seed::create_namespaced_network(&stage.client, &project, "walled-private").await?;
    let inside = |offset: u8, name: &str| Wish {
        project: project.clone(),
        network: network.id.clone(),
        ..stage.wish(Machine { number: stage.spec.machines + offset }, name)
    };
    let mut machine = StandIn::new(stage, inside(1, "behind")).await?;
    let neighbour = StandIn::new(stage, inside(2, "beside")).await?;
    let world = Ear::open(INTERNET, &[HTTPS, LATER, CLOSED])?;
    let home = Ear::open(&machine.machine.namespace(), &[SERVICE, CLOSED])?;

    for address in &neighbour.addresses {
        machine.reaches(*address, stage.patience(PATIENCE))?;
    }
    reaches_nobody(&machine, "without a firewall")?;
    stage.note("without a firewall the network reaches itself and nothing else");

    let firewall = Wall::build(stage, &project, &network.id, Machine { number: 1 }).await?;
    through(stage, &mut machine, &firewall, &world, &home).await?;
    let late = change(stage, &machine, &firewall, &world).await?;
    management(stage, &machine, &firewall)?;

    stage.delete(firewall.machine, &project).await?;
    let begin = Instant::now();
    while Line::open(&machine.machine.namespace(), machine.addresses[0], to(0, HTTPS))?.is_some() {
        ensure!(
            begin.elapsed() < stage.patience(PATIENCE),
            "the machine still gets out without its firewall"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    reaches_nobody(&machine, "after the firewall")?;
    stage.note("the firewall is deleted: the network is alone again");
    for machine in [&machine, &neighbour] {
        stage.delete(machine.machine, &project).await?;
    }
    stage.until_waiting(firewall.machine).await?;
    Ok(format!(
        "firewall: out by masquerade, in by static addresses, the rest dropped and counted; a rule is effective after {late:.2} s"
    ))
}

/// Somebody in the internet, by address family.
pub(super) fn to(family: usize, port: u16) -> SocketAddr {
    SocketAddr::new(SOMEBODY[family], port)
}

/// Neither the internet nor the underlay nor the control plane answers.
fn reaches_nobody(machine: &StandIn, when: &str) -> Result<()> {
    let namespace = machine.machine.namespace();
    for own in &machine.addresses {
        let mut targets = vec![SocketAddr::new(SOMEBODY[usize::from(own.is_ipv6())], HTTPS)];
        if own.is_ipv4() {
            targets.push(SocketAddr::new(SERVICE_ADDRESS.into(), crate::topology::API_PORT));
        }
        for target in targets {
            let line = Line::open(&namespace, *own, target)?;
            ensure!(line.is_none(), "{when} the machine reaches {target} from {own}");
        }
    }
    Ok(())
}

/// The firewall of the story.
pub(super) struct Wall {
    pub(super) machine: Machine,
    project: String,
    /// Its address in the internet.
    pub(super) outside: IpAddr,
    /// Of several the one with the smallest is used.
    pub(super) distance: String,
    /// Its addresses in the private network.
    private: Vec<IpAddr>,
}

impl Wall {
    pub(super) async fn build(
        stage: &Stage,
        project: &str,
        network: &str,
        machine: Machine,
    ) -> Result<Self> {
        stage.until_waiting(machine).await?;
        let wish = Wish {
            project: project.to_owned(),
            network: network.to_owned(),
            ..stage.wish(machine, "wall")
        };
        let mut request = stage.request(&wish)?;
        request.allocation_type = api::MachineAllocationType::Firewall.into();
        let internet = seed::INTERNET.to_owned();
        request
            .networks
            .push(api::MachineAllocationNetwork { network: internet, ..Default::default() });
        request.firewall_spec =
            api::FirewallSpec { firewall_rules: rules(&[HTTPS]).into(), ..Default::default() }
                .into();
        let begin = Instant::now();
        stage.client.machine().create(request).await.context("the firewall is not created")?;
        let seen = stage.until_phoned_home(machine).await?;
        stage.note(&format!(
            "the firewall phoned home {:.1} s after its allocation",
            begin.elapsed().as_secs_f64()
        ));
        let allocation = seen.allocation.as_option().context("not allocated")?;
        let addresses = |network: &str| -> Result<Vec<IpAddr>> {
            let found = allocation.networks.iter().find(|n| n.network == network);
            let ips = &found.with_context(|| format!("it is not in {network}"))?.ips;
            ips.iter().map(|ip| Ok(ip.parse()?)).collect()
        };
        let outside = addresses(seed::INTERNET)?;
        let outside = outside.into_iter().find(IpAddr::is_ipv4).context("no address outside")?;
        let private = addresses(network)?;
        let labels = allocation.meta.as_option().and_then(|meta| meta.labels.as_option());
        let distance = labels.and_then(|labels| labels.labels.get(DISTANCE)).cloned();
        let distance = distance.context("it has no distance")?;
        Ok(Self { machine, project: project.to_owned(), outside, distance, private })
    }

    pub(super) async fn status(&self, stage: &Stage) -> Result<ext::FirewallStatus> {
        let request = ext::FirewallServiceStatusRequest {
            uuid: self.machine.uuid(),
            project: self.project.clone(),
            ..Default::default()
        };
        let answer = stage.client.firewall().status(request).await.context("status")?;
        answer.into_owned().status.into_option().context("no status")
    }

    async fn update(&self, stage: &Stage, rules: api::FirewallRules) -> Result<()> {
        let (uuid, project) = (self.machine.uuid(), self.project.clone());
        let get = ext::FirewallServiceGetRequest {
            uuid: uuid.clone(),
            project: project.clone(),
            ..Default::default()
        };
        let seen = stage.client.firewall().get(get).await.context("the rules cannot be read")?;
        let seen = seen.into_owned().firewall.into_option().context("no firewall")?;
        let updated_at = seen.meta.into_option().context("no meta")?.updated_at;
        let request = ext::FirewallServiceUpdateRequest {
            uuid,
            project,
            update_meta: api::UpdateMeta { updated_at, ..Default::default() }.into(),
            rules: rules.into(),
            ..Default::default()
        };
        stage.client.firewall().update(request).await.context("the rules cannot be changed")?;
        Ok(())
    }
}

/// Out by TCP to these ports, in to one service, for both address families.
fn rules(out: &[u16]) -> api::FirewallRules {
    let mut rules = api::FirewallRules::default();
    for (all, family) in [("0.0.0.0/0", "four"), ("::/0", "six")] {
        rules.egress.push(api::FirewallEgressRule {
            protocol: api::IPProtocol::IP_PROTOCOL_TCP.into(),
            ports: out.iter().map(|port| u32::from(*port)).collect(),
            to: vec![all.to_owned()],
            comment: format!("out by {family}"),
            ..Default::default()
        });
        rules.ingress.push(api::FirewallIngressRule {
            protocol: api::IPProtocol::IP_PROTOCOL_TCP.into(),
            ports: vec![SERVICE.into()],
            from: vec![all.to_owned()],
            comment: format!("in by {family}"),
            ..Default::default()
        });
    }
    rules
}

/// Out by the firewall's address, out and in by addresses of the machine's own, and no more than the rules say.
async fn through(
    stage: &Stage,
    machine: &mut StandIn,
    firewall: &Wall,
    world: &Ear,
    home: &Ear,
) -> Result<()> {
    let namespace = machine.machine.namespace();
    let private = machine.addresses[0];
    ensure!(private.is_ipv4(), "the first address is {private}");
    let begin = Instant::now();
    let mut line =
        until(stage, begin, "the way out", || Line::open(&namespace, private, to(0, HTTPS)))?;
    ensure!(line.echoes()?, "nobody answers on the line");
    let seen = world.last(HTTPS).context("nobody came")?;
    ensure!(seen == firewall.outside, "seen outside is {seen}, not {}", firewall.outside);
    stage.note(&format!(
        "out by masquerade as {seen}, {:.1} s after it phoned home",
        begin.elapsed().as_secs_f64()
    ));

    let own = static_addresses(stage, machine, &firewall.project).await?;
    for (family, own) in own.iter().enumerate() {
        let begin = Instant::now();
        let there = SocketAddr::new(*own, SERVICE);
        let mut line = until(stage, begin, &format!("the way in to {own}"), || {
            Line::open(INTERNET, SOMEBODY[family], there)
        })?;
        ensure!(line.echoes()?, "nobody answers at {there}");
        let seen = home.last(SERVICE).context("nobody came")?;
        ensure!(
            seen == SOMEBODY[family],
            "the machine sees {seen} instead of {}",
            SOMEBODY[family]
        );
        // the other leaf may still be on its way to know it
        let mut line = until(stage, begin, &format!("the way out by {own}"), || {
            Line::open(&namespace, *own, to(family, HTTPS))
        })?;
        ensure!(line.echoes()?, "nobody answers from outside");
        let seen = world.last(HTTPS).context("nobody came")?;
        ensure!(seen == *own, "seen outside is {seen}, not {own}");
        stage.note(&format!(
            "static {own}: in and out with its own address, {:.1} s after it was asked for",
            begin.elapsed().as_secs_f64()
        ));
    }

    let before = drops(&firewall.status(stage).await?);
    for _ in 0..ATTEMPTS {
        for (family, own) in own.iter().enumerate() {
            let out = Line::open(&namespace, *own, to(family, LATER))?;
            ensure!(out.is_none(), "port {LATER} is open to the outside");
            let into = Line::open(INTERNET, SOMEBODY[family], SocketAddr::new(*own, CLOSED))?;
            ensure!(into.is_none(), "port {CLOSED} is open from the outside");
        }
    }
    for private in &machine.addresses[..1] {
        let there = SocketAddr::new(*private, SERVICE);
        let line = Line::open(INTERNET, SOMEBODY[0], there)?;
        ensure!(line.is_none(), "the private address {private} is reached from the outside");
    }
    ensure!(home.last(CLOSED).is_none() && world.last(LATER).is_none(), "somebody came through");
    let begin = Instant::now();
    loop {
        let status = firewall.status(stage).await?;
        let dropped = drops(&status).saturating_sub(before);
        if dropped >= 4 * ATTEMPTS as u64 {
            let passed: Vec<_> =
                status.rules.iter().map(|rule| format!("{} {}", rule.name, rule.packets)).collect();
            stage.note(&format!(
                "{dropped} packets dropped and counted; passed: {}",
                passed.join(", ")
            ));
            ensure!(status.error.is_empty(), "the firewall reports {}", status.error);
            return Ok(());
        }
        ensure!(
            begin.elapsed() < stage.patience(PATIENCE),
            "only {dropped} drops are counted: {status:?}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// An address of the internet for the machine in each family.
pub(super) async fn static_addresses(
    stage: &Stage,
    machine: &mut StandIn,
    project: &str,
) -> Result<Vec<IpAddr>> {
    let mut own = Vec::new();
    for family in [api::IPAddressFamily::V4, api::IPAddressFamily::V6] {
        let request = api::IPServiceCreateRequest {
            network: seed::INTERNET.to_owned(),
            project: project.to_owned(),
            r#type: Some(api::IPType::Static.into()),
            address_family: Some(family.into()),
            ..Default::default()
        };
        let answer = stage.client.ip().create(request).await.context("static address")?;
        let ip = answer.into_owned().ip.into_option().context("no address")?.ip;
        let ip: IpAddr = ip.parse()?;
        machine.add(ip)?;
        own.push(ip);
    }
    Ok(own)
}

fn drops(status: &ext::FirewallStatus) -> u64 {
    status.drops.iter().map(|counter| counter.packets).sum()
}

/// A port is opened while somebody talks over another one; then the first one is closed.
async fn change(stage: &Stage, machine: &StandIn, firewall: &Wall, world: &Ear) -> Result<f64> {
    let namespace = machine.machine.namespace();
    let private = machine.addresses[0];
    let mut kept = Line::open(&namespace, private, to(0, HTTPS))?.context("no way out")?;
    ensure!(kept.echoes()?, "the line is dead before the change");
    firewall.update(stage, rules(&[HTTPS, LATER])).await?;
    let begin = Instant::now();
    let mut opened =
        until(stage, begin, "the new rule", || Line::open(&namespace, private, to(0, LATER)))?;
    let seconds = begin.elapsed();
    ensure!(seconds <= stage.patience(EFFECTIVE), "a new rule is effective after {seconds:?} only");
    ensure!(opened.echoes()? && kept.echoes()?, "a line that stays allowed was dropped");
    stage.note(&format!(
        "port {LATER} is open {:.2} s after the change, and a line over port {HTTPS} goes on",
        seconds.as_secs_f64()
    ));

    firewall.update(stage, rules(&[HTTPS])).await?;
    let begin = Instant::now();
    let mut last = Duration::ZERO;
    while Line::open(&namespace, private, to(0, LATER))?.is_some() {
        last = begin.elapsed();
        ensure!(
            last <= stage.patience(EFFECTIVE),
            "a rule that is gone still lets pass after {last:?}"
        );
    }
    ensure!(kept.echoes()?, "a line that stays allowed was dropped by the second change");
    stage.note(&format!(
        "the last line over port {LATER} was opened {:.2} s after it was closed again, the {}th",
        last.as_secs_f64(),
        world.count(LATER)
    ));
    Ok(seconds.as_secs_f64())
}

/// The firewall itself is reached from the underlay and from nowhere else.
fn management(stage: &Stage, machine: &StandIn, firewall: &Wall) -> Result<()> {
    for address in &firewall.private {
        let own = machine.addresses.iter().find(|own| own.is_ipv4() == address.is_ipv4());
        let own = *own.context("no address of that family")?;
        let line = Line::open(&machine.machine.namespace(), own, SocketAddr::new(*address, SSH))?;
        ensure!(line.is_none(), "a tenant reaches ssh of the firewall at {address}");
    }
    let there = SocketAddr::new(firewall.outside, SSH);
    ensure!(
        Line::open(INTERNET, SOMEBODY[0], there)?.is_none(),
        "the internet reaches ssh of the firewall at {there}"
    );
    let hostname = ssh::run(stage, firewall.machine, "", "hostname")?;
    ensure!(hostname == "wall", "the firewall calls itself {hostname}");
    let failed = ssh::run(
        stage,
        firewall.machine,
        "",
        "systemctl --failed --no-legend --plain; sudo stat -c %a /etc/metal/firewall.token",
    )?;
    ensure!(failed == "600", "units that failed, and the mode of the token: {failed}");
    stage.note("ssh from the management side only; the agent's token is root's alone");
    Ok(())
}

/// Tries until it is there.
pub(super) fn until<T>(
    stage: &Stage,
    begin: Instant,
    what: &str,
    look: impl Fn() -> Result<Option<T>>,
) -> Result<T> {
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        let patience = stage.patience(PATIENCE);
        if begin.elapsed() > patience {
            bail!("{what} is not there after {patience:?}");
        }
    }
}

//! Machines played by network namespaces, for stories about the fabric: a second instead of a minute each.
//!
//! To the control plane and to the leaves they are machines: they register with what the leaves' LLDP would have told,
//! wait, are allocated, say that they are installed, phone home by LLDP frames, and announce their addresses by the
//! routing daemons that real machines run. What they do not have is a boot, a disk and an installer; that is what
//! `provision` is for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use client::Client;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, sendto, socket};
use proto::{api, infra};
use tokio::task::AbortHandle;

use super::probe::MARK;
use super::stage::{Stage, Wish};
use crate::api::{self as lab_api, Event};
use crate::control::{self, Request};
use crate::device::Device;
use crate::fabric::{self, card};
use crate::frr::{self, Router};
use crate::topology::{LEAVES, Leaf, Machine, PARTITION};
use crate::{netns, shell};

/// Port on which stand-ins answer.
pub(super) const PORT: u16 = 7777;
/// How long one question waits for its answer.
const ANSWER: Duration = Duration::from_millis(300);

/// A machine that is none.
pub(super) struct StandIn {
    pub(super) machine: Machine,
    pub(super) addresses: Vec<IpAddr>,
    said: Arc<Mutex<Said>>,
    client: Client,
    /// The open question for an allocation.
    waits: Option<AbortHandle>,
    /// Ends the sign of life of the system that is installed.
    installed: Option<Arc<AtomicBool>>,
    /// Ends what answers.
    plugged: Arc<AtomicBool>,
    /// Where its cables end.
    leaves: [Box<dyn Device>; 2],
}

/// What goes to and fro on the wire.
#[derive(Debug, Default)]
struct Said {
    /// The name with which it answers, the one of its allocation.
    name: String,
    /// Who asked, by name, since the last installation.
    asked: BTreeMap<String, u64>,
}

impl StandIn {
    /// Plugs it in and allocates it for somebody.
    pub(super) async fn new(stage: &Stage, wish: Wish) -> Result<Self> {
        let client = lab_api::client(&stage.paths, "boot")?;
        let machine = wish.machine;
        let mut stand_in = Self {
            machine,
            addresses: Vec::new(),
            said: Arc::default(),
            client,
            waits: None,
            installed: None,
            plugged: Arc::new(AtomicBool::new(true)),
            leaves: LEAVES.map(|leaf| stage.device(leaf)),
        };
        stand_in.plug(stage)?;
        stand_in.answer()?;
        stand_in.allocate(stage, &wish).await?;
        Ok(stand_in)
    }

    /// Its cards and cables; what an earlier story left of them is used again.
    fn plug(&self, stage: &Stage) -> Result<()> {
        if !netns::file(&self.machine.namespace()).exists() {
            return fabric::apply(&fabric::stand_in(stage.spec.fabric, self.machine));
        }
        for part in Router::Machine(self.machine).parts(stage.spec.fabric) {
            control::ask(&stage.paths.control(), &Request::Stop(part.name))?;
        }
        for family in ["-4", "-6"] {
            self.ip(&format!("{family} address flush dev lo scope global"))?;
        }
        LEAVES.into_iter().try_for_each(|leaf| self.link(leaf, true))
    }

    /// Waits, is allocated for somebody, installed, and phones home.
    pub(super) async fn allocate(&mut self, stage: &Stage, wish: &Wish) -> Result<()> {
        self.waits(stage).await?;
        stage.create(wish).await?;
        let seen = stage.look(self.machine).await?;
        if let Some(waits) = self.waits.take() {
            waits.abort();
        }
        *self.said() = Said { name: wish.hostname.clone(), asked: BTreeMap::new() };
        self.install(stage, &seen).await?;
        stage.until_phoned_home(self.machine).await?;
        Ok(())
    }

    /// What its BMC does after a delete: the installed system ends, and nothing of it is left.
    pub(super) fn reset(&mut self, stage: &Stage) -> Result<()> {
        if let Some(installed) = self.installed.take() {
            installed.store(false, Ordering::Relaxed);
        }
        for part in Router::Machine(self.machine).parts(stage.spec.fabric) {
            control::ask(&stage.paths.control(), &Request::Stop(part.name))?;
        }
        for address in std::mem::take(&mut self.addresses) {
            self.ip(&format!("address del {address} dev lo"))?;
        }
        Ok(())
    }

    /// Its system starts again: routing begins from nothing.
    pub(super) fn restart(&self, stage: &Stage) -> Result<()> {
        for part in Router::Machine(self.machine).parts(stage.spec.fabric) {
            control::ask(&stage.paths.control(), &Request::Stop(part.name.clone()))?;
            control::ask(&stage.paths.control(), &Request::Start(part))?;
        }
        Ok(())
    }

    /// Takes one more address.
    pub(super) fn add(&mut self, address: IpAddr) -> Result<()> {
        let length = if address.is_ipv4() { 32 } else { 128 };
        self.ip(&format!("address add {address}/{length} dev lo"))?;
        self.addresses.push(address);
        Ok(())
    }

    /// The name of its allocation.
    pub(super) fn name(&self) -> String {
        self.said().name.clone()
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers and waits, as an installer does.
    async fn waits(&mut self, stage: &Stage) -> Result<()> {
        let uuid = self.machine.uuid();
        // a leaf that does not know its new port yet refuses
        let begin = Instant::now();
        while let Err(error) = self.client.boot().register(self.registration()).await {
            if begin.elapsed() > Duration::from_secs(30) {
                return Err(error).context("the stand-in is not registered");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        for event in [Event::Registering, Event::Waiting] {
            self.tell(event).await?;
        }
        let service = self.client.boot();
        let request = infra::BootServiceWaitRequest { uuid, ..Default::default() };
        let waits = tokio::spawn(async move {
            client::follow(
                "wait",
                std::future::pending(),
                || service.wait(request.clone()),
                |_| std::future::ready(()),
            )
            .await;
        });
        self.waits = Some(waits.abort_handle());
        stage.until_waiting(self.machine).await.map(drop)
    }

    async fn tell(&self, event: Event) -> Result<()> {
        let event = api::MachineProvisioningEvent {
            event: event.into(),
            message: "a stand-in".to_owned(),
            ..Default::default()
        };
        let request = infra::BootServiceSendEventRequest {
            uuid: self.machine.uuid(),
            event: event.into(),
            ..Default::default()
        };
        self.client.boot().send_event(request).await.context("event")?;
        Ok(())
    }

    fn registration(&self) -> infra::BootServiceRegisterRequest {
        let machine = self.machine;
        let nic = |leaf: Leaf| api::MachineNic {
            name: card(leaf),
            identifier: machine.mac(leaf),
            neighbors: vec![api::MachineNic {
                name: machine.port(),
                identifier: machine.port(),
                hostname: leaf.name(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let hardware = api::MachineHardware {
            memory: 1000 << 20,
            cpus: vec![api::MetalCPU { cores: 1, threads: 1, ..Default::default() }],
            disks: vec![api::MachineBlockDevice {
                name: "/dev/nvme0n1".to_owned(),
                size: 4 << 30,
                ..Default::default()
            }],
            nics: LEAVES.map(nic).into(),
            ..Default::default()
        };
        let bios = api::MachineBios {
            version: "1.0".to_owned(),
            vendor: "lab".to_owned(),
            date: "2026".to_owned(),
            ..Default::default()
        };
        infra::BootServiceRegisterRequest {
            uuid: machine.uuid(),
            hardware: hardware.into(),
            bios: bios.into(),
            metal_hammer_version: "stand-in".to_owned(),
            partition: PARTITION.to_owned(),
            ..Default::default()
        }
    }

    /// What installer and installed system do.
    async fn install(&mut self, stage: &Stage, seen: &api::Machine) -> Result<()> {
        let allocation = seen.allocation.as_option().context("not allocated")?;
        let network = allocation.networks.first().context("no network")?;
        let parse = |ip: &String| ip.parse().with_context(|| format!("{ip} is no address"));
        let addresses = network.ips.iter().map(parse).collect::<Result<Vec<IpAddr>>>()?;
        for event in [Event::Installing, Event::BootingNewKernel] {
            self.tell(event).await?;
        }
        let done = infra::BootServiceInstallationSucceededRequest {
            uuid: self.machine.uuid(),
            console_password: "not-a-console".to_owned(),
            ..Default::default()
        };
        self.client.boot().installation_succeeded(done).await.context("not installed")?;
        for address in addresses {
            self.add(address)?;
        }
        let router = Router::Machine(self.machine);
        frr::prepare_one(router, &routing(&self.name(), network.asn, &self.addresses))?;
        for part in router.parts(stage.spec.fabric) {
            control::ask(&stage.paths.control(), &Request::Start(part))?;
        }
        self.phone_home()
    }

    /// The frames that the installed system of a real machine sends, from both cards.
    fn phone_home(&mut self) -> Result<()> {
        let (uuid, since) = (self.machine.uuid(), jiff::Timestamp::now());
        let description = format!("provisioned since {since}");
        let (socket, cards) = netns::within(&self.machine.namespace(), || {
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
            let links = getifaddrs()?.filter_map(|interface| {
                let link = *interface.address?.as_link_addr()?;
                let mac = link.addr().filter(|mac| *mac != [0; 6])?;
                Some((link, frame(mac, &interface.interface_name, &uuid, &description)))
            });
            Ok((socket, links.collect::<Vec<_>>()))
        })?;
        let installed = Arc::new(AtomicBool::new(true));
        self.installed = Some(Arc::clone(&installed));
        std::thread::spawn(move || {
            while installed.load(Ordering::Relaxed) {
                for (card, frame) in &cards {
                    // a link may be down
                    sendto(socket.as_raw_fd(), frame, card, MsgFlags::empty()).ok();
                }
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        Ok(())
    }

    /// Answers whoever asks with the own name, and remembers who did.
    fn answer(&self) -> Result<()> {
        let (said, plugged) = (Arc::clone(&self.said), Arc::clone(&self.plugged));
        let socket = netns::within(&self.machine.namespace(), || {
            let begin = Instant::now();
            loop {
                match UdpSocket::bind((std::net::Ipv6Addr::UNSPECIFIED, PORT)) {
                    Ok(socket) => return Ok(socket),
                    // that of an earlier story ends soon
                    Err(_) if begin.elapsed() < Duration::from_secs(2) => {
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        })?;
        socket.set_read_timeout(Some(ANSWER))?;
        std::thread::spawn(move || {
            let mut buffer = [0; 200];
            while plugged.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let question = String::from_utf8_lossy(&buffer[..length]).into_owned();
                // A question with a number wants it back.
                let (who, number) =
                    question.split_at(question.find(MARK).unwrap_or(question.len()));
                let answer = {
                    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    *said.asked.entry(who.to_owned()).or_default() += 1;
                    format!("{}{number}", said.name)
                };
                socket.send_to(answer.as_bytes(), from).ok();
            }
        });
        Ok(())
    }

    /// Everybody who asked since the last installation.
    pub(super) fn asked(&self) -> BTreeMap<String, u64> {
        self.said().asked.clone()
    }

    /// Asks an address of another one from the own address of that family; tells who answered.
    pub(super) fn ask(&self, address: IpAddr) -> Result<Option<String>> {
        let own = self.addresses.iter().find(|own| own.is_ipv4() == address.is_ipv4());
        let own = *own.with_context(|| format!("{} has no such address", self.name()))?;
        let name = self.name();
        netns::within(&self.machine.namespace(), || {
            let socket = UdpSocket::bind((own, 0))?;
            socket.set_read_timeout(Some(ANSWER))?;
            // without a route there is no answer either
            if socket.send_to(name.as_bytes(), SocketAddr::new(address, PORT)).is_err() {
                std::thread::sleep(ANSWER);
                return Ok(None);
            }
            let mut buffer = [0; 200];
            match socket.recv_from(&mut buffer) {
                Ok((length, _)) => {
                    Ok(Some(String::from_utf8_lossy(&buffer[..length]).into_owned()))
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock
                            | ErrorKind::TimedOut
                            | ErrorKind::ConnectionRefused
                            | ErrorKind::HostUnreachable
                            | ErrorKind::NetworkUnreachable
                    ) =>
                {
                    Ok(None)
                }
                Err(error) => Err(error.into()),
            }
        })
    }

    /// Asks until somebody answers.
    pub(super) fn reaches(&self, address: IpAddr, patience: Duration) -> Result<String> {
        let begin = Instant::now();
        loop {
            if let Some(name) = self.ask(address)? {
                return Ok(name);
            }
            if begin.elapsed() > patience {
                bail!("{} does not reach {address} within {patience:?}", self.name());
            }
        }
    }

    /// Sets the link to a leaf up or down.
    pub(super) fn link(&self, leaf: Leaf, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        self.ip(&format!("link set {} {state}", card(leaf)))?;
        let device = self.leaves.iter().find(|device| device.leaf() == leaf);
        device.context("no such leaf")?.carrier(&self.machine.port(), up)
    }

    fn ip(&self, line: &str) -> Result<()> {
        let namespace = self.machine.namespace();
        let mut command = shell::command("ip", ["-n", &namespace]);
        command.args(line.split(' '));
        shell::run(&mut command).map(drop)
    }
}

/// What it says and hears ends; its cards stay for the next one.
impl Drop for StandIn {
    fn drop(&mut self) {
        self.plugged.store(false, Ordering::Relaxed);
        if let Some(installed) = &self.installed {
            installed.store(false, Ordering::Relaxed);
        }
        if let Some(waits) = &self.waits {
            waits.abort();
        }
    }
}

/// An LLDP frame: chassis by hardware address, port by name, 30 seconds, system name and description.
fn frame(mac: [u8; 6], card: &str, name: &str, description: &str) -> Vec<u8> {
    let mut frame = vec![0x01, 0x80, 0xc2, 0, 0, 0x0e];
    frame.extend(mac);
    frame.extend([0x88, 0xcc]);
    let chassis = [&[4][..], &mac].concat();
    let port = [&[5][..], card.as_bytes()].concat();
    let values: [(u16, &[u8]); 6] = [
        (1, &chassis),
        (2, &port),
        (3, &[0, 30]),
        (5, name.as_bytes()),
        (6, description.as_bytes()),
        (0, &[]),
    ];
    for (kind, value) in values {
        frame.extend(((kind << 9) | value.len() as u16).to_be_bytes());
        frame.extend(value);
    }
    frame
}

/// As on real machines: the own addresses towards both leaves, and nothing that came from others.
fn routing(name: &str, asn: u32, addresses: &[IpAddr]) -> String {
    let id = addresses.iter().find(|address| address.is_ipv4());
    let id = id.map_or_else(|| "169.254.255.255".to_owned(), ToString::to_string);
    // Each daemon reads the file by itself: `exit` out of what it does not know would end its reading.
    let mut text = format!(
        "frr defaults datacenter\nhostname {name}\nno zebra nexthop kernel enable\n!\nbfd\n profile metal\n  transmit-interval 100\n  \
         receive-interval 100\n"
    );
    for leaf in LEAVES {
        let card = card(leaf);
        write!(
            text,
            "!\ninterface {card}\n no ipv6 nd suppress-ra\n ipv6 nd ra-interval 1\nexit\n"
        )
        .expect("text");
    }
    write!(
        text,
        "!\nbgp as-path access-list SELF permit ^$\n!\nroute-map only-self-out permit 10\n match as-path SELF\nexit\n!\n\
         route-map only-self-out deny 99\nexit\n!\nrouter bgp {asn}\n bgp router-id {id}\n \
         bgp bestpath as-path multipath-relax\n coalesce-time 50\n neighbor TOR peer-group\n neighbor TOR remote-as external\n \
         neighbor TOR timers 2 8\n neighbor TOR timers connect 1\n neighbor TOR bfd\n \
         neighbor TOR bfd profile metal\n"
    )
    .expect("text");
    for leaf in LEAVES {
        writeln!(text, " neighbor {} interface peer-group TOR", card(leaf)).expect("text");
    }
    for family in ["ipv4", "ipv6"] {
        write!(
            text,
            " !\n address-family {family} unicast\n  redistribute connected\n  neighbor TOR activate\n  \
             neighbor TOR route-map only-self-out out\n exit-address-family\n"
        )
        .expect("text");
    }
    text.push_str("exit\n");
    text
}

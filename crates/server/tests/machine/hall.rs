//! A hall with racks of two switches each, machines in them, and a project that wants some.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use proto::{api, infra};
use serde_json::{Value, json};
use store::Entity;
use tokio::task::JoinHandle;

use crate::world::{Answer, World, text};

/// What everybody waits for at most.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Hall<'a> {
    pub(crate) world: &'a World,
    /// Operator.
    pub(crate) admin: String,
    /// Agent of switches, BMCs and boot.
    pub(crate) agent: String,
    /// Owner of the project.
    pub(crate) user: String,
    pub(crate) project: String,
    /// Private network of the project.
    pub(crate) network: String,
}

/// A machine whose installer waits.
pub(crate) struct Waiting {
    pub(crate) uuid: String,
    task: JoinHandle<()>,
    allocations: Receiver<api::MachineAllocation>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Waiting {
    /// The next allocation that the installer hears of.
    pub(crate) fn allocation(&self) -> api::MachineAllocation {
        self.allocations.recv_timeout(PATIENCE).expect("an allocation in time")
    }
}

impl<'a> Hall<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        let user = world.login("alice");
        let tenant = world.organisation(&user, "Acme");
        let project = world.project(&user, &tenant, "rockets");
        let admin = world.admin();
        let agent = world.token(api::Token {
            user: "agents".to_owned(),
            token_type: api::TokenType::Api.into(),
            infra_role: Some(api::InfraRole::Editor.into()),
            machine_roles: [("*".to_owned(), api::MachineRole::Editor.into())]
                .into_iter()
                .collect(),
            ..Default::default()
        });
        // what has URLs is stored directly: nobody is asked whether they can be reached
        world.runtime.block_on(async {
            let mut tx = world.db.begin_write().await.expect("begin");
            let partition = json!({"id": "p1", "dnsServers": [{"ip": "1.1.1.1"}],
                "bootConfiguration": {"imageUrl": "http://i", "kernelUrl": "http://k", "commandline": "quiet"}});
            let row = Entity::new("p1", partition.to_string(), 1);
            store::partition::TABLE.insert(&mut tx, &row, &[]).await.expect("partition");
            let row = Entity::new("p2", json!({"id": "p2"}).to_string(), 1);
            store::partition::TABLE.insert(&mut tx, &row, &[]).await.expect("partition");
            for (id, feature) in [("debian-12.0.1", "MACHINE"), ("firewall-3.0.1", "FIREWALL")] {
                let image = json!({"id": id, "url": "http://images/x.tar.zst", "features": [format!("IMAGE_FEATURE_{feature}")],
                    "classification": "IMAGE_CLASSIFICATION_SUPPORTED", "expiresAt": "2999-01-01T00:00:00Z"});
                let row = Entity::new(id, image.to_string(), 1);
                let os = id.split('-').next().expect("os");
                store::image::TABLE.insert(&mut tx, &row, &[os.into(), i64::MAX.into()]).await.expect("image");
            }
            tx.commit().await.expect("commit");
        });
        let hall = Self { world, admin, agent, user, project, network: String::new() };
        hall.op(
            "SizeService/Create",
            json!({"size": {"id": "c1", "constraints": [
            {"type": "SIZE_CONSTRAINT_TYPE_CORES", "min": "4", "max": "4"},
            {"type": "SIZE_CONSTRAINT_TYPE_MEMORY", "min": "1", "max": "1099511627776"},
            {"type": "SIZE_CONSTRAINT_TYPE_STORAGE", "min": "0", "max": "1099511627776"}]}}),
        );
        hall.op("FilesystemService/Create", json!({"filesystemLayout": {
            "id": "default",
            "disks": [{"device": "/dev/nvme0n1", "partitions": [{"number": 1, "label": "root", "size": "1000", "gptType": "GPT_TYPE_LINUX"}]}],
            "filesystems": [{"device": "/dev/nvme0n1p1", "format": "FORMAT_EXT4", "path": "/", "label": "root"}],
            "constraints": {"sizes": ["c1"], "images": {"debian": "*", "firewall": "*"}}}}));
        for network in [
            json!({"id": "super", "type": "NETWORK_TYPE_SUPER", "partition": "p1", "prefixes": ["10.0.0.0/16"],
                "defaultChildPrefixLength": {"ipv4": 22}, "additionalAnnouncableCidrs": ["10.240.0.0/12"]}),
            json!({"id": "internet", "type": "NETWORK_TYPE_EXTERNAL", "vrf": 104, "prefixes": ["212.34.83.0/27"],
                "destinationPrefixes": ["0.0.0.0/0"], "natType": "NAT_TYPE_IPV4_MASQUERADE"}),
            json!({"id": "underlay", "type": "NETWORK_TYPE_UNDERLAY", "partition": "p1", "prefixes": ["10.253.0.0/24"]}),
        ] {
            hall.op("NetworkService/Create", network);
        }
        let request = json!({"project": hall.project, "partition": "p1", "name": "private"});
        let made = hall.world.ok(&hall.user, "api.v2.NetworkService/Create", request);
        Self { network: text(&made["network"]["id"]), ..hall }
    }

    /// Calls a method of operators that must work.
    #[track_caller]
    pub(crate) fn op(&self, method: &str, request: Value) -> Value {
        self.world.ok(&self.admin, &format!("admin.v2.{method}"), request)
    }

    /// Calls a method of agents that must work.
    #[track_caller]
    pub(crate) fn infra(&self, method: &str, request: Value) -> Value {
        self.world.ok(&self.agent, &format!("infra.v2.{method}"), request)
    }

    /// Registers the two switches of a rack with so many ports.
    pub(crate) fn rack(&self, rack: &str, ports: u32) {
        for side in ["a", "b"] {
            let id = format!("{rack}-{side}");
            self.infra("SwitchService/Register", json!({"switch": self.switch(rack, &id, ports)}));
        }
    }

    pub(crate) fn switch(&self, rack: &str, id: &str, ports: u32) -> Value {
        let nics: Vec<_> = (1..=ports)
            .map(|n| json!({"name": format!("swp{n}"), "identifier": format!("{id}-{n}")}))
            .collect();
        json!({"id": id, "rack": rack, "partition": "p1", "managementIp": "10.1.1.1", "description": id,
            "os": {"vendor": "SWITCH_OS_VENDOR_CUMULUS", "version": "5.0", "metalCoreVersion": "v1"}, "nics": nics})
    }

    /// Id of the machine at a port of a rack.
    pub(crate) fn id(rack: &str, port: u32) -> String {
        let rack: u32 =
            rack.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number");
        format!("00000000-0000-4000-{rack:04x}-{port:012x}")
    }

    /// What the installer of the machine at a port tells.
    pub(crate) fn hardware(rack: &str, port: u32) -> Value {
        let nics: Vec<_> = ["a", "b"]
            .iter()
            .enumerate()
            .map(|(i, side)| {
                let neighbor = json!({"name": format!("swp{port}"), "hostname": format!("{rack}-{side}"), "identifier": format!("{rack}-{side}-{port}")});
                json!({"name": format!("eth{i}"), "identifier": format!("00:00:00:00:{port:02x}:{i:02x}"), "neighbors": [neighbor]})
            })
            .collect();
        json!({"memory": "8589934592", "cpus": [{"cores": 4, "threads": 4, "vendor": "v", "model": "m"}],
            "disks": [{"name": "/dev/nvme0n1", "size": "10000000000"}], "nics": nics})
    }

    pub(crate) fn registration(rack: &str, port: u32) -> Value {
        json!({"uuid": Self::id(rack, port), "partition": "p1", "hardware": Self::hardware(rack, port),
            "bios": {"version": "1.0", "vendor": "v", "date": "2025"}, "metalHammerVersion": "v1"})
    }

    /// A machine from power-on to its wait stream.
    pub(crate) fn machine(&self, rack: &str, port: u32) -> Waiting {
        let uuid = Self::id(rack, port);
        self.infra("BootService/Dhcp", json!({"uuid": uuid, "partition": "p1"}));
        self.event(&uuid, "PREPARING");
        self.event(&uuid, "REGISTERING");
        self.infra("BootService/Register", Self::registration(rack, port));
        self.event(&uuid, "WAITING");
        self.wait(uuid)
    }

    /// Opens the wait stream of a machine and returns when the machine is in the pool or its allocation is known.
    pub(crate) fn wait(&self, uuid: String) -> Waiting {
        let client = client::Client::new(client::Config {
            url: self.world.url().to_owned(),
            token: client::TokenSource::Static(self.agent.clone()),
            ca_cert_pem: None,
        })
        .expect("client");
        let (sender, allocations) = channel();
        let request = infra::BootServiceWaitRequest { uuid: uuid.clone(), ..Default::default() };
        let task = self.world.runtime.spawn(async move {
            let service = client.boot();
            client::follow(
                "wait",
                std::future::pending(),
                || service.wait(request.clone()),
                |answer| {
                    let sender = sender.clone();
                    async move {
                        // the test may have ended
                        let _ = sender.send(answer.allocation.into_option().unwrap_or_default());
                    }
                },
            )
            .await;
        });
        self.until("the stream is open", || {
            self.waits(&uuid) || self.machine_of(&uuid)["allocation"].is_object()
        });
        Waiting { uuid, task, allocations }
    }

    pub(crate) fn waits(&self, uuid: &str) -> bool {
        let query = json!({"query": {"uuid": uuid, "waiting": true}});
        self.op("MachineService/List", query)["machines"].is_array()
    }

    pub(crate) fn event(&self, uuid: &str, kind: &str) {
        let event =
            json!({"event": format!("MACHINE_PROVISIONING_EVENT_TYPE_{kind}"), "message": "test"});
        self.infra("BootService/SendEvent", json!({"uuid": uuid, "event": event}));
    }

    /// The machine as operators see it.
    pub(crate) fn machine_of(&self, uuid: &str) -> Value {
        self.op("MachineService/Get", json!({"uuid": uuid}))["machine"].clone()
    }

    /// A request for a machine.
    pub(crate) fn request(&self) -> Value {
        json!({"project": self.project, "name": "node", "hostname": "host1", "partition": "p1", "size": "c1", "image": "debian-12",
            "allocationType": "MACHINE_ALLOCATION_TYPE_MACHINE", "networks": [{"network": self.network}]})
    }

    /// A request with other fields; `null` removes one.
    pub(crate) fn request_with(&self, fields: Value) -> Value {
        let mut request = self.request();
        for (key, value) in fields.as_object().expect("fields") {
            request[key] = value.clone();
        }
        request
    }

    pub(crate) fn create(&self, request: Value) -> Answer {
        self.world.call(&self.user, "api.v2.MachineService/Create", request)
    }

    /// Allocates a machine and returns it.
    #[track_caller]
    pub(crate) fn allocate(&self, fields: Value) -> Value {
        self.create(self.request_with(fields)).expect("a machine")["machine"].clone()
    }

    /// Confirms what the switches of a rack read now.
    pub(crate) fn confirm(&self, rack: &str) {
        for side in ["a", "b"] {
            let id = format!("{rack}-{side}");
            self.infra("SwitchService/Get", json!({"id": id}));
            self.infra("SwitchService/Heartbeat", json!({"id": id, "duration": "0.1s"}));
        }
    }

    /// The VRF of a port.
    pub(crate) fn vrf(&self, switch: &str, port: u32) -> String {
        let switch = self.infra("SwitchService/Get", json!({"id": switch}))["switch"].clone();
        let name = format!("swp{port}");
        let nic =
            switch["nics"].as_array().expect("nics").iter().find(|n| n["name"] == name.as_str());
        nic.expect("port")["vrf"].as_str().unwrap_or("-").to_owned()
    }

    /// Waits for something to become true.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < end, "not in time: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Addresses that the project holds.
    pub(crate) fn ips(&self) -> Vec<String> {
        let list =
            self.world.ok(&self.user, "api.v2.IPService/List", json!({"project": self.project}));
        list["ips"]
            .as_array()
            .map(|ips| ips.iter().map(|ip| text(&ip["ip"])).collect())
            .unwrap_or_default()
    }
}

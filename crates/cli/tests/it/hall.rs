//! A rack with two switches and machines that the test plays.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use proto::infra;
use serde_json::{Value, json};

use crate::world::World;

/// What everybody waits for at most; the machine that tests may be slow.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Hall {
    agent: client::Client,
    runtime: tokio::runtime::Runtime,
}

impl Hall {
    /// Catalog, networks, the project `web` with the network `private`, and the switches.
    pub(crate) fn new(world: &World) -> Self {
        let files = world.files();
        world.write("hall.yaml", &CATALOG.replace("FILES", files));
        for line in [
            "apply -f hall.yaml",
            "project create --name web",
            "network create -p web --partition p1 --name private",
        ] {
            let done = world.run(line, "");
            assert_eq!(done.code, 0, "{line}: {}{}", done.out, done.err);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let hall = Self { agent: world.agent(), runtime };
        for side in ["a", "b"] {
            let id = format!("rack1-{side}");
            let nics: Vec<_> = (1..=3)
                .map(|n| json!({"name": format!("swp{n}"), "identifier": format!("{id}-{n}"), "state": {"actual": "SWITCH_PORT_STATUS_UP"}}))
                .collect();
            hall.call(
                "metalstack.infra.v2.SwitchService/Register",
                json!({"switch": {"id": id, "rack": "rack1", "partition": "p1", "managementIp": "10.1.1.1",
                    "os": {"vendor": "SWITCH_OS_VENDOR_CUMULUS", "version": "5.4", "metalCoreVersion": "v1"}, "nics": nics}}),
            );
        }
        hall
    }

    pub(crate) fn id(port: u32) -> String {
        format!("00000000-0000-4000-0001-{port:012}")
    }

    /// Calls a method of agents that must work.
    #[track_caller]
    pub(crate) fn call(&self, method: &str, request: Value) -> Value {
        let path = format!("/{method}");
        let call = self.agent.call_json(&path, &request);
        self.runtime.block_on(call).unwrap_or_else(|e| panic!("{method}: {e}"))
    }

    /// What a machine tells about itself.
    pub(crate) fn event(&self, port: u32, kind: &str, message: &str) {
        let event =
            json!({"event": format!("MACHINE_PROVISIONING_EVENT_TYPE_{kind}"), "message": message});
        let request = json!({"uuid": Self::id(port), "event": event});
        self.call("metalstack.infra.v2.BootService/SendEvent", request);
    }

    /// What the switch hears of an installed system.
    pub(crate) fn phoned_home(&self, port: u32) {
        let event = json!({"event": "MACHINE_PROVISIONING_EVENT_TYPE_PHONED_HOME", "message": "installed", "time": jiff::Timestamp::now().to_string()});
        let mut events = json!({});
        events[Self::id(port)] = event;
        self.call("metalstack.infra.v2.EventService/Send", json!({"events": events}));
    }

    /// What the installer reports when something is done.
    pub(crate) fn phase(&self, port: u32, name: &str, message: &str) {
        let now = jiff::Timestamp::now().to_string();
        let phase =
            json!({"name": name, "startedAt": now, "duration": "1.500s", "message": message});
        let request = json!({"uuid": Self::id(port), "phase": phase});
        self.call("metal.v1.InstallerService/ReportPhase", request);
    }

    /// Power-on to the place in the pool; the receiver hears of allocations.
    pub(crate) fn machine(&self, port: u32) -> Receiver<()> {
        let uuid = Self::id(port);
        let nics: Vec<_> = ["a", "b"].iter().enumerate().map(|(i, side)| json!({
            "name": format!("eth{i}"), "identifier": format!("00:00:00:00:{port:02x}:{i:02x}"),
            "neighbors": [{"name": format!("swp{port}"), "hostname": format!("rack1-{side}"), "identifier": format!("rack1-{side}-{port}")}]})).collect();
        self.call("metalstack.infra.v2.BootService/Dhcp", json!({"uuid": uuid, "partition": "p1"}));
        self.event(port, "PREPARING", "");
        self.event(port, "REGISTERING", "");
        self.call(
            "metalstack.infra.v2.BootService/Register",
            json!({"uuid": uuid, "partition": "p1", "metalHammerVersion": "v1",
                "bios": {"version": "1.0", "vendor": "v", "date": "2025"},
                "bmc": {"address": format!("10.9.0.{port}:623"), "mac": format!("00:00:00:01:00:{port:02x}"), "user": "metal",
                    "password": "geheim", "interface": "eth0", "version": "2.1", "powerState": "ON"},
                "hardware": {"memory": "8589934592", "cpus": [{"cores": 4, "threads": 4, "vendor": "v", "model": "m"}],
                    "disks": [{"name": "/dev/nvme0n1", "size": "10000000000"}], "nics": nics}}),
        );
        self.event(port, "WAITING", "");
        let (sender, heard) = channel();
        let client = self.agent.clone();
        let request = infra::BootServiceWaitRequest { uuid: uuid.clone(), ..Default::default() };
        self.runtime.spawn(async move {
            let service = client.boot();
            client::follow(
                "wait",
                std::future::pending(),
                || service.wait(request.clone()),
                |_| {
                    let sender = sender.clone();
                    async move {
                        // The test may have ended.
                        let _ = sender.send(());
                    }
                },
            )
            .await;
        });
        heard
    }

    /// Confirms what the switches are to do, as their agents would.
    pub(crate) fn confirm(&self) {
        for id in ["rack1-a", "rack1-b"] {
            self.call("metalstack.infra.v2.SwitchService/Get", json!({"id": id}));
            self.call(
                "metalstack.infra.v2.SwitchService/Heartbeat",
                json!({"id": id, "duration": "0.1s"}),
            );
        }
    }
}

/// Waits until a command says something.
#[track_caller]
pub(crate) fn until(world: &World, line: &str, wanted: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let done = world.run(line, "");
        if done.out.contains(wanted) {
            return;
        }
        assert!(Instant::now() < end, "{line} does not say {wanted}: {}{}", done.out, done.err);
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits for the allocation of a machine.
#[track_caller]
pub(crate) fn allocated(heard: &Receiver<()>) {
    heard.recv_timeout(PATIENCE).expect("an allocation in time");
}

const CATALOG: &str = "\
kind: partition
id: p1
bootConfiguration: {imageUrl: FILES/initrd, kernelUrl: FILES/kernel, commandline: quiet}
---
kind: image
id: debian-12.0.1
url: FILES/debian
features: [machine]
classification: supported
expiresAt: 2099-01-01T00:00:00Z
---
kind: image
id: firewall-3.0.1
url: FILES/firewall
features: [firewall]
classification: supported
expiresAt: 2099-01-01T00:00:00Z
---
kind: size
id: c1
constraints:
- {type: cores, min: 4, max: 4}
- {type: memory, min: 1, max: 1099511627776}
- {type: storage, min: 0, max: 1099511627776}
---
kind: filesystem
id: default
disks: [{device: /dev/nvme0n1, partitions: [{number: 1, label: root, size: 1000, gptType: \"8300\"}]}]
filesystems: [{device: /dev/nvme0n1p1, format: ext4, path: /, label: root}]
constraints: {sizes: [c1], images: {debian: \"*\", firewall: \"*\"}}
---
kind: network
id: super
type: super
partition: p1
prefixes: [10.0.0.0/16]
defaultChildPrefixLength: {ipv4: 22}
---
kind: network
id: internet
type: external
vrf: 104
prefixes: [212.34.83.0/27]
destinationPrefixes: [0.0.0.0/0]
natType: ipv4-masq
---
kind: network
id: underlay
type: underlay
partition: p1
prefixes: [10.253.0.0/24]
";

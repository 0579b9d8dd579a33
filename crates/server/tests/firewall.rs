//! Rules of firewalls after their allocation, with an agent that speaks the real protocol.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use hall::Hall;
use proto::ext;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use world::{Answer, World, code, on_all, text};

#[path = "machine/hall.rs"]
#[allow(dead_code, reason = "made for the tests of machines")]
mod hall;
#[path = "../../store/tests/it/postgres.rs"]
mod postgres;
#[path = "tenancy/world.rs"]
mod world;

/// Half of the time after which a wish is repeated anyway.
const PATIENCE: Duration = Duration::from_secs(30);

fn call(world: &World, token: &str, method: &str, request: Value) -> Answer {
    world.call_path(token, &format!("/metal.v1.FirewallService/{method}"), &request)
}

#[track_caller]
fn ok(world: &World, token: &str, method: &str, request: Value) -> Value {
    call(world, token, method, request).unwrap_or_else(|error| panic!("{method}: {error:?}"))
}

#[track_caller]
fn refused(wanted: &str, answer: &Answer) {
    assert_eq!(code(answer), wanted, "{answer:?}");
}

/// An allocated firewall.
struct Fire<'a> {
    hall: Hall<'a>,
    uuid: String,
    /// Its own token.
    token: String,
}

fn rules(port: u32) -> Value {
    json!({"egress": [{"protocol": "IP_PROTOCOL_TCP", "ports": [port], "to": ["0.0.0.0/0"], "comment": "web"}]})
}

impl<'a> Fire<'a> {
    fn new(world: &'a World) -> Self {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let waiting = hall.machine("r1", 1);
        hall.allocate(json!({"allocationType": "MACHINE_ALLOCATION_TYPE_FIREWALL", "image": "firewall-3", "networks": [{"network": hall.network}, {"network": "internet"}], "firewallSpec": {"firewallRules": rules(443)}}));
        let uuid = waiting.uuid.clone();
        let made = ok(world, &hall.agent, "Token", json!({"uuid": uuid}));
        Self { hall, uuid, token: text(&made["secret"]) }
    }

    fn about(&self) -> Value {
        json!({"uuid": self.uuid, "project": self.hall.project})
    }

    fn get(&self) -> Value {
        ok(self.hall.world, &self.hall.user, "Get", self.about())["firewall"].clone()
    }

    fn status(&self) -> Value {
        ok(self.hall.world, &self.hall.user, "Status", self.about())["status"].clone()
    }

    /// Replaces the rules.
    fn update(&self, rules: Value) -> Answer {
        let meta = json!({"updatedAt": self.get()["meta"]["updatedAt"], "lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_CLIENT"});
        let mut request = self.about();
        request["updateMeta"] = meta;
        request["rules"] = rules;
        call(self.hall.world, &self.hall.user, "Update", request)
    }

    fn report(&self, token: &str, allocation: &str, generation: u64, packets: u64) -> Answer {
        let counter =
            |name: &str| json!({"name": name, "packets": packets.to_string(), "bytes": "64"});
        call(
            self.hall.world,
            token,
            "Report",
            json!({"uuid": self.uuid, "allocation": allocation, "generation": generation.to_string(),
                "rules": [counter("egress tcp")], "drops": [counter("no rule allows it")],
                "connections": "2", "connectionsMax": "1000", "version": "1"}),
        )
    }

    /// What the firewall hears.
    fn watch(&self) -> (JoinHandle<()>, Receiver<ext::FirewallServiceWatchResponse>) {
        let client = client::Client::new(client::Config {
            url: self.hall.world.url().to_owned(),
            token: client::TokenSource::Static(self.token.clone()),
            ca_cert_pem: None,
        })
        .expect("client");
        let (sender, heard) = channel();
        let request =
            ext::FirewallServiceWatchRequest { uuid: self.uuid.clone(), ..Default::default() };
        let task = self.hall.world.runtime.spawn(async move {
            let service = client.firewall();
            client::follow(
                "rules",
                std::future::pending(),
                || service.watch(request.clone()),
                |wish| {
                    // the test may have ended
                    let _ = sender.send(wish);
                    std::future::ready(())
                },
            )
            .await;
        });
        (task, heard)
    }
}

#[test]
fn rules_change_arrive_and_come_back_with_counters() {
    on_all(|world| {
        let fire = Fire::new(world);
        let (task, heard) = fire.watch();
        let first = heard.recv_timeout(PATIENCE).expect("the first wish");
        assert_eq!(first.rules.egress[0].ports, [443]);
        assert_eq!((first.project.as_str(), first.networks.len()), (fire.hall.project.as_str(), 3));
        assert!(fire.status().get("reportedAt").is_none(), "nothing was reported yet");
        // one that has nothing else to tell tells why
        let failed = json!({"uuid": fire.uuid, "allocation": first.allocation, "error": "there is no filter: not supported"});
        ok(world, &fire.token, "Report", failed);
        let status = fire.status();
        assert_eq!(status["error"], "there is no filter: not supported");
        assert_eq!((status.get("appliedGeneration"), status.get("rules")), (None, None));

        // what changes is told at once, on whichever replica
        for port in 1000..1005 {
            let changed = fire.update(rules(port)).expect("changed")["firewall"].clone();
            let wish = heard.recv_timeout(PATIENCE).expect("the new wish");
            assert_eq!(wish.rules.egress[0].ports, [port]);
            assert_eq!(json!(wish.generation.to_string()), changed["generation"]);
            assert_eq!(wish.allocation, first.allocation);
        }

        // one truth
        let machine =
            world.ok(&fire.hall.user, "api.v2.MachineService/Get", fire.about())["machine"].clone();
        assert_eq!(machine["allocation"]["firewallRules"], fire.get()["rules"]);
        assert_eq!(machine["allocation"]["meta"]["generation"], fire.get()["generation"]);
        // the same rules again are no change
        let before = fire.get();
        assert_eq!(fire.update(rules(1004)).expect("the same")["firewall"], before);

        let generation = first.generation + 5;
        fire.report(&fire.token, &first.allocation, generation - 1, 7).expect("reported");
        let behind = fire.status();
        assert_eq!(
            (&behind["appliedGeneration"], &behind["generation"]),
            (&json!((generation - 1).to_string()), &json!(generation.to_string()))
        );
        fire.report(&fire.token, &first.allocation, generation, 9).expect("reported");
        let now = fire.status();
        assert_eq!(now["rules"], json!([{"name": "egress tcp", "packets": "9", "bytes": "64"}]));
        assert_eq!(
            (&now["drops"][0]["packets"], &now["connections"], &now["version"]),
            (&json!("9"), &json!("2"), &json!("1"))
        );
        let applied = now["appliedAt"].clone();
        fire.report(&fire.token, &first.allocation, generation, 10).expect("reported");
        assert_eq!(fire.status()["appliedAt"], applied, "the time of applying stays");
        assert_eq!(fire.get(), before, "a report never touches the wish");
        let other = "00000000-0000-4000-8000-000000000000";
        refused("failed_precondition", &fire.report(&fire.token, other, generation, 1));
        task.abort();
    });
}

#[test]
fn wrong_rules_and_old_versions_are_refused() {
    on_all(|world| {
        let fire = Fire::new(world);
        let egress = |rule: Value| fire.update(json!({"egress": [rule]}));
        refused("invalid_argument", &egress(json!({"ports": [1], "to": ["0.0.0.0/0"]})));
        refused(
            "invalid_argument",
            &egress(json!({"protocol": "IP_PROTOCOL_TCP", "ports": [70000]})),
        );
        refused(
            "invalid_argument",
            &egress(json!({"protocol": "IP_PROTOCOL_TCP", "to": ["10.0.0.0/8", "::/0"]})),
        );
        refused(
            "invalid_argument",
            &egress(json!({"protocol": "IP_PROTOCOL_TCP", "comment": "a; drop"})),
        );
        let many: Vec<_> = (0..501).map(|_| json!({"protocol": "IP_PROTOCOL_TCP"})).collect();
        refused("invalid_argument", &fire.update(json!({"egress": many})));
        let seen = fire.get()["meta"]["updatedAt"].clone();
        fire.update(rules(80)).expect("changed");
        let mut late = fire.about();
        late["rules"] = rules(81);
        late["updateMeta"] =
            json!({"updatedAt": seen, "lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_CLIENT"});
        refused("aborted", &call(world, &fire.hall.user, "Update", late));
        assert_eq!(fire.get()["rules"]["egress"][0]["ports"], json!([80]));
        // no rule at all is a rule, too
        fire.update(json!({})).expect("nothing passes");
        assert!(fire.get()["rules"].get("egress").is_none());
        // a machine is no firewall
        let waiting = fire.hall.machine("r1", 2);
        fire.hall.allocate(json!({}));
        let machine = json!({"uuid": waiting.uuid, "project": fire.hall.project});
        refused("not_found", &call(world, &fire.hall.user, "Get", machine));
        refused(
            "failed_precondition",
            &call(world, &fire.hall.agent, "Token", json!({"uuid": waiting.uuid})),
        );
    });
}

#[test]
fn a_foreign_project_learns_nothing() {
    on_all(|world| {
        let fire = Fire::new(world);
        let bob = world.login("bob");
        let tenant = world.organisation(&bob, "Other");
        let project = world.project(&bob, &tenant, "other");
        let missing = "00000000-0000-4000-8000-00000000ffff";
        for method in ["Get", "Status"] {
            refused("permission_denied", &call(world, &bob, method, fire.about()));
            // by the own project, what others have is as what nobody has
            let theirs = call(world, &bob, method, json!({"uuid": fire.uuid, "project": project}));
            let nobodys = call(world, &bob, method, json!({"uuid": missing, "project": project}));
            refused("not_found", &theirs);
            assert_eq!(
                theirs.unwrap_err().1.replace(&fire.uuid, "X"),
                nobodys.unwrap_err().1.replace(missing, "X")
            );
        }
        let mut update = json!({"uuid": fire.uuid, "project": project, "rules": {}});
        update["updateMeta"] = json!({"lockingStrategy": "OPTIMISTIC_LOCKING_STRATEGY_SERVER"});
        refused("not_found", &call(world, &bob, "Update", update.clone()));
        update["project"] = json!(fire.hall.project);
        refused("permission_denied", &call(world, &bob, "Update", update.clone()));
        // who may look may not change
        world.project_member(&fire.hall.user, &fire.hall.project, "bob", "VIEWER");
        ok(world, &bob, "Status", fire.about());
        refused("permission_denied", &call(world, &bob, "Update", update));
    });
}

#[test]
fn its_token_is_good_for_itself_only_and_ends_with_the_allocation() {
    on_all(|world| {
        let fire = Fire::new(world);
        let other = fire.hall.machine("r1", 2);
        let watch = |token: &str, uuid: &str| {
            world.open_stream(token, "/metal.v1.FirewallService/Watch", &json!({"uuid": uuid}))
        };
        let first = watch(&fire.token, &fire.uuid).expect("its own rules");
        let allocation = text(&first["allocation"]);
        // neither another machine's, nor what installers may, nor what its project may
        refused("permission_denied", &watch(&fire.token, &other.uuid));
        refused(
            "permission_denied",
            &call(world, &fire.token, "Token", json!({"uuid": other.uuid})),
        );
        refused("permission_denied", &call(world, &fire.token, "Get", fire.about()));
        let path = "/metal.v1.InstallerService/Allocation";
        refused(
            "permission_denied",
            &world.call_path(&fire.token, path, &json!({"uuid": fire.uuid})),
        );
        for method in ["BootService/SuperUserPassword", "BootService/InstallationSucceeded"] {
            let request = json!({"uuid": fire.uuid, "consolePassword": "x"});
            refused(
                "permission_denied",
                &world.call(&fire.token, &format!("infra.v2.{method}"), request),
            );
        }
        // the next one: both live until the new one was heard, so that nothing is lost with an answer
        let renew = |token: &str| call(world, token, "Token", json!({"uuid": fire.uuid}));
        let lost = text(&renew(&fire.token).expect("a new one")["secret"]);
        let next = text(&renew(&fire.token).expect("a new one")["secret"]);
        refused("unauthenticated", &fire.report(&lost, &allocation, 1, 1));
        fire.report(&fire.token, &allocation, 1, 1).expect("the old one still works");
        fire.report(&next, &allocation, 1, 1).expect("the new one works");
        refused("unauthenticated", &fire.report(&fire.token, &allocation, 1, 1));
        fire.report(&next, &allocation, 1, 1).expect("and goes on to work");
        // the release ends it, and the stream
        let client_token =
            Fire { token: next.clone(), hall: clone(&fire.hall), uuid: fire.uuid.clone() };
        let (task, heard) = client_token.watch();
        heard.recv_timeout(PATIENCE).expect("the stream is open");
        world.ok(&fire.hall.user, "api.v2.MachineService/Delete", fire.about());
        refused("unauthenticated", &fire.report(&next, &allocation, 1, 1));
        refused("unauthenticated", &watch(&next, &fire.uuid));
        refused("failed_precondition", &watch(&fire.hall.agent, &fire.uuid));
        refused(
            "failed_precondition",
            &call(world, &fire.hall.agent, "Token", json!({"uuid": fire.uuid})),
        );
        std::thread::sleep(Duration::from_millis(300));
        assert!(heard.try_recv().is_err(), "nothing is told after the release");
        task.abort();
    });
}

fn clone<'a>(hall: &Hall<'a>) -> Hall<'a> {
    Hall {
        world: hall.world,
        admin: hall.admin.clone(),
        agent: hall.agent.clone(),
        user: hall.user.clone(),
        project: hall.project.clone(),
        network: hall.network.clone(),
    }
}

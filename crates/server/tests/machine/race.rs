//! Calls that stand in each other's way on PostgreSQL, through two replicas. Most are made to meet: the test holds what the first
//! one needs late, lets the second one run, and then lets go.

use std::process::Command;
use std::thread::{Scope, ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

use proto::api;
use serde_json::{Value, json};
use store::{Entity, Member};

use crate::hall::Hall;
use crate::world::{Answer, World, code, on_postgres};

/// A call that has not come so far by then is not where it was to be.
const PATIENCE: Duration = Duration::from_secs(120);

/// A hall with so many machines of which nobody knows but the database, and a place in the pool for each.
fn hall<'a>(world: &'a World, machines: u32) -> Hall<'a> {
    let hall = Hall::new(world);
    world.runtime.block_on(async {
        let mut tx = world.db.begin_write().await.expect("begin");
        let far = 9_000_000_000_000_000;
        store::waiting::renew(&mut tx, "elsewhere", 1, far).await.expect("a replica");
        for n in 1..=machines {
            let uuid = Hall::id("r1", n);
            let body = json!({"uuid": uuid, "rack": "r1", "partition": {"id": "p1"}, "size": {"id": "c1"},
                "hardware": {"disks": [{"name": "/dev/nvme0n1", "size": "10000000000"}]},
                "status": {"condition": {"state": "MACHINE_STATE_AVAILABLE"}}});
            let row = Entity::new(&uuid, body.to_string(), 1);
            let nobody = || None::<&str>.into();
            let available = i64::from(api::MachineState::Available as i32);
            let columns =
                ["p1".into(), "r1".into(), "c1".into(), nobody(), nobody(), available.into()];
            store::machine::TABLE.insert(&mut tx, &row, &columns).await.expect("machine");
            let waiting = store::waiting::Waiting {
                machine: uuid.clone(),
                partition: "p1".to_owned(),
                size: "c1".to_owned(),
                rack: "r1".to_owned(),
                electable: true,
                position: i64::from(n),
                replica: "elsewhere".to_owned(),
                stream: uuid,
            };
            store::waiting::put(&mut tx, &waiting).await.expect("waits");
        }
        tx.commit().await.expect("commit");
    });
    hall
}

/// How many calls wait for what another one holds.
fn waiting(world: &World) -> usize {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let asked = Command::new("psql").args([world.database(), "-qAtc", count]).output();
    let said = String::from_utf8(asked.expect("psql starts").stdout).expect("text");
    said.trim().parse().expect("a number")
}

/// Starts a call in a thread of its own and returns when it has come to where it waits.
fn start<'s, T: Send + 's>(
    world: &World,
    scope: &'s Scope<'s, '_>,
    call: impl FnOnce() -> T + Send + 's,
) -> ScopedJoinHandle<'s, T> {
    let before = waiting(world);
    let thread = scope.spawn(call);
    until_waiting(world, before, std::slice::from_ref(&thread));
    thread
}

/// Returns when each of these calls waits, beside those that did `before`, or has its answer.
fn until_waiting<T>(world: &World, before: usize, calls: &[ScopedJoinHandle<'_, T>]) {
    let begin = Instant::now();
    while calls.iter().filter(|call| !call.is_finished()).count() + before > waiting(world) {
        assert!(begin.elapsed() < PATIENCE, "a call neither waits nor ends");
        sleep(Duration::from_millis(20));
    }
}

/// Holds the pool of numbers of autonomous systems, which an allocation needs last, while `meanwhile` runs.
fn while_no_allocation_ends<T>(world: &World, meanwhile: impl FnOnce() -> T) -> T {
    let mut tx = world.runtime.block_on(world.db.begin_write()).expect("begin");
    world.runtime.block_on(server::ipam::asn(&mut tx)).expect("a number");
    let result = meanwhile();
    world.runtime.block_on(tx.commit()).expect("commit");
    result
}

#[test]
fn what_an_allocation_refers_to_is_not_removed_under_it() {
    on_postgres(2, |world| {
        let hall = hall(world, 2);
        let removals = [
            ("admin.v2.ImageService/Delete", json!({"id": "debian-12.0.1"}), &hall.admin),
            ("admin.v2.FilesystemService/Delete", json!({"id": "default"}), &hall.admin),
            ("api.v2.ProjectService/Delete", json!({"project": hall.project}), &hall.user),
            ("admin.v2.SizeService/Delete", json!({"id": "c1"}), &hall.admin),
        ];
        let (allocated, removed) = std::thread::scope(|scope| {
            let threads = while_no_allocation_ends(world, || {
                let allocated = start(world, scope, || hall.create(hall.request()));
                let before = waiting(world);
                let mut removed = Vec::new();
                for (method, request, token) in &removals {
                    let remove = move || (*method, world.call(token, method, request.clone()));
                    removed.push(scope.spawn(remove));
                }
                until_waiting(world, before, &removed);
                (allocated, removed)
            });
            let (allocated, removed) = threads;
            let removed: Vec<(&str, Answer)> =
                removed.into_iter().map(|thread| thread.join().expect("an answer")).collect();
            (allocated.join().expect("an answer"), removed)
        });
        let machine = allocated.expect("allocated")["machine"].clone();
        for (method, answer) in removed {
            assert_eq!(code(&answer), "failed_precondition", "{method}: {answer:?}");
        }
        hall.op("MachineService/Get", json!({"uuid": machine["uuid"]}));
    });
}

#[test]
fn who_makes_a_reservation_waits_for_allocations_that_know_nothing_of_it() {
    on_postgres(2, |world| {
        let hall = hall(world, 2);
        let bob = world.login("bob");
        let theirs = world.project(&bob, "bob", "theirs");
        let reservation = json!({"sizeReservation": {"name": "theirs", "project": theirs, "size": "c1",
            "partitions": ["p1"], "amount": 1}});
        let (first, second) = std::thread::scope(|scope| {
            let threads = while_no_allocation_ends(world, || {
                let first = start(world, scope, || hall.create(hall.request()));
                let second = start(world, scope, || {
                    hall.op("SizeReservationService/Create", reservation.clone());
                    hall.create(hall.request())
                });
                (first, second)
            });
            (threads.0.join().expect("an answer"), threads.1.join().expect("an answer"))
        });
        assert_eq!(code(&first), "ok", "{first:?}");
        assert_eq!(code(&second), "resource_exhausted", "the last one is kept: {second:?}");
    });
}

#[test]
fn a_size_is_not_removed_while_a_machine_of_it_registers() {
    on_postgres(2, |world| {
        let hall = Hall::new(world);
        hall.rack("r1", 2);
        let removed = std::thread::scope(|scope| {
            // registering needs the switches after the size
            let mut tx = world.runtime.block_on(world.db.begin_write()).expect("begin");
            let held = store::switch::TABLE.get_for_update(&mut tx, "r1-a");
            assert!(world.runtime.block_on(held).expect("held").is_some());
            let registered = start(world, scope, || {
                hall.infra("BootService/Register", Hall::registration("r1", 1))
            });
            let remove =
                || world.call(&hall.admin, "admin.v2.SizeService/Delete", json!({"id": "c1"}));
            let removed = start(world, scope, remove);
            world.runtime.block_on(tx.commit()).expect("commit");
            assert_eq!(registered.join().expect("an answer")["size"], "c1");
            removed.join().expect("an answer")
        });
        assert_eq!(code(&removed), "failed_precondition", "{removed:?}");
    });
}

#[test]
fn a_partition_is_not_removed_while_a_machine_arrives_in_it() {
    on_postgres(2, |world| {
        let hall = Hall::new(world);
        let uuid = Hall::id("r7", 1);
        // known, but not where it stands
        hall.event(&uuid, "PREPARING");
        let removed = std::thread::scope(|scope| {
            let mut tx = world.runtime.block_on(world.db.begin_write()).expect("begin");
            let held = store::machine::TABLE.get_for_update(&mut tx, &uuid);
            assert!(world.runtime.block_on(held).expect("held").is_some());
            let request = json!({"uuid": uuid, "partition": "p2"});
            let arrived = start(world, scope, || hall.infra("BootService/Dhcp", request));
            let remove =
                || world.call(&hall.admin, "admin.v2.PartitionService/Delete", json!({"id": "p2"}));
            let removed = start(world, scope, remove);
            world.runtime.block_on(tx.commit()).expect("commit");
            arrived.join().expect("an answer");
            removed.join().expect("an answer")
        });
        assert_eq!(code(&removed), "failed_precondition", "{removed:?}");
        assert_eq!(hall.machine_of(&uuid)["partition"]["id"], "p2");
    });
}

#[test]
fn a_machine_that_was_locked_before_it_was_chosen_is_not_chosen() {
    on_postgres(2, |world| {
        const MACHINES: u32 = 40;
        let hall = hall(world, MACHINES);
        let lock = |n: u32| {
            let uuid = Hall::id("r1", n);
            let request =
                json!({"uuid": uuid, "state": "MACHINE_STATE_LOCKED", "description": "no"});
            let locked = hall.op("MachineService/SetState", request)["machine"].clone();
            // who is allocated already may be locked, too: then nobody can release it
            locked["allocation"].is_null().then_some(uuid)
        };
        let free: Vec<String> = std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..MACHINES / 4 {
                        let answer = hall.create(hall.request());
                        let fine = matches!(code(&answer), "ok" | "resource_exhausted");
                        assert!(fine, "{answer:?}");
                    }
                });
            }
            let odd = scope.spawn(|| (1..=MACHINES).step_by(2).filter_map(lock).collect());
            let even = (2..=MACHINES).step_by(2).filter_map(lock);
            let mut free: Vec<String> = even.collect();
            free.extend::<Vec<String>>(odd.join().expect("locks"));
            free
        });
        assert!(!free.is_empty());
        for uuid in free {
            let machine = hall.machine_of(&uuid);
            assert!(machine["allocation"].is_null(), "locked, then allocated: {machine}");
        }
    });
}

#[test]
fn a_machine_that_is_heard_of_by_several_at_once_is_one() {
    on_postgres(2, |world| {
        let hall = Hall::new(world);
        for n in 1..=5 {
            let request = json!({"uuid": Hall::id("r9", n), "partition": "p1"});
            std::thread::scope(|scope| {
                for _ in 0..6 {
                    scope.spawn(|| hall.infra("BootService/Dhcp", request.clone()));
                }
            });
        }
        let found = hall.op("MachineService/List", json!({}));
        assert_eq!(found["machines"].as_array().map(Vec::len), Some(5), "{found}");
    });
}

#[test]
fn an_owner_is_not_removed_while_the_other_owner_goes() {
    on_postgres(2, |world| {
        let (admin, alice) = (world.admin(), world.login("alice"));
        let acme = world.organisation(&alice, "Acme");
        world.login("bob");
        world.member(&alice, &acme, "bob", "OWNER");
        let gone = std::thread::scope(|scope| {
            // what the removal of a member does: hold the tenant, look, remove
            let mut tx = world.runtime.block_on(world.db.begin_write()).expect("begin");
            let held = store::tenant::TABLE.get_for_update(&mut tx, &acme);
            assert!(world.runtime.block_on(held).expect("held").is_some());
            let delete =
                || world.call(&admin, "api.v2.TenantService/Delete", json!({"login": "alice"}));
            let gone = start(world, scope, delete);
            world.runtime.block_on(async {
                assert!(
                    store::tenant::MEMBERS.remove(&mut tx, &acme, "bob").await.expect("removed")
                );
                tx.commit().await.expect("commit");
            });
            gone.join().expect("an answer")
        });
        assert_eq!(code(&gone), "failed_precondition", "{gone:?}");
        let left: Vec<Member> = world.runtime.block_on(async {
            let mut tx = world.db.begin_read().await.expect("begin");
            store::tenant::MEMBERS.list(&mut tx, &acme).await.expect("members")
        });
        assert_eq!(left.iter().map(|m| m.member.as_str()).collect::<Vec<_>>(), ["alice"]);
    });
}

/// Storm: allocations and removals of everything that they name, without anybody arranging that they meet.
#[test]
fn whatever_happens_at_once_nothing_refers_to_what_is_gone() {
    on_postgres(2, |world| {
        const ROUNDS: u32 = 12;
        let hall = hall(world, ROUNDS);
        for round in 1..=ROUNDS {
            let id = format!("debian-13.0.{round}");
            store_image(world, &id);
            let layout = format!("layout-{round}");
            hall.op("FilesystemService/Create", json!({"filesystemLayout": {"id": layout,
                "disks": [{"device": "/dev/nvme0n1", "partitions": [{"number": 1, "label": "root", "size": "1000", "gptType": "GPT_TYPE_LINUX"}]}],
                "filesystems": [{"device": "/dev/nvme0n1p1", "format": "FORMAT_EXT4", "path": "/", "label": "root"}],
                "constraints": {"sizes": [format!("other-{round}")], "images": {"debian": "*"}}}}));
            let request = hall.request_with(json!({"image": id, "filesystemLayout": layout}));
            let pause = Duration::from_millis(u64::from(round) * 2);
            let (allocated, removed) = std::thread::scope(|scope| {
                let allocated = scope.spawn(|| hall.create(request));
                let remove = |service: &'static str, id: &str| {
                    let (method, request) =
                        (format!("admin.v2.{service}/Delete"), json!({"id": id}));
                    let admin = &hall.admin;
                    scope.spawn(move || {
                        sleep(pause);
                        world.call(admin, &method, request)
                    })
                };
                let removed = [remove("ImageService", &id), remove("FilesystemService", &layout)];
                let removed = removed.map(|thread| thread.join().expect("an answer"));
                (allocated.join().expect("an answer"), removed)
            });
            let gone = removed.iter().filter(|answer| answer.is_ok()).count();
            match code(&allocated) {
                "ok" => assert_eq!(gone, 0, "round {round}: {removed:?}"),
                "not_found" => assert!(gone > 0, "round {round}: {allocated:?}"),
                other => panic!("round {round}: {other} {allocated:?}"),
            }
        }
        let machines = hall.op("MachineService/List", json!({}))["machines"].clone();
        for machine in machines.as_array().expect("machines") {
            let image = &machine["allocation"]["image"]["id"];
            if let Value::String(image) = image {
                hall.world.ok(&hall.user, "api.v2.ImageService/Get", json!({"id": image}));
            }
        }
        let ips = hall.ips().len();
        let allocated = machines.as_array().expect("machines");
        let allocated = allocated.iter().filter(|m| m["allocation"].is_object()).count();
        assert_eq!(ips, allocated, "one address each, nothing leaks");
    });
}

fn store_image(world: &World, id: &str) {
    let image = json!({"id": id, "url": "http://images/x.tar.zst", "features": ["IMAGE_FEATURE_MACHINE"],
        "classification": "IMAGE_CLASSIFICATION_SUPPORTED", "expiresAt": "2999-01-01T00:00:00Z"});
    world.runtime.block_on(async {
        let mut tx = world.db.begin_write().await.expect("begin");
        let row = Entity::new(id, image.to_string(), 1);
        let columns = ["debian".into(), i64::MAX.into()];
        store::image::TABLE.insert(&mut tx, &row, &columns).await.expect("image");
        tx.commit().await.expect("commit");
    });
}

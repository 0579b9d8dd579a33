use proto::api;
use serde_json::{Value, json};
use store::event::Events;
use store::waiting::Waiting;
use store::{Entity, machine};

use crate::partition::partition;
use crate::size::size;
use crate::world::{World, on_all};

/// Puts a machine into the database: free and waiting, or of a project and phoned home.
fn put(world: &World, id: &str, project: Option<&str>) {
    let mut message = api::Machine {
        uuid: id.to_owned(),
        partition: api::Partition { id: "fra-1".to_owned(), ..Default::default() }.into(),
        size: api::Size { id: "c1-small".to_owned(), ..Default::default() }.into(),
        ..Default::default()
    };
    if let Some(project) = project {
        message.allocation.get_or_insert_default().project = project.to_owned();
    }
    let event = match project {
        Some(_) => "MACHINE_PROVISIONING_EVENT_TYPE_PHONED_HOME",
        None => "MACHINE_PROVISIONING_EVENT_TYPE_WAITING",
    };
    world.runtime.block_on(async {
        let mut tx = world.db.begin_write().await.expect("begin");
        let row = Entity::new(id, serde_json::to_string(&message).expect("JSON"), 1);
        let columns = [
            "fra-1".into(),
            "rack".into(),
            "c1-small".into(),
            project.into(),
            project.map(|_| id).into(),
            3.into(),
        ];
        machine::TABLE.insert(&mut tx, &row, &columns).await.expect("machine");
        let events = Events {
            machine: id.to_owned(),
            body: json!({"events": [{"event": event}]}).to_string(),
            last_event_at_us: 1,
            liveliness: 1,
            crash_loop: false,
            failed_reclaim: false,
        };
        store::event::put(&mut tx, &events).await.expect("events");
        if project.is_none() {
            let waiting = Waiting {
                machine: id.to_owned(),
                partition: "fra-1".to_owned(),
                size: "c1-small".to_owned(),
                rack: "rack".to_owned(),
                electable: true,
                position: 1,
                replica: "r".to_owned(),
                stream: "s".to_owned(),
            };
            store::waiting::put(&mut tx, &waiting).await.expect("waiting");
        }
        tx.commit().await.expect("commit");
    });
}

#[test]
fn capacity_counts_machines_and_what_is_kept_for_others() {
    on_all(|world| {
        let (admin, alice) = (world.admin(), world.login("alice"));
        let project = world.project(&alice, "alice", "ours");
        partition(world, "fra-1");
        partition(world, "fra-2");
        size(world, "c1-small", 4);
        let id = |n: u32| format!("00000000-0000-4000-8000-00000000000{n}");
        put(world, &id(1), Some(&project));
        put(world, &id(2), None);
        put(world, &id(3), None);
        let reservation = json!({"name": "ci", "description": "", "project": project, "size": "c1-small",
            "partitions": ["fra-1"], "amount": 2});
        world.ok(
            &admin,
            "admin.v2.SizeReservationService/Create",
            json!({"sizeReservation": reservation}),
        );

        let ask = |request: Value| {
            world.ok(&admin, "admin.v2.PartitionService/Capacity", request)["partitionCapacity"]
                .clone()
        };
        let all = ask(json!({}));
        assert_eq!(all.as_array().map(Vec::len), Some(2));
        assert_eq!(all[1]["partition"], "fra-2");
        assert_eq!(all[1].get("machineSizeCapacities"), None);
        let expected = json!({
            "size": "c1-small", "total": "3", "phonedHome": "1", "waiting": "2", "allocated": "1", "allocatable": "2",
            "faulty": "3", "faultyMachines": [id(1), id(2), id(3)],
            "free": "1", "reservations": "2", "usedReservations": "1", "remainingReservations": "1",
        });
        assert_eq!(all[0]["machineSizeCapacities"], json!([expected]));
        let own = ask(json!({"id": "fra-1", "project": project}));
        assert_eq!(own[0]["machineSizeCapacities"][0]["free"], "2");
        assert_eq!(
            ask(json!({"id": "fra-1", "size": "c1-none"}))[0].get("machineSizeCapacities"),
            None
        );
        world.expect(
            "not_found",
            &admin,
            "admin.v2.PartitionService/Capacity",
            json!({"id": "nowhere"}),
        );

        for (method, used) in [
            ("admin.v2.PartitionService/Delete", "fra-1"),
            ("admin.v2.SizeService/Delete", "c1-small"),
        ] {
            world.expect("failed_precondition", &admin, method, json!({"id": used}));
        }
    });
}

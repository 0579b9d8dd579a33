//! Machines that are kept free for a project.

use serde_json::json;

use crate::hall::Hall;
use crate::world::on_all;

fn reserve(hall: &Hall<'_>, project: &str, amount: u32) {
    let reservation = json!({"name": "ci", "description": "", "project": project, "size": "c1",
        "partitions": ["p1"], "amount": amount});
    hall.op("SizeReservationService/Create", json!({"sizeReservation": reservation}));
}

#[test]
fn what_is_reserved_for_others_is_not_taken() {
    on_all(|world| {
        let hall = Hall::new(world);
        hall.rack("r1", 4);
        let _machines: Vec<_> = (1..=2).map(|port| hall.machine("r1", port)).collect();
        let bob = world.login("bob");
        let other = world.project(&bob, "bob", "other");
        reserve(&hall, &other, 1);
        hall.allocate(json!({}));
        let (code, sentence) = hall.create(hall.request()).expect_err("the last one is reserved");
        assert_eq!(code, "resource_exhausted", "{sentence}");
        assert!(sentence.contains("no machine available"), "{sentence}");
        // an own reservation that is not used up helps
        reserve(&hall, &hall.project, 2);
        hall.allocate(json!({}));
    });
}

#[test]
fn many_at_once_leave_what_is_reserved() {
    on_all(|world| {
        const MACHINES: u32 = 8;
        const RESERVED: u32 = 3;
        let hall = Hall::new(world);
        hall.rack("r1", MACHINES);
        let _machines: Vec<_> = (1..=MACHINES).map(|port| hall.machine("r1", port)).collect();
        let bob = world.login("bob");
        let other = world.project(&bob, "bob", "other");
        reserve(&hall, &other, RESERVED);
        let answers: Vec<_> = std::thread::scope(|scope| {
            let callers: Vec<_> =
                (0..MACHINES).map(|_| scope.spawn(|| hall.create(hall.request()))).collect();
            callers.into_iter().map(|caller| caller.join().expect("caller")).collect()
        });
        let taken = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(taken, (MACHINES - RESERVED) as usize, "{answers:?}");
    });
}

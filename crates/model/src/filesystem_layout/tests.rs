use super::*;
use crate::image::Name;

/// A layout in which every kind of step occurs.
fn layout() -> Layout {
    let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let disk = |device: &str, partitions: &[(u32, u64)]| Disk {
        device: device.to_owned(),
        partitions: partitions.to_vec(),
    };
    let filesystem = |device: &str| Filesystem {
        device: device.to_owned(),
        create_options: strings(&["-F", "32"]),
    };
    Layout {
        disks: vec![
            disk("/dev/nvme0n1", &[(1, 500), (2, 5000), (3, 0)]),
            disk("/dev/sda", &[(1, 5000), (2, 0)]),
            disk("/dev/sdb", &[]),
        ],
        raids: vec![Raid {
            name: "/dev/md0".to_owned(),
            devices: strings(&["/dev/nvme0n1p2", "/dev/sda1"]),
            spares: 0,
        }],
        groups: vec![Group {
            name: "vg".to_owned(),
            devices: strings(&["/dev/nvme0n1p3", "/dev/sda2"]),
        }],
        volumes: vec![
            Volume { name: "data".to_owned(), group: "vg".to_owned(), mib: 100, spread: true },
            Volume { name: "rest".to_owned(), group: "vg".to_owned(), mib: 0, spread: false },
        ],
        filesystems: ["/dev/nvme0n1p1", "/dev/md0", "/dev/vg/data", "/dev/vg/rest", "/dev/sdb"]
            .map(filesystem)
            .into(),
    }
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Layout), sentence: &str) {
    let mut layout = layout();
    change(&mut layout);
    let error = check(&layout).expect_err(sentence);
    assert!(error.contains(sentence), "{error}");
}

#[test]
fn a_consistent_layout_passes() {
    assert_eq!(check(&layout()), Ok(()));
    assert_eq!(check(&Layout::default()), Ok(()));
}

#[test]
fn contradictions_are_named() {
    refused(|l| l.disks[0].partitions[1].0 = 1, "partition 1 is listed twice");
    refused(|l| l.disks[0].partitions[0].0 = 0, "counted from 1");
    refused(|l| l.disks[0].partitions[0].1 = 0, "only the last partition");
    refused(|l| l.disks[1].device = "/dev/nvme0n1".to_owned(), "listed twice");
    refused(|l| l.disks[1].device = "/dev/nvme1n1".to_owned(), "makes /dev/sda1");
    refused(|l| l.raids[0].devices.clear(), "no devices");
    refused(|l| l.raids[0].devices[0] = "/dev/sdz".to_owned(), "makes /dev/sdz");
    refused(|l| l.raids[0].spares = 2, "2 spares of 2");
    refused(|l| l.raids[0].spares = -1, "-1 spares");
    refused(|l| l.raids[0].name = "/dev/sda".to_owned(), "/dev/sda is listed twice");
    refused(|l| l.groups[0].devices.clear(), "no devices");
    refused(|l| l.groups[0].devices[0] = "/dev/md0p1".to_owned(), "makes /dev/md0p1");
    refused(|l| l.groups[0].devices[0] = "/dev/sda1".to_owned(), "already used by raid /dev/md0");
    refused(
        |l| {
            l.groups[0].devices.truncate(1);
            l.groups.push(Group { devices: vec!["/dev/sda2".to_owned()], ..l.groups[0].clone() });
        },
        "vg is listed twice",
    );
    refused(|l| drop(l.groups[0].devices.pop()), "at least 2 devices");
    refused(|l| l.volumes[0].group = "other".to_owned(), "no volume group other");
    refused(|l| l.volumes[0].mib = 0, "only the last one");
    refused(|l| l.volumes[1].name = "data".to_owned(), "/dev/vg/data is listed twice");
    refused(|l| l.filesystems[1].device = "/dev/md1".to_owned(), "makes /dev/md1");
    refused(|l| l.filesystems[1].device = "/dev/sdb".to_owned(), "already used by filesystem");
    refused(|l| l.filesystems[0].create_options[0] = "-F 32".to_owned(), "white space");
}

#[test]
fn disks_must_be_there_and_large_enough() {
    const MIB: u64 = 1024 * 1024;
    let disks = |nvme: u64, sdb: &str| {
        let list = [("/dev/nvme0n1", nvme), ("sda", 5001), (sdb, 1), ("/dev/other", 1)];
        list.map(|(name, mib)| (name.to_owned(), mib * MIB))
    };
    assert_eq!(fits(&layout(), &disks(5500, "sdb")), Ok(()));
    assert!(fits(&layout(), &disks(5499, "sdb")).expect_err("too small").contains("needs 5500"));
    assert!(
        fits(&layout(), &disks(5500, "sdc")).expect_err("missing").contains("no disk /dev/sdb")
    );
}

fn claims(sizes: &[&str], images: &[(&str, &str)]) -> Claims {
    Claims::parse(sizes.iter().copied(), images.iter().copied()).expect("valid")
}

#[test]
fn a_layout_is_chosen_by_size_and_image() {
    let claims = claims(&["small", "large"], &[("debian", ">= 12"), ("ubuntu", "*")]);
    let matches = |size: &str, id: &str| {
        let name = Name::parse(id).expect(id);
        claims.matches(size, &name.os, name.version)
    };
    assert!(matches("small", "debian-12.0.1"));
    assert!(matches("large", "ubuntu-1.0.1"));
    assert!(!matches("small", "debian-11.0.1"));
    assert!(!matches("huge", "debian-12.0.1"));
    assert!(!matches("small", "alma-9.0.1"));
}

#[test]
fn two_layouts_collide_when_one_image_on_one_size_is_claimed_by_both() {
    let a = claims(&["small", "large"], &[("debian", ">= 12"), ("ubuntu", "*")]);
    let collides = |sizes: &[&str], images: &[(&str, &str)]| {
        let b = claims(sizes, images);
        assert_eq!(a.collision(&b).is_some(), b.collision(&a).is_some(), "symmetric");
        a.collision(&b).is_some()
    };
    assert!(collides(&["large"], &[("debian", "12")]));
    assert!(collides(&["large"], &[("ubuntu", "= 24.04")]));
    assert!(!collides(&["large"], &[("debian", "< 12")]));
    assert!(!collides(&["huge"], &[("debian", "12")]));
    assert!(!collides(&["large"], &[("alma", "*")]));
    assert!(!collides(&[], &[]));
}

#[test]
fn wildcards_and_repetitions_are_refused() {
    assert!(Claims::parse(["*"], []).is_err());
    assert!(Claims::parse(["a1-*"], []).is_err());
    assert!(Claims::parse(["a", "a"], []).is_err());
    assert!(Claims::parse(["a"], [("*", "*")]).is_err());
    assert!(Claims::parse(["a"], [("debian", ">12")]).is_err());
}

//! A machine as a QEMU command line.

use crate::control::Part;
use crate::launch::Tap;
use crate::paths::socket;
use crate::shape::{BootDevice, OVMF_CODE, Shape};
use crate::topology::{Firmware, LEAVES};

/// Name of the network card towards a leaf inside QEMU; its boot order is changed by that name.
pub fn card(index: usize) -> String {
    format!("nic{index}")
}

/// Name of the disk inside QEMU.
pub const DISK: &str = "nvme0";

/// Name of the control socket of a machine.
pub fn qmp_socket(shape: &Shape) -> std::path::PathBuf {
    socket(&format!("{}.qmp", shape.machine))
}

/// Name of the serial console's socket of a machine.
pub fn console_socket(shape: &Shape) -> std::path::PathBuf {
    socket(&format!("{}.console", shape.machine))
}

/// Places in the boot order: the cards', then the disk's.
pub fn boot_order(boot: BootDevice) -> ([u8; 2], u8) {
    match boot {
        BootDevice::Pxe => ([1, 2], 3),
        BootDevice::Disk => ([2, 3], 1),
    }
}

/// The machine as a part of the lab. It works in the lab's folder, so its paths are relative.
pub fn part(shape: &Shape) -> Part {
    let cards = usize::from(shape.cards).min(LEAVES.len());
    Part {
        name: shape.machine.to_string(),
        namespace: None,
        names: None,
        needs: None,
        taps: LEAVES[..cards]
            .iter()
            .map(|leaf| Tap::Port(leaf.number, shape.machine.port()))
            .collect(),
        command: command(shape, cards),
        environment: Vec::new(),
        restart: false,
    }
}

fn command(shape: &Shape, cards: usize) -> Vec<String> {
    let machine = shape.machine;
    let (card_places, disk_place) = boot_order(shape.boot);
    let mut command: Vec<String> = vec!["qemu-system-x86_64".into()];
    let mut option = |name: &str, value: String| command.extend([name.to_owned(), value]);
    option("-name", machine.to_string());
    option("-machine", "q35".into());
    // software emulation everywhere; a small translation cache saves 200 MB for each machine
    option("-accel", "tcg,thread=multi,tb-size=64".into());
    option("-smp", shape.cores.to_string());
    option("-m", shape.memory.to_string());
    option("-uuid", shape.uuid());
    option("-smbios", smbios(1, &[("product", "lab"), ("serial", &machine.serial())]));
    option("-smbios", smbios(2, &[("product", "lab-board"), ("serial", &machine.serial())]));
    option("-smbios", smbios(3, &[("serial", &machine.serial())]));
    for (index, leaf) in LEAVES[..cards].iter().enumerate() {
        option("-netdev", format!("tap,id=net{index},fd={{tap{index}}}"));
        option(
            "-device",
            format!(
                "virtio-net-pci,id={},netdev=net{index},mac={},bootindex={}",
                card(index),
                machine.mac(*leaf),
                card_places[index]
            ),
        );
    }
    if shape.disk > 0 {
        option(
            "-drive",
            format!(
                "if=none,id=disk,file=machines/{machine}/disk.raw,format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap"
            ),
        );
        option(
            "-device",
            format!("nvme,id={DISK},drive=disk,serial={},bootindex={disk_place}", machine.serial()),
        );
    }
    if shape.firmware == Firmware::Uefi {
        option("-drive", format!("if=pflash,format=raw,readonly=on,file={OVMF_CODE}"));
        option("-drive", format!("if=pflash,format=raw,file=machines/{machine}/vars.fd"));
    }
    option("-device", "virtio-rng-pci".into());
    option(
        "-chardev",
        format!(
            "socket,id=console,path={},server=on,wait=off,logfile=logs/{machine}.console.log,logappend=on",
            console_socket(shape).display()
        ),
    );
    option("-serial", "chardev:console".into());
    option("-qmp", format!("unix:{},server=on,wait=off", qmp_socket(shape).display()));
    command.extend(["-nodefaults", "-no-user-config", "-display", "none"].map(str::to_owned));
    command
}

fn smbios(kind: u8, fields: &[(&str, &str)]) -> String {
    let fields: String = fields.iter().map(|(name, value)| format!(",{name}={value}")).collect();
    format!("type={kind},manufacturer=metal{fields}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Machine;
    use expect_test::expect;

    fn text(shape: &Shape) -> String {
        let command = part(shape).command.join(" ");
        command.replace(" -", "\n-")
    }

    #[test]
    fn the_usual_machine() {
        let shape = Shape::usual(Machine { number: 1 }, Firmware::Bios);
        expect![[r#"
            qemu-system-x86_64
            -name m1
            -machine q35
            -accel tcg,thread=multi,tb-size=64
            -smp 1
            -m 1024
            -uuid 4d4c4142-0000-4000-8000-000000000001
            -smbios type=1,manufacturer=metal,product=lab,serial=LAB00001
            -smbios type=2,manufacturer=metal,product=lab-board,serial=LAB00001
            -smbios type=3,manufacturer=metal,serial=LAB00001
            -netdev tap,id=net0,fd={tap0}
            -device virtio-net-pci,id=nic0,netdev=net0,mac=52:54:00:6d:01:01,bootindex=1
            -netdev tap,id=net1,fd={tap1}
            -device virtio-net-pci,id=nic1,netdev=net1,mac=52:54:00:6d:01:02,bootindex=2
            -drive if=none,id=disk,file=machines/m1/disk.raw,format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap
            -device nvme,id=nvme0,drive=disk,serial=LAB00001,bootindex=3
            -device virtio-rng-pci
            -chardev socket,id=console,path=run/m1.console,server=on,wait=off,logfile=logs/m1.console.log,logappend=on
            -serial chardev:console
            -qmp unix:run/m1.qmp,server=on,wait=off
            -nodefaults
            -no-user-config
            -display none"#]].assert_eq(&text(&shape));
    }

    #[test]
    fn a_misfit() {
        let mut shape = Shape::usual(Machine { number: 2 }, Firmware::Uefi);
        shape.cards = 1;
        shape.disk = 0;
        shape.uuid = Some(Machine { number: 1 }.uuid());
        shape.boot = BootDevice::Disk;
        expect![[r#"
            qemu-system-x86_64
            -name m2
            -machine q35
            -accel tcg,thread=multi,tb-size=64
            -smp 1
            -m 1024
            -uuid 4d4c4142-0000-4000-8000-000000000001
            -smbios type=1,manufacturer=metal,product=lab,serial=LAB00002
            -smbios type=2,manufacturer=metal,product=lab-board,serial=LAB00002
            -smbios type=3,manufacturer=metal,serial=LAB00002
            -netdev tap,id=net0,fd={tap0}
            -device virtio-net-pci,id=nic0,netdev=net0,mac=52:54:00:6d:02:01,bootindex=2
            -drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd
            -drive if=pflash,format=raw,file=machines/m2/vars.fd
            -device virtio-rng-pci
            -chardev socket,id=console,path=run/m2.console,server=on,wait=off,logfile=logs/m2.console.log,logappend=on
            -serial chardev:console
            -qmp unix:run/m2.qmp,server=on,wait=off
            -nodefaults
            -no-user-config
            -display none"#]].assert_eq(&text(&shape));
        assert_eq!(part(&shape).taps.len(), 1);
    }
}

//! A virtual machine from power-on to its kernel. Run with `cargo test -p boot --test it -- --ignored --nocapture`, and
//! `BOOT_TEST_KERNEL=/path/to/vmlinuz`; software emulation is enough.

use std::io::{BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::world::{World, possible};

const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
const PATIENCE: Duration = Duration::from_secs(120);

struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kernel() -> Vec<u8> {
    let path = std::env::var_os("BOOT_TEST_KERNEL").expect("BOOT_TEST_KERNEL has to name a kernel");
    std::fs::read(path).unwrap()
}

/// Where machines boot.
fn world() -> World {
    let world = World::new(
        [("vmlinuz", kernel()), ("initrd.img", vec![0; 1 << 20])],
        "console=ttyS0,115200n8 earlyprintk=ttyS0 no_timer_check panic=1",
    );
    world.ip("tuntap add swp1 mode tap");
    world.ip("link set swp1 master boot up");
    world
}

/// Starts a machine and waits for the first words of its kernel. Prints how long everything took; returns its screen.
fn boot(name: &str, world: &World, arguments: &[&str]) -> String {
    let begin = Instant::now();
    let mut child = Command::new("ip")
        .args([
            "netns",
            "exec",
            &world.server,
            "qemu-system-x86_64",
            "-accel",
            "tcg,tb-size=64",
            "-m",
            "512",
        ])
        .args(["-nodefaults", "-nographic", "-no-reboot", "-serial", "stdio", "-uuid", UUID])
        .args(["-netdev", "tap,id=n0,ifname=swp1,script=no,downscript=no"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keyboard, mut console) =
        (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let _machine = Machine(child);
    let (sender, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = console.read(&mut buffer) {
            let _ = sender.send(String::from_utf8_lossy(&buffer[..count]).into_owned());
        }
    });
    let (mut screen, mut pressed) = (String::new(), false);
    let mut milestones = vec!["Linux version", "boot.ipxe", "iPXE initialising", "iPXE 1."];
    while !screen.contains("Linux version") {
        let left = PATIENCE.saturating_sub(begin.elapsed());
        let Ok(text) = heard.recv_timeout(left) else {
            panic!("no kernel: {screen}\n{}", world.log())
        };
        screen += &text;
        // iPXE waits two seconds for Ctrl-B; any other key ends the wait
        if screen.contains("Press Ctrl-B for") && !pressed {
            keyboard.write_all(b" ").unwrap();
            pressed = true;
        }
        milestones.retain(|milestone| {
            let seen = screen.contains(milestone);
            if seen {
                println!(
                    "{name}: {milestone:?} on the screen after {:.1} s",
                    begin.elapsed().as_secs_f32()
                );
            }
            !seen
        });
    }
    println!("{name}:\n{}", world.log());
    assert!(world.fake.was_asked(&format!("claim {UUID} 52:54:00:00:00:01 leaf01 swp1")));
    assert!(world.fake.was_asked(&format!("dhcp {UUID} lab")));
    screen
}

fn bios(name: &str, world: &World, card: &str) -> String {
    boot(name, world, &["-device", &format!("{card},{CARD}")])
}

fn uefi(name: &str, world: &World, card: &str, more: &[&str]) -> String {
    let variables = world.directory.path().join("vars.fd");
    std::fs::copy(VARIABLES, &variables).unwrap();
    let code = format!("if=pflash,format=raw,readonly=on,file={FIRMWARE}");
    let variables = format!("if=pflash,format=raw,file={}", variables.display());
    let card = format!("{card},{CARD}");
    let arguments = ["-machine", "q35", "-drive", &code, "-drive", &variables, "-device", &card];
    boot(name, world, &[&arguments, more].concat())
}

const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";
const CARD: &str = "netdev=n0,mac=52:54:00:00:00:01,bootindex=1";
/// Firmware without PXE.
const NO_PXE: [&str; 4] = [
    "-fw_cfg",
    "name=opt/org.tianocore/IPv4PXESupport,string=n",
    "-fw_cfg",
    "name=opt/org.tianocore/IPv6PXESupport,string=n",
];

#[test]
#[ignore = "needs QEMU and BOOT_TEST_KERNEL"]
fn bios_with_ipxe_in_the_card() {
    if possible() {
        for card in ["virtio-net-pci", "e1000"] {
            let world = world();
            world.start();
            bios(&format!("BIOS {card}"), &world, card);
        }
    }
}

#[test]
#[ignore = "needs QEMU, OVMF and BOOT_TEST_KERNEL"]
fn uefi_with_ipxe_in_the_card() {
    if possible() {
        let world = world();
        world.start();
        uefi("UEFI iPXE", &world, "virtio-net-pci", &[]);
    }
}

#[test]
#[ignore = "needs QEMU, OVMF and BOOT_TEST_KERNEL"]
fn uefi_pxe() {
    if possible() {
        let world = world();
        world.start();
        uefi("UEFI PXE", &world, "virtio-net-pci,romfile=", &[]);
        assert!(world.log().contains("boot loader sent by TFTP"));
    }
}

#[test]
#[ignore = "needs QEMU, OVMF and BOOT_TEST_KERNEL"]
fn uefi_http() {
    if possible() {
        let world = world();
        world.start();
        uefi("UEFI HTTP", &world, "virtio-net-pci,romfile=", &NO_PXE);
        assert!(world.log().contains("boot loader sent by HTTP"));
    }
}

#[test]
#[ignore = "needs QEMU, dnsmasq and BOOT_TEST_KERNEL"]
fn bios_beside_a_foreign_server() {
    if possible() {
        let world = world();
        world.start_beside_dnsmasq();
        bios("BIOS proxy", &world, "virtio-net-pci");
    }
}

#[test]
#[ignore = "needs QEMU, OVMF, dnsmasq and BOOT_TEST_KERNEL"]
fn uefi_beside_a_foreign_server() {
    if possible() {
        let world = world();
        world.start_beside_dnsmasq();
        uefi("UEFI proxy", &world, "virtio-net-pci,romfile=", &[]);
        assert!(world.log().contains("boot loader sent by TFTP"));
    }
}

/// No firmware of QEMU speaks PXE without being iPXE, so another iPXE plays the firmware: it offers its network card to what it
/// loads as firmware does.
#[test]
#[ignore = "needs QEMU and BOOT_TEST_KERNEL"]
fn bios_loader_by_tftp() {
    if possible() {
        let world = world();
        world.start();
        let script = world.directory.path().join("script");
        let text = "#!ipxe\ndhcp\nchain tftp://10.0.1.1/undionly.kpxe\n";
        std::fs::write(&script, text).unwrap();
        let card = format!("virtio-net-pci,romfile=,{CARD}");
        let firmware = ["-kernel", "/usr/lib/ipxe/ipxe.lkrn", "-initrd", script.to_str().unwrap()];
        boot("BIOS TFTP", &world, &[&firmware[..], &["-device", &card]].concat());
        assert!(world.log().contains("file=\"undionly.kpxe\""), "{}", world.log());
    }
}

/// A machine that may not boot says why and boots as soon as it may.
#[test]
#[ignore = "needs QEMU and BOOT_TEST_KERNEL"]
fn refused_and_then_not() {
    if possible() {
        let world = world();
        world.start();
        *world.fake.refused.lock().unwrap() = Some(UUID.to_owned());
        let screen = std::thread::scope(|scope| {
            scope.spawn(|| {
                world.logged("no boot script");
                std::thread::sleep(Duration::from_secs(1));
                *world.fake.refused.lock().unwrap() = None;
            });
            bios("BIOS refused", &world, "virtio-net-pci")
        });
        assert!(screen.contains("the control plane refuses this machine"), "{screen}");
    }
}

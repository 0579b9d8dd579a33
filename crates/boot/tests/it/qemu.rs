//! A virtual machine from power-on to its kernel. Run with `cargo test -p boot --test it -- --ignored --nocapture`, and
//! `BOOT_TEST_KERNEL=/path/to/vmlinuz`; software emulation is enough.

use std::io::{BufReader, Read};
use std::path::Path;
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

/// Starts a machine and waits for the first words of its kernel. Prints how long everything took.
fn boot(name: &str, arguments: &[&str]) -> World {
    let world = World::new(
        [("vmlinuz", kernel()), ("initrd.img", vec![0; 1 << 20])],
        "console=ttyS0,115200n8 earlyprintk=ttyS0 no_timer_check panic=1",
    );
    world.ip("tuntap add swp1 mode tap");
    world.ip("link set swp1 master boot up");
    world.start();
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
        .args([
            "-nodefaults",
            "-nographic",
            "-no-reboot",
            "-serial",
            "stdio",
            "-uuid",
            "00112233-4455-6677-8899-aabbccddeeff",
        ])
        .args(["-netdev", "tap,id=n0,ifname=swp1,script=no,downscript=no"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut console = BufReader::new(child.stdout.take().unwrap());
    let machine = Machine(child);
    let (sender, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = console.read(&mut buffer) {
            let _ = sender.send(String::from_utf8_lossy(&buffer[..count]).into_owned());
        }
    });
    let mut screen = String::new();
    let mut milestones =
        vec!["Linux version", "boot.ipxe", "metal-boot:", "iPXE initialising", "iPXE 1."];
    while !screen.contains("Linux version") {
        let left = PATIENCE.saturating_sub(begin.elapsed());
        let Ok(text) = heard.recv_timeout(left) else {
            panic!("no kernel: {screen}\n{}", world.log())
        };
        screen += &text;
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
    drop(machine);
    println!("{name}:\n{}", world.log());
    assert!(
        world
            .fake
            .was_asked("claim 00112233-4455-6677-8899-aabbccddeeff 52:54:00:00:00:01 leaf01 swp1")
    );
    assert!(world.fake.was_asked("dhcp 00112233-4455-6677-8899-aabbccddeeff lab"));
    world
}

fn uefi(name: &str, card: &str) -> World {
    let directory = tempfile::tempdir().unwrap();
    let variables = directory.path().join("vars.fd");
    std::fs::copy(VARIABLES, &variables).unwrap();
    assert!(Path::new(FIRMWARE).exists());
    let code = format!("if=pflash,format=raw,readonly=on,file={FIRMWARE}");
    let variables = format!("if=pflash,format=raw,file={}", variables.display());
    boot(name, &["-machine", "q35", "-drive", &code, "-drive", &variables, "-device", card])
}

const CARD: &str = ",netdev=n0,mac=52:54:00:00:00:01,bootindex=1";

#[test]
#[ignore = "needs QEMU and BOOT_TEST_KERNEL"]
fn bios_virtio() {
    if possible() {
        boot("BIOS virtio", &["-device", &format!("virtio-net-pci{CARD}")]);
    }
}

#[test]
#[ignore = "needs QEMU and BOOT_TEST_KERNEL"]
fn bios_e1000() {
    if possible() {
        boot("BIOS e1000", &["-device", &format!("e1000{CARD}")]);
    }
}

#[test]
#[ignore = "needs QEMU, OVMF and BOOT_TEST_KERNEL"]
fn uefi_pxe() {
    if possible() {
        let world = uefi("UEFI PXE", &format!("virtio-net-pci{CARD}"));
        assert!(world.log().contains("boot loader sent by TFTP"));
    }
}

#[test]
#[ignore = "needs QEMU, OVMF and BOOT_TEST_KERNEL"]
fn uefi_http() {
    if possible() {
        // the firmware's own network stack without PXE support: only HTTP boot is left
        let world = uefi("UEFI HTTP", &format!("virtio-net-pci{CARD},romfile="));
        println!("{}", world.log());
    }
}

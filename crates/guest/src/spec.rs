//! A guest as a QEMU command line.

use std::path::{Path, PathBuf};

use crate::channel::Channel;

/// Calls that a guest answers at the same time.
pub(crate) const LANES: usize = 4;

/// A guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its host name; files in the folder begin with it.
    pub name: String,
    /// Where its sockets and the log of its console are.
    pub folder: PathBuf,
    /// The kernel, see [`crate::kernel::Kernel::image`].
    pub kernel: PathBuf,
    /// Its disk, see [`crate::Image::build`]. What it writes stays there.
    pub disk: PathBuf,
    /// MiB of memory; 160 are enough for a leaf.
    pub memory_mb: u32,
    /// Its network cards, in this order.
    pub cards: Vec<Card>,
}

/// A network card. It is down until somebody in the guest sets it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Name of the interface in the guest.
    pub name: String,
    /// Hardware address, as text.
    pub mac: String,
    /// What it is plugged into.
    pub link: Link,
}

/// What a card is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// A tap that is there, in the namespace in which QEMU starts.
    Tap(String),
    /// A tap that is open as this file; the text is passed on, so it may be something that is replaced later.
    Fd(String),
    /// A wire: datagrams between two sockets. Every frame passes, also those that bridges keep for themselves.
    Socket {
        /// Made by this guest.
        local: PathBuf,
        /// Made by whoever is at the other end, earlier or later.
        remote: PathBuf,
    },
}

impl Spec {
    /// Program and arguments. Paths are as in the specification; a card's own socket must not be there.
    pub fn command(&self) -> Vec<String> {
        let mut command: Vec<String> = vec!["qemu-system-x86_64".into()];
        let mut option = |name: &str, value: String| command.extend([name.to_owned(), value]);
        option("-name", self.name.clone());
        option("-machine", "pc".into());
        option("-accel", "tcg,tb-size=64".into());
        // without RDRAND the first random number takes seconds
        option("-cpu", "qemu64,+rdrand".into());
        option("-m", self.memory_mb.to_string());
        option("-kernel", text(&self.kernel));
        option("-append", self.kernel_command_line());
        option(
            "-drive",
            format!("if=none,id=disk,file={},format=raw,cache=unsafe", text(&self.disk)),
        );
        option("-device", "nvme,drive=disk,serial=disk".into());
        option("-device", "virtio-serial-pci".into());
        for lane in 0..LANES {
            let path = text(&lane_socket(&self.folder, &self.name, lane));
            option("-chardev", format!("socket,id=lane{lane},path={path},server=on,wait=off"));
            option("-device", format!("virtserialport,chardev=lane{lane},name=lane{lane}"));
        }
        for (index, card) in self.cards.iter().enumerate() {
            option("-netdev", format!("{},id=net{index}", card.link.backend()));
            option(
                "-device",
                format!("virtio-net-pci,netdev=net{index},mac={},romfile=", card.mac),
            );
        }
        option("-serial", format!("file:{}", text(&self.console())));
        option("-qmp", format!("unix:{},server=on,wait=off", text(&self.qmp())));
        for flag in ["-nodefaults", "-no-user-config"] {
            command.push(flag.into());
        }
        command.extend(["-display".into(), "none".into()]);
        command
    }

    fn kernel_command_line(&self) -> String {
        let cards: Vec<_> = self.cards.iter().map(|card| &card.name[..]).collect();
        format!(
            "console=ttyS0 quiet no_timer_check mitigations=off panic=1 root=/dev/nvme0n1 rootfstype=ext4 rw \
             net.ifnames=0 hostname={} cards={} lanes={LANES}",
            self.name,
            cards.join(",")
        )
    }

    /// What its console says is kept here; each start begins anew.
    pub fn console(&self) -> PathBuf {
        self.folder.join(format!("{}.console.log", self.name))
    }

    /// What QEMU complains about.
    pub(crate) fn errors(&self) -> PathBuf {
        self.folder.join(format!("{}.qemu.log", self.name))
    }

    /// QEMU's control socket.
    pub fn qmp(&self) -> PathBuf {
        self.folder.join(format!("{}.qmp", self.name))
    }

    /// The way to run commands in it.
    pub fn channel(&self) -> Channel {
        Channel::new(&self.folder, &self.name)
    }
}

impl Link {
    fn backend(&self) -> String {
        match self {
            Self::Tap(name) => format!("tap,ifname={name},script=no,downscript=no"),
            Self::Fd(number) => format!("tap,fd={number}"),
            Self::Socket { local, remote } => format!(
                "dgram,local.type=unix,local.path={},remote.type=unix,remote.path={}",
                text(local),
                text(remote)
            ),
        }
    }
}

/// Socket of a lane.
pub(crate) fn lane_socket(folder: &Path, name: &str, lane: usize) -> PathBuf {
    folder.join(format!("{name}.lane{lane}"))
}

/// QEMU splits options at commas; two of them stand for one.
fn text(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_leaf() {
        let card = |name: &str, mac: &str, link| Card { name: name.into(), mac: mac.into(), link };
        let spec = Spec {
            name: "leaf01".into(),
            folder: "run".into(),
            kernel: "/k/vmlinuz".into(),
            disk: "/d/leaf,01.ext4".into(),
            memory_mb: 192,
            cards: vec![
                card(
                    "up0",
                    "52:54:00:00:00:01",
                    Link::Socket { local: "run/a".into(), remote: "run/b".into() },
                ),
                card("swp1", "52:54:00:00:00:02", Link::Tap("tap1".into())),
                card("swp2", "52:54:00:00:00:03", Link::Fd("{tap0}".into())),
            ],
        };
        let lines = spec.command().join(" ").replace(" -", "\n-");
        expect![[r#"
            qemu-system-x86_64
            -name leaf01
            -machine pc
            -accel tcg,tb-size=64
            -cpu qemu64,+rdrand
            -m 192
            -kernel /k/vmlinuz
            -append console=ttyS0 quiet no_timer_check mitigations=off panic=1 root=/dev/nvme0n1 rootfstype=ext4 rw net.ifnames=0 hostname=leaf01 cards=up0,swp1,swp2 lanes=4
            -drive if=none,id=disk,file=/d/leaf,,01.ext4,format=raw,cache=unsafe
            -device nvme,drive=disk,serial=disk
            -device virtio-serial-pci
            -chardev socket,id=lane0,path=run/leaf01.lane0,server=on,wait=off
            -device virtserialport,chardev=lane0,name=lane0
            -chardev socket,id=lane1,path=run/leaf01.lane1,server=on,wait=off
            -device virtserialport,chardev=lane1,name=lane1
            -chardev socket,id=lane2,path=run/leaf01.lane2,server=on,wait=off
            -device virtserialport,chardev=lane2,name=lane2
            -chardev socket,id=lane3,path=run/leaf01.lane3,server=on,wait=off
            -device virtserialport,chardev=lane3,name=lane3
            -netdev dgram,local.type=unix,local.path=run/a,remote.type=unix,remote.path=run/b,id=net0
            -device virtio-net-pci,netdev=net0,mac=52:54:00:00:00:01,romfile=
            -netdev tap,ifname=tap1,script=no,downscript=no,id=net1
            -device virtio-net-pci,netdev=net1,mac=52:54:00:00:00:02,romfile=
            -netdev tap,fd={tap0},id=net2
            -device virtio-net-pci,netdev=net2,mac=52:54:00:00:00:03,romfile=
            -serial file:run/leaf01.console.log
            -qmp unix:run/leaf01.qmp,server=on,wait=off
            -nodefaults
            -no-user-config
            -display none"#]].assert_eq(&lines);
    }
}

//! `metal-phone-home`: tells the leaves that the installed system runs. It needs no address and no server: the
//! leaf that hears the frame knows the port and reports the machine.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use installer::nic::{self, Nic};
use installer::packet::PacketSocket;
use lldp::{ChassisId, Frame, PortId};

/// Written by the installer: `uuid` and `since` as `key=value` lines.
const IDENTITY: &str = "/etc/metal/phone-home";
/// Frames at the start, while leaves may still be changing the port's VRF.
const EAGER: Duration = Duration::from_secs(1);
/// How long the start lasts.
const EAGER_FOR: Duration = Duration::from_secs(10);
/// Frames after that.
const CALM: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let path = std::env::args().nth(1).unwrap_or_else(|| IDENTITY.to_owned());
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!(
                "{path} cannot be read ({error}); the installer writes it, see docs/installer.md"
            );
            return ExitCode::FAILURE;
        }
    };
    let (Some(uuid), Some(since)) = (value(&text, "uuid"), value(&text, "since")) else {
        eprintln!("{path} must hold lines uuid=… and since=…");
        return ExitCode::FAILURE;
    };
    let (uuid, since) = (uuid.to_owned(), since.to_owned());
    let mut known: Vec<u32> = Vec::new();
    for round in 0_u32.. {
        // cards appear late and get their names from udev: look again as long as the system starts
        for nic in nic::list(Path::new("/sys")) {
            if !known.contains(&nic.index) {
                known.push(nic.index);
                let (uuid, since) = (uuid.clone(), since.clone());
                thread::spawn(move || announce(&nic, &uuid, &since));
            }
        }
        thread::sleep(if round < 120 { Duration::from_millis(500) } else { CALM });
    }
    ExitCode::SUCCESS
}

fn announce(nic: &Nic, uuid: &str, since: &str) {
    let mut start = None;
    loop {
        // names change while udev works; the index does not
        let current = nic::list(Path::new("/sys")).into_iter().find(|n| n.index == nic.index);
        let name = current.map_or_else(|| nic.name.clone(), |n| n.name);
        let bytes = frame(nic, &name, uuid, since).encode(nic.mac);
        let sent =
            PacketSocket::open(nic.index, lldp::ETHERTYPE).and_then(|socket| socket.send(&bytes));
        let pause = match (sent, start) {
            // the link is not up yet
            (Err(_), _) => Duration::from_millis(100),
            (Ok(()), None) => {
                start = Some(Instant::now());
                EAGER
            }
            (Ok(()), Some(start)) if start.elapsed() < EAGER_FOR => EAGER,
            (Ok(()), Some(_)) => CALM,
        };
        thread::sleep(pause);
    }
}

fn frame(nic: &Nic, name: &str, uuid: &str, since: &str) -> Frame {
    let mut frame = Frame::new(ChassisId::Mac(nic.mac), PortId::InterfaceName(name.to_owned()), 30);
    frame.port_description = Some(name.to_owned());
    frame.system_name = Some(uuid.to_owned());
    frame.system_description = Some(format!("provisioned since {since}"));
    frame
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .map(str::trim)
        .filter(|v| !v.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_that_leaves_look_for() {
        let nic = Nic {
            index: 2,
            name: "eth0".into(),
            mac: [2, 0, 0, 0, 0, 1],
            speed: 0,
            vendor: String::new(),
            model: String::new(),
        };
        let text =
            "uuid=00112233-4455-6677-8899-aabbccddeeff\nsince = 1\nsince=2026-11-21T07:00:00Z\n";
        let frame =
            frame(&nic, "lan0", value(text, "uuid").unwrap(), value(text, "since").unwrap());
        let heard = Frame::decode(&frame.encode(nic.mac)).unwrap();
        assert_eq!(heard.system_name.as_deref(), Some("00112233-4455-6677-8899-aabbccddeeff"));
        assert_eq!(
            heard.system_description.as_deref(),
            Some("provisioned since 2026-11-21T07:00:00Z")
        );
        assert_eq!(value("uuid=\n", "uuid"), None);
    }
}

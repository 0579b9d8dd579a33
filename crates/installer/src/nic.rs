//! Network cards as sysfs shows them.

use std::fs;
use std::path::Path;

/// A physical network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Kernel's number of the interface.
    pub index: u32,
    /// Kernel's name, like `eth0`.
    pub name: String,
    /// Hardware address.
    pub mac: [u8; 6],
    /// Megabits per second; 0 where the driver does not know.
    pub speed: u64,
    /// PCI vendor, like `0x1af4`; empty when unknown.
    pub vendor: String,
    /// PCI device; empty when unknown.
    pub model: String,
}

/// All physical cards below `sys` (usually `/sys`), by index, which is the order of discovery. Bridges, tunnels and
/// the loopback have no device behind them.
#[must_use]
pub fn list(sys: &Path) -> Vec<Nic> {
    let Ok(entries) = fs::read_dir(sys.join("class/net")) else { return Vec::new() };
    let mut nics: Vec<Nic> = entries.flatten().filter_map(|entry| read(&entry.path())).collect();
    nics.sort_by_key(|nic| nic.index);
    nics
}

/// Whether the link has a partner.
#[must_use]
pub fn has_carrier(sys: &Path, name: &str) -> bool {
    text(&sys.join("class/net").join(name).join("carrier")) == "1"
}

fn read(path: &Path) -> Option<Nic> {
    if !path.join("device").exists() {
        return None;
    }
    let mac = parse_mac(&text(&path.join("address")))?;
    Some(Nic {
        index: text(&path.join("ifindex")).parse().ok()?,
        name: path.file_name()?.to_str()?.to_owned(),
        mac,
        speed: text(&path.join("speed")).parse().unwrap_or(0),
        vendor: text(&path.join("device/vendor")),
        model: text(&path.join("device/device")),
    })
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// `52:54:00:12:34:56` to bytes.
#[must_use]
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|p| p.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    (parts.next().is_none() && mac != [0; 6]).then_some(mac)
}

/// Bytes to `52:54:00:12:34:56`.
#[must_use]
pub fn format_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses() {
        assert_eq!(
            parse_mac("52:54:00:AB:cd:01").map(format_mac).as_deref(),
            Some("52:54:00:ab:cd:01")
        );
        for bad in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:01:02",
            "52:54:00:ab:cd:1",
            "00:00:00:00:00:00",
            "zz:54:00:ab:cd:01",
        ] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_cards_with_a_device_count() {
        let dir = tempfile::tempdir().unwrap();
        for (name, index, mac, device) in [
            ("lo", "1", "00:00:00:00:00:00", false),
            ("eth1", "3", "52:54:00:00:00:02", true),
            ("eth0", "2", "52:54:00:00:00:01", true),
            ("br0", "4", "52:54:00:00:00:03", false),
        ] {
            let path = dir.path().join("class/net").join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("ifindex"), format!("{index}\n")).unwrap();
            fs::write(path.join("address"), format!("{mac}\n")).unwrap();
            fs::write(path.join("speed"), "-1\n").unwrap();
            if device {
                fs::create_dir(path.join("device")).unwrap();
                fs::write(path.join("device/vendor"), "0x1af4\n").unwrap();
            }
        }
        fs::write(dir.path().join("class/net/eth0/carrier"), "1\n").unwrap();
        let nics = list(dir.path());
        assert_eq!(nics.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["eth0", "eth1"]);
        assert_eq!((nics[0].speed, nics[0].vendor.as_str()), (0, "0x1af4"));
        assert!(has_carrier(dir.path(), "eth0") && !has_carrier(dir.path(), "eth1"));
    }
}

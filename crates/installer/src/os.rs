//! What makes the unpacked image this machine's system: files, decided as data and written afterwards.

pub mod account;
pub mod firewall;
pub mod network;

use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;

use base64::Engine as _;
use proto::api::MachineAllocation;

use account::{Accounts, Owner};

/// A file of the installed system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OsFile {
    /// Absolute path.
    pub path: String,
    /// Content; a folder or link has none.
    pub content: Content,
    /// Permissions.
    pub mode: u32,
    /// To whom it belongs.
    pub owner: Owner,
}

/// What kind of file it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A regular file.
    Text(String),
    /// A folder.
    Folder,
    /// A symbolic link to this path.
    Link(String),
}

/// What is written into the system.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    /// What the API wants to be installed.
    pub allocation: &'a MachineAllocation,
    /// Id of the machine.
    pub uuid: String,
    /// Partition that it stands in.
    pub partition: String,
    /// Hardware addresses of the cards with a leaf at the other end.
    pub links: Vec<String>,
    /// When it was installed, as RFC 3339.
    pub since: String,
    /// `/etc/fstab`.
    pub fstab: String,
    /// Hash of the console password.
    pub password_hash: String,
    /// Days since 1970, for `/etc/shadow`.
    pub today: i64,
    /// 32 hex digits.
    pub machine_id: String,
    /// Private and public host key in OpenSSH's format.
    pub host_key: (String, String),
    /// Only for firewalls.
    pub agent: Option<firewall::Agent>,
}

/// What the image has already.
#[derive(Clone, Debug, Default)]
pub struct Existing {
    /// Users and groups.
    pub accounts: Accounts,
    /// `/etc/frr/daemons`.
    pub frr_daemons: Option<String>,
    /// Whether `/etc/resolv.conf` is there.
    pub resolv_conf: bool,
}

impl Existing {
    /// Reads an unpacked image.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        Self {
            accounts: Accounts::read(root),
            frr_daemons: fs::read_to_string(root.join("etc/frr/daemons")).ok(),
            resolv_conf: root.join("etc/resolv.conf").symlink_metadata().is_ok(),
        }
    }
}

/// All files, in the order of writing: folders before what is in them.
///
/// # Errors
/// A sentence about what in the allocation cannot be configured.
pub fn files(machine: &Machine<'_>, existing: &Existing) -> Result<Vec<OsFile>, String> {
    let allocation = machine.allocation;
    let addresses = network::addresses(allocation)?;
    let mut files = vec![
        text("/etc/hostname", 0o644, format!("{}\n", allocation.hostname)),
        text("/etc/hosts", 0o644, hosts(&allocation.hostname, addresses.first())),
        text("/etc/fstab", 0o644, machine.fstab.clone()),
        text("/etc/machine-id", 0o444, format!("{}\n", machine.machine_id)),
    ];
    if !allocation.dns_servers.is_empty() {
        let lines =
            allocation.dns_servers.iter().map(|server| format!("nameserver {}\n", server.ip));
        files.push(text("/etc/resolv.conf", 0o644, lines.collect()));
    }
    if !allocation.ntp_servers.is_empty() {
        let servers: Vec<_> = allocation.ntp_servers.iter().map(|s| s.address.as_str()).collect();
        let line = format!("[Time]\nNTP={}\n", servers.join(" "));
        files.push(folder("/etc/systemd/timesyncd.conf.d", 0o755, Owner::ROOT));
        files.push(text("/etc/systemd/timesyncd.conf.d/metal.conf", 0o644, line));
    }
    files.extend(existing.accounts.files(machine));
    files.extend(match firewall::is_firewall(allocation) {
        true => firewall::files(machine, existing)?,
        false => network::files(machine, existing, addresses)?,
    });
    files.extend(host_key(&machine.host_key));
    files.extend(metadata(machine)?);
    files.extend(userdata(&allocation.userdata));
    Ok(files)
}

/// A file that belongs to root.
fn text(path: &str, mode: u32, content: String) -> OsFile {
    OsFile { path: path.into(), content: Content::Text(content), mode, owner: Owner::ROOT }
}

fn folder(path: &str, mode: u32, owner: Owner) -> OsFile {
    OsFile { path: path.into(), content: Content::Folder, mode, owner }
}

fn link(path: &str, to: &str) -> OsFile {
    OsFile { path: path.into(), content: Content::Link(to.into()), mode: 0o777, owner: Owner::ROOT }
}

fn hosts(hostname: &str, address: Option<&std::net::IpAddr>) -> String {
    let own = address.map(|address| format!("{address} {hostname}\n")).unwrap_or_default();
    format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{own}")
}

/// Made here, because making keys at first boot takes seconds where entropy or processor are scarce.
fn host_key((private, public): &(String, String)) -> Vec<OsFile> {
    let path = "/etc/ssh/ssh_host_ed25519_key";
    vec![
        folder("/etc/ssh", 0o755, Owner::ROOT),
        text(path, 0o600, private.clone()),
        text(&format!("{path}.pub"), 0o644, format!("{public}\n")),
    ]
}

/// What programs of the image read about the machine. The files are JSON, which every reader of YAML understands;
/// their names are those that existing images expect.
fn metadata(machine: &Machine<'_>) -> Result<Vec<OsFile>, String> {
    let allocation = machine.allocation;
    let said = serde_json::to_string_pretty(allocation)
        .map_err(|e| format!("the allocation cannot be written: {e}"))?;
    let details = serde_json::json!({
        "id": machine.uuid,
        "partition": machine.partition,
        "allocation": allocation.uuid,
        "image": allocation.image.as_option().map(|image| image.id.as_str()).unwrap_or_default(),
        "nics": machine.links.iter().map(|mac| serde_json::json!({ "mac": mac })).collect::<Vec<_>>(),
        "installed": machine.since,
    });
    let install = serde_json::json!({
        "machineuuid": machine.uuid,
        "hostname": allocation.hostname,
        "timestamp": machine.since,
        "role": if firewall::is_firewall(allocation) { "firewall" } else { "machine" },
    });
    let phone_home = format!("uuid={}\nsince={}\n", machine.uuid, machine.since);
    Ok(vec![
        folder("/etc/metal", 0o755, Owner::ROOT),
        text("/etc/metal/machine-allocation.yaml", 0o600, said + "\n"),
        text("/etc/metal/machine-details.yaml", 0o644, format!("{details:#}\n")),
        text("/etc/metal/install.yaml", 0o644, format!("{install:#}\n")),
        text("/etc/metal/phone-home", 0o644, phone_home),
    ])
}

/// Kept as the user gave it; a script is run once, at first boot.
fn userdata(given: &str) -> Vec<OsFile> {
    const UNIT: &str = "[Unit]
Description=Runs the user data of this machine once
Wants=network-online.target
After=network.target frr.service
ConditionPathExists=!/var/lib/metal/userdata-done

[Service]
Type=oneshot
ExecStart=/etc/metal/userdata
ExecStartPost=/bin/sh -c 'mkdir -p /var/lib/metal && touch /var/lib/metal/userdata-done'
RemainAfterExit=yes
StandardOutput=journal+console

[Install]
WantedBy=multi-user.target
";
    if given.is_empty() {
        return Vec::new();
    }
    let plain = decode(given);
    if !plain.starts_with("#!") {
        return vec![text("/etc/metal/userdata", 0o600, plain)];
    }
    let wants = "/etc/systemd/system/multi-user.target.wants";
    vec![
        text("/etc/metal/userdata", 0o700, plain),
        text("/etc/systemd/system/metal-userdata.service", 0o644, UNIT.into()),
        folder(wants, 0o755, Owner::ROOT),
        link(
            &format!("{wants}/metal-userdata.service"),
            "/etc/systemd/system/metal-userdata.service",
        ),
    ]
}

/// Many tools send Base64. What does not decode to text was meant as it is.
fn decode(given: &str) -> String {
    let compact: String = given.split_whitespace().collect();
    let text = base64::engine::general_purpose::STANDARD
        .decode(compact)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .filter(|text| !text.chars().any(|c| c.is_control() && !c.is_whitespace()));
    text.unwrap_or_else(|| given.to_owned())
}

/// Writes the files into the current root folder of the calling thread (see [`crate::untar::jail`]): links of the image,
/// also absolute ones, mean what they will mean in the installed system.
///
/// # Errors
/// What the file system says, with the path.
pub fn write(files: &[OsFile]) -> io::Result<()> {
    for file in files {
        write_one(file)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.path)))?;
    }
    Ok(())
}

fn write_one(file: &OsFile) -> io::Result<()> {
    let path = Path::new(&file.path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match &file.content {
        Content::Folder => fs::create_dir_all(path)?,
        Content::Link(to) => {
            remove(path)?;
            return symlink(to, path);
        }
        Content::Text(text) => {
            // a link (like /etc/resolv.conf) is replaced, not written through
            remove(path)?;
            let mut options = fs::OpenOptions::new();
            let mut new = options.write(true).create_new(true).mode(file.mode).open(path)?;
            io::Write::write_all(&mut new, text.as_bytes())?;
        }
    }
    chown(path, Some(file.owner.uid), Some(file.owner.gid))?;
    fs::set_permissions(path, fs::Permissions::from_mode(file.mode))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    pub(super) fn allocation() -> MachineAllocation {
        serde_json::from_str(
            r#"{"uuid":"a0000000-0000-0000-0000-000000000001","project":"b0000000-0000-0000-0000-000000000001",
            "hostname":"web-1","allocationType":"MACHINE_ALLOCATION_TYPE_MACHINE","image":{"id":"debian-12.0.20261121"},
            "sshPublicKeys":["ssh-ed25519 AAAA one","ssh-ed25519 BBBB two"],
            "userdata":"IyEvYmluL3NoCmVjaG8gaGVsbG8K","dnsServers":[{"ip":"9.9.9.9"}],"ntpServers":[{"address":"ntp.example"}],
            "networks":[
              {"network":"internet","ips":["203.0.113.7","2001:db8::7"],"networkType":"NETWORK_TYPE_EXTERNAL","asn":4210000001},
              {"network":"private","ips":["10.0.16.2"],"project":"b0000000-0000-0000-0000-000000000001","networkType":"NETWORK_TYPE_CHILD","asn":4210000001}]}"#,
        )
        .unwrap()
    }

    pub(super) fn machine(allocation: &MachineAllocation) -> Machine<'_> {
        Machine {
            allocation,
            uuid: "00112233-4455-6677-8899-aabbccddeeff".into(),
            partition: "lab".into(),
            links: vec!["52:54:00:00:01:01".into(), "52:54:00:00:01:02".into()],
            since: "2026-11-21T07:00:00Z".into(),
            fstab: "UUID=x / ext4 defaults 0 1\n".into(),
            password_hash: "$6$salt$hash".into(),
            today: 20_778,
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            host_key: ("PRIVATE\n".into(), "ssh-ed25519 CCCC".into()),
            agent: None,
        }
    }

    fn content(files: &[OsFile], path: &str) -> String {
        match &files.iter().find(|f| f.path == path).unwrap_or_else(|| panic!("no {path}")).content
        {
            Content::Text(text) => text.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_written() {
        let allocation = allocation();
        let files = files(&machine(&allocation), &Existing::default()).unwrap();
        let list: String = files
            .iter()
            .map(|f| format!("{:o} {}:{} {}\n", f.mode, f.owner.uid, f.owner.gid, f.path))
            .collect();
        expect![[r#"
            644 0:0 /etc/hostname
            644 0:0 /etc/hosts
            644 0:0 /etc/fstab
            444 0:0 /etc/machine-id
            644 0:0 /etc/resolv.conf
            755 0:0 /etc/systemd/timesyncd.conf.d
            644 0:0 /etc/systemd/timesyncd.conf.d/metal.conf
            644 0:0 /etc/passwd
            640 0:0 /etc/shadow
            644 0:0 /etc/group
            700 1000:1000 /home/metal
            700 1000:1000 /home/metal/.ssh
            600 1000:1000 /home/metal/.ssh/authorized_keys
            644 0:0 /etc/systemd/network/00-lo.network
            644 0:0 /etc/systemd/network/10-lan0.link
            644 0:0 /etc/systemd/network/10-lan0.network
            644 0:0 /etc/systemd/network/10-lan1.link
            644 0:0 /etc/systemd/network/10-lan1.network
            640 0:0 /etc/frr/frr.conf
            755 0:0 /etc/ssh
            600 0:0 /etc/ssh/ssh_host_ed25519_key
            644 0:0 /etc/ssh/ssh_host_ed25519_key.pub
            755 0:0 /etc/metal
            600 0:0 /etc/metal/machine-allocation.yaml
            644 0:0 /etc/metal/machine-details.yaml
            644 0:0 /etc/metal/install.yaml
            644 0:0 /etc/metal/phone-home
            700 0:0 /etc/metal/userdata
            644 0:0 /etc/systemd/system/metal-userdata.service
            755 0:0 /etc/systemd/system/multi-user.target.wants
            777 0:0 /etc/systemd/system/multi-user.target.wants/metal-userdata.service
        "#]]
        .assert_eq(&list);
        expect![[r#"
            127.0.0.1 localhost
            ::1 localhost ip6-localhost ip6-loopback
            10.0.16.2 web-1
        "#]]
        .assert_eq(&content(&files, "/etc/hosts"));
        assert_eq!(content(&files, "/etc/metal/userdata"), "#!/bin/sh\necho hello\n");
        assert_eq!(content(&files, "/etc/resolv.conf"), "nameserver 9.9.9.9\n");
        assert!(
            content(&files, "/etc/metal/machine-allocation.yaml")
                .contains("\"hostname\": \"web-1\"")
        );
        assert!(content(&files, "/etc/frr/frr.conf").contains("router bgp 4210000001"));
    }

    #[test]
    fn userdata_is_decoded_only_when_that_makes_sense() {
        assert_eq!(decode("IyEvYmluL3NoCmVjaG8gaGVsbG8K"), "#!/bin/sh\necho hello\n");
        assert_eq!(decode("#cloud-config\nruncmd: []\n"), "#cloud-config\nruncmd: []\n");
        assert_eq!(decode("hello123"), "hello123", "it would decode, but not to text");
        assert!(userdata("").is_empty());
        assert_eq!(userdata("#cloud-config\n").len(), 1);
    }

    #[test]
    fn a_link_in_the_way_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/resolv.conf");
        fs::create_dir(dir.path().join("etc")).unwrap();
        symlink("../elsewhere", &path).unwrap();
        let mut file = text(path.to_str().unwrap(), 0o640, "new".into());
        let meta = fs::metadata(dir.path()).unwrap();
        file.owner = Owner {
            uid: std::os::unix::fs::MetadataExt::uid(&meta),
            gid: std::os::unix::fs::MetadataExt::gid(&meta),
        };
        write(&[file]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert!(!dir.path().join("elsewhere").exists());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }
}

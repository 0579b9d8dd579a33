//! What the lab adds to Debian: a boot that does little under emulation, and the sign of life.

/// A file of the image with its mode.
pub struct File {
    /// Absolute path in the image.
    pub path: &'static str,
    /// What is in it.
    pub text: &'static str,
    /// Its permissions.
    pub mode: u32,
}

/// Units that a machine of the lab has no use for. Each one costs under emulation what a hundred cost on hardware.
pub const MASKED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",
    "getty@tty1.service",
    "kmod-static-nodes.service",
    "ldconfig.service",
    "logrotate.timer",
    "modprobe@configfs.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-boot-system-token.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-journal-flush.service",
    "systemd-machine-id-commit.service",
    "systemd-networkd-wait-online.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-pstore.service",
    "systemd-repart.service",
    "systemd-update-done.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
];

/// Units that start with the machine.
pub const ENABLED: &[(&str, &str)] = &[
    ("multi-user.target.wants", "frr.service"),
    ("multi-user.target.wants", "metal-phone-home.service"),
    ("multi-user.target.wants", "ssh.service"),
    ("multi-user.target.wants", "systemd-networkd.service"),
    ("sockets.target.wants", "systemd-networkd.socket"),
];

/// Where the sign of life lives.
pub const PHONE_HOME: &str = "/usr/sbin/metal-phone-home";
/// Where the agent of a firewall lives; the installer starts it on firewalls.
pub const FIREWALL: &str = "/usr/sbin/metal-firewall";

/// The files themselves.
pub const FILES: &[File] = &[
    File {
        path: "/etc/systemd/journald.conf.d/lab.conf",
        text: "# the log of a lab machine need not survive it\n[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\n",
        mode: 0o644,
    },
    // watchfrr and its shell scripts start twenty processes; the daemons read their part of frr.conf themselves
    File {
        path: "/etc/systemd/system/frr.service",
        text: "[Unit]\nDescription=FRRouting: zebra, bgpd and bfdd\nRequires=frr-zebra.service frr-bgpd.service\nWants=frr-bfdd.service\n\
               After=frr-zebra.service frr-bgpd.service\n\n\
               [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n\
               ExecReload=/usr/bin/vtysh -b\n\n[Install]\nWantedBy=multi-user.target\n",
        mode: 0o644,
    },
    File {
        path: "/etc/systemd/system/frr-zebra.service",
        text: "[Unit]\nDescription=FRRouting: routes of the kernel\nPartOf=frr.service\nAfter=systemd-sysctl.service\n\n\
               [Service]\n\
               ExecStart=/usr/lib/frr/zebra -A 127.0.0.1 -s 90000000 -f /etc/frr/frr.conf\nRestart=always\nRestartSec=1\n",
        mode: 0o644,
    },
    // without zebra it would try again after ten seconds
    File {
        path: "/etc/systemd/system/frr-bgpd.service",
        text: "[Unit]\nDescription=FRRouting: BGP\nPartOf=frr.service\nAfter=frr-zebra.service\n\n\
               [Service]\nExecStartPre=/bin/sh -c 'until [ -S /run/frr/zserv.api ]; do sleep 0.2; done'\n\
               ExecStart=/usr/lib/frr/bgpd -A 127.0.0.1 -f /etc/frr/frr.conf\nRestart=always\nRestartSec=1\n",
        mode: 0o644,
    },
    File {
        path: "/etc/systemd/system/frr-bfdd.service",
        text: "[Unit]\nDescription=FRRouting: watches links\nPartOf=frr.service\nAfter=frr-bgpd.service metal-phone-home.service\n\n\
               [Service]\nExecStart=/usr/lib/frr/bfdd -A 127.0.0.1 -f /etc/frr/frr.conf\nRestart=always\nRestartSec=1\n",
        mode: 0o644,
    },
    // host keys are the machine's own: an image must not have any; an RSA key would take seconds to find
    File {
        path: "/etc/systemd/system/ssh.service.d/keys.conf",
        text: "[Service]\nExecStartPre=\n\
               ExecStartPre=/bin/sh -c '[ -e /etc/ssh/ssh_host_ed25519_key ] || exec ssh-keygen -q -t ed25519 -N \"\" -f /etc/ssh/ssh_host_ed25519_key'\n",
        mode: 0o644,
    },
    File {
        path: "/etc/systemd/system/metal-phone-home.service",
        text: "[Unit]\nDescription=Tells the switches by LLDP that this machine is provisioned\n\
               After=frr-bgpd.service ssh.service\n\n\
               [Service]\nExecStart=/usr/sbin/metal-phone-home\nRestart=always\nRestartSec=1\n\n\
               [Install]\nWantedBy=multi-user.target\n",
        mode: 0o644,
    },
    File { path: "/etc/hostname", text: "machine\n", mode: 0o644 },
    // users come by their keys; nobody knows a password
    File { path: "/etc/sudoers.d/metal", text: "metal ALL=(ALL) NOPASSWD: ALL\n", mode: 0o440 },
];

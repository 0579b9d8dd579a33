//! Configuration of the agents on a leaf, as text.

use std::path::Path;

use crate::paths::Paths;
use crate::spec::Spec;
use crate::topology::{Fabric, Leaf, PARTITION, RACK, api_url};

/// Configuration of `metal-boot` on a leaf.
pub fn boot(paths: &Paths, leaf: Leaf) -> String {
    let network = leaf.number;
    format!(
        r#"partition = "{PARTITION}"
api_url = "{api}"
token_file = "{token}"
cache_dir = "{cache}"
switch = "{name}"

[network]
mode = "dhcp"
interface = "boot"
address = "{address}"
prefix_length = 24
pool_start = "10.0.{network}.100"
pool_end = "10.0.{network}.199"
ipv6_prefix = "{prefix6}"
http_port = 80

[machine]
ntp_servers = []
"#,
        api = api_url(),
        token = paths.token("boot").display(),
        cache = paths.leaf(leaf).join("boot-cache").display(),
        name = leaf.name(),
        address = leaf.boot_address(),
        prefix6 = leaf.boot_prefix6(),
    )
}

/// Configuration of `metal-switch` on a leaf.
pub fn switch(paths: &Paths, leaf: Leaf, spec: Spec) -> String {
    // Routing daemons of a guest are alone. Its processor is emulated and may say nothing for seconds.
    let (backend, pathspace, hold) = match spec.fabric {
        Fabric::Plain => ("plain", leaf.name(), 3),
        Fabric::Netns => ("netns", leaf.name(), 3),
        Fabric::Vm => ("kernel", String::new(), 9),
    };
    format!(
        r#"id = "{name}"
partition = "{PARTITION}"
rack = "{RACK}"
api_url = "{api}"
token_file = "{token}"
state_dir = "{state}"
loopback = "{loopback}"
asn = {asn}
uplinks = ["up0"]
boot_bridge = "boot"
boot_prefix = "{boot_prefix}"
ports = "swp*"
backend = "{backend}"

[frr]
pathspace = "{pathspace}"

[policy]
hold_seconds = {hold}
{bfd}"#,
        name = leaf.name(),
        api = api_url(),
        token = paths.token("switch").display(),
        state = paths.leaf(leaf).display(),
        loopback = leaf.loopback(),
        asn = leaf.asn(),
        boot_prefix = leaf.boot_prefix(),
        bfd = if spec.bfd { "bfd = true\n" } else { "" },
    )
}

/// Shell variables for `metalctl` and the official clients.
pub fn environment(token: &str, project: &str, key: &Path) -> String {
    let api = api_url();
    format!(
        "export METAL_APIV2_URL={api}\nexport METAL_APIV2_TOKEN={token}\nexport METAL_PROJECT={project}\n\
         export METAL_LAB_SSH_KEY={}\n",
        key.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Firmware, LEAVES};
    use expect_test::expect;

    fn paths(root: &Path) -> Paths {
        Paths::new(root).expect("folder")
    }

    #[test]
    fn what_the_agents_of_the_second_leaf_are_told() {
        let root = tempfile::tempdir().expect("folder");
        let paths = paths(root.path());
        let spec = Spec { machines: 1, firmware: Firmware::Uefi, fabric: Fabric::Plain, bfd: true };
        let text =
            format!("{}\n----\n{}", boot(&paths, LEAVES[1]), switch(&paths, LEAVES[1], spec));
        let real = root.path().canonicalize().expect("folder").display().to_string();
        expect![[r#"
            partition = "lab"
            api_url = "http://10.255.0.1:8080"
            token_file = "ROOT/target/lab/tokens/boot.token"
            cache_dir = "ROOT/target/lab/leaf02/boot-cache"
            switch = "leaf02"

            [network]
            mode = "dhcp"
            interface = "boot"
            address = "10.0.2.1"
            prefix_length = 24
            pool_start = "10.0.2.100"
            pool_end = "10.0.2.199"
            ipv6_prefix = "fd99:0:0:2::/64"
            http_port = 80

            [machine]
            ntp_servers = []

            ----
            id = "leaf02"
            partition = "lab"
            rack = "rack-01"
            api_url = "http://10.255.0.1:8080"
            token_file = "ROOT/target/lab/tokens/switch.token"
            state_dir = "ROOT/target/lab/leaf02"
            loopback = "10.0.0.12"
            asn = 4200000012
            uplinks = ["up0"]
            boot_bridge = "boot"
            boot_prefix = "10.0.2.0/24"
            ports = "swp*"
            backend = "plain"

            [frr]
            pathspace = "leaf02"

            [policy]
            hold_seconds = 3
            bfd = true
        "#]]
        .assert_eq(&text.replace(&real, "ROOT"));
    }
}

//! Machines in use, as transcripts.

use std::os::unix::fs::PermissionsExt as _;

use expect_test::expect_file;

use crate::hall::{Hall, until};
use crate::world::{World, compare};

const RULES: &str = "\
egress:
- comment: web
  protocol: tcp
  ports: [80, 443]
  to: [0.0.0.0/0]
ingress:
- comment: ssh
  protocol: tcp
  ports: [22]
  from: [10.0.0.0/8]
";

#[test]
fn machines_that_are_allocated() {
    let mut world = World::new();
    let hall = Hall::new(&world);
    let _streams = [hall.machine(1), hall.machine(2), hall.machine(3)];
    until(
        &world,
        "machine list --waiting -o jsonpath='{.items[*].uuid}'",
        &[Hall::id(1), Hall::id(2), Hall::id(3)].join(" "),
    );
    world.write("rules.yaml", RULES);
    world.write(
        "wrong-rules.yaml",
        "egress:\n- protocol: tcpp\n  ports: [many]\n  too: [0.0.0.0/0]\n",
    );
    // Says how it was called.
    let ssh = world.write("ssh", "#!/bin/sh\necho ssh \"$@\"\n");
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", ssh.parent().unwrap().display(), std::env::var("PATH").unwrap());
    world.set("PATH", &path);
    let [one, two, three] = [1, 2, 3].map(Hall::id);
    let create =
        |noun: &str, uuid: &str, rest: &str| format!("{noun} create -p web --uuid {uuid} {rest}");
    // Operators name the machine, so that the transcript is the same each time.
    let fire = create(
        "firewall",
        &one,
        "--hostname fw --image firewall-3.0 --networks private,internet --firewall-rules-file rules.yaml -o name",
    );
    let web = create(
        "machine",
        &two,
        "--hostname web01 --image debian-12 --networks private --labels team=ops -o name",
    );
    let text = world.session(&[
        "machine create -p web --hostname aa --partition p1 --size c1 --image debain-12 --networks private",
        "machine create -p web --hostname aa --partition p1 --size c1 --image debian-12 --networks privat",
        "machine create -p wbe --hostname aa --partition p1 --size c1 --image debian-12 --networks private",
        "firewall create -p web --hostname aa --partition p1 --size c1 --image firewall-3.0 --networks private,internet --firewall-rules-file wrong-rules.yaml",
        &fire,
        &web,
        "machine list",
        "machine list -p web --columns id,hostname,ips,type",
        "machine list -p web --hostname web01 -o name",
        "machine list -l team=ops -o name",
        "firewall list -o jsonpath='{.items[*].allocation.hostname} {.items[0].allocation.firewallRules.ingress}'",
        &format!("machine describe {two} -p web -o jsonpath={{.allocation.networks[*].ips}}"),
        &format!("machine update {two} -p web --description 'shop' --add-labels stage=prod -o jsonpath='{{.allocation.description}} {{.allocation.meta.labels.labels}}'"),
        &format!("machine events {two}"),
        "machine issues --columns machine,severity,issue",
        "machine issues --only bmc-without-mac",
        "switch list --columns id,rack,os,ports-up,machines",
        "switch connected-machines",
        "switch ports rack1-a --columns port,actual,machine",
        "partition capacity",
        "partition capacity -o wide",
        &format!("size suggest {three} --id c1-small"),
        "filesystem match --size c1 --image debian-12.0.1 -o name",
        &format!("filesystem match --machine {three} --filesystem-layout default -o name"),
        "size-reservation create -p web --size c1 --partitions p1 --amount 1 --name keep -o jsonpath={.name}",
        "size-reservation list -p web --columns name,size,partitions,amount",
        "partition capacity --columns size,free,reservations",
        "audit list --login metal-stack --method MachineService/Create --phase response --columns user,method,code --sort-by code",
        &format!("machine ssh {one}"),
        &format!("firewall ssh {one} --via private -J jump -i key -- uptime"),
        &format!("machine ssh {one} --via vpn"),
        &format!("machine ssh {three}"),
        "switch ssh rack1-a",
        "switch console rack1-a",
        &format!("machine power cycle {two}"),
        &format!("machine identify on {two}"),
        "machine bmc list --columns id,power,ip,mac,bmc",
        "task list --columns queue,type,state",
        &format!("machine lock {three} --description fan"),
        "machine list --columns id,state --filter state=locked",
        &format!("machine lock {three} --remove"),
        &format!("machine console {three}"),
        &format!("machine reinstall {three}"),
        &format!("machine update-firmware {three}"),
        "firmware list",
        "ip list -p web --columns ip,type,attached-to",
        "ip create -p web --network internet --name vip --type static -o jsonpath={.ip}",
        "network describe private -p web -o jsonpath={.name}",
        "network delete private -p web -y",
        &format!("machine delete {two} -p web -y -o name"),
        "component list",
        "component prune --yes",
        "vpn list",
        "top --once",
    ]);
    compare(&expect_file!["../golden/allocated.txt"], &text);
}

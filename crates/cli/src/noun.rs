//! The nouns of the command line: one row for each service of the contract.

use crate::column::{self, Column};

/// A kind of thing.
#[derive(Debug)]
pub(crate) struct Noun {
    /// As people type it.
    pub(crate) name: &'static str,
    /// Other words for it.
    pub(crate) aliases: &'static [&'static str],
    /// Its service in every package that has one, `ImageService`.
    pub(crate) service: &'static str,
    /// Its message, `Image`; empty when there is nothing to show.
    pub(crate) message: &'static str,
    /// Field that names one of them.
    pub(crate) id: &'static str,
    /// What it is.
    pub(crate) about: &'static str,
    /// What tables show.
    pub(crate) columns: &'static [Column],
}

macro_rules! nouns {
    ($($name:literal $aliases:expr, $service:literal, $message:literal, $id:literal, $columns:path, $about:literal;)*) => {
        /// All nouns in the order of the help.
        pub(crate) static NOUNS: &[Noun] = &[$(Noun {
            name: $name, aliases: &$aliases, service: $service, message: $message, id: $id, about: $about, columns: $columns,
        },)*];
    };
}

nouns! {
    "machine" ["machines", "ms"], "MachineService", "metalstack.api.v2.Machine", "uuid", column::MACHINE, "Servers: allocate, look, release";
    "firewall" ["firewalls", "fw"], "FirewallService", "metal.v1.Firewall", "uuid", column::FIREWALL, "Firewalls: their rules; all else as for machines";
    "network" ["networks", "nw"], "NetworkService", "metalstack.api.v2.Network", "id", column::NETWORK, "Networks of projects and of the provider";
    "ip" ["ips"], "IPService", "metalstack.api.v2.IP", "ip", column::IP, "IP addresses";
    "project" ["projects"], "ProjectService", "metalstack.api.v2.Project", "uuid", column::PROJECT, "Projects, their members and invites";
    "tenant" ["tenants"], "TenantService", "metalstack.api.v2.Tenant", "login", column::TENANT, "Tenants, their members and invites";
    "token" ["tokens"], "TokenService", "metalstack.api.v2.Token", "uuid", column::TOKEN, "API tokens";
    "image" ["images"], "ImageService", "metalstack.api.v2.Image", "id", column::IMAGE, "Operating system images";
    "size" ["sizes"], "SizeService", "metalstack.api.v2.Size", "id", column::SIZE, "Kinds of hardware";
    "size-reservation" ["size-reservations", "reservation"], "SizeReservationService", "metalstack.api.v2.SizeReservation", "id", column::SIZE_RESERVATION, "Machines kept free for a project";
    "size-image-constraint" ["size-image-constraints", "imageconstraint"], "SizeImageConstraintService", "metalstack.api.v2.SizeImageConstraint", "size", column::SIZE_IMAGE_CONSTRAINT, "Which images fit which sizes";
    "filesystem" ["filesystems", "filesystemlayout", "filesystem-layout", "fsl"], "FilesystemService", "metalstack.api.v2.FilesystemLayout", "id", column::FILESYSTEM, "How disks are divided";
    "partition" ["partitions"], "PartitionService", "metalstack.api.v2.Partition", "id", column::PARTITION, "Places where machines stand";
    "switch" ["switches", "sw"], "SwitchService", "metalstack.api.v2.Switch", "id", column::SWITCH, "Leaf switches and their ports";
    "audit" ["audits"], "AuditService", "metalstack.api.v2.AuditTrace", "uuid", column::AUDIT, "Who called what";
    "component" ["components"], "ComponentService", "metalstack.api.v2.Component", "uuid", column::COMPONENT, "Running parts of the cloud and their versions";
    "task" ["tasks"], "TaskService", "metalstack.admin.v2.TaskInfo", "id", column::TASK, "Background work of the server";
    "vpn" [], "VPNService", "metalstack.api.v2.VPNNode", "id", column::VPN, "Management network of firewalls and machines";
    "user" ["users"], "UserService", "metalstack.api.v2.User", "login", column::USER, "Who you are";
    "method" ["methods", "api-methods"], "MethodService", "", "", column::NONE, "What the API offers and what your token may call";
    "health" [], "HealthService", "metalstack.api.v2.Health", "", column::NONE, "Whether the parts of the cloud work";
    "api-version" [], "VersionService", "metalstack.api.v2.Version", "", column::NONE, "Version of the server";
    "timeline" [], "TimelineService", "metal.v1.Phase", "", column::PHASE, "Where the time of a provisioning went";
    "bmc" [], "BMCService", "", "", column::NONE, "What BMC agents call";
    "boot" [], "BootService", "", "", column::NONE, "What boot agents and installers call";
    "event" [], "EventService", "", "", column::NONE, "What agents tell about machines";
    "installer" [], "InstallerService", "", "", column::NONE, "What installers call";
    "identity" [], "IdentityService", "", "", column::NONE, "How boot agents tell machines apart";
    "switch-watch" [], "SwitchWatchService", "", "", column::NONE, "What switch agents follow";
}

impl Noun {
    /// The noun that people call so.
    pub(crate) fn find(word: &str) -> Option<&'static Self> {
        NOUNS.iter().find(|noun| noun.name == word || noun.aliases.contains(&word))
    }

    /// The noun of a service.
    pub(crate) fn of_service(service: &str) -> Option<&'static Self> {
        NOUNS.iter().find(|noun| noun.service == service)
    }

    /// Whether people find it in the help.
    pub(crate) fn is_visible(&self) -> bool {
        !self.about.contains("agents") && !self.about.contains("installers")
    }
}

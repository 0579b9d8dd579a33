//! One accessor for each service of the contract.

use crate::{Client, Transport};

macro_rules! services {
    ($($(#[$doc:meta])* $name:ident: $package:ident::$client:ident;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> proto::$package::$client<Transport> {
                    proto::$package::$client::new(self.transport.clone(), self.config.clone())
                }
            )*
        }
    };
}

services! {
    /// `metalstack.api.v2.AuditService`
    audit: api::AuditServiceClient;
    /// `metalstack.api.v2.FilesystemService`
    filesystem: api::FilesystemServiceClient;
    /// `metalstack.api.v2.HealthService`
    health: api::HealthServiceClient;
    /// `metalstack.api.v2.ImageService`
    image: api::ImageServiceClient;
    /// `metalstack.api.v2.IPService`
    ip: api::IpServiceClient;
    /// `metalstack.api.v2.MachineService`
    machine: api::MachineServiceClient;
    /// `metalstack.api.v2.MethodService`
    method: api::MethodServiceClient;
    /// `metalstack.api.v2.NetworkService`
    network: api::NetworkServiceClient;
    /// `metalstack.api.v2.PartitionService`
    partition: api::PartitionServiceClient;
    /// `metalstack.api.v2.ProjectService`
    project: api::ProjectServiceClient;
    /// `metalstack.api.v2.SizeService`
    size: api::SizeServiceClient;
    /// `metalstack.api.v2.SizeImageConstraintService`
    size_image_constraint: api::SizeImageConstraintServiceClient;
    /// `metalstack.api.v2.SizeReservationService`
    size_reservation: api::SizeReservationServiceClient;
    /// `metalstack.api.v2.TenantService`
    tenant: api::TenantServiceClient;
    /// `metalstack.api.v2.TokenService`
    token: api::TokenServiceClient;
    /// `metalstack.api.v2.UserService`
    user: api::UserServiceClient;
    /// `metalstack.api.v2.VersionService`
    version: api::VersionServiceClient;

    /// `metalstack.admin.v2.AuditService`
    admin_audit: admin::AuditServiceClient;
    /// `metalstack.admin.v2.ComponentService`
    admin_component: admin::ComponentServiceClient;
    /// `metalstack.admin.v2.FilesystemService`
    admin_filesystem: admin::FilesystemServiceClient;
    /// `metalstack.admin.v2.ImageService`
    admin_image: admin::ImageServiceClient;
    /// `metalstack.admin.v2.IPService`
    admin_ip: admin::IpServiceClient;
    /// `metalstack.admin.v2.MachineService`
    admin_machine: admin::MachineServiceClient;
    /// `metalstack.admin.v2.NetworkService`
    admin_network: admin::NetworkServiceClient;
    /// `metalstack.admin.v2.PartitionService`
    admin_partition: admin::PartitionServiceClient;
    /// `metalstack.admin.v2.ProjectService`
    admin_project: admin::ProjectServiceClient;
    /// `metalstack.admin.v2.SizeService`
    admin_size: admin::SizeServiceClient;
    /// `metalstack.admin.v2.SizeImageConstraintService`
    admin_size_image_constraint: admin::SizeImageConstraintServiceClient;
    /// `metalstack.admin.v2.SizeReservationService`
    admin_size_reservation: admin::SizeReservationServiceClient;
    /// `metalstack.admin.v2.SwitchService`
    admin_switch: admin::SwitchServiceClient;
    /// `metalstack.admin.v2.TaskService`
    admin_task: admin::TaskServiceClient;
    /// `metalstack.admin.v2.TenantService`
    admin_tenant: admin::TenantServiceClient;
    /// `metalstack.admin.v2.TokenService`
    admin_token: admin::TokenServiceClient;
    /// `metalstack.admin.v2.VPNService`
    admin_vpn: admin::VpnServiceClient;

    /// `metalstack.infra.v2.BMCService`
    bmc: infra::BmcServiceClient;
    /// `metalstack.infra.v2.BootService`
    boot: infra::BootServiceClient;
    /// `metalstack.infra.v2.ComponentService`
    infra_component: infra::ComponentServiceClient;
    /// `metalstack.infra.v2.EventService`
    event: infra::EventServiceClient;
    /// `metalstack.infra.v2.SwitchService`
    infra_switch: infra::SwitchServiceClient;

    /// `metal.v1.InstallerService`
    installer: ext::InstallerServiceClient;
    /// `metal.v1.TimelineService`
    timeline: ext::TimelineServiceClient;
    /// `metal.v1.IdentityService`
    identity: ext::IdentityServiceClient;
    /// `metal.v1.SwitchWatchService`
    switch_watch: ext::SwitchWatchServiceClient;
    /// `metal.v1.FirewallService`
    firewall: ext::FirewallServiceClient;
}

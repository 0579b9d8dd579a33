//! What the control plane is told about the lab: partition, size, layout, image, networks, tenant, project.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result};
use client::Client;
use proto::api::{Format, GPTType, NATType, NetworkType, SizeConstraintType};
use proto::{admin, api};
use serde::{Deserialize, Serialize};

use crate::asset::image::Image;
use crate::paths::Paths;
use crate::topology::{INTERNET_PREFIXES, INTERNET_VNI, PARTITION, UNDERLAY_PREFIX, image_url};

/// Id of the size that the lab's usual machines have.
pub const SIZE: &str = "lab-small";
/// Id of the file system layout.
pub const LAYOUT: &str = "lab";
/// Name of the tenant.
const TENANT: &str = "lab-tenant";
/// Owner of the boot service's token and so of the machines' tokens.
pub const MACHINE_USER: &str = "machine";
/// An image that is never the newest, so that no machine has it lying ready: installing it takes its time.
pub const OLD_IMAGE: &str = "debian-12.0.1";
/// Parameters of the machines' kernel: emulated timers are late, and a panic ends in a reboot.
pub const KERNEL_PARAMETERS: &str = "console=ttyS0 no_timer_check panic=1 quiet";
/// Label with an image's digest.
pub const DIGEST_LABEL: &str = "metal-stack.io/sha256";

/// What later commands need to know of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seed {
    /// Login of the tenant.
    pub tenant: String,
    /// Project of the tenant.
    pub project: String,
    /// Private network of the project.
    pub network: String,
    /// Id of the image.
    pub image: String,
}

impl Seed {
    /// Of the running lab.
    ///
    /// # Errors
    /// None runs.
    pub fn load(paths: &Paths) -> Result<Self> {
        let text = fs::read_to_string(paths.seed()).context("the lab is not complete")?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// Tells it all.
///
/// # Errors
/// The control plane refuses something.
pub async fn seed(client: &Client, image: &Image) -> Result<Seed> {
    let partition = admin::PartitionServiceCreateRequest {
        partition: partition().into(),
        ..Default::default()
    };
    client.admin_partition().create(partition).await.context("partition")?;
    let size = admin::SizeServiceCreateRequest { size: size().into(), ..Default::default() };
    client.admin_size().create(size).await.context("size")?;
    let old = self::image(OLD_IMAGE, "debian-12.tar.zst", Some(&image.sha256));
    create_image(client, old).await?;
    let new = self::image(&image_id(image), "debian-12.tar.zst", Some(&image.sha256));
    create_image(client, new).await?;
    let layout = admin::FilesystemServiceCreateRequest {
        filesystem_layout: layout().into(),
        ..Default::default()
    };
    client.admin_filesystem().create(layout).await.context("file system layout")?;
    for network in [super_network(), internet(), underlay()] {
        let id = network.id.clone().unwrap_or_default();
        client.admin_network().create(network).await.with_context(|| format!("network {id}"))?;
    }
    let tenant = create_tenant(client).await?;
    let project = create_project(client, &tenant, "lab").await?;
    let network = create_network(client, &project, "lab-private").await?;
    Ok(Seed { tenant, project, network, image: image_id(image) })
}

fn image_id(image: &Image) -> String {
    format!("debian-12.0.{}", image.day)
}

/// Registers an image.
///
/// # Errors
/// The control plane refuses it.
pub async fn create_image(client: &Client, image: api::Image) -> Result<()> {
    let request = admin::ImageServiceCreateRequest { image: image.into(), ..Default::default() };
    client.admin_image().create(request).await.context("image")?;
    Ok(())
}

/// An image of the lab's image server.
pub fn image(id: &str, file: &str, sha256: Option<&str>) -> api::Image {
    let mut image = api::Image {
        id: id.to_owned(),
        url: image_url(file),
        name: Some("Debian 12".to_owned()),
        description: Some("Debian 12 as the lab makes it".to_owned()),
        features: vec![api::ImageFeature::Machine.into(), api::ImageFeature::Firewall.into()],
        classification: api::ImageClassification::Supported.into(),
        ..Default::default()
    };
    if let Some(sha256) = sha256 {
        image.meta = meta([(DIGEST_LABEL, sha256)]).into();
    }
    image
}

fn labels<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> api::Labels {
    let labels = pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    api::Labels { labels, ..Default::default() }
}

fn meta<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> api::Meta {
    api::Meta { labels: labels(pairs).into(), ..Default::default() }
}

fn partition() -> api::Partition {
    api::Partition {
        id: PARTITION.to_owned(),
        description: "the virtual data center".to_owned(),
        boot_configuration: api::PartitionBootConfiguration {
            image_url: image_url("initrd"),
            kernel_url: image_url("kernel"),
            commandline: KERNEL_PARAMETERS.to_owned(),
            ..Default::default()
        }
        .into(),
        ..Default::default()
    }
}

/// Fits the usual machine; memory is what the kernel leaves of a gigabyte.
fn size() -> api::Size {
    let constraint = |kind: SizeConstraintType, min: u64, max: u64| api::SizeConstraint {
        r#type: kind.into(),
        min,
        max,
        ..Default::default()
    };
    api::Size {
        id: SIZE.to_owned(),
        name: Some("small".to_owned()),
        description: Some("a virtual machine of the lab".to_owned()),
        constraints: vec![
            constraint(SizeConstraintType::Cores, 1, 2),
            constraint(SizeConstraintType::Memory, 900 << 20, 1100 << 20),
            constraint(SizeConstraintType::Storage, 4_000_000_000, 5_000_000_000),
        ],
        ..Default::default()
    }
}

/// Size of machines whose disk is too small for their layout.
pub const TINY_SIZE: &str = "lab-tiny";

/// Makes a size of machines with a tiny disk, and a layout for it that needs more.
///
/// # Errors
/// The control plane refuses it.
pub async fn create_tiny(client: &Client) -> Result<()> {
    let mut size = size();
    TINY_SIZE.clone_into(&mut size.id);
    if let Some(storage) = size.constraints.last_mut() {
        (storage.min, storage.max) = (500_000_000, 700_000_000);
    }
    let size = admin::SizeServiceCreateRequest { size: size.into(), ..Default::default() };
    client.admin_size().create(size).await.context("size")?;
    let mut layout = layout();
    TINY_SIZE.clone_into(&mut layout.id);
    if let Some(constraints) = layout.constraints.as_option_mut() {
        constraints.sizes = vec![TINY_SIZE.to_owned()];
    }
    if let Some(efi) = layout.disks[0].partitions.first_mut() {
        efi.size = 2000;
    }
    let layout = admin::FilesystemServiceCreateRequest {
        filesystem_layout: layout.into(),
        ..Default::default()
    };
    client.admin_filesystem().create(layout).await.context("file system layout")?;
    Ok(())
}

fn layout() -> api::FilesystemLayout {
    let partition = |number: u32, label: &str, size: u64, kind: GPTType| api::DiskPartition {
        number,
        label: Some(label.to_owned()),
        size,
        gpt_type: Some(kind.into()),
        ..Default::default()
    };
    let filesystem =
        |device: &str, format: Format, path: &str, label: &str, options: &[&str]| api::Filesystem {
            device: device.to_owned(),
            format: format.into(),
            path: Some(path.to_owned()),
            label: Some(label.to_owned()),
            create_options: options.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
    let images = HashMap::from([("debian".to_owned(), ">= 12.0".to_owned())]);
    api::FilesystemLayout {
        id: LAYOUT.to_owned(),
        name: Some("one NVMe disk".to_owned()),
        filesystems: vec![
            filesystem("/dev/nvme0n1p1", Format::Vfat, "/boot/efi", "efi", &["-F", "32"]),
            filesystem("/dev/nvme0n1p2", Format::Ext4, "/", "root", &[]),
        ],
        disks: vec![api::Disk {
            device: "/dev/nvme0n1".to_owned(),
            partitions: vec![
                partition(1, "efi", 128, GPTType::Boot),
                partition(2, "root", 0, GPTType::Linux),
            ],
            ..Default::default()
        }],
        constraints: api::FilesystemLayoutConstraints {
            sizes: vec![SIZE.to_owned()],
            images: images.into_iter().collect(),
            ..Default::default()
        }
        .into(),
        ..Default::default()
    }
}

fn network(id: &str, kind: NetworkType, prefix: &str) -> admin::NetworkServiceCreateRequest {
    admin::NetworkServiceCreateRequest {
        id: Some(id.to_owned()),
        name: Some(id.to_owned()),
        partition: Some(PARTITION.to_owned()),
        r#type: kind.into(),
        prefixes: vec![prefix.to_owned()],
        ..Default::default()
    }
}

/// Private networks are cut from it.
fn super_network() -> admin::NetworkServiceCreateRequest {
    let length = api::ChildPrefixLength { ipv4: Some(22), ..Default::default() };
    admin::NetworkServiceCreateRequest {
        default_child_prefix_length: length.into(),
        ..network("lab-super", NetworkType::Super, "10.100.0.0/14")
    }
}

/// Id of the network behind which the internet is.
pub const INTERNET: &str = "internet";

fn internet() -> admin::NetworkServiceCreateRequest {
    admin::NetworkServiceCreateRequest {
        destination_prefixes: ["0.0.0.0/0", "::/0"].map(str::to_owned).into(),
        nat_type: Some(NATType::Ipv4Masquerade.into()),
        vrf: Some(INTERNET_VNI),
        prefixes: INTERNET_PREFIXES.map(str::to_owned).into(),
        ..network(INTERNET, NetworkType::External, "")
    }
}

fn underlay() -> admin::NetworkServiceCreateRequest {
    network("underlay", NetworkType::Underlay, UNDERLAY_PREFIX)
}

/// Makes the tenant; the control plane chooses its login.
async fn create_tenant(client: &Client) -> Result<String> {
    let request =
        admin::TenantServiceCreateRequest { name: TENANT.to_owned(), ..Default::default() };
    let answer = client.admin_tenant().create(request).await.context("tenant")?.into_owned();
    Ok(answer.tenant.into_option().context("no tenant in the answer")?.login)
}

/// Makes a project of a tenant and returns its id.
///
/// # Errors
/// The control plane refuses it.
pub async fn create_project(client: &Client, tenant: &str, name: &str) -> Result<String> {
    let request = api::ProjectServiceCreateRequest {
        login: tenant.to_owned(),
        name: name.to_owned(),
        description: "project of the lab".to_owned(),
        ..Default::default()
    };
    let answer = client.project().create(request).await.context("project")?.into_owned();
    Ok(answer.project.into_option().context("no project in the answer")?.uuid)
}

/// Id of the super network whose prefixes every project has for itself.
pub const NAMESPACED: &str = "lab-namespaced";

/// Makes the super network whose prefixes every project has for itself, once.
///
/// # Errors
/// The control plane refuses it.
pub async fn create_namespaced(client: &Client) -> Result<()> {
    let length = api::ChildPrefixLength { ipv4: Some(22), ipv6: Some(64), ..Default::default() };
    let request = admin::NetworkServiceCreateRequest {
        default_child_prefix_length: length.into(),
        partition: None,
        prefixes: vec!["10.112.0.0/16".to_owned(), "2001:db8:4c00::/48".to_owned()],
        ..network(NAMESPACED, NetworkType::SuperNamespaced, "")
    };
    match client.admin_network().create(request).await {
        // an earlier story made it
        Err(error) if error.code == client::ErrorCode::AlreadyExists => Ok(()),
        made => made.map(drop).context("namespaced super network"),
    }
}

/// Makes a private network of both address families whose addresses other projects may have, too.
///
/// # Errors
/// The control plane refuses it.
pub async fn create_namespaced_network(
    client: &Client,
    project: &str,
    name: &str,
) -> Result<api::Network> {
    let request = api::NetworkServiceCreateRequest {
        project: project.to_owned(),
        name: Some(name.to_owned()),
        parent_network: Some(NAMESPACED.to_owned()),
        ..Default::default()
    };
    let answer = client.network().create(request).await.context("private network")?.into_owned();
    answer.network.into_option().context("no network in the answer")
}

/// Makes a private network and returns its id.
///
/// # Errors
/// The control plane refuses it.
pub async fn create_network(client: &Client, project: &str, name: &str) -> Result<String> {
    let request = api::NetworkServiceCreateRequest {
        project: project.to_owned(),
        name: Some(name.to_owned()),
        partition: Some(PARTITION.to_owned()),
        ..Default::default()
    };
    let answer = client.network().create(request).await.context("private network")?.into_owned();
    Ok(answer.network.into_option().context("no network in the answer")?.id)
}

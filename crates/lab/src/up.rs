//! `lab up`: from nothing to machines that wait for an allocation.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use client::Client;
use tokio::runtime::Runtime;

use crate::asset::image::Image;
use crate::asset::kernel::Kernel;
use crate::asset::{base, image, initrd, kernel};
use crate::control::{self, Part, Request};
use crate::frr::Router;
use crate::guests::Node;
use crate::paths::{Paths, write_secret};
use crate::progress::Progress;
use crate::seed::{self, Seed};
use crate::shape::Shape;
use crate::spec::Spec;
use crate::topology::{Fabric, LEAVES, Machine, PARTITION};
use crate::{api, config, down, fabric, frr, guests, internet, ledger, names, parts, power, shell};

/// How long the control plane may take to answer for the first time.
const SERVER_PATIENCE: Duration = Duration::from_secs(20);
/// How long the leaves may take to be known to the control plane.
const LEAVES_PATIENCE: Duration = Duration::from_secs(30);
/// How long the machines may take to wait for an allocation, on a busy host.
const MACHINES_PATIENCE: Duration = Duration::from_secs(180);

/// Kernel, initrd and image, from the cache or new.
pub struct Assets {
    kernel: Kernel,
    initrd: std::path::PathBuf,
    image: Image,
}

/// Makes what machines boot and install.
///
/// # Errors
/// A package is missing or the mirror cannot be reached.
pub fn assets(paths: &Paths, progress: &Progress) -> Result<Assets> {
    let cache = paths.cache();
    let origin = |from_cache: bool| if from_cache { "from the cache" } else { "made" };
    let step = progress.step("kernel");
    let (kernel, cached) = kernel::kernel(&cache)?;
    step.done(&format!("{} {}", kernel.version, origin(cached)));
    let step = progress.step("Debian 12 by mmdebstrap (once, about a minute)");
    let (base, cached) = base::base(&cache)?;
    step.done(origin(cached));
    let step = progress.step("image");
    let phone_home = paths.static_program("metal-phone-home");
    let firewall = paths.static_program("metal-firewall");
    let (image, cached) = image::image(&cache, &base, &kernel, &phone_home, &firewall)?;
    let size = fs::metadata(&image.file)?.len() >> 20;
    step.done(&format!("{size} MiB {}", origin(cached)));
    let step = progress.step("initrd");
    let (initrd, cached) =
        initrd::initrd(&cache, &kernel, &paths.static_program("metal-installer"))?;
    let size = fs::metadata(&initrd)?.len() >> 10;
    step.done(&format!("{size} KiB {}", origin(cached)));
    Ok(Assets { kernel, initrd, image })
}

/// Whether a lab runs that came up completely.
pub fn runs(paths: &Paths) -> bool {
    paths.seed().exists() && control::ask(&paths.control(), &Request::List).is_ok()
}

/// Starts the lab unless it runs.
///
/// # Errors
/// Something does not start; what runs by then stays, so that it can be looked at.
pub fn up(paths: &Paths, spec: Spec) -> Result<()> {
    let progress = Progress::default();
    if runs(paths) {
        let running = Spec::load(paths)?;
        if running != spec {
            bail!(
                "a lab with {} machines ({:?}, {:?}{}) runs already; `cargo xtask lab down` ends it",
                running.machines,
                running.firmware,
                running.fabric,
                if running.bfd { ", BFD" } else { "" }
            );
        }
        progress.note("the lab is up already");
        return Ok(());
    }
    let assets = assets(paths, &progress)?;
    if down::anything(paths) {
        let step = progress.step("what an earlier lab left");
        down::clean(paths)?;
        step.done("removed");
    }
    start(paths, spec, &assets, &progress)
}

/// Starts namespaces and routing daemons alone, for whoever works on an agent.
///
/// # Errors
/// Something does not start.
pub fn network_only(paths: &Paths, spec: Spec) -> Result<()> {
    if spec.fabric == Fabric::Vm {
        bail!("guests start with their agents: use `cargo xtask lab -n 0 --fabric vm`");
    }
    if down::anything(paths) {
        down::clean(paths)?;
    }
    network(paths, spec, &Progress::default())
}

fn network(paths: &Paths, spec: Spec, progress: &Progress) -> Result<()> {
    fs::remove_dir_all(paths.logs()).ok();
    paths.create()?;
    std::env::set_current_dir(paths.lab())?;
    spec.save(paths)?;
    let step = progress.step("network");
    fabric::apply(&fabric::plan(spec.fabric, spec.ports()))?;
    match spec.fabric {
        Fabric::Plain => {}
        Fabric::Netns => {
            names::make()?;
            internet::make()?;
        }
        Fabric::Vm => internet::make_for_guest()?,
    }
    frr::prepare(spec.fabric)?;
    supervisor(paths)?;
    for part in
        Router::namespaces(spec.fabric).into_iter().flat_map(|router| router.parts(spec.fabric))
    {
        run(paths, part)?;
    }
    step.done(&format!("exit, {} leaves, {} ports each", LEAVES.len(), spec.ports()));
    Ok(())
}

fn start(paths: &Paths, spec: Spec, assets: &Assets, progress: &Progress) -> Result<()> {
    network(paths, spec, progress)?;
    publish(paths, assets)?;
    let runtime = Runtime::new()?;
    let step = progress.step("control plane");
    run(paths, parts::files(paths))?;
    let begin = Instant::now();
    run(paths, parts::server(paths))?;
    let client = runtime.block_on(server(paths, begin))?;
    step.done("answers");

    let step = progress.step("partition, size, image, networks, project");
    ssh_key(paths)?;
    let seed = runtime
        .block_on(seed::seed(&client, &assets.image))
        .with_context(|| log_hint(paths, parts::SERVER))?;
    fs::write(paths.seed(), serde_json::to_vec_pretty(&seed)?)?;
    environment(paths, &seed)?;
    step.done("");

    leaves(paths, spec, &assets.kernel, progress)?;
    run(paths, parts::bmc(paths))?;
    let step = progress.step("leaves");
    runtime.block_on(switches(paths, spec, &client))?;
    step.done("known to the control plane");
    machines(paths, spec, &runtime, &client, progress)
}

/// Starts what runs on leaves, and before that the leaves if they are guests.
fn leaves(paths: &Paths, spec: Spec, kernel: &Kernel, progress: &Progress) -> Result<()> {
    if spec.fabric == Fabric::Vm {
        let step = progress.step("guests");
        guests::build(paths, kernel, spec)?;
        for node in Node::all() {
            run(paths, node.part(paths, &kernel.image(), spec.ports()))?;
            let console = format!("{}.console.log", node.name());
            symlink(paths.run().join(&console), paths.logs().join(&console))?;
        }
        step.done("started");
        return Ok(());
    }
    for leaf in LEAVES {
        fs::create_dir_all(paths.leaf(leaf))?;
        fs::write(paths.leaf(leaf).join("boot.toml"), config::boot(paths, leaf))?;
        fs::write(paths.leaf(leaf).join("switch.toml"), config::switch(paths, leaf, spec))?;
    }
    parts::agents(paths, spec.fabric).into_iter().try_for_each(|part| run(paths, part))
}

/// Puts what machines fetch where the image server finds it.
fn publish(paths: &Paths, assets: &Assets) -> Result<()> {
    let image = &assets.image.file;
    let mut files = vec![(assets.kernel.image(), "kernel".to_owned())];
    files.push((assets.initrd.clone(), "initrd".to_owned()));
    for suffix in ["", ".sha256", ".md5"] {
        let mut from = image.as_os_str().to_owned();
        from.push(suffix);
        files.push((from.into(), format!("debian-12.tar.zst{suffix}")));
    }
    for (from, name) in files {
        let to = paths.images().join(name);
        fs::remove_file(&to).ok();
        symlink(&from, &to).with_context(|| format!("cannot link {}", to.display()))?;
    }
    Ok(())
}

/// Starts the supervisor and waits until it listens.
fn supervisor(paths: &Paths) -> Result<()> {
    let log = OpenOptions::new().create(true).append(true).open(paths.log("supervisor"))?;
    let mut command = shell::command(
        &paths.program("metal-lab").display().to_string(),
        [Path::new("--root"), paths.root(), Path::new("supervise")],
    );
    command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null()).process_group(0);
    command.spawn().context("cannot start the supervisor")?;
    let begin = Instant::now();
    while control::ask(&paths.control(), &Request::List).is_err() {
        if begin.elapsed() > Duration::from_secs(10) {
            bail!(log_hint(paths, "supervisor"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn run(paths: &Paths, part: Part) -> Result<()> {
    let name = part.name.clone();
    control::ask(&paths.control(), &Request::Start(part))
        .with_context(|| log_hint(paths, &name))?;
    Ok(())
}

/// Points at the log of a part and shows its end.
pub fn log_hint(paths: &Paths, part: &str) -> String {
    let log = paths.log(part);
    let text = fs::read_to_string(&log).unwrap_or_default();
    let mut tail: Vec<_> = text.lines().rev().take(12).collect();
    tail.reverse();
    format!("{part} does not do its work; the end of {}:\n{}", log.display(), tail.join("\n"))
}

/// Waits until the control plane answers, and makes the tokens.
async fn server(paths: &Paths, begin: Instant) -> Result<Client> {
    let agent = "--user metal-stack --infra-role editor";
    // it makes the tokens of machines, which belong to this user then
    let boot = format!("--user {} --infra-role editor --machine-role editor", seed::MACHINE_USER);
    let operator = "--user metal-stack --admin-role editor";
    let tokens = [(api::ADMIN, operator), ("switch", agent), ("bmc", agent), ("boot", &boot)];
    wait_for_server(begin).await.with_context(|| log_hint(paths, parts::SERVER))?;
    for (name, rights) in tokens {
        let mut command = shell::command(
            &paths.program("metal-server").display().to_string(),
            ["token", "create", "--expires", "7d"],
        );
        command.args(["--description", &format!("lab: {name}")]);
        command.args(rights.split_whitespace());
        command.args(parts::database(paths));
        let secret = shell::run(&mut command)?;
        write_secret(&paths.token(name), secret.trim())?;
    }
    api::client(paths, api::ADMIN)
}

async fn wait_for_server(begin: Instant) -> Result<()> {
    let client = api::anonymous()?.with_patience(Duration::ZERO);
    loop {
        match client.health().get(proto::api::HealthServiceGetRequest::default()).await {
            Ok(_) => return Ok(()),
            Err(error) if begin.elapsed() > SERVER_PATIENCE => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn ssh_key(paths: &Paths) -> Result<()> {
    let key = paths.ssh_key();
    if !key.exists() {
        let mut keygen =
            shell::command("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"]);
        shell::run(keygen.arg(&key))?;
    }
    Ok(())
}

fn environment(paths: &Paths, seed: &Seed) -> Result<()> {
    let token = fs::read_to_string(paths.token(api::ADMIN))?;
    let text = config::environment(token.trim(), &seed.project, &paths.ssh_key());
    Ok(write_secret(&paths.env(), &text)?)
}

/// Waits until both leaves have registered: a machine that registers before them has no neighbours.
async fn switches(paths: &Paths, spec: Spec, client: &Client) -> Result<()> {
    let begin = Instant::now();
    loop {
        let request = proto::admin::SwitchServiceListRequest::default();
        let known = client.admin_switch().list(request).await?.into_owned().switches;
        let missing: Vec<_> = LEAVES
            .into_iter()
            .filter(|leaf| !known.iter().any(|s| s.id == leaf.name() && s.partition == PARTITION))
            .collect();
        let Some(leaf) = missing.first() else { return Ok(()) };
        if begin.elapsed() > LEAVES_PATIENCE * spec.fabric.slowness() {
            let log = if spec.fabric == Fabric::Vm { ".console" } else { "-switch" };
            let hint = log_hint(paths, &format!("{}{log}", leaf.name()));
            bail!("switch {} does not register\n{hint}", leaf.name());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Switches the machines on and waits until they wait.
fn machines(
    paths: &Paths,
    spec: Spec,
    runtime: &Runtime,
    client: &Client,
    progress: &Progress,
) -> Result<()> {
    let begin = Instant::now();
    for machine in Machine::all(spec.machines) {
        Shape::usual(machine, spec.firmware).save(paths)?;
        power::on(paths, machine).with_context(|| log_hint(paths, &machine.to_string()))?;
        if ledger::find(&paths.run(), &machine.to_string()).is_none() {
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    for machine in Machine::all(spec.machines) {
        let uuid = machine.uuid();
        let step = progress.step(&format!("machine {machine} {uuid}"));
        let patience = MACHINES_PATIENCE * spec.fabric.slowness();
        let waiting = api::until(client, &uuid, patience, "waiting", api::waits);
        runtime
            .block_on(waiting)
            .with_context(|| log_hint(paths, &format!("{machine}.console")))?;
        step.done(&format!("waits, {:.1} s after power-on", begin.elapsed().as_secs_f64()));
    }
    Ok(())
}

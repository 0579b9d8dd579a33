//! Installers that wait: what open streams cost, and how soon an allocation reaches its stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use buffa::Message;
use proto::{api, infra};
use tokio::sync::{Semaphore, mpsc};

use crate::fleet::{self, Fleet};
use crate::ground::Ground;
use crate::http;

/// So many streams are opened at once.
const AT_ONCE: usize = 32;
/// Open streams are looked at for so long: at least once each looks at the database by itself.
const IDLE: Duration = Duration::from_secs(30);
const ALLOCATIONS: usize = 300;
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) async fn measure(ground: &Ground, fleet: &Fleet, wanted: u64) {
    let before = ground.resident();
    let cpu = ground.cpu();
    let begin = Instant::now();
    let (heard, mut news) = mpsc::unbounded_channel();
    let opening = Arc::new(Semaphore::new(AT_ONCE));
    let (opened, mut open) = mpsc::unbounded_channel();
    let machines: Vec<_> =
        fleet.free.iter().take(usize::try_from(wanted).expect("few")).cloned().collect();
    let mut tasks = Vec::new();
    for uuid in &machines {
        // each machine has a connection of its own
        let client = client::Client::new(client::Config {
            url: format!("http://{}", ground.address()),
            token: client::TokenSource::Static(fleet.agent.clone()),
            ca_cert_pem: None,
        })
        .expect("client");
        let (opening, opened, heard) = (Arc::clone(&opening), opened.clone(), heard.clone());
        let request = infra::BootServiceWaitRequest { uuid: uuid.clone(), ..Default::default() };
        tasks.push(tokio::spawn(async move {
            let permit = opening.acquire_owned().await.expect("open");
            let service = client.boot();
            let mut stream = service.wait(request.clone()).await.expect("stream");
            drop(permit);
            opened.send(()).expect("somebody counts");
            while let Some(message) = stream.message().await.expect("stream") {
                let at = Instant::now();
                assert!(message.to_owned_message().allocation.as_option().is_some());
                // the measurement may be over
                let _ = heard.send((request.uuid.clone(), at));
            }
        }));
    }
    for _ in &machines {
        open.recv().await.expect("opened");
    }
    let count = machines.len();
    let opening_ms = |time: Duration| time.as_secs_f64() * 1e3 / count as f64;
    let (server, database) = ground.cpu_since(cpu);
    println!(
        "{count} wait streams opened in {:.1} s, each costs the server {:.2} ms and the database {:.2} ms of processor",
        begin.elapsed().as_secs_f64(),
        opening_ms(server),
        opening_ms(database)
    );
    let cpu = ground.cpu();
    tokio::time::sleep(IDLE).await;
    let (server, database) = ground.cpu_since(cpu);
    let share = |time: Duration| 100.0 * time.as_secs_f64() / IDLE.as_secs_f64();
    println!(
        "{} MB resident with {count} wait streams, {:.1} KB each; idle: server {:.1} %, database {:.1} % of a processor",
        ground.resident() >> 20,
        ground.resident().saturating_sub(before) as f64 / 1024.0 / count as f64,
        share(server),
        share(database)
    );
    allocate(ground, fleet, &mut news).await;
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

/// Allocates machines one after the other, and waits until all streams have heard.
async fn allocate(
    ground: &Ground,
    fleet: &Fleet,
    news: &mut mpsc::UnboundedReceiver<(String, Instant)>,
) {
    let mut client = http::Client::connect(ground.address()).await;
    let mut answered = HashMap::new();
    let mut answers = Vec::new();
    for project in fleet.projects.iter().cycle().take(ALLOCATIONS) {
        let request = fleet::allocation(project).encode_to_vec();
        let request = http::encode("proto", &fleet.user, "api.v2.MachineService/Create", &request);
        let begin = Instant::now();
        let (head, body) = client.send(&request).await;
        let end = Instant::now();
        answers.push(end - begin);
        assert!(head.starts_with("HTTP/1.1 200"), "{head} {}", String::from_utf8_lossy(&body));
        let answer = api::MachineServiceCreateResponse::decode_from_slice(&body).expect("answer");
        let uuid = answer.machine.as_option().expect("machine").uuid.clone();
        answered.insert(uuid, (begin, end));
        tokio::time::sleep(PAUSE).await;
    }
    let (mut since_call, mut since_answer) = (Vec::new(), Vec::new());
    while since_call.len() < answered.len() {
        let next = tokio::time::timeout(Duration::from_secs(30), news.recv()).await;
        let (uuid, at) = next.expect("every stream hears in time").expect("streams");
        let Some((begin, end)) = answered.get(&uuid) else { continue };
        since_call.push(at - *begin);
        since_answer.push(at.saturating_duration_since(*end));
    }
    let p99 = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[(times.len() - 1) * 99 / 100].as_secs_f64() * 1e3
    };
    println!(
        "{ALLOCATIONS} allocations: p99 of the answer {:.1} ms; at the stream p99 {:.1} ms after the call, {:.1} ms after the answer",
        p99(&mut answers),
        p99(&mut since_call),
        p99(&mut since_answer)
    );
}

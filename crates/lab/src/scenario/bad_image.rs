//! Images that cannot be installed: the event says why, and the machine neither loops nor slips into the pool.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::admin;

use super::stage::{Stage, TO_PHONED_HOME, events};
use crate::api::{Event, last_event, waits};
use crate::asset;
use crate::seed;
use crate::topology::Machine;

/// What is wrong, how the image server is made to show it, and words of which the reason has one.
struct Case {
    what: &'static str,
    id: &'static str,
    words: &'static [&'static str],
}

const WRONG_DIGEST: Case = Case {
    what: "another digest",
    id: "debian-12.0.61",
    words: &["digest", "sha256", "SHA-256", "checksum"],
};
const TRUNCATED: Case = Case {
    what: "half of the file",
    id: "debian-12.0.62",
    words: &["cut", "short", "truncat", "incomplete", "end", "digest", "sha256", "SHA-256"],
};
const UNREACHABLE: Case = Case {
    what: "no file",
    id: "debian-12.0.63",
    words: &["404", "not found", "Not Found", "unreachable", "answered"],
};

pub(super) async fn play(stage: &Stage) -> Result<String> {
    let images = stage.paths.images();
    let good = images.join("debian-12.tar.zst");
    let digest = asset::sha256(&good)?;
    let half = fs::read(&good).map(|bytes| bytes[..bytes.len() / 2].to_vec())?;
    fs::write(images.join("half.tar.zst"), half)?;
    fs::write(images.join("gone.tar.zst"), "soon gone")?;
    let other = digest.chars().rev().collect::<String>();
    for (case, file, sha256) in [
        (&WRONG_DIGEST, "debian-12.tar.zst", &other),
        (&TRUNCATED, "half.tar.zst", &digest),
        (&UNREACHABLE, "gone.tar.zst", &digest),
    ] {
        let image = seed::image(case.id, file, Some(sha256));
        seed::create_image(&stage.client, image).await.context(case.what)?;
    }
    fs::remove_file(images.join("gone.tar.zst"))?;
    for case in [WRONG_DIGEST, TRUNCATED, UNREACHABLE] {
        fails(stage, &case).await.with_context(|| format!("image with {}", case.what))?;
        // the newest image is what waiting machines keep ready
        let delete =
            admin::ImageServiceDeleteRequest { id: case.id.to_owned(), ..Default::default() };
        stage.client.admin_image().delete(delete).await.context("the image is not deleted")?;
    }
    fs::remove_file(images.join("half.tar.zst"))?;
    Ok("bad-image: three images refused with a reason, the machine is free again".to_owned())
}

async fn fails(stage: &Stage, case: &Case) -> Result<()> {
    let machine = Machine { number: 1 };
    stage.until_waiting(machine).await?;
    let mut wish = stage.wish(machine, "never");
    case.id.clone_into(&mut wish.image);
    stage.create(&wish).await?;
    let crashed =
        |m: &proto::api::Machine| last_event(m).is_some_and(|(event, _)| event == Event::Crashed);
    let seen = stage.until(machine, TO_PHONED_HOME, "failed with a reason", crashed).await?;
    let (_, reason) = last_event(&seen).context("no event")?;
    ensure!(
        case.words.iter().any(|word| reason.contains(word)),
        "the reason says nothing: {reason}"
    );
    stage.note(&format!("{}: {reason}", case.what));

    // it stays as it is: no loop, no way into the pool
    tokio::time::sleep(Duration::from_secs(20)).await;
    let later = stage.look(machine).await?;
    ensure!(later.allocation.is_set() && !waits(&later), "the machine is offered again");
    ensure!(events(&later) == events(&seen), "the machine does not rest: {:?}", events(&later));
    stage.give_back(machine, &wish.project).await
}

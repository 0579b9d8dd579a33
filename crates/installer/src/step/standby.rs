//! Work that is done before anybody asks for it: while a machine waits, the system that it will most probably become is laid
//! on its erased disk. An allocation that wants just that only has to be configured; any other one starts afresh.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use proto::api::{FilesystemLayout, ImageFeature, MachineAllocation};

use super::Context;
use super::install::lay::{self, Laid, RECHECK};
use super::install::{self, image_of};
use crate::console::say;
use crate::image::{Cancel, Image};

/// How long the server may be away.
const PATIENCE: Duration = Duration::from_secs(30);

/// The work in the background.
#[derive(Debug)]
pub struct Standby {
    stop: Sender<()>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What is being laid now, and how to end that.
    laying: Option<(FilesystemLayout, Image, Cancel)>,
    /// What lies there.
    laid: Option<Laid>,
    /// Nothing more will be laid.
    over: bool,
}

impl Standby {
    /// Starts to lay what fits a machine of this size best. The thread lives inside `scope`.
    pub fn start<'scope, 'env>(
        scope: &'scope thread::Scope<'scope, 'env>,
        context: &'env Context,
        size: &'env str,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = channel();
        let worker = shared.clone();
        scope.spawn(move || work(context, size, &worker, &stopped));
        Self { stop, shared }
    }

    /// Ends the work and returns what lies there, if it is what the allocation wants; waits for it if it is being laid now.
    #[must_use]
    pub fn take(self, allocation: &MachineAllocation) -> Option<Laid> {
        let wanted = install::wanted(allocation).ok();
        let _ = self.stop.send(());
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.over {
            if let Some((layout, image, cancel)) = &state.laying
                && !wanted
                    .as_ref()
                    .is_some_and(|wanted| lay::same((layout, image), (wanted.0, &wanted.1)))
            {
                cancel.cancel();
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let laid = state.laid.take();
        let fits =
            |laid: &Laid| wanted.as_ref().is_some_and(|(layout, image)| laid.is(layout, image));
        if laid.as_ref().is_some_and(|laid| !fits(laid)) {
            install::release();
        }
        laid.filter(fits)
    }
}

fn work(context: &Context, size: &str, shared: &Shared, stopped: &Receiver<()>) {
    let lock = || shared.state.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some((layout, image)) = candidate(context, size) {
            let mut state = lock();
            if !state.laid.as_ref().is_some_and(|laid| laid.is(&layout, &image)) {
                state.laid = None;
                let cancel = Cancel::default();
                state.laying = Some((layout.clone(), image.clone(), cancel.clone()));
                drop(state);
                install::release();
                let laid = lay_one(context, &layout, &image, &cancel);
                let mut state = lock();
                (state.laid, state.laying) = (laid, None);
            }
        }
        match stopped.recv_timeout(RECHECK) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    lock().over = true;
    shared.changed.notify_all();
}

/// A failure is no failure of the machine: whoever allocates it with that image will hear of it.
fn lay_one(
    context: &Context,
    layout: &FilesystemLayout,
    image: &Image,
    cancel: &Cancel,
) -> Option<Laid> {
    let (began, clock) = (SystemTime::now(), Instant::now());
    match lay::lay(context, layout, image, cancel, None) {
        Ok(laid) => {
            // nothing is waited for later that can be waited for now
            rustix::fs::sync();
            let text = format!("{} lies ready with the layout {}", image.id, layout.id);
            context.reporter.finished("standby", began, clock.elapsed(), &text);
            Some(laid)
        }
        Err(attempt) => {
            say(&format!("standby   {} is not laid ahead: {}", image.id, attempt.failure.reason));
            install::release();
            None
        }
    }
}

/// What the catalogue suggests; `None` when it does not say or nothing can be verified.
fn candidate(context: &Context, size: &str) -> Option<(FilesystemLayout, Image)> {
    let images = context.api.images(PATIENCE).ok()?;
    let layouts = context.api.layouts(PATIENCE).ok()?;
    choose(&images, &layouts, size, jiff::Timestamp::now().as_second())
}

/// The newest image for machines that has a digest and a layout for this size.
fn choose(
    images: &[proto::api::Image],
    layouts: &[FilesystemLayout],
    size: &str,
    now: i64,
) -> Option<(FilesystemLayout, Image)> {
    let expires = |image: &proto::api::Image| image.expires_at.as_option().map(|time| time.seconds);
    let created = |image: &proto::api::Image| {
        let time = image.meta.as_option().and_then(|meta| meta.created_at.as_option());
        time.map(|time| (time.seconds, time.nanos))
    };
    let mut usable: Vec<_> = images
        .iter()
        .filter(|image| {
            image.features.iter().any(|feature| feature.as_known() == Some(ImageFeature::Machine))
        })
        .filter(|image| expires(image).is_none_or(|at| at > now))
        .collect();
    usable.sort_by_key(|image| std::cmp::Reverse((created(image), image.id.clone())));
    usable.into_iter().find_map(|image| {
        let (os, _) = image.id.rsplit_once('-')?;
        let layout = layouts.iter().find(|layout| {
            let Some(constraints) = layout.constraints.as_option() else { return false };
            constraints.sizes.iter().any(|s| s == size) && constraints.images.contains_key(os)
        })?;
        let image = image_of(image).ok().filter(|image| image.digest.is_some())?;
        Some((layout.clone(), image))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn image(id: &str, created: &str, digest: &str) -> proto::api::Image {
        let json = serde_json::json!({
            "id": id, "url": format!("http://images/{id}"), "features": ["IMAGE_FEATURE_MACHINE"],
            "expiresAt": "2027-01-01T00:00:00Z",
            "meta": {"createdAt": created, "labels": {"labels": {"metal-stack.io/sha256": digest}}},
        });
        serde_json::from_value(json).unwrap()
    }

    fn chosen(images: &[proto::api::Image], size: &str) -> Option<String> {
        let layout = serde_json::from_str(
            r#"{"id":"lab","constraints":{"sizes":["small"],"images":{"debian":">= 12.0"}}}"#,
        );
        choose(images, &[layout.unwrap()], size, 1_790_000_000).map(|(_, image)| image.id)
    }

    #[test]
    fn what_the_catalogue_adds_to_a_layout_changes_no_disk() {
        let image = |id: &str| image_of(&image(id, "2026-01-01T00:00:00Z", DIGEST)).unwrap();
        let layout = |text: &str| serde_json::from_str::<FilesystemLayout>(text).unwrap();
        let plain = layout(r#"{"id":"a","disks":[{"device":"/dev/sda"}]}"#);
        let dressed = layout(
            r#"{"id":"b","disks":[{"device":"/dev/sda"}],"constraints":{"sizes":["small"]}}"#,
        );
        let other = layout(r#"{"id":"a","disks":[{"device":"/dev/sdb"}]}"#);
        let one = image("debian-12.0.1");
        assert!(lay::same((&plain, &one), (&dressed, &one)));
        assert!(!lay::same((&plain, &one), (&other, &one)));
        assert!(!lay::same((&plain, &one), (&plain, &image("debian-12.0.2"))));
        let unverified = Image { digest: None, ..one };
        assert!(!lay::same((&plain, &unverified), (&plain, &unverified)));
    }

    #[test]
    fn the_newest_image_that_can_be_verified() {
        let old = image("debian-12.0.1", "2026-01-01T00:00:00Z", DIGEST);
        let new = image("debian-12.0.2", "2026-02-01T00:00:00Z", DIGEST);
        let other = image("ubuntu-24.4.1", "2026-03-01T00:00:00Z", DIGEST);
        let broken = image("debian-12.0.3", "2026-03-01T00:00:00Z", "nonsense");
        let images = [old.clone(), new, other, broken];
        assert_eq!(chosen(&images, "small").as_deref(), Some("debian-12.0.2"));
        assert_eq!(chosen(&images, "large"), None, "no layout is for this size");
        let mut firewall = old;
        firewall.features = vec![ImageFeature::Firewall.into()];
        assert_eq!(chosen(&[firewall], "small"), None);
    }
}

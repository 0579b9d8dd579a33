//! What machines boot, as the control plane said last.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::control::Error;
use crate::mac::Mac;

/// For how long an answer is given again without asking: long enough for the retries of one machine.
const FRESH: Duration = Duration::from_secs(5);
/// Machines that are remembered at most.
const MEMORY: usize = 4096;

/// What a machine boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// URL of the kernel.
    pub kernel: String,
    /// URLs of the initial RAM disks in load order.
    pub initrds: Vec<String>,
    /// The kernel command line, which every machine on the boot network can read.
    pub cmdline: String,
}

/// One machine's answer; its lock makes everybody wait for the same question.
#[derive(Debug, Default)]
struct Slot {
    recipe: Option<Recipe>,
    asked: Option<Instant>,
    failure: Option<Error>,
}

/// The answers by hardware address.
#[derive(Debug, Default)]
pub struct Recipes {
    slots: Mutex<HashMap<Mac, Arc<tokio::sync::Mutex<Slot>>>>,
}

impl Recipes {
    /// The answer for a machine: the last one if it is fresh, else a new one, else the last one however old it is.
    ///
    /// # Errors
    /// When there never was an answer.
    pub async fn get<Asked>(&self, mac: Mac, ask: impl FnOnce() -> Asked) -> Result<Recipe, Error>
    where
        Asked: Future<Output = Result<Recipe, Error>>,
    {
        let slot = self.slot(mac);
        let mut slot = slot.lock().await;
        if slot.asked.is_none_or(|asked| asked.elapsed() >= FRESH) {
            match ask().await {
                Ok(recipe) => (slot.recipe, slot.failure) = (Some(recipe), None),
                Err(error) => {
                    let remembered = slot.recipe.is_some();
                    tracing::warn!(%mac, %error, remembered, "the control plane does not say what this machine boots");
                    slot.failure = Some(error);
                }
            }
            slot.asked = Some(Instant::now());
        }
        match (&slot.recipe, &slot.failure) {
            // a refusal is an answer; only silence is filled with what was said before
            (_, Some(Error::Refused(why))) => Err(Error::Refused(why.clone())),
            (Some(recipe), _) => Ok(recipe.clone()),
            (None, failure) => {
                Err(failure.clone().unwrap_or_else(|| Error::Away("no answer yet".into())))
            }
        }
    }

    /// The last answer, however old it is.
    pub fn last(&self, mac: Mac) -> Option<Recipe> {
        self.slot(mac).try_lock().ok()?.recipe.clone()
    }

    /// Remembers an answer.
    pub fn note(&self, mac: Mac, recipe: Recipe) {
        // somebody who is asking now learns the same
        if let Ok(mut slot) = self.slot(mac).try_lock() {
            *slot = Slot { recipe: Some(recipe), asked: Some(Instant::now()), failure: None };
        }
    }

    /// All answers, to be kept over a restart.
    pub fn all(&self) -> Vec<(Mac, Recipe)> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |slot: &tokio::sync::Mutex<Slot>| slot.try_lock().ok()?.recipe.clone();
        slots.iter().filter_map(|(mac, slot)| Some((*mac, known(slot)?))).collect()
    }

    fn slot(&self, mac: Mac) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MEMORY && !slots.contains_key(&mac) {
            slots.clear();
        }
        slots.entry(mac).or_default().clone()
    }
}

impl FromIterator<(Mac, Recipe)> for Recipes {
    fn from_iter<T: IntoIterator<Item = (Mac, Recipe)>>(recipes: T) -> Self {
        let slot = |recipe| {
            Arc::new(tokio::sync::Mutex::new(Slot { recipe: Some(recipe), ..Slot::default() }))
        };
        let slots = recipes.into_iter().map(|(mac, recipe)| (mac, slot(recipe))).collect();
        Self { slots: Mutex::new(slots) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn recipe(kernel: &str) -> Recipe {
        Recipe { kernel: kernel.into(), initrds: Vec::new(), cmdline: String::new() }
    }

    #[tokio::test]
    async fn a_rack_that_powers_up_asks_once_per_machine() {
        let recipes = Arc::new(Recipes::default());
        let asked = Arc::new(AtomicU32::new(0));
        let ask = || {
            let (recipes, asked) = (recipes.clone(), asked.clone());
            tokio::spawn(async move {
                let answer = || async move {
                    asked.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok(recipe("http://k"))
                };
                recipes.get(MAC, answer).await
            })
        };
        for waiting in [ask(), ask(), ask()] {
            assert_eq!(waiting.await.unwrap(), Ok(recipe("http://k")));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn silence_is_filled_with_what_was_said_before_and_a_refusal_is_not() {
        let away = || async { Err(Error::Away("x".into())) };
        assert_eq!(Recipes::default().get(MAC, away).await, Err(Error::Away("x".into())));
        let recipes: Recipes = [(MAC, recipe("http://old"))].into_iter().collect();
        assert_eq!(recipes.get(MAC, away).await, Ok(recipe("http://old")));
        assert_eq!(recipes.all(), [(MAC, recipe("http://old"))]);
        let recipes: Recipes = [(MAC, recipe("http://old"))].into_iter().collect();
        let no = || async { Err(Error::Refused("no such partition".into())) };
        assert_eq!(recipes.get(MAC, no).await, Err(Error::Refused("no such partition".into())));
    }
}

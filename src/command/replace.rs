//! `replace`: new machines for old ones, one after the other.

use std::path::Path;
use std::sync::Arc;

use super::by_hand::Hand;
use super::ini::load;
use crate::core::node::{Machine, Wanted};
use crate::core::plan::replace::Whom;
use crate::error::Error;
use crate::system::log::Log;
use crate::worker::{Worker, own_machine};

/// One old machine after the other; the first that gets no successor ends it.
pub fn run(path: &Path, asked: &Whom, log: Log) -> Result<(), Error> {
    let config = Arc::new(load(path)?);
    let worker = Worker::new(Arc::clone(&config), log)?;
    let own = own_machine::instance(&config, &worker);
    let (own, others): (Vec<Machine>, Vec<Machine>) = worker
        .to_replace(asked)?
        .into_iter()
        .partition(|old| own.is_some() && old.instance == own);
    if let Some(own) = own.first() {
        log.warning(&format!(
            "{}: is this machine, and left out; run replace for it on another",
            own.title()
        ));
    }
    if others.is_empty() {
        log.event("nothing to replace");
        return Ok(());
    }
    let mut hand = Hand::start(path, log)?;
    let done = others.into_iter().try_for_each(|old| {
        log.event(&format!("{}: replacing it", old.title()));
        hand.carry_out(&Wanted::Replace { old, new: None }, true)
    });
    hand.farewell();
    done
}

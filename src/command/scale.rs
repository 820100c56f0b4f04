//! `scale-up` and `scale-down`: decisions by hand, through the same lease and the same steps.

use std::path::Path;
use std::sync::Arc;

use super::by_hand::Hand;
use super::ini::load;
use super::{print, status};
use crate::cli::Scale;
use crate::config::Config;
use crate::core::node::Wanted;
use crate::core::protocol::facts::Fact;
use crate::error::Error;
use crate::system::links::LOOPBACK;
use crate::system::log::Log;
use crate::worker::Worker;

pub fn run(path: &Path, asked: Scale, log: Log) -> Result<(), Error> {
    if asked.dry_run {
        return describe(Arc::new(load(path)?), asked, log);
    }
    let force = asked.force;
    let wanted = match asked.up {
        true => Wanted::Grow {
            machines: asked.count,
            force,
        },
        false => Wanted::Leave { force },
    };
    let mut hand = Hand::start(path, log)?;
    let done = hand.carry_out(&wanted, asked.wait);
    hand.farewell();
    done.and_then(|()| hand.all_told())
}

/// What it would do, and whether it would, as far as masters in reach, EC2 and the HAProxy hosts say.
/// Without a master it is the request alone.
///
/// # Errors
/// Busy: it would not.
fn describe(config: Arc<Config>, asked: Scale, log: Log) -> Result<(), Error> {
    let up = asked.up;
    let worker = Worker::new(Arc::clone(&config), log)?;
    print(&match up {
        true => worker.describe_up()?,
        false => worker.describe_down()?,
    })?;
    if let Err(error) = worker.check_ready() {
        log.warning(&format!("it would be refused: {error}"));
        return Ok(());
    }
    let would = match status::ask(&config, LOOPBACK, config.master.tunnel_ports.clone()) {
        Err(_) => Ok(()),
        Ok(masters) => would_grant(&masters, asked).and_then(|()| worker.would_act(up, asked.force)),
    };
    would.map_err(|error| Error::busy("it would not be done", error))
}

/// Would every one of these masters grant it?
fn would_grant(masters: &[status::Answer], asked: Scale) -> Result<(), Error> {
    let request = if asked.up { "SCALE" } else { "RETIRE" };
    for master in masters {
        let is_it = |fact: &Fact| fact.get("request") == request && !fact.get("answer").is_empty();
        let fact = master.facts().find(is_it);
        let answer = fact.map_or(String::new(), |f| f.get("answer").to_string());
        let granted = match answer.as_str() {
            "yes" | "" => true,
            // By hand no need is asked for.
            "booting" => asked.up,
            "cooldown" => asked.force,
            _ => false,
        };
        if !granted {
            return Err(Error::busy(format!("master {}", master.master), answer));
        }
    }
    Ok(())
}

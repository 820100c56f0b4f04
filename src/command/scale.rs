//! `scale-up`, `scale-down` and `replace`: decisions by hand, through the same lease and the same steps.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::daemon::Body;
use super::ini::{self, load};
use super::{print, status};
use crate::cli::Scale;
use crate::config::Config;
use crate::core::node::{Action, Machine, Wanted};
use crate::core::plan::Whom;
use crate::core::protocol::facts::Fact;
use crate::error::{Error, Kind};
use crate::system::links::LOOPBACK;
use crate::system::log::Log;
use crate::worker::{Worker, own_machine};

/// For the masters to greet.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries of one that waits.
const AGAIN: Duration = Duration::from_secs(1);
/// For waiting for events alone.
const LONG: Duration = Duration::from_secs(3600);

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
    hand.body.farewell();
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

/// One old machine after the other; the first that gets no successor ends it.
pub fn replace(path: &Path, asked: &Whom, log: Log) -> Result<(), Error> {
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
    hand.body.farewell();
    done
}

/// A daemon for as long as a command runs.
struct Hand {
    body: Body,
    log: Log,
}

impl Hand {
    /// Greets the masters.
    ///
    /// # Errors
    /// Config; there is none.
    fn start(path: &Path, log: Log) -> Result<Hand, Error> {
        let text = ini::read(path)?;
        let body = Body::start(Config::parse(path, &text)?, &text, log)?;
        let mut hand = Hand { body, log };
        let patience = Instant::now() + PATIENCE;
        while !hand.body.all_greeted() && Instant::now() < patience {
            for action in hand.body.step(patience) {
                hand.say(&action);
            }
        }
        match hand.body.node.has_master() {
            true => Ok(hand),
            false => Err(no_master(&hand.body)),
        }
    }

    fn say(&self, action: &Action) {
        if let Action::Say(text) = action {
            self.log.event(text);
        }
    }

    /// Asks and acts until it is done. `wait`: also until it may be.
    fn carry_out(&mut self, wanted: &Wanted, wait: bool) -> Result<(), Error> {
        self.body.node.want(wanted.clone(), Instant::now());
        let mut again: Option<Instant> = None;
        loop {
            for action in self.body.step(again.unwrap_or_else(|| Instant::now() + LONG)) {
                self.say(&action);
                match action {
                    Action::End(Err(error)) if wait && error.kind() == Kind::Busy => {
                        again = Some(Instant::now() + AGAIN);
                    }
                    Action::End(result) => {
                        self.body.notifier.finish();
                        return result;
                    }
                    _ => {}
                }
            }
            if again.is_some_and(|at| Instant::now() >= at) {
                again = None;
                self.body.node.want(wanted.clone(), Instant::now());
            }
        }
    }

    /// A daemon goes on trying; a command ends, so it must say what is left to do.
    fn all_told(&self) -> Result<(), Error> {
        let owed = self.body.node.owed().join(", ");
        match owed.is_empty() {
            true => Ok(()),
            false => Err(Error::unavailable(
                owed,
                "could not be told of the new machine, which serves behind the others; the next look of a daemon \
                 does so, or autoscaler add-host there",
            )),
        }
    }
}

fn no_master(body: &Body) -> Error {
    let (first, last) = body.config.master.tunnel_ports.clone().into_inner();
    let mut why = body.refusals();
    if why.is_empty() {
        why = "does `autoscaler master` run on the HAProxy hosts, and is this host in hosts.d there?".into();
    }
    let cause = format!("nobody to ask on {LOOPBACK}:{first}-{last}: {why}");
    Error::unavailable("no master", cause)
}

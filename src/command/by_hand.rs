//! A decision by hand: what a daemon does, asked for by a person.

use std::path::Path;
use std::time::{Duration, Instant};

use super::daemon::Body;
use super::ini;
use crate::config::Config;
use crate::core::node::{Action, Wanted};
use crate::error::{Error, Kind};
use crate::system::links::LOOPBACK;
use crate::system::log::Log;

/// For the masters to greet.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries of one that waits.
const AGAIN: Duration = Duration::from_secs(1);
/// For waiting for events alone.
const LONG: Duration = Duration::from_secs(3600);

/// A daemon for as long as a command runs.
pub struct Hand {
    body: Body,
    log: Log,
}

impl Hand {
    /// Greets the masters.
    ///
    /// # Errors
    /// Config; there is none.
    pub fn start(path: &Path, log: Log) -> Result<Hand, Error> {
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
    pub fn carry_out(&mut self, wanted: &Wanted, wait: bool) -> Result<(), Error> {
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

    /// Takes leave of the masters.
    pub fn farewell(&mut self) {
        self.body.farewell();
    }

    /// A daemon goes on trying; a command ends, so it must say what is left to do.
    pub fn all_told(&self) -> Result<(), Error> {
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

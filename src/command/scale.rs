//! `scale-up` and `scale-down`: one decision by hand, through the same lease and the same steps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::daemon::Body;
use super::print;
use crate::config::Config;
use crate::core::lease::Wish;
use crate::core::node::Action;
use crate::error::Error;
use crate::system::log::Log;
use crate::worker::Worker;

/// For the masters to greet.
const PATIENCE: Duration = Duration::from_secs(5);

/// For waiting for events alone.
const LONG: Duration = Duration::from_secs(3600);

pub fn run(config: Config, wish: Wish, dry_run: bool, log: Log) -> Result<(), Error> {
    let config = Arc::new(config);
    if dry_run {
        let worker = Worker::new(config, log)?;
        print(&match wish {
            Wish::Grow => worker.describe_up()?,
            Wish::Shrink => worker.describe_down()?,
        })?;
        // It is what the INI says, whether or not it would be done.
        if let Err(error) = worker.check_ready() {
            log.warning(&format!("it would be refused: {error}"));
        }
        return Ok(());
    }
    let mut body = Body::start(Arc::clone(&config), log)?;
    let patience = Instant::now() + PATIENCE;
    let mut asked = false;
    loop {
        let now = Instant::now();
        if !asked && (body.all_greeted() || now >= patience) {
            if !body.node.has_master() {
                return Err(no_master(&config, &body));
            }
            asked = true;
            body.node.want(wish, now);
        }
        for action in body.step(if asked { now + LONG } else { patience }) {
            match action {
                Action::Say(text) => log.event(&text),
                Action::End(result) => {
                    let result = result.and_then(|()| all_told(&body));
                    body.notifier.finish();
                    return result;
                }
                Action::Send(..) | Action::Run(_) | Action::Notify(_) => {}
            }
        }
    }
}

/// A daemon goes on trying; a command ends, so it must say what is left to do.
fn all_told(body: &Body) -> Result<(), Error> {
    let owed = body.node.owed().join(", ");
    match owed.is_empty() {
        true => Ok(()),
        false => Err(Error::unavailable(
            owed,
            "could not be told of the new machine, which serves behind the others; run autoscaler add-host there",
        )),
    }
}

fn no_master(config: &Config, body: &Body) -> Error {
    let ports = &config.master.tunnel_ports;
    let refusals = body.refusals();
    let why = match refusals.is_empty() {
        true => {
            "does `autoscaler master` run on the HAProxy hosts, and is this host in hosts.d there?".into()
        }
        false => refusals,
    };
    Error::unavailable(
        "no master",
        format!(
            "nobody to ask on 127.0.0.1:{}-{}: {why}",
            ports.start(),
            ports.end()
        ),
    )
}

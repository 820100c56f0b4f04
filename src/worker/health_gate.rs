//! Waiting for a new machine: until it runs, has an address and serves.

use std::thread;
use std::time::{Duration, Instant};

use super::{EC2_TIME, Worker, ec2_error};
use crate::core::node::Machine;
use crate::ec2::State;
use crate::error::Error;
use crate::system::health;

/// Between two looks at its health, and at first also at EC2, for machines that boot fast.
pub(super) const FIRST_LOOK: Duration = Duration::from_millis(250);
pub(super) const LONGEST_LOOK: Duration = Duration::from_secs(2);
/// Between two looks whether EC2 still has a machine that boots.
const STILL_THERE: Duration = Duration::from_secs(5);
/// For the answer to a look that begins when the time is over.
const LAST_LOOK: Duration = Duration::from_secs(1);

impl Worker {
    /// Fills in the machine's address and returns once it passes the health check.
    pub(super) fn boot(&self, machine: &mut Machine, deadline: Instant) -> Result<(), Error> {
        if machine.port == 0 {
            machine.port = self.config.machine.port;
        }
        let (mut pause, mut ask_ec2) = (FIRST_LOOK, Instant::now());
        let mut why = "did not get to run with an address".to_string();
        loop {
            // Also once it has its address: EC2 may end it before it serves.
            if let Some(id) = machine.instance.clone()
                && Instant::now() >= ask_ec2
            {
                let address = self.address(&id, deadline, &mut why)?;
                if machine.host.is_empty()
                    && let Some(address) = address
                {
                    self.log.event(&format!("{id} runs at {address}"));
                    machine.host = address;
                }
                pause = (pause * 2).min(LONGEST_LOOK);
                let next = if machine.host.is_empty() {
                    pause
                } else {
                    STILL_THERE
                };
                ask_ec2 = Instant::now() + next;
            }
            if !machine.host.is_empty() {
                match health::check(&machine.host, machine.port, &self.config.machine.health_check) {
                    Ok(()) => return Ok(()),
                    Err(cause) => why = format!("{}:{}: {cause}", machine.host, machine.port),
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::unavailable(
                    machine.title(),
                    format!("not healthy within boot_timeout: {why}"),
                ));
            }
            thread::sleep(FIRST_LOOK.min(left));
        }
    }

    /// The private address of an instance once it runs; `None`: not yet, or EC2 could not say `why`.
    fn address(&self, id: &str, deadline: Instant, why: &mut String) -> Result<Option<String>, Error> {
        let now = Instant::now();
        let deadline = deadline.clamp(now + LAST_LOOK, now + EC2_TIME);
        let instance = match self.client.instance(id, deadline) {
            Ok(Some(instance)) => instance,
            // Just launched: EC2's left hand does not know yet.
            Ok(None) => return Ok(None),
            Err(failure) => {
                *why = ec2_error("DescribeInstances", &failure).to_string();
                self.log.event(why);
                return Ok(None);
            }
        };
        match instance.state {
            State::Pending => Ok(None),
            State::Running => Ok(instance.private_ip.map(|ip| ip.to_string())),
            State::Stopping | State::Stopped => Err(Error::busy(
                id,
                format!(
                    "is {}, which autoscaler did not do; it is left alone",
                    instance.state
                ),
            )),
            _ => {
                let reason = instance
                    .state_reason
                    .unwrap_or_else(|| "EC2 gives no reason".into());
                Err(Error::unavailable(id, format!("is {}: {reason}", instance.state)))
            }
        }
    }
}

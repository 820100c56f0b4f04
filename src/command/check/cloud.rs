//! EC2: may this host ask it, and what does it say of the machines?

use super::findings::{Finding, membership};
use super::{Check, TIME};
use crate::aws_cli::{Kind, kind};
use crate::core::plan::{Instance, Life, Listed};
use crate::ec2::{Client, Failure};
use crate::error::Error;
use crate::worker::cloud::{self, ec2_error};

/// The clocks of signatures may differ by five minutes; over this, something is wrong already.
const SKEW: u64 = 60;

/// Credentials, and whether EC2 lists the cluster's instances with them.
pub fn access(check: &Check) -> Vec<Finding> {
    if by_shell(check) {
        let why = "not asked, since scale_up_command is a shell command";
        return vec![Finding::Skip(format!("EC2: {why}"))];
    }
    let client = match &check.client {
        Ok(client) => client,
        Err(error) => return vec![error.clone().into()],
    };
    let mut found = vec![match client.identity() {
        Ok(who) => {
            let passed = match who.tried.is_empty() {
                true => String::new(),
                false => format!("; passed over: {}", who.tried.join(", ")),
            };
            let ends = who.access_key.len().saturating_sub(4);
            Finding::Ok(format!(
                "credentials: {} (key …{}), Region {} ({}), {}{passed}",
                who.source,
                who.access_key.get(ends..).unwrap_or_default(),
                who.region,
                who.region_source,
                who.endpoint
            ))
        }
        Err(failure) => return vec![without(check, &failure)],
    }];
    match instances(check) {
        Ok(instances) => {
            let live = instances.iter().filter(|i| i.life == Life::Live).count();
            let cluster = &check.config.cluster.name;
            found.push(Finding::Ok(format!(
                "EC2 DescribeInstances: the cluster `{cluster}` has {live} live"
            )));
        }
        Err(error) => found.push(error.into()),
    }
    let skew = client.clock_skew();
    if skew.unsigned_abs() > SKEW {
        found.push(Finding::Warn(format!(
            "clock: {} s {} EC2's; have it set by NTP",
            skew.unsigned_abs(),
            if skew > 0 { "behind" } else { "ahead of" }
        )));
    }
    found
}

/// Does EC2 know nothing of the machines that this host launches?
fn by_shell(check: &Check) -> bool {
    check.launches && kind(&check.config.machine.scale_up_command) == Kind::Shell
}

/// No credentials are a failure where they are needed or set.
fn without(check: &Check, failure: &Failure) -> Finding {
    match check.launches || !check.config.aws.access_key.is_empty() {
        true => ec2_error("credentials", failure).into(),
        false => Finding::Skip(format!("EC2: {failure}; without, prune can't tell who is gone")),
    }
}

/// The cluster's instances.
pub fn instances(check: &Check) -> Result<Vec<Instance>, Error> {
    let ask = || {
        if by_shell(check) {
            return Err(Error::config("EC2", "not asked"));
        }
        cloud::instances(client(check)?, &check.config.cluster.name, TIME)
    };
    check.instances.get_or_init(ask).clone()
}

fn client(check: &Check) -> Result<&Client, Error> {
    check.client.as_ref().map_err(Error::clone)
}

/// The entries of each place against EC2's instances.
pub fn compare(check: &Check, listings: &[(String, Vec<Listed>)]) -> Vec<Finding> {
    let boot_timeout = check.config.machine.boot_timeout;
    let survey =
        |listing: &[Listed]| cloud::survey(client(check)?, instances(check)?, listing.to_vec(), TIME);
    let compared = |(place, listing): &(String, Vec<Listed>)| match survey(listing) {
        Ok(survey) => membership(place, &survey, boot_timeout),
        Err(_) => vec![Finding::Skip(match by_shell(check) {
            true => format!("{place}: not compared with EC2, as a shell command makes the machines"),
            false => format!("{place}: not compared with EC2, for want of an answer"),
        })],
    };
    listings.iter().flat_map(compared).collect()
}

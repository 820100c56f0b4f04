//! What is there: EC2 and the HAProxy hosts are asked side by side.

use super::remote::side_by_side;
use super::{EC2_TIME, Worker, cloud};
use crate::config::Config;
use crate::core::plan::replace::Whom;
use crate::core::plan::{self, Listed, Machine, Survey};
use crate::error::Error;
use crate::system::health;

/// So many machines that are UP are enough to tell whether this one sees any.
const WITNESSES: usize = 3;

impl Worker {
    /// The cluster's instances and each HAProxy host's listing with its states; then what follows from
    /// these: EC2's word on ids that it does not list, and the health of machines that nobody lists.
    ///
    /// # Errors
    /// EC2 could not tell.
    pub(super) fn survey(&self, myself: Option<&Machine>) -> Result<Survey, Error> {
        let servers = self.config.haproxy.servers.clone();
        let asked = self.remote.listings(servers);
        let mut survey = Survey::default();
        if self.asks_ec2() {
            let cluster = &self.config.cluster.name;
            survey.instances = cloud::instances(&self.client, cluster, EC2_TIME)?;
            self.note_group(&mut survey)?;
            survey.now = self.client.now();
        }
        for (server, result) in asked.wait() {
            let listing = result.and_then(|text| read(&text).map_err(|why| Error::unavailable(&server, why)));
            survey.listings.push(listing);
        }
        if self.asks_ec2() {
            let ids = survey.unlisted_by_ec2().into_iter().collect();
            match cloud::whereabouts(&self.client, ids, EC2_TIME) {
                Ok((unknown, gone)) => (survey.unknown, survey.gone) = (unknown, gone),
                Err(error) => self.log.event(&error.to_string()),
            }
        }
        let unlisted = survey.unlisted(self.config.machine.port);
        if !unlisted.is_empty() {
            let mut witnesses = survey.witnesses(myself, self.config.machine.port);
            witnesses.truncate(WITNESSES);
            survey.sees = !self.healthy(&witnesses).is_empty();
            let healthy = self.healthy(&unlisted).into_iter();
            survey.healthy = healthy.filter_map(|m| m.instance.clone()).collect();
        }
        Ok(survey)
    }

    /// The machines that `asked` names, in the order of their entries.
    ///
    /// # Errors
    /// Config: one is no live instance of the cluster; EC2 could not tell.
    pub fn to_replace(&self, asked: &Whom) -> Result<Vec<Machine>, Error> {
        if !self.asks_ec2() {
            return Err(Error::config(
                "replace",
                "is for instances that autoscaler launches on EC2 by itself",
            ));
        }
        asked.machines(&self.survey(None)?, self.config.machine.port)
    }

    /// Which members of the group serve, by its own word. What is in no group is as without one.
    fn note_group(&self, survey: &mut Survey) -> Result<(), Error> {
        if let Some(request) = self.group_request() {
            let group = self.group_of(request, EC2_TIME)?;
            for instance in &mut survey.instances {
                // By EC2's tag: the group does not tell of its warm pool.
                let stands_by = instance.of_group && !group.in_service.contains(&instance.id);
                instance.in_service = !stands_by;
            }
        }
        Ok(())
    }

    /// Those that pass their health check from here, asked side by side.
    fn healthy<'a>(&self, machines: &'a [Machine]) -> Vec<&'a Machine> {
        let check = &self.config.machine.health_check;
        let asked = side_by_side(machines.iter().collect(), |m| {
            health::check(&m.host, m.port, check)
        });
        asked
            .into_iter()
            .filter_map(|(m, healthy)| healthy.is_ok().then_some(m))
            .collect()
    }
}

/// The settings that decide in a plan. `ec2`: does EC2 know of the machines?
pub fn rules(config: &Config, ec2: bool) -> plan::Rules {
    let scaling = &config.scaling;
    plan::Rules {
        ec2,
        boot_timeout: config.machine.boot_timeout,
        cooldown: scaling.cooldown,
        replace_after: scaling.replace_after,
        max_hosts: scaling.max_hosts,
        min_hosts: scaling.min_hosts,
        max_launches_per_day: scaling.max_launches_per_day,
        named: config.cluster.is_named,
        port: config.machine.port,
    }
}

/// Reads a listing. A line that cannot be read makes the whole of it void.
pub(super) fn read(text: &str) -> Result<Vec<Listed>, String> {
    let line = |line: &str| Listed::parse(line).ok_or_else(|| format!("its listing has the line `{line}`"));
    text.lines().map(line).collect()
}

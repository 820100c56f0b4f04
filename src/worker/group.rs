//! An Auto Scaling group that launches the machines: `aws autoscaling set-desired-capacity`.
//!
//! Its desired capacity is an absolute number, so two nodes that see different masters and the same
//! group ask for the same. Whoever finds that the group is about to launch one asks for none, and
//! waits for that one.

use std::thread;
use std::time::{Duration, Instant};

use super::cloud::aws_error;
use super::command::{SET_DESIRED_CAPACITY, ScaleCommand};
use super::health_gate::{FIRST_LOOK, LONGEST_LOOK};
use super::{CLUSTER_TAG, EC2_TIME, Worker};
use crate::aws_cli::Request;
use crate::core::node::{Launched, Machine};
use crate::ec2::{Failure, Group};
use crate::error::Error;

impl Worker {
    /// `scale_up_command`, if it is one that lets a group launch.
    pub(super) fn group_request(&self) -> Option<&Request> {
        match &self.up {
            Some(ScaleCommand::Native(request)) if request.action == SET_DESIRED_CAPACITY => Some(request),
            _ => None,
        }
    }

    /// The group of `request`, if it is one whose machines can be found again.
    ///
    /// # Errors
    /// Config: there is none, or it does not tag what it launches; EC2 could not tell.
    pub(super) fn group_of(&self, request: &Request, time: Duration) -> Result<Group, Error> {
        let name = request.get("AutoScalingGroupName").unwrap_or_default();
        let group = self.group(name, time)?;
        let (tag, cluster) = (CLUSTER_TAG, &self.config.cluster.name);
        if !group
            .tags
            .iter()
            .any(|(key, value)| key == tag && value == cluster)
        {
            return Err(Error::config(
                title(name),
                format!(
                    "does not tag its instances {tag}={cluster}; run: aws autoscaling create-or-update-tags --tags \
                     ResourceId={name},ResourceType=auto-scaling-group,Key={tag},Value={cluster},PropagateAtLaunch=true"
                ),
            ));
        }
        match group.weighted {
            true => Err(Error::config(
                title(name),
                "has instances of different weights, and autoscaler counts machines; take the weights out",
            )),
            false => Ok(group),
        }
    }

    fn group(&self, name: &str, time: Duration) -> Result<Group, Error> {
        let found = self.client.group(name, Instant::now() + time);
        let found = found.map_err(|e| failed("DescribeAutoScalingGroups", &e))?;
        found.ok_or_else(|| {
            Error::config(
                title(name),
                "is not there; correct --auto-scaling-group-name or the Region",
            )
        })
    }

    /// Has the group launch `count` machines beyond those of `fleet`, less what it is about to launch anyway
    /// or has launched by now. It says which later.
    pub(super) fn launch_in_group(&self, request: &Request, count: u32, fleet: &[String]) -> Launched {
        let raise = || {
            let name = request.get("AutoScalingGroupName").unwrap_or_default();
            let group = self.group_of(request, EC2_TIME)?;
            let known = group.members.len() - self.beyond(&group, fleet)?.len();
            let coming = group.desired.saturating_sub(known as u32);
            let more = count
                .saturating_sub(coming)
                .min(group.max.saturating_sub(group.desired));
            if coming + more == 0 {
                return Err(at_its_most(name, &group));
            }
            if more > 0 {
                self.raise(request, name, group.desired, group.desired + more)?;
            }
            Ok(count.min(coming + more))
        };
        let raised = raise();
        Launched {
            unnamed: *raised.as_ref().unwrap_or(&0),
            error: raised.err(),
            ..Launched::default()
        }
    }

    /// Waits until the group tells of `count` machines beyond those of `fleet`, the ids of the cluster's
    /// instances from before; fewer at `deadline`.
    pub(super) fn find(
        &self,
        count: u32,
        fleet: &[String],
        deadline: Instant,
    ) -> Result<Vec<Machine>, Error> {
        let Some(request) = self.group_request() else {
            return Ok(Vec::new());
        };
        let name = request.get("AutoScalingGroupName").unwrap_or_default();
        let mut pause = FIRST_LOOK;
        loop {
            let group = self.group_of(request, EC2_TIME)?;
            let found = self.beyond(&group, fleet)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if found.len() as u32 >= count || (left.is_zero() && !found.is_empty()) {
                return Ok(found);
            }
            if left.is_zero() {
                return Err(Error::unavailable(
                    title(name),
                    format!(
                        "no new machine within boot_timeout, with a desired capacity of {}; see why: aws autoscaling \
                         describe-scaling-activities --auto-scaling-group-name {name}",
                        group.desired
                    ),
                ));
            }
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }

    fn raise(&self, request: &Request, name: &str, from: u32, to: u32) -> Result<(), Error> {
        let mut request = request.clone();
        request.set_desired_capacity(&to.to_string());
        let deadline = Instant::now() + EC2_TIME;
        let answer = self
            .client
            .call(request.service, request.action, &request.params, deadline);
        answer.map_err(|e| failed(request.action, &e))?;
        self.log.event(&format!(
            "{}: desired capacity {from} raised to {to}",
            title(name)
        ));
        Ok(())
    }

    /// The members of `group` beyond those of `fleet`.
    fn beyond(&self, group: &Group, fleet: &[String]) -> Result<Vec<Machine>, Error> {
        let mut found = Vec::new();
        for id in group.members.iter().filter(|id| !fleet.contains(id)) {
            // Not those from before the group had the tag.
            if self.is_tagged_and_live(id)? {
                found.push(Machine {
                    instance: Some(id.clone()),
                    host: String::new(),
                    port: self.config.machine.port,
                });
            }
        }
        Ok(found)
    }

    /// No as long as EC2 does not know it.
    fn is_tagged_and_live(&self, id: &str) -> Result<bool, Error> {
        let ours = Some(self.config.cluster.name.as_str());
        let found = self.instance(id)?;
        Ok(found.is_some_and(|i| i.tag(CLUSTER_TAG) == ours && i.is_live()))
    }

    /// May this machine leave, and its group be the smaller by one?
    ///
    /// # Errors
    /// Busy: the group is as small as it may be.
    pub(super) fn may_shrink(&self, machine: Machine) -> Result<Machine, Error> {
        if let Some(request) = self.group_request() {
            let group = self.group_of(request, EC2_TIME)?;
            if group.desired <= group.min {
                let name = request.get("AutoScalingGroupName").unwrap_or_default();
                return Err(Error::busy(
                    title(name),
                    format!("is at its MinSize of {}", group.min),
                ));
            }
        }
        Ok(machine)
    }

    /// Terminates `id` by the group that it is in, which then does not replace it unless it has to.
    /// False: it is in none.
    pub(super) fn terminate_in_group(&self, id: &str) -> Result<bool, Error> {
        if self.group_request().is_none() {
            return Ok(false);
        }
        let deadline = Instant::now() + EC2_TIME;
        let found = self.instance(id)?;
        let Some(name) = found.as_ref().and_then(|i| i.group()) else {
            return Ok(false);
        };
        let group = self.group(name, EC2_TIME)?;
        let answer = self
            .client
            .terminate_in_group(id, group.desired > group.min, deadline);
        answer.map_err(|e| failed("TerminateInstanceInAutoScalingGroup", &e))?;
        Ok(true)
    }

    /// Would the group launch? What there is to say of it.
    pub(super) fn rehearse_group(&self, request: &Request, time: Duration) -> Result<String, Error> {
        let group = self.group_of(request, time)?;
        let name = request.get("AutoScalingGroupName").unwrap_or_default();
        match group.desired < group.max {
            true => Ok(format!(
                "{} tags what it launches; it has {} and may have {} to {} (Auto Scaling has no dry run)",
                title(name),
                group.desired,
                group.min,
                group.max
            )),
            false => Err(at_its_most(name, &group)),
        }
    }
}

fn at_its_most(name: &str, group: &Group) -> Error {
    let cause = format!("is at its MaxSize of {}; raise it there", group.max);
    Error::busy(title(name), cause)
}

fn title(name: &str) -> String {
    format!("Auto Scaling group {name}")
}

fn failed(action: &str, failure: &Failure) -> Error {
    aws_error("Auto Scaling", action, failure)
}

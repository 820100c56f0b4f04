//! The request that a command stands for: what it says, and how many machines it may launch at a time.

use crate::ec2::Service;

/// The interface that has the subnet, if there is any interface.
const INTERFACE: &str = "NetworkInterface.1.";

/// A request that autoscaler sends itself, from a `scale_up_command` or `scale_down_command`.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub service: Service,
    /// `RunInstances`, `TerminateInstances`, `SetDesiredCapacity` or `TerminateInstanceInAutoScalingGroup`.
    pub action: &'static str,
    /// Names and values as they go over the wire, without Action, Version and ClientToken.
    pub params: Vec<(String, String)>,
    /// `--region`; like the three below, it goes before environment and configuration.
    pub region: Option<String>,
    /// `--profile`: whose credentials and Region.
    pub profile: Option<String>,
    /// `--endpoint-url`
    pub endpoint_url: Option<String>,
    /// `--ca-bundle`: a PEM file in place of the system's roots.
    pub ca_bundle: Option<String>,
    /// The variables that stand before `aws`, for this request's environment.
    pub variables: Vec<(String, String)>,
    /// The machines that RunInstances may launch at a time, where the command bounds them: the N of
    /// `--count 1:N`.
    pub most: Option<u32>,
}

impl Request {
    /// The value of one parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        let param = self.params.iter().find(|(known, _)| known == name);
        param.map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: &str) {
        match self.params.iter_mut().find(|(known, _)| known == name) {
            Some(param) => param.1 = value.to_string(),
            None => self.params.push((name.to_string(), value.to_string())),
        }
    }

    /// The first number from 1 for which there is no such parameter.
    fn free(&self, name: impl Fn(u32) -> String) -> u32 {
        (1..).find(|n| self.get(&name(*n)).is_none()).unwrap_or(1)
    }

    /// Adds a tag to the instance that RunInstances makes, beside the tags of the command. A tag of the same
    /// key gets the new value: EC2 refuses a key that comes twice.
    pub fn add_instance_tag(&mut self, key: &str, value: &str) {
        let resource = |n| format!("TagSpecification.{n}.ResourceType");
        let end = self.free(resource);
        let specification = (1..end)
            .find(|n| self.get(&resource(*n)) == Some("instance"))
            .unwrap_or(end);
        self.set(&resource(specification), "instance");
        let tag = |n| format!("TagSpecification.{specification}.Tag.{n}");
        let end = self.free(|n| format!("{}.Key", tag(n)));
        let tag = (1..end)
            .map(tag)
            .find(|tag| self.get(&format!("{tag}.Key")) == Some(key))
            .unwrap_or(tag(end));
        self.set(&format!("{tag}.Key"), key);
        self.set(&format!("{tag}.Value"), value);
    }

    /// Replaces the subnet: within the first network interface if the command has one, as EC2 wants it.
    pub fn set_subnet(&mut self, subnet: &str) {
        let has_interface = self.params.iter().any(|(name, _)| name.starts_with(INTERFACE));
        match has_interface && self.get("SubnetId").is_none() {
            true => self.set(&format!("{INTERFACE}SubnetId"), subnet),
            false => self.set("SubnetId", subnet),
        }
    }

    pub fn set_desired_capacity(&mut self, desired: &str) {
        self.set("DesiredCapacity", desired);
    }

    pub fn set_instance_type(&mut self, instance_type: &str) {
        self.set("InstanceType", instance_type);
    }

    /// The subnet that the command names.
    pub fn subnet(&self) -> Option<&str> {
        self.get("SubnetId")
            .or_else(|| self.get(&format!("{INTERFACE}SubnetId")))
    }

    pub fn instance_type(&self) -> Option<&str> {
        self.get("InstanceType")
    }

    /// How many machines RunInstances makes, at least and at most; (0, 0) for another action.
    pub fn count(&self) -> (u32, u32) {
        let number = |name| self.get(name).and_then(|text| text.parse().ok());
        (number("MinCount").unwrap_or(0), number("MaxCount").unwrap_or(0))
    }
}

/// The bound in a count, at least and at most. How many are missing is for autoscaler to say, so
/// there must be none that it has to launch.
pub(super) fn most((min, max): (u32, u32), bounded: bool) -> Result<Option<u32>, String> {
    match (min, max) {
        (1, 1) if !bounded => Ok(None),
        (1, max) if max >= 1 => Ok(Some(max)),
        _ => Err(format!(
            "--count {min}:{max}: autoscaler launches as many as are missing; write --count 1, or 1:N for N at \
             most at a time"
        )),
    }
}

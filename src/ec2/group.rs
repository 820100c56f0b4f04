//! An Auto Scaling group, out of DescribeAutoScalingGroups (Amazon EC2 Auto Scaling API Reference
//! 2011-01-01).

use super::response::one_line;
use super::xml::Element;
use crate::core::haproxy::entry::is_instance_id;

/// A group as Auto Scaling tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub desired: u32,
    pub min: u32,
    pub max: u32,
    /// The ids of the instances that count for `desired`: those that come or serve.
    pub members: Vec<String>,
    /// Those of them that serve, as the group sees it: neither coming, in Standby nor on their way out.
    pub in_service: Vec<String>,
    /// The tags that a new instance gets: names and values as they are.
    pub tags: Vec<(String, String)>,
    /// True if instances count for more than one, so that `desired` is no number of machines.
    pub weighted: bool,
}

/// The group `name` in the answer; `None` if there is none of this name.
pub fn described(root: &Element, name: &str) -> Result<Option<Group>, String> {
    let groups = ["DescribeAutoScalingGroupsResult", "AutoScalingGroups"];
    // Without this, an answer of another shape would read as "no such group".
    root.find(&groups)
        .ok_or("DescribeAutoScalingGroups answered without AutoScalingGroups")?;
    let named = |group: &&Element| group.text_at(&["AutoScalingGroupName"]) == name;
    root.items(&groups).find(named).map(group).transpose()
}

fn group(group: &Element) -> Result<Group, String> {
    let number = |name| {
        let text = group.text_at(&[name]);
        text.parse()
            .map_err(|_| format!("{name}: \"{}\" is no number", one_line(text)))
    };
    let (mut members, mut in_service) = (Vec::new(), Vec::new());
    let mut weighted = false;
    for instance in group.items(&["Instances"]) {
        let id = instance.text_at(&["InstanceId"]);
        if !is_instance_id(id) {
            return Err(format!("\"{}\" is no instance id", one_line(id)));
        }
        weighted |= !matches!(instance.text_at(&["WeightedCapacity"]), "" | "1");
        // Those in Standby, on their way out, and in a warm pool do not count.
        let state = instance.text_at(&["LifecycleState"]);
        if state.starts_with("Pending") || state == "InService" {
            members.push(id.to_string());
        }
        if state == "InService" {
            in_service.push(id.to_string());
        }
    }
    let tags = group.items(&["Tags"]);
    let propagated = tags.filter(|tag| tag.text_at(&["PropagateAtLaunch"]) == "true");
    Ok(Group {
        desired: number("DesiredCapacity")?,
        min: number("MinSize")?,
        max: number("MaxSize")?,
        members,
        in_service,
        tags: propagated.map(|tag| (tag.raw("Key"), tag.raw("Value"))).collect(),
        weighted,
    })
}

#[cfg(test)]
mod tests {
    use super::super::xml;
    use super::*;

    fn answer(groups: &str) -> Result<Option<Group>, String> {
        let text = format!(
            "<DescribeAutoScalingGroupsResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">\
             <DescribeAutoScalingGroupsResult><AutoScalingGroups>{groups}</AutoScalingGroups>\
             </DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>"
        );
        described(&xml::parse(text.as_bytes()).unwrap(), "web")
    }

    const SIZES: &str = "<AutoScalingGroupName>web</AutoScalingGroupName><MinSize>1</MinSize>\
        <MaxSize>4</MaxSize><DesiredCapacity>3</DesiredCapacity>";

    #[test]
    fn members_are_those_that_count() {
        let states = [
            "InService",
            "Pending:Wait",
            "Standby",
            "Terminating",
            "Warmed:Stopped",
        ];
        let instance = |(n, state)| {
            format!("<member><InstanceId>i-{n}</InstanceId><LifecycleState>{state}</LifecycleState></member>")
        };
        let instances: String = states.iter().enumerate().map(instance).collect();
        let tag = |key: &str, yes: bool| {
            format!(
                "<member><Key>{key}</Key><Value>v</Value><PropagateAtLaunch>{yes}</PropagateAtLaunch></member>"
            )
        };
        let group = answer(&format!(
            "<member>{SIZES}<Instances>{instances}</Instances><Tags>{}{}</Tags></member>",
            tag("a", true),
            tag("b", false)
        ));
        let group = group.unwrap().unwrap();
        assert_eq!((group.min, group.max, group.desired), (1, 4, 3));
        assert_eq!(group.members, ["i-0", "i-1"]);
        assert_eq!(group.in_service, ["i-0"]);
        assert_eq!(group.tags, [("a".to_string(), "v".to_string())]);
        assert!(!group.weighted);
    }

    #[test]
    fn another_group_or_answer_is_none() {
        assert_eq!(answer(""), Ok(None));
        assert_eq!(
            answer(&format!("<member>{}</member>", SIZES.replace("web", "w"))),
            Ok(None)
        );
        assert!(described(&xml::parse(b"<html/>").unwrap(), "web").is_err());
    }

    #[test]
    fn what_is_no_number_or_id_is_an_error() {
        assert!(answer(&format!("<member>{}</member>", SIZES.replace('4', "x"))).is_err());
        let odd = "<Instances><member><InstanceId>x y</InstanceId></member></Instances>";
        assert!(answer(&format!("<member>{SIZES}{odd}</member>")).is_err());
    }

    #[test]
    fn weights_are_seen() {
        let heavy = "<Instances><member><InstanceId>i-1</InstanceId><WeightedCapacity>2</WeightedCapacity>\
            </member></Instances>";
        assert!(
            answer(&format!("<member>{SIZES}{heavy}</member>"))
                .unwrap()
                .unwrap()
                .weighted
        );
    }
}

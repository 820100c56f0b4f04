use super::super::xml;
use super::*;

const ITEM: &str = "<item><instanceId>i-0123456789abcdef0</instanceId>\
    <instanceState><code>272</code><name>pending</name></instanceState>\
    <privateIpAddress>10.0.0.5</privateIpAddress><launchTime>2015-08-30T12:36:00.000Z</launchTime>\
    <stateReason><code>pending</code><message>pending</message></stateReason>\
    <instanceType>t3.micro</instanceType><subnetId>subnet-1</subnetId>\
    <placement><availabilityZone>us-east-1a</availabilityZone></placement>\
    <tagSet><item><key>autoscaler:cluster</key><value>a &amp; b</value></item></tagSet>\
    <clientToken>token</clientToken></item>";

fn run(item: &str) -> Result<Vec<Instance>, String> {
    let text = format!("<RunInstancesResponse><instancesSet>{item}</instancesSet></RunInstancesResponse>");
    launched(&xml::parse(text.as_bytes()).unwrap())
}

#[test]
fn an_instance_is_read_whole() {
    let list = run(ITEM).unwrap();
    let one = &list[0];
    assert_eq!(list.len(), 1);
    assert_eq!(one.id, "i-0123456789abcdef0");
    assert_eq!(one.state, State::Pending);
    assert_eq!(one.state.to_string(), "pending");
    assert_eq!(one.private_ip, Some("10.0.0.5".parse().unwrap()));
    assert_eq!(one.launched_at, Some(1_440_938_160));
    assert_eq!(one.state_reason.as_deref(), Some("pending"));
    assert_eq!(one.instance_type, "t3.micro");
    assert_eq!(
        (one.subnet.as_str(), one.zone.as_str()),
        ("subnet-1", "us-east-1a")
    );
    assert_eq!(one.tag("autoscaler:cluster"), Some("a & b"));
    assert_eq!(one.client_token.as_deref(), Some("token"));
}

#[test]
fn what_is_absent_is_none() {
    let one = &run(
        "<item><instanceId>i-1</instanceId><instanceState><name>terminated</name>\
         </instanceState><privateIpAddress/><stateReason><code>Server.InsufficientInstanceCapacity</code>\
         <message>Server.InsufficientInstanceCapacity: none\nleft</message></stateReason></item>",
    )
    .unwrap()[0];
    assert_eq!(one.private_ip, None);
    assert_eq!(one.launched_at, None);
    assert_eq!(
        one.state_reason.as_deref(),
        Some("Server.InsufficientInstanceCapacity: none left")
    );
    assert_eq!(one.client_token, None);
    assert!(one.tags.is_empty());
    assert!(!one.is_kept() && !one.is_live() && one.is_gone());
    assert_eq!(one.group(), None);
}

#[test]
fn tags_say_whose_it_is() {
    let tag = |key: &str| format!("<item><key>{key}</key><value>web</value></item>");
    let tagged = |tags: String| run(&ITEM.replace("<tagSet>", &format!("<tagSet>{tags}"))).unwrap();
    let one = &tagged(tag("autoscaler:keep") + &tag("aws:autoscaling:groupName"))[0];
    assert!(one.is_kept());
    assert_eq!(one.group(), Some("web"));
    let stopped = &run(&ITEM.replace("<name>pending<", "<name>stopped<")).unwrap()[0];
    assert!(!stopped.is_live() && !stopped.is_gone());
}

#[test]
fn one_answer_may_hold_several_instances() {
    let list = run(&(ITEM.to_string() + &ITEM.replace("i-0123456789abcdef0", "i-2"))).unwrap();
    let ids: Vec<&str> = list.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids, ["i-0123456789abcdef0", "i-2"]);
}

#[test]
fn hostile_values_are_errors() {
    for (from, to) in [
        ("i-0123456789abcdef0", "i-0; rm -rf /"),
        ("i-0123456789abcdef0", "i-"),
        ("i-0123456789abcdef0", "i-0123456789abcdeg0"),
        ("i-0123456789abcdef0", "i-0123456789012345678901234567890123"),
        ("10.0.0.5", "10.0.0.5 check\nserver evil"),
        ("10.0.0.5", "0.0.0.0"),
        ("10.0.0.5", "224.0.0.1"),
        ("<name>pending<", "<name>on fire<"),
        ("t3.micro", "t3 micro"),
        ("subnet-1", "subnet/../1"),
    ] {
        assert!(run(&ITEM.replace(from, to)).is_err(), "{to}");
    }
    assert!(run("").is_err());
}

#[test]
fn pages_and_shapes() {
    let text = format!(
        "<R><reservationSet><item><instancesSet>{ITEM}</instancesSet></item><item><instancesSet>\
         {}</instancesSet></item></reservationSet><nextToken>n==</nextToken></R>",
        ITEM.replace("i-0123456789abcdef0", "i-2")
    );
    let root = xml::parse(text.as_bytes()).unwrap();
    let (list, next) = described(&root).unwrap();
    assert_eq!((list.len(), list[1].id.as_str(), next), (2, "i-2", "n=="));
    let empty = xml::parse(b"<R><reservationSet/></R>").unwrap();
    assert_eq!(described(&empty).unwrap(), (vec![], ""));
    assert!(described(&xml::parse(b"<html/>").unwrap()).is_err());
}

#[test]
fn errors_of_both_shapes() {
    let read = |text: &str| error(&xml::parse(text.as_bytes()).unwrap());
    let both = ("AuthFailure".to_string(), "no way".to_string());
    assert_eq!(
        read(
            "<Response><Errors><Error><Code>AuthFailure</Code><Message>no\nway</Message></Error>\
              </Errors><RequestID>r</RequestID></Response>"
        ),
        Some(both.clone())
    );
    assert_eq!(
        read(
            "<ErrorResponse xmlns='a'><Error><Type>Sender</Type><Code>AuthFailure</Code>\
              <Message>no way</Message></Error></ErrorResponse>"
        ),
        Some(both)
    );
    assert_eq!(read("<html><body/></html>"), None);
    assert_eq!(read("<R><Error><Code>a b</Code></Error></R>"), None);
}

#[test]
fn messages_stay_short_and_on_one_line() {
    assert_eq!(
        one_line("You are not\r\nauthorized.\u{1b}[0m Encoded authorization failure message: xyz"),
        "You are not authorized.[0m"
    );
    assert_eq!(one_line(&"x".repeat(9999)).len(), 400);
}

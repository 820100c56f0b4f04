"""What people run instead, by the rules that its documentation gives: models to compare the real policy with.

All see what CPU shows, 100% at most, of machines that share the load evenly, and have the machines and the boot of
`simulate`. Where a document leaves a choice, it is made in the other's favour: metrics are never later than it says,
a machine counts as warm from the second that it serves, and the load at the target is not over it.
"""

import math
from collections import deque

TARGET = 50  # percent


class Fleet:
    """Machines that serve, and those on their way; from 1 to `most`."""

    def __init__(self, serving, boot, most):
        self.serving, self.boot, self.most = serving, boot, most
        self.ready = []  # when each one that boots will serve

    @property
    def all(self):
        return self.serving + len(self.ready)

    def settle(self, now):
        there = sum(ready <= now for ready in self.ready)
        self.serving += there
        self.ready = self.ready[there:]

    def set(self, wanted, now):
        """Launches what is missing, or ends what is too much; what boots is not ended. True if it changed."""
        wanted = min(max(wanted, 1), self.most)
        before = self.all
        if wanted > before:
            self.ready += [now + self.boot] * (wanted - before)
        else:
            self.serving = max(wanted - len(self.ready), 1, self.serving - (before - wanted))
        return self.all != before


class Minutes:
    """CloudWatch with detailed monitoring: means of one minute, of which each is there when the next is complete.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/manage-detailed-monitoring.html
    """

    def __init__(self):
        self.seconds, self.complete = [], None

    def add(self, percent):
        """The mean that is published now, if any."""
        self.seconds.append(percent)
        if len(self.seconds) < 60:
            return None
        published, self.complete = self.complete, sum(self.seconds) / 60
        self.seconds.clear()
        return published


class TargetTracking:
    """EC2 Auto Scaling, target tracking of ASGAverageCPUUtilization.

    It makes two alarms: 3 minutes over the target, and 15 minutes under 90% of it. In ALARM, capacity follows in
    proportion, rounded up; machines that warm up count as there; nothing is removed meanwhile, and on the way down it
    is careful: here, by the highest of the 15 minutes.
    https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-target-tracking.html
    https://docs.aws.amazon.com/autoscaling/application/userguide/target-tracking-scaling-policy-overview.html
    """
    name = "EC2 target tracking"

    def __init__(self):
        self.metric, self.seen = Minutes(), deque(maxlen=15)

    def second(self, now, percent, fleet):
        mean = self.metric.add(percent)
        if mean is None:
            return
        self.seen.append(mean)
        seen = list(self.seen)
        if len(seen) >= 3 and min(seen[-3:]) > TARGET:
            wanted = math.ceil(fleet.serving * mean / TARGET)
            fleet.set(max(wanted, fleet.all), now)
        elif len(seen) == 15 and max(seen) < 0.9 * TARGET and not fleet.ready:
            if fleet.set(min(math.ceil(fleet.serving * max(seen) / TARGET), fleet.all), now):
                self.seen.clear()  # the next 15 minutes are those of the smaller group


class StepScaling:
    """EC2 Auto Scaling, step scaling, with the steps of its documentation around the same threshold.

    Out, by the size of the breach: 10% more from 0 on, 20% from 15, 30% from 25; in: one machine less at 20 under the
    threshold. Alarms of 2 periods, of a minute here. Percentages are rounded down, but to one at least. What
    warms up counts towards a step, so that the same breach again adds only what a higher step asks beyond it.
    https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-simple-step.html
    https://docs.aws.amazon.com/autoscaling/ec2/userguide/step-scaling-create-scaling-policy-aws-cli.html
    """
    name = "EC2 step scaling"
    STEPS = ((25, 30), (15, 20), (0, 10))
    LOW = TARGET - 20

    def __init__(self):
        self.metric, self.seen = Minutes(), deque(maxlen=2)

    def second(self, now, percent, fleet):
        mean = self.metric.add(percent)
        if mean is None:
            return
        self.seen.append(mean)
        if len(self.seen) < 2:
            return
        if min(self.seen) > TARGET:
            share = next(share for breach, share in self.STEPS if mean - TARGET >= breach)
            wanted = fleet.serving + max(1, fleet.serving * share // 100)
            fleet.set(max(wanted, fleet.all), now)
        elif max(self.seen) <= self.LOW and not fleet.ready:
            fleet.set(fleet.serving - 1, now)


class Hpa:
    """Kubernetes, HorizontalPodAutoscaler with its defaults, each pod on a machine that boots.

    Every 15 s, ceil(n * mean / target) unless that ratio is within 10% of 1; pods that are not ready count as idle on
    the way up. Up at most to the double, or 4 more, in 15 s; down to the highest wish of the last 5 minutes.
    https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/ (algorithm details, default behavior)
    """
    name = "Kubernetes HPA"
    EVERY, TOLERANCE, STABLE = 15, 0.1, 300

    def __init__(self):
        self.seconds, self.wishes = [], deque()

    def wish(self, fleet, mean):
        ratio = mean / TARGET
        if ratio > 1 and fleet.ready:
            over_all = ratio * fleet.serving / fleet.all
            return math.ceil(over_all * fleet.all) if over_all > 1 + self.TOLERANCE else fleet.all
        return fleet.all if abs(ratio - 1) <= self.TOLERANCE else math.ceil(fleet.serving * ratio)

    def second(self, now, percent, fleet):
        self.seconds.append(percent)
        if len(self.seconds) < self.EVERY:
            return
        wish = self.wish(fleet, sum(self.seconds) / self.EVERY)
        self.seconds.clear()
        self.wishes.append((now, wish))
        while self.wishes[0][0] < now - self.STABLE:
            self.wishes.popleft()
        if wish > fleet.all:
            fleet.set(min(wish, max(2 * fleet.all, fleet.all + 4)), now)
        elif not fleet.ready:
            fleet.set(min(max(wish for _, wish in self.wishes), fleet.all), now)


class Nomad:
    """nomad-autoscaler, the strategy target-value with its defaults.

    Every 10 s, ceil(count * metric / target) unless that ratio is within 1% of 1; then a cooldown of 5 minutes.
    https://developer.hashicorp.com/nomad/tools/autoscaling/plugins/strategy/target-value
    https://developer.hashicorp.com/nomad/tools/autoscaling/policy
    """
    name = "nomad-autoscaler"
    EVERY, THRESHOLD, COOLDOWN = 10, 0.01, 300

    def __init__(self):
        self.seconds, self.after = 0, 0

    def second(self, now, percent, fleet):
        self.seconds += 1
        if self.seconds % self.EVERY != 1 or now < self.after or abs(percent / TARGET - 1) <= self.THRESHOLD:
            return
        if fleet.set(math.ceil(fleet.all * percent / TARGET), now):
            self.after = now + self.COOLDOWN


class Limit:
    """No policy: it knows the true load at once, and waits for nothing but the boot."""
    name = "nothing but the boot"

    def second(self, now, percent, fleet):
        wanted = math.ceil(percent * fleet.serving / TARGET - 1e-9)
        if wanted > fleet.all or not fleet.ready:
            fleet.set(wanted, now)


OTHERS = (TargetTracking, StepScaling, Hpa, Nomad)


class Played:
    """What came of a policy on a trace, in the measures of `simulate --json`."""

    def __init__(self, name):
        self.name = name
        self.over = self.full = self.hours = self.unmet = 0.0  # minutes, minutes, machine-hours, percent of the work
        self.most = 0
        self.serving = []  # (second, machines) at each change


def play(policy, demand, length, start, boot=60, most=40):
    """`policy` on `demand`, (second, work in machines) at each change, for `length` s; returns what Played says."""
    fleet, played = Fleet(start, boot, most), Played(policy.name)
    over = full = machine_seconds = 0
    unmet = work = 0.0
    changes = iter([*demand[1:], (length, 0)])
    wanted, (until, following) = demand[0][1], next(changes)
    for now in range(length):
        if now >= until:
            wanted, (until, following) = following, next(changes)
        fleet.settle(now)
        if not played.serving or played.serving[-1][1] != fleet.serving:
            played.serving.append((now, fleet.serving))
            played.most = max(played.most, fleet.serving)
        percent = 100 * wanted / fleet.serving
        over += percent > TARGET
        full += percent >= 100
        unmet += max(0, wanted - fleet.serving)
        work += wanted
        machine_seconds += fleet.all
        policy.second(now, percent if isinstance(policy, Limit) else min(percent, 100), fleet)
    played.over, played.full, played.hours = over / 60, full / 60, machine_seconds / 3600
    played.unmet = 100 * unmet / work if work else 0.0
    return played

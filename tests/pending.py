"""Tests that were written for protocol version 1 and have not been brought to what version 2 does. Each is still run,
and shown as `xfailed` or `xpassed`; whoever brings one over takes its line out."""

REASON = "written for protocol version 1"

PENDING = {
    "test_check.py::test_a_site": REASON,
    "test_credentials.py::test_the_policy_is_enough_and_no_more_for_a_group": REASON,
    "test_credentials.py::test_the_policy_is_enough_and_no_more_for_launch_templates": REASON,
    "test_fault_table.py::test_the_site_recovers": REASON,
    "test_faults.py::test_a_daemon_begins_where_there_was_capacity_lately": REASON,
    "test_faults.py::test_a_token_whose_instance_is_terminated_is_followed_by_the_next": REASON,
    "test_faults.py::test_an_instance_that_goes_straight_to_terminated_names_ec2s_reason": REASON,
    "test_group.py::test_a_machine_whose_asker_died_is_entered_by_the_next": REASON,
    "test_group.py::test_bounds_and_what_the_group_does_on_its_own": REASON,
    "test_orphans.py::test_old_ones_are_terminated_before_another_is_launched": REASON,
    "test_orphans.py::test_one_that_may_not_be_terminated_is_named_and_nothing_launched": REASON,
    "test_scale_down.py::test_nobody_leaves_whose_load_the_others_could_not_take": REASON,
    "test_scale_down.py::test_a_balancer_that_was_down_is_brought_up_to_date_by_itself": REASON,
    "test_scale_down.py::test_a_machine_that_was_entered_by_hand_with_another_port_is_drained_as_well": REASON,
    "test_scale_down.py::test_what_dies_half_way_is_finished_by_the_next_holder": REASON,
    "test_scale_down.py::test_with_commands_of_its_own_any_machine_leaves_and_none_is_ended": REASON,
    "test_trouble.py::test_a_holder_whose_tunnel_breaks_keeps_the_lease_and_comes_to_the_end": REASON,
    "test_trouble.py::test_an_old_orphan_is_terminated_only_when_every_haproxy_could_be_asked": REASON,
    "test_trouble.py::test_a_machine_that_does_not_become_healthy_is_terminated": REASON,
    "test_trouble.py::test_a_machine_whose_launcher_died_is_finished_by_the_next_one": REASON,
}

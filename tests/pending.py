"""Tests that were written for protocol version 1 and have not been brought to what version 2 does. Each is still run,
and shown as `xfailed` or `xpassed`; whoever brings one over takes its line out."""

REASON = "written for protocol version 1"

PENDING = {
    "test_check.py::test_a_site": REASON,
    "test_fault_table.py::test_the_site_recovers": REASON,
    "test_scale_down.py::test_nobody_leaves_whose_load_the_others_could_not_take": REASON,
    "test_scale_down.py::test_a_balancer_that_was_down_is_brought_up_to_date_by_itself": REASON,
    "test_scale_down.py::test_a_machine_that_was_entered_by_hand_with_another_port_is_drained_as_well": REASON,
    "test_scale_down.py::test_what_dies_half_way_is_finished_by_the_next_holder": REASON,
    "test_scale_down.py::test_with_commands_of_its_own_any_machine_leaves_and_none_is_ended": REASON,
    "test_trouble.py::test_a_machine_whose_launcher_died_is_finished_by_the_next_one": REASON,
}
